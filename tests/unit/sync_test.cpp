// SPDX-License-Identifier: GPL-2.0
// What the sync thread asks and tells.
#include "rig.hpp"

using core::State;
using rig::kChunk;
using rig::kCleanBy_ms;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

constexpr u32 kResync = PLAT_ARRAY_RUNNING | PLAT_ARRAY_SYNC;
constexpr u32 kCheck = kResync | PLAT_ARRAY_REQUESTED | PLAT_ARRAY_CHECK;
constexpr u32 kRepair = kResync | PLAT_ARRAY_REQUESTED;
constexpr u32 kRecover = PLAT_ARRAY_RUNNING; // and no PLAT_ARRAY_SYNC
constexpr u32 kReshape = PLAT_ARRAY_RUNNING | PLAT_ARRAY_RESHAPE;
constexpr u32 kActions = kCheck | kRecover | kReshape | PLAT_ARRAY_INTR;

void action(Rig &r, u32 flags)
{
	r.h.flags = (r.h.flags & ~kActions) | flags;
}

// raid10 hands its own count of missing members, which may be below 0 with none missing (K23):
// what is synchronised is ended nevertheless, or it would be asked for again and again.
TEST(Sync, OfARaid10ThatCountsTooFewMissing)
{
	for (bool missing : {false, true}) {
		Rig r({.level = 10, .state = LLB_SB_FIRST_USE});
		r.start();
		r.set_raw(5, LLB_NEED_SYNC);
		r.h.degraded = -1;
		if (missing)
			r.h.members[1]->flags &= ~PLAT_MEMBER_IN_SYNC;
		action(r, kResync);
		u64 blocks;
		EXPECT_TRUE(llb_start_sync(r.b(), 5 * kChunk, &blocks, u32(-1)));
		EXPECT_EQ(r.state(5), missing ? State::NeedSync : State::Syncing);
	}
}

// One chunk in each state.
Rig &eight(Rig &r)
{
	r.start();
	for (u8 s = 0; s < 8; s++)
		r.set_raw(s, s);
	for (u64 c = 8; c < r.table()->geo.chunks; c++)
		r.set_raw(c, LLB_CLEAN);
	return r;
}

// A whole sync as md does it: the sectors that were synced.
std::vector<u64> sync(Rig &r, u64 from = 0, u64 to = ~0ull, u64 step = kChunk)
{
	std::vector<u64> synced;
	to = std::min(to, r.h.array.sync_size);
	for (u64 s = from; s < to;) {
		u64 blocks = llb_skip_sync(r.b(), s);
		if (!blocks) {
			llb_cond_end_sync(r.b(), s, 0);
			bool must = llb_start_sync(r.b(), s, &blocks, 1);
			u64 again;
			EXPECT_EQ(llb_start_sync(r.b(), s, &again, 0), must);
			EXPECT_EQ(blocks, again);
			EXPECT_GT(blocks, 0u);
			blocks = std::min(blocks, step);
			if (must)
				synced.push_back(s);
		}
		s += blocks;
	}
	return synced;
}

TEST(Sync, SkipPerAction)
{
	struct {
		u32 flags;
		s32 level;
		const char *synced; // one digit for each state that is not skipped
	} cases[] = {
		{kResync, 1, "34"},    {kResync, 5, "3456"},  {kCheck, 1, "123 4 7"}, {kCheck, 5, "12347"},
		{kRepair, 1, "12347"}, {kRepair, 6, "12347"}, {kRecover, 1, "12347"}, {kRecover, 5, "12347"},
	};
	for (auto c : cases) {
		Rig r({.level = c.level, .members = 4});
		eight(r);
		action(r, c.flags);
		for (u8 s = 0; s < 8; s++) {
			// states 5 and 6 are parity levels' only
			if (c.level == 1 && (s == 5 || s == 6))
				continue;
			bool skipped = llb_skip_sync(r.b(), s * kChunk) != 0;
			bool want = !strchr(c.synced, '0' + s);
			EXPECT_EQ(skipped, want) << "level " << c.level << " flags " << c.flags << " "
						 << rig::name(static_cast<State>(s));
		}
	}
}

TEST(Sync, Raid10RecoversInAnotherAddressSpace)
{
	Rig r({.level = 10, .members = 4, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(3);
	action(r, kRecover);
	for (u64 c = 0; c < 64; c++)
		EXPECT_EQ(llb_skip_sync(r.b(), c * kChunk), 0u);
	u64 blocks;
	llb_start_sync(r.b(), 3 * kChunk, &blocks, 0);
	EXPECT_EQ(r.state(3), State::Dirty) << "committed under another address";
	llb_cond_end_sync(r.b(), 10 * kChunk, 1);
	action(r, kResync); // a resync of raid10 speaks of array sectors
	EXPECT_GT(llb_skip_sync(r.b(), 0), 0u);
}

TEST(Sync, SkipIsToTheNextChunkThatIsNotSkipped)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.set_raw(20, LLB_NEED_SYNC);
	action(r, kResync);
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 20 * kChunk);
	EXPECT_EQ(llb_skip_sync(r.b(), 5 * kChunk + 7), 15 * kChunk - 7);
	EXPECT_EQ(llb_skip_sync(r.b(), 20 * kChunk), 0u);
	EXPECT_EQ(llb_skip_sync(r.b(), 20 * kChunk + 8), 0u);
	EXPECT_EQ(llb_skip_sync(r.b(), 21 * kChunk), 43 * kChunk);
	EXPECT_EQ(llb_skip_sync(r.b(), 64 * kChunk), 0u); // past the end
	EXPECT_EQ(llb_skip_sync(r.b(), ~0ull >> 1), 0u);
}

TEST(Sync, ALongSkipComesInPieces)
{
	Rig r({.chunks = 130000, .fill = LLB_CLEAN});
	r.start();
	action(r, kResync);
	u64 s = 0, n = 0;
	int calls = 0;
	while (s < 130000 * kChunk && (n = llb_skip_sync(r.b(), s))) {
		s += n;
		calls++;
	}
	EXPECT_EQ(s, 130000 * kChunk);
	EXPECT_GT(calls, 1);
}

