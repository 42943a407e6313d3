// SPDX-License-Identifier: GPL-2.0
// The bitmap of one array: its parts and who may touch them. The protocol is
// told step by step in ledger.cpp and daemon.cpp; W1-W8 are its invariants.
//
// Memory: one byte per chunk (cells), a page of 4096 bytes for I/O, 4 bytes per
// 4096 chunks (BlockInfo), a byte per lane, and two 32-bit counters per lane and
// possible CPU. At most kLanesMax lanes, so 8 KiB per CPU. While several blocks are
// written, up to kBatch - 1 more pages.
#pragma once

#include "core/cell.hpp"
#include "core/superblock.hpp"
#include "core/table.hpp"

// What the shim holds; empty, so that the border needs no cast of types.
struct llb_bitmap {};

namespace core {

#ifndef LLB_LANES_MAX // the model's is smaller, so that few chunks share a lane
#define LLB_LANES_MAX 1024
#endif
constexpr u32 kLanesMax = LLB_LANES_MAX; // a power of two; neighbouring chunks are in different lanes
constexpr u32 kBatch = 32; // blocks in one batch of a round
constexpr u32 kBatchWide = KX_IO_ADDS_MAX; // ... where all of a large bitmap is written
constexpr u32 kBridge = 8; // blocks that need not be written, between two that are: one write
constexpr u32 kWriteTries = 3; // rounds that no member took, before the array is broken
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

// Bytes of a block: [from, to).
struct Span {
	u16 from, to;
};

// What a block of the bitmap needs besides its cells.
struct BlockInfo {
	base::Atomic<u8> flagged{0}; // kFlag*, since the last round copied its cells
	// Cells that are clean in memory and dirty on disk until the block is written. Changed
	// under LEAD.
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

// A block that a round took the flags of.
struct Flagged {
	u32 block;
	u8 flags;
};

// What a batch is made in.
struct BatchItem {
	u8 *page;
	Flagged block;
	Span fresh; // see copy_block()
};

// Who does the bitmap's I/O, and may members be picked without a reference?
struct Hold {
	bool held;
};

class Bitmap : public llb_bitmap {
    public:
	// life.cpp
	static base::Result create(kx_host *h, Bitmap **out);
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
	// ledger.cpp
	bool pending() const
	{
		// (d) acquire: pairs with the store in round_once() step 6. A writer that sees
		// nothing waiting has its own bits durable: its number is in requested.
		u64 durable = durable_.load_acquire();
		return requested_.load_relaxed() != durable;
	}
	void unplug(bool may_submit);
	void lead_work();
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
	bool start_sync(u64 sector, u64 *blocks, bool degraded);
	void end_sync(u64 sector, u64 *blocks);
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
	u32 lane_of(u64 sector) const { return u32(sector >> (lane_shift_ & 63)) & (lanes_ - 1); }
	enum class Slow : u8 { Done, NeedsWrite, Frozen };
	Slow start_slow(Table *t, u64 chunk, bool discard, bool whole);
	Slow start_chunks(Table *t, u64 sector, u64 stop, bool discard);
	void start_range(Table *t, u64 sector, u64 sectors, bool discard);
	void end_lanes(u64 sector, u64 end);
	void flag(Table *t, u64 chunk);
	void request();

	// ledger.cpp
	bool try_lead();
	void lead_take();
	void lead_give();
	bool settle(u64 target, Hold hold);
	bool settle_for_bios(u64 target);
	base::Result round(Hold hold);
	base::Result round_once();
	base::Result write_flagged(BatchItem *batch, u32 most);
	base::Result write_narrow();
	base::Result wide_round(Hold hold);
	u32 flagged_from(const Table *t, u32 from, u32 most) const;
	u32 gather(Table *t, u32 from, u32 room, BatchItem *batch, u32 *next_block);
	Span copy_block(Table *t, u32 block, u8 *page, bool may_cover);
	Reach reach(const Table *t) const;
	Span cover_of(const Table *t, u32 block, u32 at, Reach reach) const;
	Span cover_touches(const Table *t, u32 block, u8 *page, Span words) const;
	void confirm_block(Table *t, u32 block, const u8 *page, Span fresh);
	void add_block_io(Table *t, u32 block, u8 *page);
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
	bool whole(const kx_slots &s, bool flushed) const;
	void daemon_take();
	void daemon_give();
	// What a pass is to do.
	struct Pass {
		u64 keep; // bytes of the array that may stay dirty; 0: all that rests becomes clean
		bool clear; // ... now, or are cells only marked?
		bool mark;
		bool lazily; // a block is written with the next first touch in it, or by the next pass
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
	bool clear_blocks(Table *t, u32 from, u32 *to, Pass p);
	u32 clear_cells(Table *t, u32 block);
	void flag_to(u32 last, u32 block);
	bool mark_cells(Table *t, u32 from, u32 to, bool *left);
	void unmark_cells(Table *t);
	void write_left(Table *t, Hold hold);
	bool lanes_quiet(const Table *t, u64 chunk) const;
	bool anything_to_clean(const Table *t) const;
	u64 keep_bytes(u64 now_ms);
	bool look_at_budget(const Table *t);
	u32 pass_ms() const;
	void arm(u32 delay_ms);
	void arm_for_sync();
	bool stuck(const kx_array &a, bool left) const;
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
	void settle_in_sync_thread(u64 target);

