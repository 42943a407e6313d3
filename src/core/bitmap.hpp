// SPDX-License-Identifier: GPL-2.0
// The bitmap of one array: its parts and who may touch them. The protocol is
// told step by step in commit.cpp and daemon.cpp; W1-W8 are its invariants.
//
// Memory: one byte per chunk (cells), a page of 4096 bytes for I/O, 4 bytes per
// 4096 chunks (PageInfo), a byte per group, and two 32-bit counters per group and
// possible CPU. At most kGroupsMax groups, so 8 KiB per CPU. While several pages are
// written, up to kBatch - 1 more pages.
#pragma once

#include "core/cell.hpp"
#include "core/superblock.hpp"
#include "core/table.hpp"

// What the shim holds; empty, so that the border needs no cast of types.
struct llb_bitmap {};

namespace core {

#ifndef LLB_GROUPS_MAX // the model's is smaller, so that few chunks share a group
#define LLB_GROUPS_MAX 1024
#endif
constexpr u32 kGroupsMax = LLB_GROUPS_MAX; // a power of two; neighbouring chunks are in different groups
constexpr u32 kBatch = 32; // pages in one batch of a commit
constexpr u32 kBatchWide = PLAT_IO_ADDS_MAX; // ... where all of a large bitmap is written
constexpr u32 kBridge = 8; // pages that need not be written, between two that are: one write
constexpr u32 kWriteTries = 3; // commits that no member took, before the array is broken
constexpr u32 kCoverChunksMax = 1024; // a power of two; what one first touch covers around it ...
constexpr u64 kCoverSectorsMax = 1u << 17; // ... and no more than 64 MiB
constexpr u32 kCoverDensity = 4; // of so many chunks one is written, where all are covered
constexpr u32 kHurry_ms = 1000; // between two passes while a crash would cost too much
constexpr u32 kBudgetDefault_mib = 12 * 1024; // a minute of resync at 200 MB/s
constexpr u64 kNoLimit = ~u64{0};

constexpr bool is_parity(s32 level)
{
	return level >= 4 && level <= 6;
}

// Bytes of a page: [from, to).
struct Span {
	u16 from, to;
};

// What a page of the bitmap needs besides its cells.
struct PageInfo {
	base::Atomic<u8> flagged{0}; // kFlag*, since the last commit copied its cells
	// Cells that are clean in memory and dirty on disk until the page is written. Changed
	// under the leader lock.
	base::Atomic<u16> due{0};
};
constexpr u8 kFlagFresh = 1; // written if a cell in it is not durable yet
constexpr u8 kFlagWrite = 2; // written

// How far a first touch may reach beyond its own chunk.
struct Reach {
	bool near; // over a window in which any other chunk is written; else one that is dense
	u32 window; // chunks, at most; a power of two
	u32 ahead; // of a stream: chunks, at most
};

// A page that a commit took the flags of.
struct Flagged {
	u32 page;
	u8 flags;
};

// What a batch is made in.
struct BatchItem {
	u8 *buf;
	Flagged flagged;
	Span fresh; // see copy_page()
};

// Who does the bitmap's I/O, and may members be picked without a reference?
struct Hold {
	bool held;
};

class Bitmap : public llb_bitmap {
    public:
	// life.cpp
	static base::Result create(plat_array *h, Bitmap **out);
	base::Result load();
	void destroy();
	void remove_live();
	base::Result resize(u64 sync_size);
	// write.cpp
	LLB_HOT void start(u64 sector, u64 sectors);
	void start_discard(u64 sector, u64 sectors);
	LLB_HOT void end(u64 sector, u64 sectors);
	void start_behind();
	void end_behind();
	void wait_behind();
	// commit.cpp
	bool pending() const
	{
		// (d) acquire: pairs with the store in commit_once() step 6. A writer that sees
		// nothing waiting has its own bits durable: its number is in requested.
		u64 durable = durable_.load_acquire();
		return requested_.load_relaxed() != durable;
	}
	void unplug(bool may_submit);
	void leader_work();
	void write_all();
	void update_sb();
	bool wait_done(u32 kind, u64 arg);
	// daemon.cpp
	void daemon();
	void daemon_work();
	void flush();
	base::Result tune(u32 what, u64 value);
	// sync.cpp
	u64 skip_sync(u64 sector);
	LLB_HOT bool blocks_synced(u64 sector);
	bool start_sync(u64 sector, u64 *sectors, bool degraded);
	void end_sync(u64 sector, u64 *sectors);
	void cond_end_sync(u64 sector, bool force);
	void close_sync();
	void dirty_bits(u64 first, u64 last);
	base::Result proactive_sync();
	// observation
	void stats(llb_stats *out) const;
	void metadata(llb_metadata *out) const;
	void count_bits(u64 counts[LLB_STATES]) const;

    private:
	// pairs with the release in publish(); a reader may keep what it got: tables
	// live until destroy
	Table *table() const { return table_.load_acquire(); }
	Context context() const;

