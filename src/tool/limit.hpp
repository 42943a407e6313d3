// SPDX-License-Identifier: GPL-2.0
// What a power cut may cost before somebody wants to know: bytes, or the time of their resync.
#pragma once

#include <optional>
#include <string>

#include "tool/running.hpp"

namespace tool {

struct Limit {
	std::optional<u64> bytes, seconds; // one of them; none of both: no limit
	std::string words; // as it was given

	bool given() const { return bytes || seconds; }
};

// 20GiB (KiB, MiB, GiB, TiB) or 5min (s, min, h). Throws Error, kUsage; option: who is to blame.
Limit limit_of(const std::string &option, const std::string &words);

// What a power cut now costs this array, as far as it is known: all of it where there is no
// bitmap. None: nothing (no redundancy), or not known (a classic bitmap).
std::optional<u64> known_cost(const Running &a);

enum class Over { No, Yes, Unknown }; // Unknown: a time, and no speed to tell it by
Over over(const Limit &limit, const Running &a);

} // namespace tool
