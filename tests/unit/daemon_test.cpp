// SPDX-License-Identifier: GPL-2.0
// The daemon: when a chunk becomes clean on disk, and when it must not.
#include "rig.hpp"

using core::State;
using rig::kCleanBy_ms;
using rig::kIdle_ms;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

const Options kFirstUse{.state = LLB_SB_FIRST_USE};

// Runs until the chunk is clean on disk; how long that took.
u64 clean_after(Rig &r, u64 chunk, u64 limit_ms = 4 * kCleanBy_ms)
{
	u64 begin = r.h.clock_ms;
	while (r.disk(chunk) != LLB_CLEAN && r.h.clock_ms - begin < limit_ms)
		r.h.run_for(100);
	return r.h.clock_ms - begin;
}

TEST(Daemon, AWrittenChunkIsCleanOnAllMembersInTime)
{
	Rig r({.members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	for (int round = 0; round < 20; round++) {
		r.h.run_for(u64(round) * 1700 % 37000); // at any phase of the timer
		r.write(5);
		EXPECT_EQ(r.disk(5), LLB_DIRTY);
		u64 took = clean_after(r, 5);
		EXPECT_LE(took, kCleanBy_ms) << round;
		EXPECT_GE(took, kIdle_ms) << round;
		EXPECT_EQ(r.state(5), State::Clean);
	}
}

TEST(Daemon, InTimeForOtherPeriods)
{
	struct {
		u64 sleep, idle;
	} cases[] = {{1, 5}, {5, 1}, {1, 1}, {30, 100}, {100, 3}, {3600, 60}};
	for (auto c : cases) {
		Rig r(kFirstUse);
		r.start();
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, c.sleep), 0);
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_BARRIER_IDLE, c.idle), 0);
		for (int round = 0; round < 5; round++) {
			r.h.run_for(u64(round) * 777);
			r.write(5);
			u64 bound = (c.idle + 2 * c.sleep) * 1000;
			EXPECT_LE(clean_after(r, 5, 4 * bound), bound) << c.sleep << " " << c.idle;
		}
	}
}

// The daemon is also woken early, to ask md for a sync. That must not put off the pass.
TEST(Daemon, InTimeAlsoIfWokenEarly)
{
	for (u64 at = 1000; at < kSleep_ms; at += 1700) {
		Rig r({.fill = LLB_CLEAN});
		r.start();
		r.write(5);
		r.h.run_for(kSleep_ms + 100); // just after a pass
		r.write(5);
		u64 begin = r.h.clock_ms;
		r.h.run_for(at);
		llb_dirty_bits(r.b(), 40, 40); // wants a sync: wakes the daemon in barrier_idle
		while (r.disk(5) != LLB_CLEAN && r.h.clock_ms - begin < 4 * kCleanBy_ms)
			r.h.run_for(100);
		EXPECT_LE(r.h.clock_ms - begin, kCleanBy_ms) << "a sync was wanted after " << at << " ms";
	}
}

TEST(Daemon, AnIdleArrayCostsNothing)
{
	Rig r(kFirstUse);
	r.start();
	EXPECT_EQ(r.h.daemon_due, ~0ull) << "armed with nothing to clean";
	r.write(5);
	EXPECT_NE(r.h.daemon_due, ~0ull);
	r.idle();
	r.h.run_for(kCleanBy_ms);
	EXPECT_EQ(r.h.daemon_due, ~0ull) << "armed for ever";
	int batches = r.h.io_batches, flushes = r.h.flush_calls;
	r.h.run_for(100 * kCleanBy_ms);
	EXPECT_EQ(r.h.io_batches, batches);
	EXPECT_EQ(r.h.flush_calls, flushes);
}

TEST(Daemon, AReadOnlyArrayIsNotScannedForEver)
{
	Rig r({.cells = {LLB_DIRTY}});
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.start();
	r.h.run_for(10 * kCleanBy_ms);
	EXPECT_EQ(r.h.writes_total(), 0);
}

TEST(Daemon, AChunkThatIsBeingWrittenStaysDirty)
{
	Rig r({.chunks = 256, .state = LLB_SB_FIRST_USE});
	r.start();
	r.begin(5);
	r.write(6); // in the same group
	r.write(100); // in another
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(r.disk(100), LLB_CLEAN) << "an in-flight write holds back its group only";
	r.end(5);
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
	EXPECT_LE(clean_after(r, 6), kCleanBy_ms);
}

