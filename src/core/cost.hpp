// SPDX-License-Identifier: GPL-2.0
// What a crash now would cost: the chunks that are dirty on disk, all of which a load
// resynchronises; and what it may cost. Counted where cells change, under the leader lock.
#pragma once

#include "core/alarm.hpp"
#include "core/cover.hpp"
#include "core/rhythm.hpp"

namespace core {

constexpr u32 kBudgetDefault_mib = 12 * 1024; // a minute of resync at 200 MB/s

class Cost : public Alarm {
    protected:
	using Alarm::Alarm;

	bool make_due(u32 pages); // false: no memory
	void free_due();

	// All in bytes of the array, of any context.
	u64 crash_bytes() const;
	u64 budget_bytes() const; // kNoLimit: anything
	u64 waiting_bytes() const { return waiting_bytes_.load_relaxed(); }
	u64 dirty_on_disk_bytes(const Table *t) const { return bytes_of(t, dirty_on_disk_.load_relaxed()); }
	bool over_half() const;
	void set_budget_mib(u32 mib) { budget_mib_.store_relaxed(mib); } // as in the superblock
	u64 budget_mib() const; // for sysfs
	// In chunks, since the load.
	u64 dirtied() const { return dirtied_.load_relaxed(); }
	u64 cleaned() const { return cleaned_.load_relaxed(); }
	u64 loaded_dirty() const { return loaded_dirty_.load_relaxed(); }

	// The daemon's: over_half(), with what waits for a resync counted anew.
	bool look_at_budget(const Table *t);
	void stop_hurrying() { hurried_.exchange_full(0); } // before the scans: pairs with watch_budget()

	// The holder of the leader lock.
	// Of a commit: what is counted of its touches is counted when it is written.
	Reach reach(const Table *t) const { return {budget_bytes(), crash_bytes(), t->geo.chunk_shift}; }
	void watch_budget();
	void became_dirty_on_disk(u64 cells);
	void no_longer_dirty_on_disk(u64 cells);
	void became_due(u32 page, u32 had, u32 cells);
	void page_written(u32 page);
	void recount(const Table *t); // after another table was published

	// Anybody's, as hints.
	u32 due_in(u32 page) const { return due_of_[page].load_relaxed(); }
	bool due_anywhere() const { return due_.load_relaxed(); }

	// What load() made of the members' bytes is not durable yet, so that a crash costs what it
	// found there. Pairs with became_durable().
	bool init_pending() const { return init_pending_.load_acquire(); }
	void loaded(u64 dirty_chunks)
	{
		loaded_dirty_.store_relaxed(dirty_chunks); // not shared yet
		init_pending_.exchange_full(1);
	}
	void became_durable()
	{
		if (init_pending()) { // what the load itself wrote
			dirtied_.store_relaxed(0);
			cleaned_.store_relaxed(0);
		}
		init_pending_.store_release(0); // pairs with skip_sync()
	}

    private:
	friend struct Peek;

	static u64 bytes_of(const Table *t, u64 chunks)
	{
		return chunks << t->geo.chunk_shift << kSectorShift;
	}
	// Of each page: cells that are clean in memory and dirty on disk until it is written.
	base::Atomic<u16> *due_of_ = nullptr;
	base::Atomic<u32> budget_mib_{0};
	base::Atomic<u8> hurried_{0}; // the daemon was told of the budget
	base::Atomic<u8> init_pending_{0};
	// In chunks.
	base::Atomic<u64> dirty_on_disk_{0}; // cells that carry DIRTY_ON_DISK
	base::Atomic<u64> due_{0}; // the sum of the pages'
	base::Atomic<u64> loaded_dirty_{0}; // what the load found
	base::Atomic<u64> dirtied_{0}; // all that ever were added to dirty_on_disk_
	base::Atomic<u64> cleaned_{0}; // ... and taken off
	base::Atomic<u64> waiting_bytes_{0}; // ... for a resync; the daemon's last count
};

} // namespace core
