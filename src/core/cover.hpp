// SPDX-License-Identifier: GPL-2.0
// What a first touch covers: neighbours that are called dirty on disk with it, so that a write
// that comes to them soon finds that no I/O of the bitmap is needed.
#pragma once

#include "core/table.hpp"

namespace core {

constexpr u32 kCoverChunksMax = 1024; // a power of two; what one first touch covers around it ...
constexpr u64 kCoverSectorsMax = 1u << 17; // ... and no more than 64 MiB
constexpr u32 kCoverDensity = 4; // of so many chunks one is written, where all are covered

// Bytes of a page: [from, to).
struct Span {
	u16 from, to;
};

// How far a first touch may reach beyond its own chunk.
struct Reach {
	bool near; // over a window in which any other chunk is written; else one that is dense
	u32 window; // chunks, at most; a power of two
	u32 ahead; // of a stream: chunks, at most
};

// The first touches in these bytes of a page's copy: what each covers is called dirty on the
// copy, where it is clean or unwritten. Returns where all that lies.
Span cover_touches(const Table *t, u32 page, u8 *buf, Span words, Reach far);

} // namespace core
