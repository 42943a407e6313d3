// SPDX-License-Identifier: GPL-2.0
// The daemon that makes chunks clean again, when nothing wrote to them any more.
#pragma once

#include "core/commit.hpp"

namespace core {

class Cleaner : public Commit {
    public:
	void daemon() LLB_EXCLUDES(daemon_busy_);
	void flush() LLB_EXCLUDES(daemon_busy_);

    protected:
	using Commit::Commit;

	// One pass at a time, and none while the table is replaced.
	base::LockWord daemon_busy_;
	void daemon_take() LLB_ACQUIRES(daemon_busy_) LLB_IS_THE_LOCK;
	void daemon_give() LLB_RELEASES(daemon_busy_) LLB_IS_THE_LOCK;
	bool daemon_free() const { return !daemon_busy_.load_acquire(); } // pairs with daemon_give()
	void begin_anew() LLB_REQUIRES(daemon_busy_) { rhythm_.begin_anew(); }

	bool whole(const plat_slots &s, bool flushed) const;
	bool anything_to_clean(const Table *t) const;
	bool asleep() const { return asleep_.load_relaxed(); }
	void wake_if_it_helps();

    private:
	friend struct Peek;

	// What a pass is to do.
	struct Pass {
		u64 keep; // bytes of the array that may stay dirty; 0: all that rests becomes clean
		bool clear; // ... now, or are cells only marked?
		bool mark;
		bool lazily; // a page is written with the next first touch in it, or by the next pass
		Hold hold;
	};
	void pass(Table *t, Pass p) LLB_REQUIRES(daemon_busy_);
	void walk(Table *t, Pass p) LLB_REQUIRES(daemon_busy_);
	bool prepare_clear(Table *t, Hold hold) LLB_REQUIRES(daemon_busy_);
	bool raise_events_cleared(Hold hold) LLB_EXCLUDES(leader_);
	bool clearable(const Table *t, u64 chunk) const;
	bool anything_to_clear(const Table *t, u32 from, u32 to) const;
	bool anything_due(u32 from, u32 to) const;
	bool clear_pages(Table *t, u32 from, u32 *to, Pass p) LLB_EXCLUDES(leader_);
	struct Cleared {
		u32 dirty; // cells that are dirty on disk until the page is written
		bool parity; // built parity that is not on disk until then: a crash costs nothing by that
	};
	Cleared clear_cells(Table *t, u32 page) LLB_REQUIRES(leader_);
	void flag_to(u32 last, u32 page);
	bool mark_cells(Table *t, u32 from, u32 to, bool *left);
	void unmark_cells(Table *t) LLB_REQUIRES(daemon_busy_);
	void write_left(Table *t, Hold hold) LLB_EXCLUDES(leader_);
	u64 keep_bytes(u64 now_ms) LLB_REQUIRES(daemon_busy_);
	bool stuck(const plat_array_info &a, bool left) const;

	Rhythm rhythm_ LLB_GUARDED_BY(daemon_busy_);
	u32 hand_ LLB_GUARDED_BY(daemon_busy_) = 0; // the page at which the next pass that hurries begins
	base::Atomic<u8> asleep_{0}; // something is to be cleaned, and cannot be as the array is
};

} // namespace core
