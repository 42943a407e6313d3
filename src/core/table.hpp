// SPDX-License-Identifier: GPL-2.0
// The cells of an array. Pages mirror the disk: byte i of page p stands for byte
// p * 4096 + i of the bitmap on a member, so the header's 1024 bytes of page 0
// carry no cells. A table never changes its geometry: a resize publishes another
// one, which shares the pages if the chunk size stays.
#pragma once

#include "core/cell.hpp"
#include "core/geometry.hpp"

namespace core {

struct Table {
	Geometry geo;
	base::Atomic<u8> frozen{0}; // writers must not change cells: a new layout is being made
	Table *retired = nullptr; // older tables live until destroy: readers need no reference
	Cell **pages = nullptr; // geo.pages of them
	u32 owned_from = 0; // pages below belong to the table this one grew from
	u64 piece_mask = 0; // sectors - 1 of a chunk, or of a group where that is smaller

	static u32 page_of(u64 chunk) { return u32((chunk + LLB_CELLS_OFFSET) >> kPageShift); }
	Cell &cell(u64 chunk) const
	{
		u64 at = chunk + LLB_CELLS_OFFSET;
		return pages[at >> kPageShift][at & (kPageBytes - 1)];
	}
	// All of [sector, sector + sectors) in one chunk and one group? sectors > 0
	bool in_one_piece(u64 sector, u64 sectors) const
	{
		return ((sector ^ (sector + sectors - 1)) & ~piece_mask) == 0;
	}
	// The chunks of a page: [first, end)
	u64 page_first(u32 page) const
	{
		u64 start = u64{page} << kPageShift;
		return start < LLB_CELLS_OFFSET ? 0 : start - LLB_CELLS_OFFSET;
	}
	u64 page_end(u32 page) const
	{
		u64 end = ((u64{page} + 1) << kPageShift) - LLB_CELLS_OFFSET;
		return base::min(end, geo.chunks);
	}

	// f(chunk, cell) for the chunks of a page, eight at a time, of which any(their bytes) is
	// not 0: most are skipped, a word at once. Stops where f returns true, and returns that.
	template <class F>
	bool each_cell(u32 page, u64 (*any)(u64), F f) const
	{
		const u64 from = (u64{page} << kPageShift) - LLB_CELLS_OFFSET; // modulo 2^64
		const u64 end = page_end(page);

		for (u64 c = page_first(page); c < end; c += 8) {
			Cell *cells = &pages[page][c - from];
			if (!any(base::load_eight_acquire(cells)))
				continue;
			for (u64 i = 0; i < base::min<u64>(8, end - c); i++) {
				if (f(c + i, cells[i]))
					return true;
			}
		}
		return false;
	}

	// keep: grow or shrink from this table and share its pages (same chunk size).
	// nullptr: no memory. [sleep]
	static Table *make(const Geometry &geo, u32 group_shift, Table *keep);
	static void destroy(Table *t); // with all that it replaced
};

} // namespace core