TEST(Sync, AQueryCommitsNothing)
{
	Rig r({.level = 5, .members = 3});
	eight(r);
	action(r, kResync);
	for (u8 s = 0; s < 8; s++) {
		u64 blocks = 0;
		bool must = llb_start_sync(r.b(), s * kChunk, &blocks, 1);
		EXPECT_EQ(blocks, kChunk);
		EXPECT_EQ(must, s >= 3 && s <= 6) << int(s);
		EXPECT_EQ(r.raw(s), s);
	}
	for (u8 s = 0; s < 8; s++) {
		u64 blocks = 0;
		llb_start_sync(r.b(), s * kChunk, &blocks, 0);
	}
	const u8 want[] = {0, 1, 2, 4, 4, 6, 6, 7};
	for (u8 s = 0; s < 8; s++)
		EXPECT_EQ(r.raw(s), want[s]) << int(s);
}

TEST(Sync, RecoveryTakesDirtyToo)
{
	Rig r;
	eight(r);
	r.h.fail_member(1);
	action(r, kRecover);
	u64 blocks;
	EXPECT_FALSE(llb_start_sync(r.b(), 0, &blocks, 0));
	EXPECT_FALSE(llb_start_sync(r.b(), 1 * kChunk, &blocks, 0));
	EXPECT_TRUE(llb_start_sync(r.b(), 2 * kChunk, &blocks, 0));
	EXPECT_TRUE(llb_start_sync(r.b(), 3 * kChunk, &blocks, 0));
	EXPECT_EQ(r.state(1), State::Clean); // under fullsync the answer is ignored: it stays
	EXPECT_EQ(r.state(2), State::Syncing);
	EXPECT_EQ(r.state(3), State::Syncing);
}

// A recovery ends a chunk only where it makes all copies agree, not where it copies
// from one of two that differ, and no parity: raid5 writes what it still has in memory.
// There a begun chunk is one that the recovery was at.
TEST(Sync, RecoveryEndsOnlyWhatItMakesAgree)
{
	struct {
		s32 level;
		u32 members, failed;
		State after;
	} cases[] = {{1, 2, 1, State::Syncing}, {1, 2, 0, State::NeedSync}, {1, 3, 1, State::NeedSync},
		     {1, 3, 2, State::Syncing}, {5, 3, 1, State::Syncing},  {5, 3, 0, State::Syncing},
		     {6, 4, 2, State::Syncing}};
	for (auto c : cases) {
		Rig r({.level = c.level, .members = c.members, .fill = LLB_CLEAN});
		r.start();
		r.set_raw(3, LLB_NEED_SYNC);
		for (u32 m = 0; m < c.failed; m++)
			r.h.fail_member(c.members - 1 - m);
		action(r, kRecover);
		u64 blocks;
		EXPECT_TRUE(llb_start_sync(r.b(), 3 * kChunk, &blocks, 0));
		EXPECT_EQ(r.state(3), c.after)
			<< "level " << c.level << ", " << c.failed << " of " << c.members << " missing";
		llb_cond_end_sync(r.b(), 8 * kChunk, 1);
		llb_close_sync(r.b());
		EXPECT_EQ(r.state(3),
			  c.level == 1 && c.after == State::Syncing ? State::Dirty : State::NeedSync);
	}
}

// Parity that is built and waits for its flush is not on a member that comes now.
TEST(Sync, RecoveryCopiesParityThatWaitsForItsFlush)
{
	Rig r({.level = 5, .members = 3});
	r.start();
	r.set_raw(3, LLB_SYNCING_UNWRITTEN);
	action(r, kRecover);
	EXPECT_NE(llb_skip_sync(r.b(), 3 * kChunk), 0u);
	r.set_raw(3, LLB_SYNCING_UNWRITTEN | core::kEnded);
	EXPECT_EQ(llb_skip_sync(r.b(), 3 * kChunk), 0u);
}

TEST(Sync, CheckCommitsNothing)
{
	Rig r;
	eight(r);
	action(r, kCheck);
	for (u8 s = 0; s < 8; s++) {
		u64 blocks;
		llb_start_sync(r.b(), s * kChunk, &blocks, 0);
		EXPECT_EQ(r.raw(s), s);
	}
	llb_cond_end_sync(r.b(), 8 * kChunk, 1);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(3), State::NeedSync);
	EXPECT_EQ(r.state(1), State::Clean);
}

TEST(Sync, RepairLeavesCleanClean)
{
	Rig r;
	eight(r);
	action(r, kRepair);
	u64 blocks;
	llb_start_sync(r.b(), 1 * kChunk, &blocks, 0);
	EXPECT_EQ(r.state(1), State::Clean);
	llb_start_sync(r.b(), 3 * kChunk, &blocks, 0);
	EXPECT_EQ(r.state(3), State::Syncing);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(3), State::Dirty);
}

TEST(Sync, AWholeResync)
{
	Rig r({.cells = {0, 1, 2, 3, 4}, .fill = LLB_CLEAN});
	r.start();
	action(r, kResync);
	EXPECT_EQ(sync(r), (std::vector<u64>{2 * kChunk, 3 * kChunk, 4 * kChunk}));
	for (u64 c : {2, 3, 4})
		EXPECT_EQ(r.state(c), State::Syncing);
	llb_close_sync(r.b());
	action(r, 0);
	for (u64 c : {2, 3, 4}) {
		EXPECT_EQ(r.state(c), State::Dirty);
		EXPECT_TRUE(r.reloads_to_sync(r.disk(c))) << "not clean before a flush";
	}
	r.idle();
	for (u64 c : {2, 3, 4})
		EXPECT_EQ(r.disk(c), LLB_CLEAN);
	EXPECT_EQ(r.disk(0), LLB_UNWRITTEN);
	r.reboot();
	EXPECT_EQ(r.h.resync_requests, 1); // the first load's only
}

