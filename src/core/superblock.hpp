// SPDX-License-Identifier: GPL-2.0
// The 256-byte superblock of the bitmap: bytes <-> fields, and what makes one
// unusable. See include/llbitmap/format.h for the layout.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "llbitmap/abi.h"
#include "llbitmap/format.h"

namespace core {

constexpr u32 kDaemonSleepDefault_s = 30;
constexpr u32 kMdadmDelayDefault_s = 5; // what mdadm writes when nobody said --delay
constexpr u32 kDaemonSleepMax_s = 24 * 3600;
constexpr u32 kBarrierIdleDefault_s = 5;
constexpr u32 kBarrierIdleMax_s = 24 * 3600;
constexpr u32 kWriteBehindMax = 16383; // what the classic bitmap and mdadm take

struct BitmapSuper {
	u32 magic;
	u32 version;
	u8 uuid[16];
	u64 events;
	u64 events_cleared;
	u64 sync_size; // sectors
	u32 state; // LLB_SB_*
	u32 chunksize; // see chunk_shift_from_disk
	u32 daemon_sleep_s;
	u32 write_behind;
	u32 sectors_reserved;
	u32 nodes;
	u32 resync_budget; // MiB; 0: the default, LLB_BUDGET_NONE: none

	constexpr bool first_use() const { return state & LLB_SB_FIRST_USE; }
	// Sectors that it may use: as it says, or where it does not, as md does.
	u64 reserved(const plat_array_info &a) const
	{
		return sectors_reserved ? sectors_reserved : a.bitmap_space;
	}
};

// ---- events: what tells whether a header missed writes ----
//
// md counts an event whenever it writes its superblock for a reason, and calls llb_update_sb()
// before: so the bitmap's header of an event is on disk before md's superblock of it, and a cut in
// between leaves a header that is *one* ahead. That is no damage: nothing was written meanwhile that
// it does not know.
//
// md also takes the last event back, when an idle array becomes clean again and nothing else has
// changed, so that spares need not be woken: then the header is one ahead of what md is about to
// write. It keeps its number: a cut before md has written would else find a bitmap older than the array.
//
// More than one ahead is damage, and such a header says nothing of events. One that is behind
// missed writes: everything is resynchronised (of the newest), or its member's bytes are not
// believed (of another).

// The event that a header has seen.
constexpr u64 events_seen(const BitmapSuper &sb, u64 array_events)
{
	return sb.events > array_events + 1 ? 0 : sb.events;
}

// What the next one says, of one that says so much.
constexpr u64 events_next(u64 header_events, u64 array_events)
{
	return header_events == array_events + 1 ? header_events : array_events;
}

// Writes went on without this bitmap, or it is marked so: all is resynchronised.
constexpr bool is_stale(const BitmapSuper &sb, u64 array_events)
{
	return !sb.first_use() && ((sb.state & LLB_SB_STALE) || events_seen(sb, array_events) < array_events);
}

// As new as the array, or as the newest of its bitmaps: it missed no write of the bitmap.
constexpr bool is_current(const BitmapSuper &sb, u64 array_events, u64 newest)
{
	return events_seen(sb, array_events) >= base::min(array_events, newest);
}

BitmapSuper super_decode(const u8 *buf);
void super_encode(const BitmapSuper &sb, u8 *buf); // fills LLB_SB_BYTES

// May this superblock be used with this array? Logs the field that forbids it at
// this level (PLAT_LOG_*); 0: says nothing.
base::Result super_validate(plat_array *h, const BitmapSuper &sb, const plat_array_info &array, u32 level);

} // namespace core
