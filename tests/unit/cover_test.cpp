// SPDX-License-Identifier: GPL-2.0
// What a first touch covers beside its own chunk, and how far what is left of the budget lets it.
#include "rig.hpp"

using core::State;
using rig::Rig;

namespace {

TEST(PreCover, ALoneTouchCoversItsOwnChunk)
{
	Rig r({.chunks = 5000, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	r.write(5);
	r.write(2500);
	for (u64 c = 0; c < 5000; c++) {
		EXPECT_EQ((r.raw(c) & core::kDirtyOnDisk) != 0, c == 5 || c == 2500) << c;
		EXPECT_EQ(r.disk(c), c == 5 || c == 2500 ? LLB_DIRTY : LLB_CLEAN) << c;
	}
}

TEST(PreCover, NeighboursAreDirtyOnDiskAndTruthfulInMemory)
{
	Rig r({.state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	r.write(5);
	r.write(9);
	for (u64 c = 0; c < 64; c++) {
		EXPECT_EQ(r.state(c), c == 5 || c == 9 ? State::Dirty : State::Clean);
		EXPECT_TRUE(r.raw(c) & core::kDirtyOnDisk);
		EXPECT_EQ(r.disk(c), LLB_DIRTY) << c;
	}
	int batches = r.h.io_batches;
	for (u64 c = 0; c < 64; c++) {
		llb_start_write(r.b(), c * 128, 8);
		EXPECT_FALSE(llb_pending(r.b())) << c;
		llb_end_write(r.b(), c * 128, 8);
		EXPECT_EQ(r.state(c), State::Dirty);
	}
	EXPECT_EQ(r.h.io_batches, batches);
}

TEST(PreCover, OnlyCleanAndUnwrittenAreCovered)
{
	Rig r({.level = 5, .members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.set_raw(1, LLB_NEED_SYNC_UNWRITTEN);
	r.set_raw(2, LLB_SYNCING_UNWRITTEN);
	r.set_raw(3, LLB_CLEAN_UNWRITTEN);
	r.set_raw(4, LLB_CLEAN);
	r.write(0);
	r.write(6);
	EXPECT_EQ(r.disk(0), LLB_NEED_SYNC);
	EXPECT_EQ(r.disk(1), LLB_NEED_SYNC_UNWRITTEN);
	EXPECT_EQ(r.disk(2), LLB_SYNCING_UNWRITTEN);
	EXPECT_EQ(r.disk(3), LLB_CLEAN_UNWRITTEN);
	EXPECT_EQ(r.disk(4), LLB_DIRTY);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
}

// What a commit covers is all confirmed, also where it lies in several windows, next
// to each other, apart, or at the end of the table.
TEST(PreCover, EachOfManyWindowsOfOneCommit)
{
	const u64 chunks = 5005, window = core::kCoverChunksMax;
	Rig r({.chunks = chunks, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	const std::vector<u64> written = {3, 18, 40, 41, 63, 1000, 3071, 3072, 3100, 5003, 5004};
	for (u64 c : written)
		r.begin_nowait(c);
	llb_unplug(r.b(), 1);
	for (u64 c = 0; c < chunks; c++) {
		size_t beside = 0;
		bool in = false;
		for (u64 w : written) {
			beside += c / window == w / window;
			in |= c == w;
		}
		in |= beside > 1;
		EXPECT_EQ((r.raw(c) & core::kDirtyOnDisk) != 0, in) << c;
		EXPECT_EQ(r.disk(c), in ? LLB_DIRTY : LLB_CLEAN) << c;
	}
	for (u64 c : written)
		r.end(c);
}

// Cells behind the end of a table that became smaller: neither written nor covered.
TEST(PreCover, NotForCellsBehindTheEnd)
{
	Rig r({.chunks = 5005, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	r.begin_nowait(4998); // dirty and not covered
	llb_resize(r.b(), 4997 * 128);
	r.h.clock_ms += 60000;
	r.begin_nowait(3100);
	llb_unplug(r.b(), 1);
	EXPECT_EQ(r.disk(4996), LLB_CLEAN);
	EXPECT_FALSE(r.raw(4996) & core::kDirtyOnDisk);
	EXPECT_EQ(r.disk(4998), LLB_UNWRITTEN);
	r.end(3100);
	r.end(4998);
}

// 100 GiB in chunks of 1 MiB, so that there is a budget, and the header's space is enough.
struct Wide : Rig {
	static constexpr u64 kMiB = 2048; // sectors
	Wide()
		: Rig({.sync_size = 100 * 1024 * kMiB, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN})
	{
		start();
		EXPECT_EQ(chunk_sectors(), kMiB);
	}
	bool covered(u64 c) { return raw(c) & core::kDirtyOnDisk; }
	u64 crash_mib()
	{
		llb_stats s;
		llb_stats_get(b(), &s);
		return s.crash_bytes >> 20;
	}
};

TEST(PreCover, AStreamIsCoveredAheadByHalfOfWhatItHasWritten)
{
	Wide r;
	int before = r.h.io_batches;
	for (u64 c = 10000; c < 11000; c++)
		r.write(c);
	EXPECT_LT(r.h.io_batches - before, 20) << "each chunk by itself needs 1000";
	EXPECT_LE(r.crash_mib(), 1500u + 64);
	before = r.h.io_batches;
	for (u64 c = 40999; c >= 40000; c--) // backwards
		r.write(c);
	EXPECT_LT(r.h.io_batches - before, 20);
}

TEST(PreCover, NoMoreThan64MiBAroundIt)
{
	Wide r;
	r.write(10000);
	r.write(10020);
	for (u64 c = 9000; c < 11000; c++)
		EXPECT_EQ(r.covered(c), c / 64 == 10000 / 64) << c;
	EXPECT_EQ(r.crash_mib(), 64u);
}

// Where a quarter of the budget is spent, only windows of which a part is written.
TEST(PreCover, DenseWindowsOnlyWhenTheBudgetGoes)
{
	Wide r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 100), 0);
	for (u64 c = 0; c < 50; c++)
		r.write(200 * c);
	EXPECT_EQ(r.crash_mib(), 50u);
	r.write(20000);
	r.write(20063);
	EXPECT_EQ(r.crash_mib(), 52u) << "two of 64 are no evidence";
	r.write(20004);
	EXPECT_EQ(r.crash_mib(), 52u + 7) << "two of eight are";
	EXPECT_TRUE(r.covered(20007));
	EXPECT_FALSE(r.covered(20008));
}

// The touches of one commit, in one page or in many, are no more than others one after the other.
TEST(PreCover, WhatATouchTookIsNotLeftToTheNext)
{
	for (u64 apart : {64, 64 * 47}) {
		Wide r;
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 400), 0);
		for (u64 i = 0; i < 30; i++) {
			r.begin_nowait(10048 + apart * i);
			r.begin_nowait(10049 + apart * i);
		}
		llb_unplug(r.b(), 1);
		EXPECT_GE(r.crash_mib(), 100u) << apart;
		EXPECT_LE(r.crash_mib(), 400u) << apart;
		for (u64 i = 0; i < 30; i++) {
			r.end(10048 + apart * i);
			r.end(10049 + apart * i);
		}
	}
}

TEST(PreCover, NothingButWhatIsWrittenAboveTheBudget)
{
	Wide r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 1), 0);
	for (u64 c = 500; c < 600; c++)
		r.write(c);
	EXPECT_EQ(r.crash_mib(), 100u);
}

TEST(PreCover, TheDaemonTakesItBack)
{
	Rig r({.state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	r.write(5);
	r.idle();
	for (u64 c = 0; c < 64; c++) {
		EXPECT_EQ(r.disk(c), LLB_CLEAN) << c;
		EXPECT_EQ(r.raw(c), LLB_CLEAN) << c;
	}
	Rig u({.state = LLB_SB_FIRST_USE});
	u.start();
	u.write(5);
	u.idle();
	for (u64 c = 0; c < 64; c++)
		EXPECT_EQ(u.disk(c), c == 5 ? LLB_CLEAN : LLB_UNWRITTEN) << c;
}

} // namespace
