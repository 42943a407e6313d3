// SPDX-License-Identifier: GPL-2.0
// A bitmap that is to be written: its header and its bits or state bytes.
#pragma once

#include "tool/known.hpp"

namespace tool {

struct Target {
	Bytes bytes; // as they go to the member, from the bitmap's offset on
	u64 space = 0; // sectors reserved for it
	u64 chunk_sectors = 0;
	u64 chunks = 0, dirty = 0;
};

// Both refuse if there is no room. lockless: as large as it takes for small chunks, where every
// member has the room, as the module does at an array's first start. `offset` is in sectors from md's superblock; `state`:
// LLB_SB_* of the header.
Target lockless(const Array &a, const Known &known, u64 events, s64 offset, u32 state);
// The header that makes md ask the module for a bitmap, in an array that runs; it carries how that
// is set. It is new, and yet has seen an event: who took it for a bitmap would resynchronise all.
Bytes live_sign(const Target &t);
// chunk_sectors 0: as mdadm would choose it.
Target classic(const Array &a, const Known &known, u64 events, s64 offset, u32 state, u64 chunk_sectors);

// Does the member's bad-block log lie in so many sectors at the offset?
bool log_inside(const Member &m, s64 offset, u64 sectors);
// Or where none can be, so that the first bad block would be written over something?
bool log_given_up(const Member &m, s64 offset, u64 sectors);
// A line for each member whose log is, by a bitmap of so many sectors at mdadm's place.
void say_logs_given_up(const Array &a, u64 sectors);

} // namespace tool