TEST(Daemon, AWriteBetweenMarkAndClearKeepsDirty)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	for (int i = 0; i < 20; i++) { // write once in every period
		r.h.run_for(kSleep_ms / 2);
		r.write(5);
		r.h.run_for(kSleep_ms / 2);
		ASSERT_EQ(r.disk(5), LLB_DIRTY) << i;
	}
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

// barrier_idle is counted from the group's first mark. A chunk that was marked later is
// cleared with the others, but never in the pass that marked it.
TEST(Daemon, AChunkIsClearedWithItsGroup)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, 1), 0);
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_BARRIER_IDLE, 20), 0);
	r.begin(6); // pins the group
	r.write(5);
	r.h.run_for(60000);
	r.write(7);
	u64 begin = r.h.clock_ms;
	r.h.run_for(1500); // 7 is marked
	EXPECT_EQ(r.disk(7), LLB_DIRTY);
	r.end(6);
	clean_after(r, 7);
	EXPECT_LE(r.h.clock_ms - begin, 22000u);
}

TEST(Daemon, AWriteInTheFlushKeepsItDirty)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	bool came = false;
	r.h.on_flush = [&] {
		if (!came)
			r.begin(5); // after the group was found quiet
		came = true;
	};
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_TRUE(came);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.end(5);
	r.h.on_flush = nullptr;
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

TEST(Daemon, AWriteWhileCleanIsOnItsWayToTheDisk)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	int state = 0;
	r.h.on_io_wait = [&] {
		if (state == 0 && r.state(5) == State::Clean) {
			state = 1;
			r.begin_nowait(5); // cannot lead: a commit is under way
			EXPECT_TRUE(llb_pending(r.b()));
		}
	};
	r.idle();
	ASSERT_EQ(state, 1);
	EXPECT_EQ(r.state(5), State::Dirty);
	EXPECT_TRUE(llb_pending(r.b()));
	r.wait_durable();
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.end(5);
}

// It cleans a large bitmap in steps: a first touch that comes meanwhile waits for the
// writes of one, not of all.
TEST(Daemon, AFirstTouchDoesNotWaitForThePass)
{
	constexpr u32 kPages = 5 * core::kBatch;
	Rig r({.chunks = kPages * 4096, .space = (kPages + 1) * 8, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	for (u64 b = 0; b < kPages; b++)
		r.write(b * 4096 + 10);
	const u64 last = kPages * 4096 - 2000; // in the last page
	u32 batches = 0, waited = 0;
	r.h.on_io_wait = [&] {
		if (r.state(10) != State::Clean)
			return;
		if (batches++ == 0)
			r.begin_nowait(last);
		else
			waited += llb_pending(r.b());
	};
	r.idle();
	EXPECT_GE(batches, 5u);
	EXPECT_LE(waited, 2u) << "its own commit's writes";
	EXPECT_FALSE(llb_pending(r.b()));
	EXPECT_EQ(r.disk(last), LLB_DIRTY);
	r.end(last);
}

// ---- W2 and W3 ----

TEST(Daemon, FlushesEveryMemberBeforeClean)
{
	Rig r({.members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(5);
	bool clean_early = false;
	std::vector<int> at_clean;
	r.h.on_byte = [&](u32, u32, u8, u8 after) {
		if (after != LLB_CLEAN)
			return;
		for (auto &m : r.h.members)
			clean_early |= m->flushes == 0;
	};
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_FALSE(clean_early);
}

TEST(Daemon, NothingIsCleanWhileDegraded)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.fail_member(1);
	r.h.run_for(5 * kCleanBy_ms);
	EXPECT_EQ(r.disk(0, 5), LLB_DIRTY);
	EXPECT_EQ(r.state(5), State::Dirty);
	r.write(20);
	EXPECT_EQ(r.state(20), State::NeedSync);
	llb_flush(r.b()); // nor at stop
	EXPECT_EQ(r.disk(0, 5), LLB_DIRTY);
	EXPECT_EQ(r.disk(0, 20), LLB_NEED_SYNC);
	EXPECT_EQ(r.get64(0, 32), 0u) << "events_cleared was raised";
}

// degraded alone does not tell: the slot must be filled by an in-sync member.
TEST(Daemon, DegradedIsNotTheWholeTruth)
{
	for (int how = 0; how < 3; how++) {
		Rig r(kFirstUse);
		r.start();
		r.write(5);
		if (how == 0)
			r.h.members[1]->flags = 0; // not in sync, while degraded says 0
		else if (how == 1)
			r.h.members[1]->slot = -1;
		else
			r.h.degraded = 1; // all in sync, while degraded says 1
		r.h.run_for(5 * kCleanBy_ms);
		EXPECT_EQ(r.disk(0, 5), LLB_DIRTY) << how;
	}
}

TEST(Daemon, AReplacementThatIsNotInSyncDoesNotCount)
{
	Rig r({.members = 3, .state = LLB_SB_FIRST_USE});
	r.h.array.raid_disks = 2;
	r.h.members[2]->slot = 1;
	r.h.members[2]->flags = fake::kReplacement;
	r.start();
	r.write(5);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN); // slot 1 has its in-sync member
	r.write(6);
	r.h.members[1]->flags = PLAT_MEMBER_FAULTY; // and now only the replacement
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(0, 6), LLB_DIRTY);
}

TEST(Daemon, AMemberFailsWhileTheLastWriteDrains)
{
	for (bool in_flush : {false, true}) {
		Rig r(kFirstUse);
		r.start();
		r.write(5);
		r.h.run_for(kSleep_ms); // marked while whole
		if (in_flush)
			r.h.on_flush = [&] { r.h.fail_member(1); };
		else
			r.h.fail_member(1);
		r.h.run_for(5 * kCleanBy_ms);
		EXPECT_EQ(r.disk(0, 5), LLB_DIRTY);
	}
}

TEST(Daemon, AMemberFailsAfterItsFlush)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.on_flushed = [&] { r.h.fail_member(1); };
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(0, 5), LLB_DIRTY);
}

