// SPDX-License-Identifier: GPL-2.0
// The modelled machine: tasks (fibers), two CPUs, two members, a memory model, and
// the kernel services of abi.h. All of its state lies in plain memory at fixed
// addresses, so that the explorer can copy it away and put it back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>

#include "core/bitmap.hpp"
static_assert(core::kGroupsMax == 2); // so that some of few chunks share one

// Cells and what commits go by are looked at, and hashed.
struct core::Peek {
#define LLB_FIELD(field)                                                                                     \
	static auto &field(core::Bitmap *b)                                                                  \
	{                                                                                                    \
		return b->field##_;                                                                          \
	}
	LLB_FIELD(table)
	LLB_FIELD(requested)
	LLB_FIELD(durable)
	LLB_FIELD(broken)
	LLB_FIELD(leader)
	LLB_FIELD(daemon_busy)
	LLB_FIELD(armed)
	LLB_FIELD(sync_wanted)
	LLB_FIELD(sync_floor_seq)
	LLB_FIELD(behind)
	LLB_FIELD(behind_waiters)
	LLB_FIELD(bio_target)
	LLB_FIELD(recorded)
	LLB_FIELD(asleep)
	LLB_FIELD(init_pending)
	LLB_FIELD(parity)
	LLB_FIELD(daemon_sleep_s)
	LLB_FIELD(barrier_idle_s)
	LLB_FIELD(next_request_ms)
	LLB_FIELD(written_marked)
	LLB_FIELD(due)
	LLB_FIELD(dirty_on_disk)
	LLB_FIELD(hurried)
	LLB_FIELD(budget_mib)
	LLB_FIELD(sb)
	LLB_FIELD(header_dirty)
	LLB_FIELD(says)
	LLB_FIELD(io_align)
	LLB_FIELD(flags)
	LLB_FIELD(page_capacity)
	LLB_FIELD(due_of)
	LLB_FIELD(groups)
	LLB_FIELD(quiet)
	LLB_FIELD(hand)
	LLB_FIELD(space_sectors)
	LLB_FIELD(moving)
#undef LLB_FIELD
	static core::Table *table_now(const core::Bitmap *b)
	{
		return b->table();
	}
	static u64 passes_ms(const core::Bitmap *b)
	{
		return 4 * u64(b->sleep_ms()) + b->idle_ms();
	}
	static u64 crash_bytes(const core::Bitmap *b)
	{
		return b->crash_bytes();
	}
	static u64 budget_bytes(const core::Bitmap *b)
	{
		return b->budget_bytes();
	}
	static u64 first_mark(const core::Bitmap *b)
	{
		return b->rhythm_.first_mark_ms_;
	}
	static u64 next_pass(const core::Bitmap *b)
	{
		return b->rhythm_.next_pass_ms_;
	}
	static u64 next_hurry(const core::Bitmap *b)
	{
		return b->rhythm_.next_hurry_ms_;
	}
	static u64 seen(const core::Bitmap *b)
	{
		return b->rhythm_.seen_ms_;
	}
	static u64 seen_bytes(const core::Bitmap *b)
	{
		return b->rhythm_.seen_bytes_;
	}
};
using core::Peek;

constexpr int kTasks = 7, kCpus = 2, kMembers = 2;
constexpr int kCh = 4; // chunks of 64 KiB whose data is followed
constexpr int kLocs = 62; // atomic locations in use at most
constexpr int kHist = 3; // values of a location that may still be read
constexpr int kSpan = 544; // state bytes modelled per member
constexpr u64 kNever = ~u64{0};

struct View {
	u8 t[kLocs];
};

using Pred = bool (*)(u64);

struct Task {
	void *sp;
	const char *name;
	void (*fn)();
	u8 used, done, server, idle, cpu, irq, in_section, woken, waiting, gp_wait;
	u32 script; // operations begun
	u64 hist; // of what it has observed in this operation
	// the step that it is about to do
	const char *what;
	const void *loc;
	Pred pred;
	u64 arg;
	u8 is_load, free_switch, nvar, size;
	View cur, acq, rel;
};

struct Disk {
	u8 hdr[LLB_SB_BYTES];
	u8 cell[kSpan];
};

struct Member {
	u8 in_sync, faulty, present, flush_fails, write_fails, target, flush_target, io_failed;
	u8 hdr_pending, cells_pending;
	u8 fl_ok;
	u8 missed; // bit per chunk: a reshape moved it without this member
	u64 sb_events; // of md's superblock on it
	Disk d, p; // durable; in flight
	u8 flight[kCh], cache[kCh], durable[kCh], fl_cache[kCh]; // bit per write
};

