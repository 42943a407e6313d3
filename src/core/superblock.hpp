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

	bool first_use() const { return state & LLB_SB_FIRST_USE; }
};

BitmapSuper super_decode(const u8 *buf);
void super_encode(const BitmapSuper &sb, u8 *buf); // fills LLB_SB_BYTES

// May this superblock be used with this array? Logs the field that forbids it at
// this level (PLAT_LOG_*); 0: says nothing.
base::Result super_validate(plat_array *h, const BitmapSuper &sb, const plat_array_info &array, u32 level);

} // namespace core
