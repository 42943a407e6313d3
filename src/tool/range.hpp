// SPDX-License-Identifier: GPL-2.0
// What --range says: FIRST-LAST, or FIRST alone; chunks, or bytes of a member (raid10: of the
// array) with KiB, MiB, GiB, TiB, of which the last is the first one behind the range.
#pragma once

#include <optional>
#include <string>

#include "base/types.hpp"

namespace tool {

struct Range {
	u64 first, last; // chunks
};

class RangeWords {
    public:
	// Without words: all. Throws Error kUsage: that is no range of any array.
	explicit RangeWords(const std::optional<std::string> &words);

	// Of an array of so many chunks (1 or more), each of so many bytes (not 0). Throws
	// Error kUsage: they are not all in it.
	Range of(u64 chunks, u64 chunk_bytes) const;

    private:
	struct End {
		u64 value;
		bool bytes;
	};
	End end_of(const std::string &text) const;

	std::string words_;
	std::optional<End> first_, last_;
};

} // namespace tool
