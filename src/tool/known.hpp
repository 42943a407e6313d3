// SPDX-License-Identifier: GPL-2.0
// Which parts of an array are known to be in sync. What is not, is resynchronised.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tool/array.hpp"

namespace tool {

class Known {
    public:
	std::string from; // in words
	Kind kind = Kind::None; // of the bitmap that says so; Unknown: one that says nothing

	// Reads it from the members' bitmaps, or from md's resync_offset if there is none.
	// Where members do not agree the worse is believed. Throws Error if a bitmap that
	// should be readable is not.
	static Known of(const Array &a);
	// Nothing is in sync.
	static Known nothing(u64 sync_size);

	bool all_clean() const;
	// Calls f(first sector, behind the last) for what is not in sync.
	template <class F>
	void each_dirty(F f) const;

    private:
	struct Part {
		u64 start, end; // sectors
		bool clean; // all copies agree, parity is valid
	};
	std::vector<Part> parts_; // a few
	// A bit for each of a bitmap's chunks: not in sync. At most one per byte of
	// core::kSpaceSectorsMax, or eight (classic): 64 MiB.
	Bytes dirty_;
	u64 chunk_sectors_ = 0, chunks_ = 0, sync_size_ = 0;

	bool dirty(u64 chunk) const { return dirty_[chunk / 8] >> (chunk % 8) & 1; }
	void learn(const Array &a);
	void fold(const std::vector<const Member *> &current);
};

template <class F>
void Known::each_dirty(F f) const
{
	for (const Part &p : parts_) {
		if (!p.clean)
			f(p.start, p.end);
	}
	for (u64 c = 0; c < chunks_;) {
		if (c % 8 == 0 && dirty_[c / 8] == 0) {
			c += 8;
			continue;
		}
		u64 first = c;
		while (c < chunks_ && dirty(c))
			c++;
		if (c > first)
			f(first * chunk_sectors_, std::min(c * chunk_sectors_, sync_size_));
		c++;
	}
}

} // namespace tool
