// SPDX-License-Identifier: GPL-2.0
// When the daemon comes, and whether a sync is to be asked for. Who changes a cell may call
// all of this, in any context.
#pragma once

#include "core/inflight.hpp"

namespace core {

class Alarm : public Inflight {
    protected:
	using Inflight::Inflight;

	void arm(u32 delay_ms); // unless it is armed
	void arm_at_least(u32 delay_ms); // also if it is armed, perhaps for later
	void arm_for_pass() // after a change of cells
	{
		// relaxed: the daemon looks again after it disarms (full there)
		if (!armed_.load_relaxed())
			arm(pass_ms());
	}
	void disarm() { armed_.exchange_full(0); } // full, before the scans: pairs with arm()

	// After the cell. mdX decides, in daemon_work().
	void want_sync();
	bool sync_wanted() const { return sync_wanted_.load_relaxed(); } // a hint: it looks at the cells
	void stop_wanting_sync() { sync_wanted_.exchange_full(0); } // full, then it looks again
	void arm_for_sync();

	u32 sleep_s() const { return daemon_sleep_s_.load_relaxed(); }
	u32 idle_s() const { return barrier_idle_s_.load_relaxed(); }
	void set_sleep_s(u32 s) { daemon_sleep_s_.store_relaxed(s); }
	void set_idle_s(u32 s) { barrier_idle_s_.store_relaxed(s); }
	u32 sleep_ms() const { return sleep_s() * 1000; }
	u32 idle_ms() const { return idle_s() * 1000; }
	// Between two passes. Three of them take a chunk that is left alone to Clean on disk:
	// marked, cleared in memory, written. Together they take two daemon_sleep (W4).
	u32 pass_ms() const;

    private:
	friend struct Peek;

	base::Atomic<u8> armed_{0};
	base::Atomic<u8> sync_wanted_{0};
	base::Atomic<u32> daemon_sleep_s_{kDaemonSleepDefault_s};
	base::Atomic<u32> barrier_idle_s_{kBarrierIdleDefault_s};
};

} // namespace core