TEST(Daemon, AFlushFails)
{
	Rig r(kFirstUse);
	r.start();
	r.h.md_error_works = false; // the member stays: only the flush tells
	r.h.members[1]->fail_flushes = -1;
	r.write(5);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	llb_flush(r.b());
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.h.members[1]->fail_flushes = 0;
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

TEST(Daemon, AMemberReturns)
{
	Rig r(kFirstUse);
	r.start();
	r.h.fail_member(1);
	r.write(5);
	EXPECT_EQ(r.state(5), State::NeedSync);
	r.h.members[1]->flags = 0; // re-added, not in sync
	llb_write_all(r.b());
	r.h.flags |= PLAT_ARRAY_RUNNING;
	for (u64 s = 0; s < r.o.sync_size;) {
		u64 blocks = llb_skip_sync(r.b(), s);
		if (!blocks)
			llb_start_sync(r.b(), s, &blocks, 0);
		s += blocks;
	}
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(5), State::Dirty);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(0, 5), LLB_DIRTY == r.disk(0, 5) ? LLB_DIRTY : LLB_NEED_SYNC);
	r.h.members[1]->flags = PLAT_MEMBER_IN_SYNC;
	r.h.degraded = 0;
	r.h.flags &= ~PLAT_ARRAY_RUNNING;
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

// ---- W5 ----

TEST(Daemon, EventsClearedIsDurableBeforeTheFirstCleanByte)
{
	for (u32 block : {512u, 4096u}) {
		Rig r(kFirstUse);
		r.h.members[1]->m.logical_block = block;
		r.start();
		r.write(5);
		r.h.events = 120;
		rig::Image before = r.image();
		r.h.writes.clear();
		r.idle();
		ASSERT_EQ(r.disk(5), LLB_CLEAN);
		for (size_t i = 0; i <= r.h.writes.size(); i++) {
			rig::Image now = r.replay(before, i);
			for (u32 m = 0; m < 2; m++) {
				if (now[m][LLB_CELLS_OFFSET + 5] != LLB_CLEAN)
					continue;
				EXPECT_EQ(now[0][32], 120) << i; // on every member
				EXPECT_EQ(now[1][32], 120) << i;
			}
		}
		llb_stats s;
		llb_stats_get(r.b(), &s);
		EXPECT_EQ(s.events_cleared, 120u);
	}
}