TEST(Sync, StepsInsideAChunk)
{
	Rig r({.sync_size = u64{200000} * 128, .state = LLB_SB_FIRST_USE}); // chunks of 128 KiB
	r.start();
	ASSERT_EQ(r.chunk_sectors(), 256u);
	r.set_raw(3, LLB_NEED_SYNC);
	action(r, kResync);
	EXPECT_EQ(sync(r, 0, 6 * 256, 64), (std::vector<u64>{768, 832, 896, 960}));
	EXPECT_EQ(r.state(3), State::Syncing);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(3), State::Dirty);
}

// D5: begun at its first sector or not at all.
TEST(Sync, AStartInMidChunkNeverEndsIt)
{
	Rig r;
	eight(r);
	action(r, kResync);
	u64 blocks;
	EXPECT_TRUE(llb_start_sync(r.b(), 3 * kChunk + 64, &blocks, 0));
	EXPECT_EQ(blocks, kChunk - 64);
	EXPECT_EQ(r.state(3), State::NeedSync);
	llb_cond_end_sync(r.b(), 8 * kChunk, 1);
	EXPECT_EQ(r.state(3), State::NeedSync);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(3), State::NeedSync);
	action(r, 0);
	r.h.resync_requests = 0;
	r.h.run_for(2 * kSleep_ms);
	EXPECT_GE(r.h.resync_requests, 1) << "D10: nobody asked for the rest";
}

TEST(Sync, CondEndEndsOnlyWhatLiesBelow)
{
	Rig r({.fill = LLB_NEED_SYNC});
	r.start();
	action(r, kResync);
	u64 blocks;
	for (u64 c = 0; c < 8; c++)
		llb_start_sync(r.b(), c * kChunk, &blocks, 0);
	bool waited = false;
	r.h.on_recovery_wait = [&] { waited = r.state(0) == State::Syncing; };
	llb_cond_end_sync(r.b(), 5 * kChunk + 64, 1);
	EXPECT_TRUE(waited) << "ended before what was issued is done";
	for (u64 c = 0; c < 8; c++)
		EXPECT_EQ(r.state(c), c < 5 ? State::Dirty : State::Syncing) << c;
	EXPECT_EQ(r.h.checkpoints, (std::vector<u64>{5 * kChunk + 64}));
}

TEST(Sync, CondEndIsSeldomUnlessForced)
{
	Rig r({.fill = LLB_NEED_SYNC});
	r.start();
	action(r, kResync);
	u64 blocks;
	llb_cond_end_sync(r.b(), 0, 0);
	llb_start_sync(r.b(), 0, &blocks, 0);
	llb_cond_end_sync(r.b(), kChunk, 0);
	EXPECT_EQ(r.state(0), State::Syncing);
	r.h.clock_ms += kSleep_ms;
	llb_cond_end_sync(r.b(), kChunk, 0);
	EXPECT_EQ(r.state(0), State::Dirty);
}

TEST(Sync, CondEndAfterAFailure)
{
	Rig r({.fill = LLB_NEED_SYNC});
	r.start();
	action(r, kResync);
	u64 blocks;
	llb_start_sync(r.b(), 0, &blocks, 0);
	r.h.on_recovery_wait = [&] { r.h.flags |= PLAT_ARRAY_INTR; }; // something of it failed
	llb_cond_end_sync(r.b(), kChunk, 1);
	EXPECT_EQ(r.state(0), State::Syncing);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(0), State::NeedSync);
}

// The stripe met the failure before md was told to stop: nobody compared what was read of
// the lost member.
TEST(Sync, AMemberFailsAndMdDoesNotSayItYet)
{
	for (bool close : {false, true}) {
		Rig r({.level = 5, .members = 3, .fill = LLB_NEED_SYNC});
		r.start();
		action(r, kResync);
		u64 blocks;
		llb_start_sync(r.b(), 0, &blocks, 0);
		r.h.on_recovery_wait = [&] { r.h.fail_member(1); };
		if (close)
			r.h.fail_member(1);
		else
			llb_cond_end_sync(r.b(), kChunk, 1);
		EXPECT_EQ(r.state(0), State::Syncing);
		llb_close_sync(r.b());
		EXPECT_EQ(r.state(0), State::NeedSync) << close;
	}
}

// What raid5 kept of a member that was there before is forgotten when another one is
// recovered, and once more before the next sync; only then, and until that succeeds.
TEST(Sync, ARecoveryEmptiesTheStripeCache)
{
	Rig r({.level = 5, .members = 3, .fill = LLB_CLEAN});
	r.start();
	action(r, kResync);
	sync(r);
	llb_close_sync(r.b());
	EXPECT_EQ(r.h.stripes_forgotten, 0);
	action(r, kRecover | PLAT_ARRAY_INTR);
	sync(r);
	llb_close_sync(r.b());
	EXPECT_EQ(r.h.stripes_forgotten, 0) << "when the next one starts";
	llb_skip_sync(r.b(), 0);
	EXPECT_EQ(std::exchange(r.h.stripes_forgotten, 0), 1);
	action(r, kRecover);
	sync(r);
	llb_close_sync(r.b());
	EXPECT_EQ(r.h.stripes_forgotten, 1);
	r.h.stripes_error = -LLB_ENOMEM;
	action(r, kResync);
	EXPECT_NE(llb_skip_sync(r.b(), 0), 0u);
	EXPECT_EQ(r.h.stripes_forgotten, 2);
	llb_skip_sync(r.b(), 0);
	EXPECT_EQ(r.h.stripes_forgotten, 3) << "until it succeeds";
	EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, "stripe cache"), 1) << "said once";
	r.h.stripes_forgotten = 2;
	r.h.stripes_error = 0;
	sync(r);
	EXPECT_EQ(r.h.stripes_forgotten, 3);
	llb_close_sync(r.b());
	action(r, kCheck);
	sync(r);
	EXPECT_EQ(r.h.stripes_forgotten, 3);
}

