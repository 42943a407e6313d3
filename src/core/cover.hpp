// SPDX-License-Identifier: GPL-2.0
// What a first touch covers: neighbours that are called dirty on disk with it, so that a write
// that comes to them soon finds that no I/O of the bitmap is needed.
#pragma once

#include "core/ground.hpp"

namespace core {

constexpr u32 kCoverChunksMax = 1024; // a power of two; what one first touch covers around it ...
constexpr u64 kCoverSectorsMax = 1u << 17; // ... and no more than 64 MiB
constexpr u32 kCoverDensity = 4; // of so many chunks one is written, where all are covered

// Bytes of a page: [from, to).
struct Span {
	u16 from, to;
};

// How far a first touch may reach beyond its own chunk: never over more than half of what is left
// of the budget. What a touch took is not left to the next one, also before it is written and
// counted.
class Reach {
    public:
	// In bytes of the array; budget: kNoLimit: any.
	Reach(u64 budget, u64 crash, u32 chunk_shift)
		: budget_{budget}
		, crash_{crash}
		, chunk_shift_{chunk_shift}
	{}
	// Over a window in which any other chunk is written; else one that is dense.
	bool near() const { return budget_ == kNoLimit || crash_ < budget_ / 4; }
	// In chunks: the largest window, a power of two; how far ahead of a stream.
	u32 window() const;
	u32 ahead() const { return u32(base::min<u64>(left(), kPageBytes)); }
	void took(u64 chunks) { crash_ += chunks << chunk_shift_ << kSectorShift; }

    private:
	u64 left() const // half of it, in chunks
	{
		if (budget_ == kNoLimit)
			return kNoLimit;
		return crash_ < budget_ ? (budget_ - crash_) / 2 >> chunk_shift_ >> kSectorShift : 0;
	}
	u64 budget_, crash_;
	u32 chunk_shift_; // of sectors
};

// The first touches in these bytes of a page's copy: what each covers is called dirty on the
// copy, where it is clean or unwritten. Returns where all that lies.
Span cover_touches(const Table *t, u32 page, u8 *buf, Span words, Reach *far);

} // namespace core
