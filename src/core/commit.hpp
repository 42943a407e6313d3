// SPDX-License-Identifier: GPL-2.0
// Group commit: which pages are to be written, who waits for which commit, and the one lock under
// which all bitmap writes go out.
#pragma once

#include "base/capability.hpp"
#include "core/cost.hpp"

namespace core {

constexpr u32 kBatch = 32; // pages in one batch of a commit
constexpr u32 kBatchWide = PLAT_IO_ADDS_MAX; // ... where all of a large bitmap is written
constexpr u32 kBridge = 8; // pages that need not be written, between two that are: one write
constexpr u32 kWriteTries = 3; // times that no member takes a write, before the array is broken

// Of a page, since the last commit copied its cells.
constexpr u8 kFlagFresh = 1; // written if a cell in it is not durable yet
constexpr u8 kFlagWrite = 2; // written

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

// What the next header says, besides what it said before.
enum class Header : u8 {
	Same,
	Events, // which events it has seen
	EventsOnly, // ... and that nothing is known of members that have not seen this one
};

class Commit : public Cost {
    public:
	bool pending() const
	{
		// (d) acquire: pairs with the store in commit_once() step 6. A writer that sees
		// nothing waiting has its own bits durable: its number is in requested.
		u64 durable = durable_.load_acquire();
		return requested_.load_relaxed() != durable;
	}
	void unplug(bool may_submit) LLB_EXCLUDES(leader_);
	void leader_work() LLB_EXCLUDES(leader_);
	u64 events_cleared() const { return events_cleared_.load_relaxed(); }

    protected:
	using Cost::Cost;

	bool make_commit(const Geometry &geo, u64 space_sectors); // false: no memory
	void free_commit() LLB_REQUIRES(leader_);

	// Before request(). Full, so that it precedes that and follows the cell: pairs with the
	// exchange of commit_once() step 2.
	void flag(u32 page, u8 how) { flags_[page].fetch_or_full(how); }
	void flag_all(const Table *t);
	bool anything_flagged(const Table *t) const { return flagged_from(t, 0, 1) > 0; }
	bool flagged(u32 page) const { return flags_[page].load_relaxed(); }
	bool has_room(const Geometry &geo) const { return geo.pages <= page_capacity_; }
	// (b) full, after the flags: pairs with the load of requested in commit_once() step 1.
	void request() { requested_.fetch_add_full(1); }
	u64 requested() const { return requested_.load_acquire(); }
	u64 durable() const { return durable_.load_acquire(); } // pairs with commit_once() step 6
	bool broken() const { return broken_.load_acquire(); } // pairs with give_up()
	// It is sure that the next assembly resynchronises. Pairs with tell_recorded().
	bool recorded() const { return recorded_.load_acquire(); }
	bool leader_free() const { return !leader_.load_acquire(); }
	bool commit_upto(u64 target, Hold hold) LLB_EXCLUDES(leader_);

	alignas(64) base::LockWord leader_;
	bool leader_trylock() LLB_TRY_ACQUIRES(leader_) LLB_IS_THE_LOCK;
	void leader_lock() LLB_ACQUIRES(leader_) LLB_IS_THE_LOCK;
	void leader_unlock() LLB_RELEASES(leader_) LLB_IS_THE_LOCK;
	// Nobody else has the object yet, or any more.
	void not_shared() const LLB_ASSERTS(leader_) {}

	base::Result commit(Hold hold) LLB_REQUIRES(leader_);
	base::Result commit_wide(Hold hold, Header says = Header::Same) LLB_REQUIRES(leader_);
	base::Result write_header(Hold hold, Header says = Header::Same) LLB_REQUIRES(leader_);
	void write_header_later() LLB_REQUIRES(leader_) { header_dirty_ = true; }
	base::Result mark_all_on_disk(u64 bytes) LLB_REQUIRES(leader_);
	base::Result mark_header_on_disk() LLB_REQUIRES(leader_) { return mark_all_on_disk(header_bytes()); }
	void take_back_header() LLB_REQUIRES(leader_);
	u32 header_bytes() const LLB_REQUIRES(leader_) { return base::max(io_align_, LLB_CELLS_OFFSET); }
	void give_up() LLB_REQUIRES(leader_);
	// Before the bytes that it stands for. Pairs with events_cleared(), which md asks under
	// reconfig_mutex.
	void show_events_cleared() LLB_REQUIRES(leader_)
	{
		events_cleared_.store_release(sb_.events_cleared);
	}

	BitmapSuper sb_ LLB_GUARDED_BY(leader_) = {}; // of the next header
	// A page for I/O; create()'s and load()'s before there are commits.
	u8 *io_buf_ LLB_GUARDED_BY(leader_) = nullptr;
	u32 io_align_ LLB_GUARDED_BY(leader_) = 512; // bytes: the largest logical block of a member

    private:
	friend struct Peek;

	bool commit_upto_for_bios(u64 target) LLB_EXCLUDES(leader_);
	enum class Write : u8 { Flagged, Header, DirtyHeader };
	base::Result once(Write what) LLB_REQUIRES(leader_);
	base::Result tried(Write what) LLB_REQUIRES(leader_);
	base::Result on_members(Write what, Hold hold) LLB_REQUIRES(leader_);
	base::Result commit_once() LLB_REQUIRES(leader_);
	base::Result write_flagged(BatchItem *batch, u32 most) LLB_REQUIRES(leader_);
	base::Result write_narrow() LLB_REQUIRES(leader_);
	u32 flagged_from(const Table *t, u32 from, u32 most) const;
	u32 gather(Table *t, u32 from, u32 room, BatchItem *batch, u32 *next_page) LLB_REQUIRES(leader_);
	Span copy_page(Table *t, u32 page, u8 *buf, Reach *far) LLB_REQUIRES(leader_);
	void confirm_page(Table *t, u32 page, const u8 *buf, Span fresh) LLB_REQUIRES(leader_);
	void add_page_io(Table *t, u32 page, u8 *buf) LLB_REQUIRES(leader_);
	base::Result write_header_once() LLB_REQUIRES(leader_);
	void record_failure() LLB_EXCLUDES(leader_);
	void tell_recorded();

	BatchItem *wide_ LLB_GUARDED_BY(leader_) = nullptr; // kBatchWide, while all of the bitmap is written
	bool header_dirty_ LLB_GUARDED_BY(leader_) = false; // the next commit writes it
	Header says_ LLB_GUARDED_BY(leader_) = Header::Same;
	base::Atomic<u64> events_cleared_{0}; // sb_'s, for who does not hold the leader lock
	base::Atomic<u64> bio_target_{0}; // what a writer inside submit_bio waits for, the highest

	// On a line that the steady state only reads.
	alignas(64) base::Atomic<u64> requested_{0};
	base::Atomic<u64> durable_{0};
	base::Atomic<u8> broken_{0}; // no member takes bitmap writes
	base::Atomic<u8> recorded_{0}; // ... and the next assembly will see that
	u32 page_capacity_ = 0;
	base::Atomic<u8> *flags_ = nullptr; // of page_capacity_ pages: kFlag*
};

} // namespace core