// First writes to what a recovery has skipped: these chunks are recovered before it is
// over, with an empty cache, until there are no more of them; all are resynchronised later.
TEST(Sync, ARecoveryGoesBackToWhatItSkipped)
{
	Rig r({.level = 5, .members = 3});
	r.start();
	r.set_raw(2, LLB_NEED_SYNC);
	r.set_raw(4, LLB_NEED_SYNC_UNWRITTEN);
	r.h.fail_member(1);
	action(r, kRecover);
	EXPECT_EQ(sync(r), (std::vector<u64>{2 * kChunk}));
	r.write(9);
	std::vector<int> forgotten;
	r.h.on_recover = [&](u64 sector) {
		u64 blocks;
		EXPECT_TRUE(llb_start_sync(r.b(), sector, &blocks, 1));
		llb_cond_end_sync(r.b(), sector, 1);
		forgotten.push_back(r.h.stripes_forgotten);
		if (sector == 9 * kChunk)
			r.write(7); // and again behind it
		return 0;
	};
	llb_close_sync(r.b());
	EXPECT_EQ(r.h.recovered_again,
		  (std::vector<std::pair<u64, u64>>{{9 * kChunk, kChunk}, {7 * kChunk, kChunk}}));
	EXPECT_EQ(forgotten, (std::vector<int>{1, 2}));
	EXPECT_EQ(r.h.recovery_back_at, (std::vector<int>{0, 1, 2})) << "before the cache is emptied";
	EXPECT_EQ(r.h.stripes_forgotten, 3) << "after the last, for what is read until now";
	EXPECT_TRUE(r.h.checkpoints.empty());
	for (u64 c : {2, 7, 9})
		EXPECT_EQ(r.state(c), State::NeedSync);
	EXPECT_EQ(r.state(4), State::NeedSyncUnwritten) << "the user's wish is kept";
}

TEST(Sync, ARecoveryThatGoesBackCanBeStopped)
{
	Rig r({.level = 6, .members = 4});
	r.start();
	r.h.fail_member(1);
	r.write(9);
	r.write(12);
	action(r, kRecover);
	llb_skip_sync(r.b(), 0);
	r.h.on_recover = [&](u64) {
		r.h.flags |= PLAT_ARRAY_INTR;
		return -LLB_EIO;
	};
	llb_close_sync(r.b());
	EXPECT_EQ(r.h.recovered_again.size(), 1u);
	EXPECT_EQ(r.state(9), State::NeedSync);
}

// A raid6 while it is recovered: what was written once, and never (10, and 20 to 39).
struct Recovering : Rig {
	explicit Recovering(u64 from = 0)
		: Rig({.level = 6, .members = 4, .fill = LLB_CLEAN})
	{
		start();
		for (u64 c = 20; c < 40; c++)
			set_raw(c, LLB_UNWRITTEN);
		set_raw(10, LLB_UNWRITTEN);
		h.fail_member(1);
		action(*this, kRecover);
		sync(*this, from * kChunk);
	}
	u64 sure() // in chunks, after md wrote its superblock
	{
		h.recovery_back_to = ~u64{0};
		llb_update_sb(b());
		EXPECT_EQ(h.recovery_back_to % kChunk, 0u);
		return h.recovery_back_to / kChunk;
	}
	void checkpoint(u64 chunk) { llb_cond_end_sync(b(), chunk * kChunk, 1); }
	u64 stopped() // in chunks; none: ~0
	{
		h.flags |= PLAT_ARRAY_INTR;
		llb_close_sync(b());
		return h.stopped_at.empty() ? ~u64{0} : h.stopped_at[0] / kChunk;
	}
};

// md reads from the new member what lies below its own checkpoints: nothing that was skipped, for that
// is written with parity which was computed.
TEST(Sync, NothingThatARecoverySkippedCountsAsInSync)
{
	Recovering r;
	EXPECT_EQ(r.sure(), 0u) << "no checkpoint yet";
	r.checkpoint(8);
	EXPECT_EQ(r.sure(), 8u);
	r.checkpoint(30);
	EXPECT_EQ(r.sure(), 10u) << "never written";
	r.write(10);
	r.write(25);
	r.checkpoint(50);
	EXPECT_EQ(r.sure(), 10u) << "written behind it";
	EXPECT_EQ(r.h.checkpoints, (std::vector<u64>{8 * kChunk, 30 * kChunk, 50 * kChunk}));
	EXPECT_EQ(r.stopped(), 10u);
	r.h.recovery_back_to = 7;
	llb_update_sb(r.b());
	EXPECT_EQ(r.h.recovery_back_to.load(), 7u) << "none runs";
}

// md goes on where it was when it was told to stop: a second member failed, and what is computed
// for that is read from the new one.
TEST(Sync, ARecoveryThatIsStoppedEndsBeforeWhatItSkipped)
{
	EXPECT_EQ(Recovering().stopped(), 10u);
	Recovering later(12);
	EXPECT_EQ(later.stopped(), 20u) << "what lies below is not its own";
	EXPECT_EQ(Recovering(40).stopped(), ~u64{0});
	Recovering written(40);
	written.write(30);
	EXPECT_EQ(written.stopped(), ~u64{0}) << "is read from the new member already";
	EXPECT_EQ(written.state(30), State::NeedSync);
	int forgotten = written.h.stripes_forgotten;
	action(written, kRecover);
	llb_skip_sync(written.b(), 0);
	EXPECT_EQ(written.h.stripes_forgotten, forgotten + 1) << "what was read meanwhile";
}

