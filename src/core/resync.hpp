// SPDX-License-Identifier: GPL-2.0
// What the sync thread asks and tells, and when md is asked for a sync.
#pragma once

#include "core/cleaner.hpp"

namespace core {

class Resync : public Cleaner {
    public:
	void daemon_work();
	bool daemon_work_due() const; // false: it would do nothing
	u64 skip_sync(u64 sector);
	LLB_HOT bool blocks_synced(u64 sector);
	bool start_sync(u64 sector, u64 *sectors, bool degraded);
	void end_sync(u64 sector, u64 *sectors);
	void cond_end_sync(u64 sector, bool force);
	void close_sync();
	void dirty_bits(u64 first, u64 last);
	base::Result proactive_sync();

    protected:
	using Cleaner::Cleaner;

	bool anything_to_sync(const Table *t) const;
	bool put_off_by_replacement(s32 level, const plat_slots &slots) const;
	u64 first_unsure(const Table *t, u64 from, u64 to) const;
	// Acquire: pairs with skip_sync(), recovered(), recover_again() and close_sync().
	u64 recovered_to() const { return recovered_to_.load_acquire(); }
	void request_soon() // the time between two requests is another
	{
		next_request_ms_.store_relaxed(0);
		if (sync_wanted())
			arm_for_sync();
	}
	// Before the sync thread goes on, what was asked for until now is durable. Pairs with
	// skip_sync() and close_sync().
	void sync_waits_for_now() { sync_floor_seq_.store_release(requested()); }
	// All that was ever written is recovered, until a recovery is done: a member is not
	// trusted. Pairs with start_sync().
	void recover_all() { recover_all_.exchange_full(1); }

    private:
	friend struct Peek;

	void mark_everything_written(); // reshape.cpp
	void convert_level(s32 level);
	void commit_upto_in_sync_thread(u64 target);
	bool disturbed() const;
	void forget_stripes(); // stripes.cpp
	void recover_again(Table *t);
	void recovered(const Table *t, u64 sector);
	void stop_recovery(const Table *t);
	void end_chunks(Table *t, u64 from, u64 to);

	// The sync thread's.
	u64 ended_to_ = 0; // chunks below were ended in this run
	u64 last_end_ms_ = 0;
	bool stripes_stale_ = false; // see forget_stripes()
	bool forget_failed_ = false;
	bool recovering_again_ = false;
	// A recovery of parity: below this member sector new members may count as in sync. kNoLimit:
	// none runs. Written by the sync thread, read where md writes its superblock.
	base::Atomic<u64> recovered_to_{kNoLimit};
	u64 recovery_began_ = 0; // the member sector at which it did; 0 also while none runs

	bool put_off_said_ = false; // daemon_work()'s
	base::Atomic<u64> next_request_ms_{0}; // daemon_work's
	base::Atomic<u64> sync_floor_seq_{0}; // what close_sync must see durable
	base::Atomic<u8> recover_all_{0};
};

} // namespace core
