// SPDX-License-Identifier: GPL-2.0
// Chunk size and the place of everything, in arithmetic without state.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "llbitmap/abi.h"
#include "llbitmap/format.h"

namespace core {

constexpr u32 kSectorShift = 9;
constexpr u32 kPageBytes = 4096; // a page: the unit of a bitmap write, and of the cells in memory
constexpr u32 kPageShift = 12;
constexpr u32 kChunkShiftMin = 7; // of sectors: 64 KiB
constexpr u32 kChunkShiftMax = 31; // 1 TiB: the superblock's field has 32 bits of sectors
static_assert(1u << kChunkShiftMin == LLB_CHUNK_SECTORS_MIN);
// What md and mdadm would reserve at the very most; bounds memory on bad input.
constexpr u64 kSpaceSectorsMax = 1u << 17; // 64 MiB
// Sectors from md's superblock: where mdadm puts the bitmap of a 1.2 array, and how many it
// reserves; where md's SET_ARRAY_INFO puts it (as super_1_validate() sets that), with how many.
constexpr s64 kPlace = 8;
constexpr u64 kReserved = 256;
constexpr s64 kLiveOffset = 2;
constexpr u64 kLiveSpace = 6;
// A bitmap that is new takes more than mdadm reserves only for chunks that would be larger
// than this; and no more than what gives chunks of 16 MiB at 64 TiB.
constexpr u32 kChunkShiftFine = 11; // of sectors: 1 MiB
constexpr u64 kSpaceSectorsWanted = ((1u << 22) + kPageBytes) >> kSectorShift;

struct Geometry {
	u64 sync_size = 0; // sectors
	u64 chunks = 0;
	u32 chunk_shift = 0; // of sectors
	u32 pages = 0; // of kPageBytes, header included

	u64 chunk_sectors() const { return u64{1} << chunk_shift; }
	u64 bytes() const { return LLB_CELLS_OFFSET + chunks; }
};

constexpr u64 chunks_of(u64 sync_size, u32 chunk_shift)
{
	return (sync_size >> chunk_shift) + ((sync_size & ((u64{1} << chunk_shift) - 1)) != 0);
}

constexpr bool fits(u64 sync_size, u32 chunk_shift, u64 space_sectors)
{
	return LLB_CELLS_OFFSET + chunks_of(sync_size, chunk_shift) <= space_sectors << kSectorShift;
}

constexpr Geometry geometry_at(u64 sync_size, u32 chunk_shift)
{
	Geometry g;
	g.sync_size = sync_size;
	g.chunk_shift = chunk_shift;
	g.chunks = chunks_of(sync_size, chunk_shift);
	g.pages = u32(base::div_up(LLB_CELLS_OFFSET + g.chunks, kPageBytes));
	return g;
}

// The smallest chunk, at least 2^from, with which header and cells fit into
// space_sectors. -ENOSPC: not even the largest does.
constexpr base::Result geometry_for(u64 sync_size, u64 space_sectors, u32 from, Geometry *out)
{
	for (u32 shift = base::max(from, kChunkShiftMin); shift <= kChunkShiftMax; shift++) {
		if (fits(sync_size, shift, space_sectors)) {
			*out = geometry_at(sync_size, shift);
			return base::Result::ok();
		}
	}
	return base::Result::error(LLB_ENOSPC);
}

// Of a bitmap that has no layout yet: the chunk (as a shift of sectors, at least) that an array
// of this size wants, where mdadm has reserved so much.
constexpr u32 chunk_shift_wanted(u64 sync_size, u64 reserved_sectors)
{
	u32 shift = kChunkShiftMin;
	while (shift < kChunkShiftFine && !fits(sync_size, shift, reserved_sectors))
		shift++;
	return shift;
}

// ... and how many sectors it takes for that, where room is what lies free on every member.
// mdadm (4.6 and before) takes the chunk size of a header that a kernel has written, sectors,
// for bytes, and the bitmap for one of bits: 64 bytes for each chunk. What it finds free
// before the data after that is what it lets a reshape use, and so much it writes when it
// adds a disk. So the bitmap is no larger than leaves some of the room in its eyes, too.
constexpr u64 space_wanted(u64 sync_size, u64 reserved_sectors, u64 room_sectors)
{
	const u64 chunk_cost = 64, left_sectors = 1u << 14; // 8 MiB
	if (fits(sync_size, kChunkShiftFine, reserved_sectors) || room_sectors <= left_sectors)
		return reserved_sectors;
	return base::max(reserved_sectors,
			 base::min(kSpaceSectorsWanted, (room_sectors - left_sectors) / chunk_cost));
}

// The chunk size field as a shift of sectors: the in-tree kernel and this module
// write sectors; bytes (mdadm) are recognised where only they make sense: the
// value is 512 times what this array needs. 0: neither.
u32 chunk_shift_from_disk(u64 sync_size, u64 space_sectors, u32 field);

// Which members take the bitmap: one that may (a spare may get a slot), those that it is written
// to by plat_io_add(), and those of which what is read counts.
bool may_take_bitmap(const plat_member &m);
bool takes_bitmap(const plat_member &m);
bool is_believed(const plat_member &m);

// Sectors from where the bitmap begins on this member to the next thing that lies there:
// data, now and where a reshape moves it; a bad-block log with entries; a partial parity
// log; md's superblock. What a header says it may use is not asked. ~0: nothing follows.
u64 room(const plat_array_info &array, const plat_member &m);
// May the bitmap lie where md put it on this member? Says why not. bytes: what is
// written, rounded up to whole logical blocks.
base::Result check_member(plat_array *h, const plat_array_info &array, const plat_member &m, u64 bytes,
			  u64 space_sectors);
// Does the member's bad-block log lie inside the bitmap's reservation?
bool bad_log_inside(const plat_array_info &array, const plat_member &m, u64 bytes, u64 space_sectors);

} // namespace core