TEST(Daemon, WhatIsSeenFromOutside)
{
	Rig r(kFirstUse);
	r.start();
	llb_stats s;
	auto counts = [&] {
		llb_stats_get(r.b(), &s);
		return std::pair{s.dirtied_chunks, s.cleaned_chunks};
	};
	ASSERT_EQ(counts(), (std::pair<u64, u64>{0, 0}));
	r.write(5);
	const u64 dirtied = counts().first; // and neighbours
	EXPECT_GE(dirtied, 1u);
	EXPECT_EQ(s.cleaned_chunks, 0u);
	r.write(5);
	EXPECT_EQ(counts().first, dirtied) << "a second write";
	const u64 chunks = Options{}.chunks;
	std::vector<u8> cells(chunks + 8, 0xaa);
	ASSERT_EQ(llb_cells_copy(r.b(), 0, cells.data(), cells.size()), chunks);
	for (u64 c = 0; c < chunks; c++)
		ASSERT_EQ(cells[c], u8(r.state(c))) << c;
	EXPECT_EQ(cells[chunks], 0xaa);
	EXPECT_EQ(llb_cells_copy(r.b(), 5, cells.data(), 1), 1u);
	EXPECT_EQ(cells[0], LLB_DIRTY);
	EXPECT_EQ(llb_cells_copy(r.b(), chunks, cells.data(), 1), 0u);
	EXPECT_EQ(llb_cells_copy(r.b(), ~u64{0}, cells.data(), 1), 0u);
	r.idle();
	EXPECT_EQ(counts(), (std::pair<u64, u64>{dirtied, dirtied}));
}

// md's own count of missing members may be too small (K23): with all slots filled, below 0.
TEST(Daemon, ASlotIsEmptyWhateverMdCounts)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.degraded = -1;
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	r.write(6);
	r.h.members[1]->flags &= ~PLAT_MEMBER_IN_SYNC;
	r.h.degraded = 0;
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(0, 6), LLB_DIRTY);
}

// Who has no slot, and is bound still, has missed what becomes clean; md would take it back
// through its state file without a look at its events, which need not have moved.
TEST(Daemon, WhoIsBoundWithoutASlotMissesWhatBecomesClean)
{
	for (u32 flags : {0u, u32(PLAT_MEMBER_FAULTY)}) {
		Rig r(kFirstUse);
		r.start();
		r.write(5);
		r.idle();
		r.h.members.push_back(std::make_unique<fake::Member>(r.h.members[0]->bytes.size()));
		fake::Member &bound = *r.h.members[2];
		bound.m = r.h.members[0]->m;
		bound.slot = -1;
		bound.flags = flags;
		r.write(5);
		EXPECT_FALSE(bound.has(PLAT_MEMBER_MISSED));
		bool before = true;
		r.h.on_byte = [&](u32, u32, u8, u8 after) {
			before &= after != LLB_CLEAN || bound.has(PLAT_MEMBER_MISSED);
		};
		r.idle();
		ASSERT_EQ(r.disk(5), LLB_CLEAN);
		EXPECT_TRUE(before);
		EXPECT_TRUE(bound.has(PLAT_MEMBER_MISSED));
		EXPECT_FALSE(r.h.members[0]->has(PLAT_MEMBER_MISSED));
	}
}

// ... and who fails just then has missed nothing: nothing becomes clean.
TEST(Daemon, WhoFailsByTheHeaderThatRaisesEventsClearedHasMissedNothing)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.events = 120;
	r.h.on_flushed = [&] { r.h.members[1]->fail_writes = -1; };
	r.h.run_for(3 * kCleanBy_ms);
	ASSERT_TRUE(r.h.members[1]->has(PLAT_MEMBER_FAULTY));
	EXPECT_EQ(r.disk(0, 5), LLB_DIRTY);
	EXPECT_FALSE(r.h.members[1]->has(PLAT_MEMBER_MISSED));
}

// ... and once it is in sync it has all.
TEST(Daemon, WhoIsInSyncAgainHasMissedNothing)
{
	Rig r(kFirstUse);
	r.start();
	r.h.members[1]->flags |= PLAT_MEMBER_MISSED;
	r.write(5);
	r.idle();
	ASSERT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_FALSE(r.h.members[1]->has(PLAT_MEMBER_MISSED));
}