	// write.cpp. Shifts on a write's way are & 63: kernels with UBSAN_SHIFT check others.
	u32 group_of(u64 sector) const { return u32(sector >> (group_shift_ & 63)) & (groups_ - 1); }
	enum class Start : u8 { Ready, NeedsCommit, Frozen };
	Start start_slow(Table *t, u64 chunk, bool discard, bool whole);
	Start start_chunks(Table *t, u64 sector, u64 stop, bool discard);
	void start_range(Table *t, u64 sector, u64 sectors, bool discard);
	void end_groups(u64 sector, u64 end);
	void flag(Table *t, u64 chunk);
	void request();

	// commit.cpp
	bool leader_trylock();
	void leader_lock();
	void leader_unlock();
	bool commit_upto(u64 target, Hold hold);
	bool commit_upto_for_bios(u64 target);
	base::Result commit(Hold hold);
	base::Result commit_once();
	base::Result write_flagged(BatchItem *batch, u32 most);
	base::Result write_narrow();
	base::Result commit_wide(Hold hold);
	u32 flagged_from(const Table *t, u32 from, u32 most) const;
	u32 gather(Table *t, u32 from, u32 room, BatchItem *batch, u32 *next_page);
	Span copy_page(Table *t, u32 page, u8 *buf, bool may_cover);
	Reach reach(const Table *t) const;
	Span cover_of(const Table *t, u32 page, u32 at, Reach reach) const;
	Span cover_touches(const Table *t, u32 page, u8 *buf, Span words) const;
	void confirm_page(Table *t, u32 page, const u8 *buf, Span fresh);
	void add_page_io(Table *t, u32 page, u8 *buf);
	base::Result write_header(Hold hold);
	base::Result write_header_once();
	u32 header_bytes() const { return base::max(io_align_, LLB_CELLS_OFFSET); }
	void flag_all(Table *t);
	void recount(const Table *t);
	u64 crash_bytes() const;
	u64 budget_bytes() const;
	bool over_half() const;
	void watch_budget();
	void give_up();
	void record_failure();
	void tell_recorded();
	void distrust_members();

	// daemon.cpp
	bool whole(const plat_slots &s, bool flushed) const;
	void daemon_take();
	void daemon_give();
	// What a pass is to do.
	struct Pass {
		u64 keep; // bytes that may stay dirty; 0: all that rests becomes clean
		bool clear; // ... now, or are cells only marked?
		bool mark;
		bool lazily; // a page is written with the next first touch in it, or by the next pass
		Hold hold;
	};
	void pass(Table *t, Pass p);
	void walk(Table *t, Pass p);
	bool prepare_clear(Table *t, Hold hold);
	bool find_quiet();
	bool raise_events_cleared(Hold hold);
	bool clearable(const Table *t, u64 chunk) const;
	bool anything_to_clear(const Table *t, u32 from, u32 to) const;
	bool anything_due(u32 from, u32 to) const;
	bool clear_pages(Table *t, u32 from, u32 *to, Pass p);
	u32 clear_cells(Table *t, u32 page);
	void flag_to(u32 last, u32 page);
	bool mark_cells(Table *t, u32 from, u32 to, bool *left);
	void unmark_cells(Table *t);
	void write_left(Table *t, Hold hold);
	bool group_quiet(const Table *t, u64 chunk) const;
	bool anything_to_clean(const Table *t) const;
	u64 keep_bytes(u64 now_ms);
	bool look_at_budget(const Table *t);
	u32 pass_ms() const;
	void arm(u32 delay_ms);
	void arm_for_sync();
	bool stuck(const plat_array_info &a, bool left) const;
	u32 sleep_ms() const { return daemon_sleep_s_.load_relaxed() * 1000; }
	u32 idle_ms() const { return barrier_idle_s_.load_relaxed() * 1000; }

	// sync.cpp
	void want_sync();
	bool anything_to_sync(const Table *t) const;
	void mark_everything_written();
	void end_chunks(Table *t, u64 from, u64 to);
	bool disturbed() const;
	void forget_stripes();
	void recover_again(Table *t);
	void convert_level(s32 level);
	void commit_upto_in_sync_thread(u64 target);

	// life.cpp
	base::Result read_superblocks(const plat_array_info &a);
	base::Result begin_live();
	void clear_past(u64 events);
	enum class Unfit : u8 { Refuse, Fail };
	base::Result check_members(u64 bytes, Unfit unfit);
	u64 room_now(const plat_array_info &a, bool spares) const;
	bool reads_back(const Geometry &geo, u64 space_sectors) const;
	u64 reserve_for(const Geometry &geo) const;
	base::Result check_mapping(const plat_array_info &a);
	void set_write_behind(const plat_array_info &a);
	base::Result choose_geometry(const plat_array_info &a, Geometry *out);
	base::Result make_parts(const Geometry &geo);
	base::Result read_state(const plat_array_info &a);
	base::Result read_cells(Table *t, bool stale, u64 known_chunks);
	bool read_page(u32 page, const u8 *fresh, u32 members, u8 *into, u8 *scratch);
	void set_all(Table *t, State s);
	// resize.cpp
	void publish(Table *t);
	base::Result extend(const Geometry &geo);
	base::Result relayout(const Geometry &geo);
	base::Result mark_all_on_disk(u64 bytes);
	void merge_cells(const Table *from, Table *to, bool parity);