struct Msg {
	u64 val;
	View view;
};
struct Loc {
	u8 last; // number of the newest message
	Msg ring[kHist]; // [number % kHist]
};

struct World {
	// hashed as one piece, up to the mark
	u64 now_ms, due_ms;
	u64 events, md_events; // of the array in memory; in md's superblock on disk
	u64 w3_events; // when the last flush looked at the slots
	u64 resync_offset, array_size;
	u32 flags; // PLAT_ARRAY_*
	u32 raid_chunk; // sectors
	u32 degraded, level;
	u8 leader_pending, md_pending, suspended, reconfig, broken, resync_wanted;
	u8 io_open, flush_open, hdr_io, cells_io;
	u8 issued[kCh]; // writes that reached a member and are not durable on every slot
	u8 alive[kCh]; // data that was not discarded
	u8 in_flight[kCh]; // writes issued, not complete
	u8 parity_bad[kCh];
	u8 writers[kCh], sync_excl[kCh]; // raid1's barrier
	u8 writers_all;
	u8 write_errors; // bitmap writes that may still be made to fail
	u8 sync_active;
	u8 sb_busy; // md writes its superblock
	u8 moved; // bit per chunk: a reshape moved it
	u8 added; // member 1 is one that the reshape adds: it holds what was moved
	u8 md_reshape; // md's superblock says that a reshape is not finished
	u8 user[8]; // a scenario's own
	const u8 *io_buf[2]; // per page
	u32 io_at[2];
	Member m[kMembers];
	u32 counter[kCpus][48];
	u8 dirtied[kCh]; // written since its byte was last clean
	u32 arena_used, pages_used;
	// end of the hashed piece
	u8 hash_end;
	Task t[kTasks];
	View sc, gp, left, work, timer, md;
	Loc loc[kLocs];
};

extern World w;
extern core::Bitmap *bm; // the one under test
extern bool g_setup; // no scheduling: run through
extern bool g_weak; // follow old values of atomics
extern bool g_trace;
extern int g_cur; // running task
extern int g_variant; // of the step that runs now
extern u32 g_span; // state bytes in use
extern u32
	g_last; // the fourth followed chunk: 3; 16 or more, in the same window; or 3072, in the second page
extern const char *g_violation; // nullptr: none
extern char g_detail[512];
extern bool g_restart; // a location turned out to be shared
u64 shared_get();
void shared_set(u64 v, bool learn);

[[gnu::format(printf, 2, 3)]] void violation(const char *name, const char *fmt, ...);
[[gnu::format(printf, 1, 2)]] void trace(const char *fmt, ...);

// A scheduling point before a step. pred: blocked until it holds. free: others may
// go first without that being counted as a preemption. Returns the variant chosen.
int point(const char *what, bool free = false, Pred pred = nullptr, u64 arg = 0, int nvar = 1);
void observe(u64 v);
void op_begin(const char *what, Pred pred = nullptr, u64 arg = 0); // no local state lives on
bool task_enabled(int t);
int task_variants(int t, bool stale, u8 *out); // values of g_variant
void task_add(const char *name, void (*fn)(), int cpu, bool server = false);
void task_run(int t, int variant);
void check_invariants();
u64 hash_state(bool weak);

void world_reset();
void world_image(u64 chunks, u8 byte, u64 events); // the same on both members
void world_create(bool load); // llb_create and llb_load, in set-up
bool reload_check(u32 seed); // llb_create on what a cut leaves
u64 image_hash();

// The explorer's copies
void snap_save(char *&to);
void snap_load(const char *&from);
size_t snap_bound();
const char *loc_name(const void *at, char *buf);

// For scenarios
u64 chunk_of(int c); // followed chunks are 0, 1, 2 and g_last
void write_chunk(int c, unsigned how);
constexpr unsigned kBio = 1, kMigrate = 2, kBehind = 4, kDiscard = 8, kNoAsk = 16, kIrq = 32, kTwo = 64;
void daemon_passes(int n); // a worker's body
void leader_worker(int n);
void set_cpu(int cpu);
bool slot_risk(int c);
u8 cell_raw(u64 c);
void md_release(); // what md's own locks and queues pass on from one task ...
void md_acquire(); // ... to another
void sync_array(unsigned how);
bool holds(int m, int c); // has member m, if it is in sync, the data of chunk c?
void md_superblock(); // a newer one, on all members that work
void reshape_array();
constexpr unsigned kRecover = 1, kForceEnd = 2, kFull = 4, kSyncFails = 8, kInterrupt = 16;
int epilogue(bool want_clean); // the rest of the run without scheduling