TEST(Daemon, NobodyTakesEventsCleared)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.events = 120;
	r.h.on_flushed = [&] {
		r.h.members[0]->fail_writes = -1;
		r.h.members[1]->fail_writes = -1;
	};
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(1, 5), LLB_DIRTY);
	EXPECT_EQ(r.state(5), State::Dirty);
	EXPECT_TRUE(r.h.flags & PLAT_ARRAY_BROKEN);
}

TEST(Daemon, CleanThatCouldNotBeWrittenIsWrittenLater)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.on_flushed = [&] { r.h.suspended = true; };
	r.h.run_for(kCleanBy_ms);
	r.h.on_flushed = nullptr;
	r.h.suspended = false;
	r.h.run_for(kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	r.write(5);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
}

TEST(Daemon, ASuspendedArraySkipsThePass)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	r.h.run_for(kSleep_ms);
	r.h.suspended = true;
	int batches = r.h.io_batches;
	r.h.run_for(5 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(r.h.io_batches, batches);
	r.h.suspended = false;
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

// ---- write-behind ----

TEST(Daemon, WriteBehindKeepsDirty)
{
	Rig r(kFirstUse);
	r.start();
	r.begin(5);
	llb_start_behind(r.b());
	EXPECT_FALSE(llb_behind_idle(r.b()));
	llb_stats s;
	llb_stats_get(r.b(), &s);
	EXPECT_EQ(s.behind_writes, 1);
	r.end(5); // comes before the slow member is done
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	llb_end_behind(r.b());
	EXPECT_TRUE(llb_behind_idle(r.b()));
	llb_wait_behind(r.b());
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

TEST(Daemon, WriteBehindThatCountsItselfAfterTheMark)
{
	Rig r(kFirstUse);
	r.start();
	r.begin(5);
	r.h.run_for(kSleep_ms); // marked, in flight
	llb_start_behind(r.b());
	r.end(5); // the group is quiet, the write is not
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	llb_end_behind(r.b());
	EXPECT_LE(clean_after(r, 5), kCleanBy_ms);
}

// A page that still waits for its write is visited by a pass that may clear nothing: what
// else is marked in it stays dirty. 5 was cleared; 6 waits for a slow member, for a flush
// that cannot be, or for a header that nobody takes.
TEST(Daemon, APageThatIsDueIsNoReasonToClearMore)
{
	for (int how = 0; how < 2; how++) {
		Rig r({.state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
		r.start();
		r.write(5);
		r.h.run_for(kSleep_ms * 2 / 3 + 1000); // 5 is marked
		r.begin(6);
		r.h.run_for(kSleep_ms * 2 / 3); // 5 is clean in memory, 6 is marked
		ASSERT_EQ(r.state(5), State::Clean);
		ASSERT_EQ(r.disk(5), LLB_DIRTY) << "not lazily";
		ASSERT_TRUE(r.raw(6) & core::kCleaning);
		if (how == 0)
			llb_start_behind(r.b());
		else
			r.h.suspended = true; // no flush
		r.end(6);
		int flushes = r.h.flush_calls;
		r.h.run_for(kSleep_ms * 2 / 3);
		EXPECT_EQ(r.h.flush_calls, flushes) << how;
		EXPECT_EQ(r.state(6), State::Dirty) << how;
		EXPECT_EQ(r.disk(6), LLB_DIRTY) << how;
		if (how == 0)
			llb_end_behind(r.b());
		r.h.suspended = false;
		EXPECT_LE(clean_after(r, 6), kCleanBy_ms) << how;
	}
}

// ---- flush at stop, tune ----

TEST(Flush, AnOrderlyStopLeavesNothingToSync)
{
	for (u32 block : {512u, 4096u}) {
		Rig r({.chunks = 9000, .state = LLB_SB_FIRST_USE});
		r.h.members[0]->m.logical_block = block;
		r.start();
		for (u64 c : {0, 5, 3071, 3072, 8999})
			r.write(c);
		r.begin_nowait(4000); // asked for, not unplugged
		r.end(4000);
		llb_flush(r.b());
		for (u64 c = 0; c < 9000; c++)
			ASSERT_LE(r.disk(c), LLB_CLEAN) << c;
		r.reboot();
		EXPECT_EQ(r.counts()[LLB_CLEAN], 6u);
		EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 8994u);
		EXPECT_EQ(r.h.resync_requests, 0);
		llb_flush(r.b());
		llb_flush(r.b());
	}
}

TEST(Flush, WhatIsInFlightStaysDirty)
{
	Rig r(kFirstUse);
	r.start();
	r.begin(5);
	r.write(40);
	llb_flush(r.b());
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(r.disk(40), LLB_CLEAN);
	r.end(5);
}

TEST(Flush, WriteBehindStaysDirty)
{
	Rig r(kFirstUse);
	r.start();
	r.begin(5);
	llb_start_behind(r.b());
	r.end(5);
	llb_flush(r.b());
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	llb_end_behind(r.b());
}

TEST(Tune, BadValuesChangeNothing)
{
	Rig r(kFirstUse);
	r.start();
	for (u32 what : {LLB_TUNE_DAEMON_SLEEP, LLB_TUNE_BARRIER_IDLE}) {
		EXPECT_EQ(llb_tune(r.b(), what, 0), -LLB_EINVAL);
		for (u64 bad : {u64{86401}, u64{1} << 32, (u64{1} << 32) + 1, u64{1} << 63, ~u64{0}})
			EXPECT_EQ(llb_tune(r.b(), what, bad), -LLB_ERANGE) << bad;
	}
	llb_metadata m;
	llb_metadata_get(r.b(), &m);
	EXPECT_EQ(m.daemon_sleep_s, 30u);
	EXPECT_EQ(m.barrier_idle_s, 5u);
	EXPECT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, 86400), 0);
	EXPECT_EQ(llb_tune(r.b(), LLB_TUNE_BARRIER_IDLE, 1), 0);
	llb_metadata_get(r.b(), &m);
	EXPECT_EQ(m.daemon_sleep_s, 86400u);
	EXPECT_EQ(m.barrier_idle_s, 1u);
	llb_update_sb(r.b());
	EXPECT_EQ(r.get32(0, 56), 86400u);
}

TEST(Tune, AShorterPeriodBeginsNow)
{
	Rig r(kFirstUse);
	ASSERT_EQ(r.create(), 0);
	ASSERT_EQ(r.load(), 0);
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, 3600), 0);
	r.write(5);
	r.h.run_for(1000);
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, 2), 0);
	EXPECT_LE(clean_after(r, 5), 2 * 2000 + kIdle_ms);
}