// The same while it goes back: who was begun may not be done.
TEST(Sync, ARecoveryThatIsStoppedWhileItGoesBack)
{
	for (u32 how = 0; how < 4; how++) {
		bool by_an_error = how & 1; // of a stripe, which is seen when all are waited for
		u64 from = how & 2 ? 20 * kChunk : 0;
		Rig r({.level = 6, .members = 4, .fill = LLB_CLEAN});
		r.start();
		for (u64 c : {9, 12, 30})
			r.set_raw(c, LLB_NEED_SYNC);
		r.h.fail_member(1);
		action(r, kRecover);
		llb_skip_sync(r.b(), from);
		r.h.on_recover = [&](u64 sector) {
			u64 blocks;
			EXPECT_TRUE(llb_start_sync(r.b(), sector, &blocks, 1));
			if (by_an_error || sector != 12 * kChunk)
				return 0;
			r.h.flags |= PLAT_ARRAY_INTR;
			return -LLB_EIO;
		};
		if (by_an_error)
			r.h.on_recovery_wait = [&] { r.h.flags |= PLAT_ARRAY_INTR; };
		llb_close_sync(r.b());
		EXPECT_EQ(r.h.stopped_at, std::vector<u64>{9 * kChunk}) << how;
		for (u64 c : {9, 12, 30})
			EXPECT_EQ(r.state(c), State::NeedSync) << c;
	}
}

// It begins where another one, or a crash, left it: what waits below may not be recovered.
TEST(Sync, ARecoveryThatGoesOnGoesBackToAll)
{
	for (u64 from : {0, 8}) {
		Recovering r(from);
		r.h.on_recover = [&r](u64 sector) {
			u64 blocks;
			EXPECT_TRUE(llb_start_sync(r.b(), sector, &blocks, 1));
			return 0;
		};
		r.checkpoint(9);
		r.set_raw(2, LLB_NEED_SYNC);
		r.write(10);
		llb_close_sync(r.b());
		EXPECT_EQ(r.h.recovered_again.size(), from ? 2u : 1u) << from;
		EXPECT_EQ(r.h.recovery_again_from, from ? 0 : 9 * kChunk);
	}
}

// md's own resync after a crash, beside a replacement that holds a part: parity fits that, where it
// skipped what was never written, and not the old member, which may have to stay.
TEST(Sync, BesideAReplacementNoParityIsRight)
{
	for (s32 level : {1, 5}) {
		Rig r({.level = level, .members = 5, .fill = LLB_CLEAN});
		r.h.array.raid_disks = 4;
		r.h.members[4]->slot = 1;
		r.h.members[4]->flags = 0;
		r.start();
		r.set_raw(3, LLB_NEED_SYNC);
		action(r, kResync);
		EXPECT_EQ(sync(r), (std::vector<u64>{3 * kChunk}));
		llb_cond_end_sync(r.b(), 20 * kChunk, 1);
		llb_close_sync(r.b());
		EXPECT_EQ(r.state(3), level == 1 ? State::Dirty : State::NeedSync) << level;
	}
}

TEST(Sync, MirrorsHaveNoStripeCache)
{
	Rig raid5({.level = 5, .members = 3, .fill = LLB_CLEAN});
	raid5.start();
	action(raid5, kRecover);
	llb_close_sync(raid5.b());
	raid5.h.array.level = 1; // before the next sync
	action(raid5, kResync);
	llb_skip_sync(raid5.b(), 0);
	EXPECT_EQ(raid5.h.stripes_forgotten, 1);
	for (s32 level : {1, 10}) {
		Rig r({.level = level, .members = 4, .fill = LLB_CLEAN});
		r.start();
		for (u32 flags : {kRecover, kResync}) {
			action(r, flags);
			llb_skip_sync(r.b(), 0);
			llb_close_sync(r.b());
		}
		EXPECT_EQ(r.h.stripes_forgotten, 0);
	}
}

TEST(Sync, CloseAfterAnAbort)
{
	Rig r({.level = 5, .members = 3});
	eight(r);
	action(r, kResync);
	sync(r);
	r.h.flags |= PLAT_ARRAY_INTR;
	llb_close_sync(r.b());
	const u8 want[] = {0, 1, 2, 3, 3, 0, 0, 7};
	for (u8 s = 0; s < 8; s++)
		EXPECT_EQ(r.raw(s), want[s]) << int(s);
}

TEST(Sync, EndSyncIsAnAbortOfTheChunk)
{
	Rig r({.level = 5, .members = 3});
	eight(r);
	action(r, kResync);
	const u8 want[] = {0, 1, 2, 3, 3, 0, 0, 7};
	for (u8 s = 0; s < 8; s++) {
		u64 blocks = 0;
		llb_end_sync(r.b(), s * kChunk + 8, &blocks);
		EXPECT_EQ(blocks, kChunk - 8);
		EXPECT_EQ(r.raw(s), want[s]) << int(s);
	}
	u64 blocks = 0;
	llb_end_sync(r.b(), 1000 * kChunk, &blocks); // past the end: raid1 loops on blocks
	EXPECT_GT(blocks, 0u);
	blocks = 0;
	EXPECT_TRUE(llb_start_sync(r.b(), 1000 * kChunk, &blocks, 0));
	EXPECT_GT(blocks, 0u);
}

// An error inside a chunk, and the rest of the chunk goes on in steps.
TEST(Sync, AChunkWithAnErrorIsNotEnded)
{
	Rig r({.sync_size = u64{200000} * 128, .state = LLB_SB_FIRST_USE});
	r.start();
	r.set_raw(0, LLB_NEED_SYNC);
	action(r, kResync);
	u64 blocks;
	llb_start_sync(r.b(), 0, &blocks, 0);
	llb_end_sync(r.b(), 0, &blocks);
	llb_start_sync(r.b(), 128, &blocks, 0);
	llb_cond_end_sync(r.b(), 256, 1);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(0), State::NeedSync);
}

TEST(Sync, AWriteDuringTheResync)
{
	Rig r({.fill = LLB_NEED_SYNC});
	r.start();
	action(r, kResync);
	u64 blocks;
	llb_start_sync(r.b(), 5 * kChunk, &blocks, 0);
	r.begin(5);
	EXPECT_EQ(r.state(5), State::Syncing);
	llb_close_sync(r.b());
	EXPECT_EQ(r.state(5), State::Dirty);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_TRUE(r.reloads_to_sync(r.disk(5)));
	r.end(5);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
}