    public: // for tests of single steps
	plat_array *host_ = nullptr;

    private:
	base::Atomic<Table *> table_{nullptr};
	plat_counters *counters_ = nullptr; // 2 * group: starts, 2 * group + 1: ends
	u32 group_shift_ = 0; // of sectors; fixed for the life of the object
	u32 groups_ = 0; // a power of two
	PageInfo *page_info_ = nullptr; // page_capacity_ of them
	u8 *quiet_ = nullptr; // of groups_; the daemon's: no write of before the marks is under way
	u32 page_capacity_ = 0;
	u64 claimed_sectors_ = 0; // what the header on disk says that the bitmap may use
	u64 space_sectors_ = 0; // what it may use: also no more than lies there on every member
	u32 io_align_ = 512; // bytes: the largest logical block of a member; the leader lock or rm
	base::Atomic<u8> parity_{0}; // the states were made for raid4/5/6

	// The commit. requested and durable are on lines that the steady state only reads.
	alignas(64) base::Atomic<u64> requested_{0};
	base::Atomic<u64> durable_{0};
	base::Atomic<u8> broken_{0}; // no member takes bitmap writes
	base::Atomic<u8> recorded_{0}; // ... and the next assembly will see that
	alignas(64) base::Atomic<u8> leader_{0};
	base::Atomic<u8> daemon_busy_{0};
	base::Atomic<u8> armed_{0};
	base::Atomic<u8> asleep_{0}; // something is to be cleaned, and cannot be as the array is
	base::Atomic<u8> sync_wanted_{0};
	base::Atomic<u64> events_cleared_{0}; // sb_'s, for who does not hold the leader lock
	base::Atomic<u64> sync_floor_seq_{0}; // what close_sync must see durable
	base::Atomic<s32> behind_{0};
	base::Atomic<s32> behind_waiters_{0};
	base::Atomic<u64> bio_target_{0}; // what a writer inside submit_bio waits for, the highest
	base::Atomic<u8> init_pending_{0}; // the full commit after load is not durable yet
	base::Atomic<u32> daemon_sleep_s_{kDaemonSleepDefault_s};
	base::Atomic<u32> barrier_idle_s_{kBarrierIdleDefault_s};
	base::Atomic<u32> budget_mib_{0}; // as in the superblock
	base::Atomic<u8> hurried_{0}; // the daemon was told of the budget
	// What a crash costs, in chunks. Changed under the leader lock.
	base::Atomic<u64> dirty_on_disk_{0}; // cells that carry DIRTY_ON_DISK
	base::Atomic<u64> due_{0}; // the sum of the pages'
	base::Atomic<u64> loaded_dirty_{0}; // what a load found, until the commit that makes it durable
	base::Atomic<u64> waiting_bytes_{0}; // ... for a resync; the daemon's last count

	// Under the leader lock.
	BatchItem *wide_ = nullptr; // kBatchWide of them, while all of the bitmap is written
	BitmapSuper sb_ = {};
	u8 *io_buf_ = nullptr; // for I/O; create()'s and load()'s before
	bool header_dirty_ = false;
	bool events_due_ = false; // the next header says which events it has seen
	bool absent_void_ = false; // ... and that nothing is known of members that are away
	bool moving_ = false; // update_sb() has seen that a reshape is not finished
	s32 level_seen_ = 0; // by update_sb()

	u64 invalid_bytes_ = 0; // load only

	// The daemon's.
	u64 next_pass_ms_ = 0;
	u64 next_hurry_ms_ = 0;
	u64 first_mark_ms_ = 0; // the oldest mark since cells were last cleared; 0: none
	u64 seen_ms_ = 0, seen_bytes_ = 0; // what a crash would have cost at that time
	u32 hand_ = 0; // the page at which the next pass that hurries begins

	// The sync thread's, and daemon_work's.
	u64 ended_to_ = 0; // chunks below were ended in this run
	u64 last_end_ms_ = 0;
	bool stripes_stale_ = false; // see forget_stripes()
	bool forget_failed_ = false;
	bool recovering_again_ = false;
	base::Atomic<u64> next_request_ms_{0};
	base::Atomic<u8> recover_all_{0}; // all that was ever written: a member is not trusted
	base::Atomic<u8> written_marked_{0}; // no chunk is unwritten: a reshape runs
};

static inline Bitmap &of(llb_bitmap *b)
{
	return static_cast<Bitmap &>(*b);
}

} // namespace core