	// life.cpp
	base::Result read_superblocks(const kx_array &a);
	enum class Unfit : u8 { Refuse, Fail };
	base::Result check_members(u64 bytes, Unfit unfit);
	u64 room_now(const kx_array &a, bool spares) const;
	bool reads_back(const Geometry &geo, u64 space_sectors) const;
	u64 reserve_for(const Geometry &geo) const;
	base::Result check_mapping(const kx_array &a);
	void set_write_behind(const kx_array &a);
	base::Result choose_geometry(const kx_array &a, Geometry *out);
	base::Result make_parts(const Geometry &geo);
	base::Result read_state(const kx_array &a);
	base::Result read_cells(Table *t, bool stale, u64 known_chunks);
	bool read_block(u32 block, const u8 *fresh, u32 members, u8 *into, u8 *scratch);
	void set_all(Table *t, State s);
	// resize.cpp
	void publish(Table *t);
	base::Result extend(const Geometry &geo);
	base::Result relayout(const Geometry &geo);
	base::Result cover_disk(u64 bytes);
	void merge_cells(const Table *from, Table *to, bool parity);

    public: // for tests of single steps
	kx_host *host_ = nullptr;

    private:
	base::Atomic<Table *> table_{nullptr};
	kx_counters *counters_ = nullptr; // 2 * lane: starts, 2 * lane + 1: ends
	u32 lane_shift_ = 0; // of sectors; fixed for the life of the object
	u32 lanes_ = 0; // a power of two
	BlockInfo *blocks_ = nullptr; // block_capacity_ of them
	u8 *quiet_ = nullptr; // of lanes_; the daemon's: no write of before the marks is under way
	u32 block_capacity_ = 0;
	u64 claimed_sectors_ = 0; // what the header on disk says that the bitmap may use
	u64 space_sectors_ = 0; // what it may use: also no more than lies there on every member
	u32 io_align_ = 512; // bytes: the largest logical block of a member; LEAD or rm
	base::Atomic<u8> parity_{0}; // the states were made for raid4/5/6

	// The ledger. requested and durable are on lines that the steady state only reads.
	alignas(64) base::Atomic<u64> requested_{0};
	base::Atomic<u64> durable_{0};
	base::Atomic<u8> broken_{0}; // no member takes bitmap writes
	base::Atomic<u8> recorded_{0}; // ... and the next assembly will see that
	alignas(64) base::Atomic<u8> lead_{0};
	base::Atomic<u8> daemon_busy_{0};
	base::Atomic<u8> armed_{0};
	base::Atomic<u8> asleep_{0}; // something is to be cleaned, and cannot be as the array is
	base::Atomic<u8> sync_wanted_{0};
	base::Atomic<u64> events_cleared_{0}; // sb_'s, for who has no LEAD
	base::Atomic<u64> spare_seq_{0}; // what close_sync must see durable
	base::Atomic<s32> behind_{0};
	base::Atomic<s32> behind_waiters_{0};
	base::Atomic<u64> bio_target_{0}; // what a writer inside submit_bio waits for, the highest
	base::Atomic<u8> init_pending_{0}; // the full round after load is not durable yet
	base::Atomic<u32> daemon_sleep_s_{kDaemonSleepDefault_s};
	base::Atomic<u32> barrier_idle_s_{kBarrierIdleDefault_s};
	base::Atomic<u32> budget_mib_{0}; // as in the superblock
	base::Atomic<u8> hurried_{0}; // the daemon was told of the budget
	// What a crash costs, in chunks. Changed under LEAD.
	base::Atomic<u64> covered_{0}; // cells that carry COVERED
	base::Atomic<u64> due_{0}; // the sum of the blocks'
	base::Atomic<u64> loaded_dirty_{0}; // what a load found, until the round that makes it durable
	base::Atomic<u64> waiting_bytes_{0}; // ... for a resync; the daemon's last count

	// Under LEAD.
	BatchItem *wide_ = nullptr; // kBatchWide of them, while all of the bitmap is written
	Super sb_ = {};
	u8 *page_ = nullptr; // for I/O; create()'s and load()'s before
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
	u32 hand_ = 0; // the block at which the next pass that hurries begins

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

} // namespace core