TEST(Sync, AnOldMarkDoesNotOutliveTheSync)
{
	Rig r;
	eight(r);
	r.set_raw(3, LLB_NEED_SYNC | core::kCleaning);
	action(r, kResync);
	u64 blocks;
	llb_start_sync(r.b(), 3 * kChunk, &blocks, 0);
	EXPECT_FALSE(r.raw(3) & core::kCleaning);
	llb_close_sync(r.b());
	EXPECT_EQ(r.raw(3) & ~core::kDirtyOnDisk, LLB_DIRTY);
}

// What load made of the bytes is durable before the sync thread reads a chunk.
TEST(Sync, WaitsForLoadsCommit)
{
	Rig r({.fill = LLB_DIRTY});
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.start();
	r.h.flags |= PLAT_ARRAY_RDWR;
	action(r, kResync);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	llb_skip_sync(r.b(), 0);
	EXPECT_EQ(r.disk(5), LLB_NEED_SYNC);
}

TEST(Sync, ToldToStopWhileSuspended)
{
	Rig r({.state = LLB_SB_FIRST_USE});
	r.start();
	llb_write_all(r.b());
	r.h.suspended = true;
	int sleeps = 0;
	r.h.on_sleep = [&] {
		if (++sleeps == 3)
			r.h.flags |= PLAT_ARRAY_INTR;
	};
	action(r, kRecover);
	llb_close_sync(r.b()); // returns
	EXPECT_EQ(sleeps, 3);
	r.h.suspended = false;
	action(r, 0);
}

// ---- asking md ----

TEST(Requests, OnlyWhereASyncCanRun)
{
	struct {
		u32 set, clear;
	} cases[] = {{PLAT_ARRAY_RUNNING, 0}, {PLAT_ARRAY_FROZEN, 0}, {PLAT_ARRAY_RESHAPE_PENDING, 0},
		     {PLAT_ARRAY_BROKEN, 0},  {0, PLAT_ARRAY_RDWR},   {0, PLAT_ARRAY_LIVE}};
	for (auto c : cases) {
		Rig r({.fill = LLB_CLEAN});
		r.start();
		llb_dirty_bits(r.b(), 3, 3);
		r.h.flags = (r.h.flags | c.set) & ~c.clear;
		llb_daemon_work(r.b());
		EXPECT_EQ(r.h.resync_requests, 0);
		r.h.flags = (r.h.flags | c.clear) & ~c.set;
		llb_daemon_work(r.b());
		EXPECT_EQ(r.h.resync_requests, 1);
	}
}

TEST(Requests, NotWhileDegradedButAfter)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.fail_member(1);
	r.write(5);
	r.h.run_for(5 * kSleep_ms);
	EXPECT_EQ(r.h.resync_requests, 0);
	r.h.members[1]->flags = PLAT_MEMBER_IN_SYNC;
	r.h.degraded = 0;
	r.h.run_for(2 * kSleep_ms);
	EXPECT_GE(r.h.resync_requests, 1);
}

// K24: md warns at every stripe of parity that it synchronises beside a replacement. Mirrors go on.
TEST(Requests, OfParityWaitForAReplacement)
{
	const char *kPutOff = "a resync waits until the replacement";
	for (s32 level : {1, 5, 6}) {
		Rig r({.level = level, .members = 5, .fill = LLB_CLEAN});
		r.h.array.raid_disks = 4;
		r.h.members[4]->slot = -1;
		r.start();
		bool put_off = level != 1;
		r.h.members[4]->slot = 1;
		r.h.members[4]->flags = 0;
		r.h.flags |= PLAT_ARRAY_RESYNC_DUE;
		llb_dirty_bits(r.b(), 3, 3);
		llb_daemon_work(r.b());
		EXPECT_EQ(r.h.resync_requests, put_off ? 0 : 1) << level;
		EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, kPutOff), 0) << level; // md's own does not wait
		r.h.flags &= ~PLAT_ARRAY_RESYNC_DUE;
		llb_daemon_work(r.b());
		llb_daemon_work(r.b());
		EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, kPutOff), put_off) << level;
		if (!put_off)
			continue;
		u64 blocks;
		action(r, kRecover); // everything that waits is copied to it
		EXPECT_TRUE(llb_start_sync(r.b(), 3 * kChunk, &blocks, 0)) << level;
		llb_close_sync(r.b());
		action(r, 0);
		EXPECT_EQ(r.state(3), State::NeedSync) << level;
		r.h.members[4]->flags = PLAT_MEMBER_IN_SYNC; // it is ready, and the old one fails
		r.h.members[1]->flags = PLAT_MEMBER_FAULTY;
		r.h.run_for(2 * kSleep_ms);
		EXPECT_GE(r.h.resync_requests, 1) << level;
	}
}

// The same at the load: after a stop in the middle of a replacement.
TEST(Requests, NoneAtALoadBesideAReplacement)
{
	Rig r({.level = 5, .members = 4, .cells = {LLB_NEED_SYNC}, .fill = LLB_CLEAN});
	r.h.array.raid_disks = 3;
	r.h.members[3]->slot = 1;
	r.h.members[3]->flags = 0;
	r.start();
	EXPECT_EQ(r.h.resync_requests, 0);
	r.h.members[3]->flags = PLAT_MEMBER_IN_SYNC;
	r.h.members[1]->flags = PLAT_MEMBER_FAULTY;
	r.h.run_for(2 * kSleep_ms);
	EXPECT_GE(r.h.resync_requests, 1);
}

