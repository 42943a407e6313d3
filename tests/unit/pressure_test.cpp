// SPDX-License-Identifier: GPL-2.0
// The daemon where the budget is spent: it comes each second, whatever else arms it, and
// not for what it cannot change.
#include "rig.hpp"

using namespace rig;

namespace {

constexpr u64 kMiB = 2048; // sectors

// 100 GiB in chunks of 1 MiB.
struct Wide : Rig {
	explicit Wide(u64 budget_mib)
		: Rig({.sync_size = 100 * 1024 * kMiB, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN})
	{
		start();
		EXPECT_EQ(llb_tune(b(), LLB_TUNE_RESYNC_BUDGET, budget_mib), 0);
	}
	u64 crash_mib()
	{
		llb_stats s;
		llb_stats_get(b(), &s);
		return s.crash_bytes >> 20;
	}
	// How often the daemon is armed anew in these seconds; each(second) comes before each.
	template <class F>
	int daemon_runs(int seconds, F each)
	{
		int runs = 0;
		for (int s = 0; s < seconds; s++) {
			each(s);
			u64 due = h.daemon_due;
			h.run_for(1000);
			runs += due != h.daemon_due;
		}
		return runs;
	}
};

} // namespace

// A writer that takes a mark off while the daemon runs arms it for a whole period.
TEST(Pressure, AHotWriterDoesNotPutOffTheHurry)
{
	Wide r(100);
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, 3600), 0);
	r.h.run_for(3600 * 1000);
	for (u64 c = 0; c < 400; c++)
		r.write(200 * c + 1);
	r.h.on_grace = [&] { r.write(1); }; // the daemon has marked
	r.h.run_for(3000);
	EXPECT_LE(r.crash_mib(), 100u);
	r.h.on_grace = nullptr;
}

// What waits for a resync costs what it costs: the hot set is not taken back for it.
TEST(Pressure, WhatWaitsForAResyncIsNoReasonToHurry)
{
	Wide r(1000);
	r.h.flags |= PLAT_ARRAY_FROZEN;
	llb_dirty_bits(r.b(), 50000, 52000);
	r.wait_durable();
	EXPECT_EQ(r.crash_mib(), 2001u);
	int batches = r.h.io_batches;
	r.daemon_runs(60, [&](int s) {
		for (u64 c = 0; c < 10 && s % 5 == 0; c++)
			r.write(300 * c);
	});
	EXPECT_LT(r.h.io_batches - batches, 30);
	EXPECT_LT(r.daemon_runs(600, [](int) {}), 150) << "once in barrier_idle, for the sync";
	r.h.flags &= ~PLAT_ARRAY_FROZEN;
}

// It clears no more than it has to: what was not written for longest.
TEST(Pressure, NoMoreIsClearedThanNeeded)
{
	Wide r(1000);
	for (u64 c = 0; c < 1200; c++) {
		r.write(80 * c);
		if (c % 100 == 0)
			r.h.run_for(1000);
		EXPECT_LE(r.crash_mib(), 1000u) << c;
	}
	EXPECT_GE(r.crash_mib(), 500u);
}