// Nothing can become clean: no disk is woken for it, no timer runs, until that changes.
// Chunk 8 is written while a member is missing, and waits for a sync.
TEST(Daemon, ADegradedIdleArrayStaysAsleep)
{
	Rig r;
	r.start();
	r.write(7);
	r.h.fail_member(1);
	r.write(8);
	r.h.run_for(2 * kSleep_ms + 1000);
	int flushes = r.h.flush_calls;
	EXPECT_EQ(r.h.daemon_due.load(), ~0ull) << "the timer runs";
	r.h.run_for(100 * kSleep_ms);
	EXPECT_EQ(r.h.flush_calls, flushes);
	EXPECT_TRUE(r.reloads_to_sync(r.disk(0, 7)));
	r.h.members[1]->flags = PLAT_MEMBER_IN_SYNC; // recovered: md wakes its thread
	r.h.degraded = 0;
	r.h.run_for(kCleanBy_ms + kSleep_ms);
	EXPECT_EQ(r.disk(0, 7), LLB_CLEAN);
	EXPECT_GT(r.h.resync_requests, 0);
}

TEST(Daemon, AReadOnlyArrayStaysAsleep)
{
	Rig r;
	r.start();
	r.write(7);
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.h.run_for(kSleep_ms + 1000);
	EXPECT_EQ(r.h.daemon_due.load(), ~0ull) << "the timer runs";
	r.h.flags |= PLAT_ARRAY_RDWR;
	r.h.run_for(kCleanBy_ms + kSleep_ms);
	EXPECT_EQ(r.disk(7), LLB_CLEAN);
}

// Built parity that no flush has reached is forgotten where a member is missing.
TEST(Daemon, ADegradedPassForgetsUnflushedParity)
{
	Rig r({.level = 5, .members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(1);
	r.set_raw(4, LLB_SYNCING_UNWRITTEN | core::kEnded);
	r.h.fail_member(2);
	r.h.run_for(2 * kSleep_ms);
	EXPECT_EQ(r.raw(4), LLB_UNWRITTEN);
}

} // namespace