TEST(Requests, StopWhenNothingIsLeft)
{
	Rig r({.cells = {3}, .fill = LLB_CLEAN});
	r.start();
	action(r, kResync);
	sync(r);
	llb_close_sync(r.b());
	action(r, 0);
	r.idle();
	int asked = r.h.resync_requests;
	r.h.run_for(20 * kCleanBy_ms);
	EXPECT_EQ(r.h.resync_requests, asked);
	EXPECT_EQ(r.h.daemon_due, ~0ull);
}

// raid5 writes to unwritten chunks: their parity is built by a resync.
TEST(Requests, FirstWritesOfRaid5)
{
	Rig r({.level = 5, .members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(5);
	EXPECT_EQ(r.state(5), State::NeedSync);
	EXPECT_FALSE(llb_blocks_synced(r.b(), 5 * kChunk));
	r.h.run_for(10000);
	EXPECT_GE(r.h.resync_requests, 1);
	EXPECT_EQ(r.h.resync_offset, 0u);
	action(r, kResync);
	EXPECT_EQ(sync(r), (std::vector<u64>{5 * kChunk}));
	llb_close_sync(r.b());
	action(r, 0);
	EXPECT_TRUE(llb_blocks_synced(r.b(), 5 * kChunk));
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
}

TEST(BlocksSynced, PerState)
{
	Rig r({.level = 6, .members = 4});
	eight(r);
	for (u8 s = 0; s < 8; s++)
		EXPECT_EQ(llb_blocks_synced(r.b(), s * kChunk + 100), s == 1 || s == 2 || s == 7) << int(s);
	EXPECT_FALSE(llb_blocks_synced(r.b(), 1000 * kChunk));
}

// A mirror becomes a raid5: what it calls clean has no parity.
TEST(BlocksSynced, AnotherLevelOverTheSameCells)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.array.level = 5;
	EXPECT_FALSE(llb_blocks_synced(r.b(), 0));
	r.h.run_for(kSleep_ms);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 64u);
	EXPECT_FALSE(llb_blocks_synced(r.b(), 0));
	r.h.run_lead();
	EXPECT_EQ(r.disk(7), LLB_NEED_SYNC);
	EXPECT_GE(r.h.resync_requests, 1);
}

// ---- proactive sync ----

TEST(Proactive, BuildsParityForWhatWasNeverWritten)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	r.start();
	ASSERT_EQ(llb_proactive_sync(r.b()), 0);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC_UNWRITTEN], 16u);
	llb_daemon_work(r.b());
	EXPECT_EQ(r.h.resync_requests, 1);
	action(r, kResync);
	EXPECT_EQ(sync(r).size(), 16u);
	EXPECT_EQ(r.counts()[LLB_SYNCING_UNWRITTEN], 16u);
	llb_close_sync(r.b());
	action(r, 0);
	// not valid before the members' caches are flushed
	EXPECT_EQ(r.counts()[LLB_SYNCING_UNWRITTEN], 16u);
	EXPECT_FALSE(llb_blocks_synced(r.b(), 0));
	r.idle();
	EXPECT_EQ(r.counts()[LLB_CLEAN_UNWRITTEN], 16u);
	for (u64 c = 0; c < 16; c++)
		EXPECT_EQ(r.disk(c), LLB_CLEAN_UNWRITTEN);
	EXPECT_TRUE(llb_blocks_synced(r.b(), 0));
	int asked = r.h.resync_requests;
	r.h.run_for(5 * kCleanBy_ms);
	EXPECT_EQ(r.h.resync_requests, asked);
	r.write(3);
	EXPECT_EQ(r.state(3), State::Dirty);
	r.idle();
	EXPECT_EQ(r.disk(3), LLB_CLEAN);
}

TEST(Proactive, Refusals)
{
	Rig m;
	m.start();
	EXPECT_EQ(llb_proactive_sync(m.b()), -LLB_EOPNOTSUPP);
	Rig r({.level = 5, .members = 3});
	r.start();
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	EXPECT_EQ(llb_proactive_sync(r.b()), -LLB_EROFS);
	r.h.flags |= PLAT_ARRAY_RDWR;
	r.h.fail_member(1);
	EXPECT_EQ(llb_proactive_sync(r.b()), -LLB_EBUSY);
	EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 64u);
}

TEST(Proactive, AWriteInEveryPhase)
{
	enum Phase { Needs, Runs, Ended, Marked, Cleared, kPhases };
	for (int phase = 0; phase < kPhases; phase++) {
		Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
		r.start();
		ASSERT_EQ(llb_proactive_sync(r.b()), 0);
		auto write_at = [&](int p) {
			if (p != phase)
				return;
			r.begin(3);
			EXPECT_TRUE(r.reloads_to_sync(r.disk(3))) << phase; // D7
			r.end(3);
		};
		write_at(Needs);
		action(r, kResync);
		sync(r);
		write_at(Runs);
		llb_close_sync(r.b());
		action(r, 0);
		write_at(Ended);
		r.h.run_for(kSleep_ms + 1000);
		write_at(Marked);
		r.idle();
		write_at(Cleared);
		EXPECT_TRUE(llb_blocks_synced(r.b(), 3 * kChunk)) << phase;
		r.idle();
		EXPECT_EQ(r.disk(3), LLB_CLEAN) << phase;
		EXPECT_EQ(r.disk(4), LLB_CLEAN_UNWRITTEN) << phase;
	}
}

TEST(Proactive, AbortsAndCutsLeaveItUnwritten)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	r.start();
	ASSERT_EQ(llb_proactive_sync(r.b()), 0);
	action(r, kResync);
	sync(r, 0, 8 * kChunk);
	r.h.flags |= PLAT_ARRAY_INTR;
	llb_close_sync(r.b());
	action(r, 0);
	EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 16u);

	ASSERT_EQ(llb_proactive_sync(r.b()), 0);
	action(r, kResync);
	sync(r);
	llb_close_sync(r.b()); // built, not flushed
	action(r, 0);
	r.h.run_for(1000);
	r.reboot();
	EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 16u);
}

