// SPDX-License-Identifier: GPL-2.0
// What the files of the machine share, and scenarios do not see.
#pragma once

#include "world.hpp"

// ---- memory of the core, stacks ----

constexpr u32 kFar = 3072; // the first chunk of the second page
constexpr u32 kArena = 32768, kPages = 24, kPage = 4096;
constexpr u32 kStack = 64 * 1024;
extern u8 g_arena[kArena];
extern u8 g_page[kPages][kPage];
extern char g_stack[kTasks][kStack];
extern u32 g_first_cells; // page with the first cells
// The second zone: where the reload check builds its bitmap.
extern bool g_zone2;
extern u32 g_arena2_used, g_pages2_used;

// ---- tasks ----

extern void *g_sched_sp;
extern "C" void switch_stack(void **save, void *to);
void to_scheduler();

// ---- memory model ----

extern u8 g_locs; // locations with a number
u32 loc_of(const void *at); // 0: not followed (a cell that no task works on, or set-up)
void locs_reset();
inline u64 peek(const void *at, u32 size)
{
	u64 v = 0;
	memcpy(&v, at, size);
	return v;
}
bool plain(const void *at); // no step of its own
void learn(u32 x, bool is_load);
void access(const char *what, const void *at, u32 size, bool is_load);
inline void join(View &a, const View &b)
{
	for (int i = 0; i < kLocs; i++)
		a.t[i] = a.t[i] < b.t[i] ? b.t[i] : a.t[i];
}
void sc_fence(Task &t);
void append(Task &t, u32 x, const void *at, u32 size, u64 v, const View &carries); // a new newest value

// ---- members ----

extern u8 g_image_hdr[kMembers][LLB_SB_BYTES], g_image_cell[kMembers][kSpan]; // what a cut leaves
bool is_second(const plat_array *h); // of the reload check
u64 disk_of(int c); // its byte in Disk::cell
void count_slots(struct plat_slots *out, bool flushed);
