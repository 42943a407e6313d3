// SPDX-License-Identifier: GPL-2.0
// A platform for the core in user space: every plat_* of abi.h over members in memory,
// a virtual clock, and work that a test runs when it likes.
//
// Shared words are atomics with relaxed order, so that the platform orders nothing
// that the kernel would not: what a thread sees of another one is the core's doing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/types.hpp"
#include "llbitmap/abi.h"
#include "llbitmap/format.h"

namespace fake {

constexpr u32 kReplacement = 1u << 31; // a flag of a member, that the core is not told of
constexpr u32 kThreads = 64; // "CPUs": one per thread
constexpr u32 kGuardBytes = 64 * 1024; // beyond the bitmap's space: the member's data

// One sector of the bitmap that became durable.
struct SectorWrite {
	int batch;
	u32 member;
	u32 offset; // bytes, from the start of the bitmap
	u8 data[512];
};

struct Member {
	plat_member m = {};
	std::atomic<u32> flags{PLAT_MEMBER_IN_SYNC};
	std::atomic<s32> slot{0};
	std::vector<std::atomic<u8>> bytes; // durable: the bitmap's area, and a guard
	std::vector<u8> original_guard;
	std::atomic<int> fail_reads{0}; // as many reads fail; -1: all
	std::atomic<int> fail_writes{0};
	std::atomic<int> fail_flushes{0};
	std::atomic<int> flushes{0};
	std::atomic<int> batches{0}; // writes of the bitmap
	bool bad_log_disabled = false;

	explicit Member(size_t n)
		: bytes(n)
	{}
	bool has(u32 flag) const { return flags.load(std::memory_order_relaxed) & flag; }
	bool working() const { return slot.load(std::memory_order_relaxed) >= 0 && !has(PLAT_MEMBER_FAULTY); }
	bool in_sync() const { return working() && has(PLAT_MEMBER_IN_SYNC); }
	u8 at(u64 offset) const { return bytes[offset].load(std::memory_order_relaxed); }
	void put(u64 offset, u8 v) { bytes[offset].store(v, std::memory_order_relaxed); }
};

struct LogLine {
	u32 level;
	std::string text;
};

} // namespace fake

struct plat_array {
	explicit plat_array(u32 members, u32 space_sectors, u32 guard_bytes = fake::kGuardBytes);
	~plat_array();

	// ---- what a test sets ----
	plat_array_info array = {}; // flags, degraded and events are the atomics below
	std::atomic<u32> flags{PLAT_ARRAY_RDWR | PLAT_ARRAY_LIVE};
	std::atomic<int> degraded{0};
	std::atomic<u64> events{100};
	std::atomic<u64> resync_offset{~0ull};
	std::atomic<bool> suspended{false};
	std::atomic<bool> reconfig{false};
	std::atomic<bool> md_error_works{true}; // not while md_run has no personality yet
	std::atomic<bool> keep_last{true}; // raid1: the last working member does not fail
	std::atomic<bool> real_time{false}; // the clock of the machine
	bool inline_work = true; // a wait runs the queued leader work, in one thread
	bool check_space = true; // a write past the bitmap's space is a violation
	bool keep_log = true;
	bool failures_land = false; // a write that fails reached the disk all the same
	u32 space_bytes;
	std::vector<std::unique_ptr<fake::Member>> members;
	llb_bitmap *bitmap = nullptr;

	// Called where others may come in between. Members' bytes are not durable yet
	// in on_io_wait, flushes have not begun in on_flush.
	std::function<void()> on_io_wait, on_flush, on_flushed, on_grace, on_recovery_wait, on_sleep,
		on_section_leave, on_woken, on_sum;
	// in a section, before its count is seen by others: it may be late till then
	std::function<void()> on_section;
	// one byte of a state is about to become durable
	std::function<void(u32 member, u32 chunk, u8 before, u8 after)> on_byte;
	std::function<void(const plat_slots &)> on_slots; // what a flush found
	std::function<bool(u32 member)> on_read; // may this read succeed?
	std::function<void(u32 member)> on_member_flush_begin, on_member_flush_end;
	std::function<void(u32 member)> on_member_fail;

	// ---- what a test reads ----
	std::vector<fake::SectorWrite> writes;
	std::vector<fake::LogLine> log;
	std::vector<std::string> violations;
	std::atomic<u64> clock_ms{1000000};
	std::atomic<u64> daemon_due{~0ull};
	std::atomic<bool> lead_queued{false};
	std::atomic<int> md_wakes{0}, resync_requests{0}, io_batches{0}, io_adds{0}, flush_calls{0};
	std::atomic<int> refs{0};
	std::atomic<u64> waits{0};
	std::vector<u64> checkpoints;
	std::vector<int> recovery_back_at; // after how many empty caches
	std::atomic<u64> recovery_back_to{~u64{0}}; // the last one; by who writes md's superblock
	u64 recovery_again_from = ~u64{0}; // the last one
	std::vector<u64> stopped_at; // recoveries
	std::vector<std::pair<u64, u64>> recovered_again; // sector, sectors
	std::function<int(u64 sector)> on_recover; // what it returns; 0 if empty
	std::function<void(u64 &sector, u64 &sectors)> on_map; // md's mapping; else whole stripes
	bool superblock_busy = false; // another task holds reconfig_mutex
	int superblocks = 0; // how often md was asked to write its superblock
	u32 write_behind = 0;
	std::vector<u32> distrusted; // members
	int stripes_forgotten = 0; // how often the stripe cache was emptied
	int stripes_error = 0; // what that returns
	u64 chunk_bytes = 0;
	u32 daemon_sleep_s = 0;

	// ---- helpers ----
	bool run_daemon_if_due();
	void run_for(u64 ms); // advances the clock, runs the daemon and the work that is due
	bool run_lead();
	void fail_member(u32 i, bool at_last = false);
	void violation(const char *fmt, ...) __attribute__((format(printf, 2, 3)));
	int count_log(u32 level, const char *part = "") const;
	std::string log_text() const;
	int writes_total() const { return int(writes.size()); }

	// ---- the platform's own ----
	struct Target {
		u32 member;
		bool was_in_sync, failed;
	};
	struct Piece {
		u32 offset, bytes;
		const u8 *buf;
		std::vector<u8> copy;
	};
	std::vector<Target> targets; // plain: whoever has the leader lock owns the batch
	std::vector<Piece> pieces;
	bool batch_open = false;
	std::mutex wait_mutex;
	std::condition_variable wait_cv;
	mutable std::mutex log_mutex;
	std::mutex error_mutex;
};

namespace fake {

// Memory: the n-th allocation from now on fails (1 is the next); 0: none does.
void fail_allocation(int n);
extern std::atomic<bool> no_pages_at_once; // plat_page_alloc() without waiting fails
int allocations(); // since the last fail_allocation()
int live_allocations();
std::vector<u8> memory(); // what is in all of them, but for the this-CPU counters

// Every n-th call of some plat_* stops its thread for a moment; 0: none.
void set_jitter(u32 every);

// What plat_* were called on this thread since the last clear, if watched.
void watch_calls(bool on);
std::vector<std::string> take_calls();

// Counters of threads that ended stay: their slot is given to another.
u32 thread_slot();

} // namespace fake