TEST(Proactive, BuiltParityIsForgottenIfAMemberFails)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	r.start();
	ASSERT_EQ(llb_proactive_sync(r.b()), 0);
	action(r, kResync);
	sync(r);
	llb_close_sync(r.b());
	action(r, 0);
	r.h.fail_member(2);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.counts()[LLB_CLEAN_UNWRITTEN], 0u);
}

// The parity of a chunk that a neighbour's first touch covered: CLEANING may be on it
// from before the sync. It counts for nothing: parity is written after that mark, and
// perhaps after the flush that the daemon is in.
TEST(Proactive, AMarkFromBeforeTheParityWasBuilt)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(3);
	r.write(5); // covers 4
	ASSERT_TRUE(r.raw(4) & core::kDirtyOnDisk);
	ASSERT_EQ(llb_proactive_sync(r.b()), 0);
	action(r, kResync);
	u64 blocks;
	llb_start_sync(r.b(), 4 * kChunk, &blocks, 0);
	EXPECT_EQ(r.state(4), State::SyncingUnwritten);
	r.h.run_for(kSleep_ms / 2); // marked
	ASSERT_TRUE(r.raw(4) & core::kCleaning);
	bool ended = false;
	r.h.on_flushed = [&] {
		if (ended)
			return;
		ended = true;
		// the last of the chunk's parity was written after this flush
		llb_cond_end_sync(r.b(), 5 * kChunk, 1);
	};
	for (int i = 0; i < 200 && !ended; i++)
		r.h.run_for(1000);
	ASSERT_TRUE(ended);
	EXPECT_NE(r.state(4), State::CleanUnwritten) << "no flush since its parity was written";
	action(r, 0);
}

// ---- sysfs bitmap_set_bits ----

TEST(DirtyBits, OutsideTheArrayNothingIsSet)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	const std::pair<u64, u64> bad[] = {{5, 4},	   {0, 64},    {64, 64},
					   {~0ull, ~0ull}, {0, ~0ull}, {u64{1} << 32, (u64{1} << 32) + 1}};
	for (auto [first, last] : bad) {
		r.h.log.clear();
		llb_dirty_bits(r.b(), first, last);
		EXPECT_EQ(r.h.log.size(), 1u);
	}
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
	EXPECT_FALSE(llb_pending(r.b()));
}

TEST(DirtyBits, EveryState)
{
	Rig r({.level = 5, .members = 3});
	eight(r);
	llb_dirty_bits(r.b(), 0, 7);
	llb_unplug(r.b(), 1);
	for (u8 s = 0; s < 8; s++) {
		EXPECT_EQ(r.state(s), s == 4 ? State::Syncing : State::NeedSync) << int(s);
		if (s != 4) {
			EXPECT_TRUE(r.reloads_to_sync(r.disk(s))) << int(s);
		}
	}
	llb_daemon_work(r.b());
	EXPECT_GE(r.h.resync_requests, 1);
	llb_dirty_bits(r.b(), 63, 63);
	EXPECT_EQ(r.state(63), State::NeedSync);
}

// ---- reshape ----

TEST(Reshape, NothingIsUnwrittenBeforeTheFirstStripeMoves)
{
	Rig r({.level = 5, .members = 3});
	eight(r);
	action(r, kReshape);
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 0u);
	for (u8 s : {0, 5, 6, 7}) {
		EXPECT_EQ(r.state(s), State::NeedSync) << int(s);
		EXPECT_EQ(r.disk(s), LLB_NEED_SYNC) << int(s);
	}
	EXPECT_EQ(r.state(1), State::Clean);
	u64 blocks;
	llb_start_sync(r.b(), 3 * kChunk, &blocks, 0);
	EXPECT_EQ(r.state(3), State::NeedSync);
	action(r, 0);
}

// Parity is built and not yet flushed: a member that loses it with its cache, and returns by
// its bitmap, gets it again.
TEST(Sync, WhatIsBuiltAndNotFlushedIsRecovered)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	r.start();
	ASSERT_EQ(llb_proactive_sync(r.b()), 0);
	action(r, kResync);
	sync(r);
	llb_close_sync(r.b());
	action(r, 0);
	ASSERT_TRUE(r.raw(4) & core::kEnded);
	r.h.fail_member(2);
	r.h.members[2]->flags = 0; // re-added: not in sync
	action(r, kRecover);
	u64 blocks;
	EXPECT_EQ(llb_skip_sync(r.b(), 4 * kChunk), 0u);
	EXPECT_TRUE(llb_start_sync(r.b(), 4 * kChunk, &blocks, 1));
}

// K1: md that names the wrong chunks is not worked with.
TEST(Load, MdMustNameTheRightChunks)
{
	for (u32 disks : {3u, 4u, 5u, 6u}) {
		for (bool masks : {false, true}) {
			Rig r({.level = 5, .members = disks});
			r.h.array.raid_chunk = 1024;
			if (masks)
				r.h.on_map = [disks](u64 &sector,
						     u64 &sectors) { // as round_down(), round_up()
					u64 mask = u64{1024} * (disks - 1) - 1;
					u64 first = sector & ~mask, end = ((sector + sectors - 1) | mask) + 1;
					sector = first / (disks - 1);
					sectors = end / (disks - 1) - sector;
				};
			ASSERT_EQ(r.create(), 0);
			bool fails = masks && (disks - 1) & (disks - 2); // no power of two
			EXPECT_EQ(r.load() != 0, fails) << disks << " disks";
			EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "wrong chunks"), fails) << r.h.log_text();
		}
	}
}

TEST(Load, WriteBehindIsHanded)
{
	for (u32 writes : {0u, 1u, 256u, 16383u, 16384u, ~0u}) {
		for (s32 level : {1, 10}) {
			Rig r({.level = level});
			r.put32(0, 60, writes);
			r.put32(1, 60, writes);
			r.start();
			EXPECT_EQ(r.h.write_behind, level == 1 && writes < 16384 ? writes : 0);
			EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, "write_behind"), level == 1 && writes > 16383);
		}
	}
}

} // namespace
