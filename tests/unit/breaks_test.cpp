// SPDX-License-Identifier: GPL-2.0
// What only parity levels, level changes, relayouts, reshapes, and members that come and
// go reach. Each test is here because the core could be broken in that place (the breaks
// are in tests/model/mutants/list) and no other test of the core noticed.
#include "rig.hpp"

#include <stdexcept>

using core::State;
using rig::kChunk;
using rig::kCleanBy_ms;
using rig::kIdle_ms;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

constexpr u32 kResync = PLAT_ARRAY_RUNNING | PLAT_ARRAY_SYNC;
constexpr u32 kRecover = PLAT_ARRAY_RUNNING; // and no PLAT_ARRAY_SYNC
constexpr u32 kReshape = PLAT_ARRAY_RUNNING | PLAT_ARRAY_RESHAPE;
constexpr u32 kActions =
	kResync | kRecover | kReshape | PLAT_ARRAY_REQUESTED | PLAT_ARRAY_CHECK | PLAT_ARRAY_INTR;

void action(Rig &r, u32 flags)
{
	r.h.flags = (r.h.flags & ~kActions) | flags;
}

// All of md's steps of a sync, to its end.
void whole_sync(Rig &r, u32 flags)
{
	action(r, flags);
	for (u64 s = 0; s < r.h.array.sync_size;) {
		u64 blocks = llb_skip_sync(r.b(), s);
		if (!blocks) {
			llb_cond_end_sync(r.b(), s, 0);
			llb_start_sync(r.b(), s, &blocks, 1);
			llb_start_sync(r.b(), s, &blocks, 0);
		}
		s += blocks;
	}
	llb_close_sync(r.b());
	action(r, 0);
}

void reshape(Rig &r)
{
	action(r, kReshape);
	for (u64 s = 0; s < r.h.array.sync_size; s += 8 * kChunk)
		EXPECT_EQ(llb_skip_sync(r.b(), s), 0u);
	action(r, 0);
}

void discard(Rig &r, u64 chunk)
{
	llb_start_discard(r.b(), chunk * kChunk, kChunk);
	r.wait_durable();
	llb_end_discard(r.b(), chunk * kChunk, kChunk);
}

// ---- parity that is built, and not flushed yet ----

Rig &built(Rig &r)
{
	r.start();
	EXPECT_EQ(llb_proactive_sync(r.b()), 0);
	whole_sync(r, kResync);
	EXPECT_TRUE(r.raw(4) & core::kEnded);
	return r;
}

// It was in the cache of the member that failed.
TEST(Breaks, BuiltParityIsForgottenWithAMember)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	built(r);
	r.h.run_for(kSleep_ms / 2); // marked
	EXPECT_TRUE(r.raw(4) & core::kCleaning);
	r.h.fail_member(2);
	r.h.run_for(2 * kCleanBy_ms);
	for (u64 c = 0; c < 16; c++)
		EXPECT_EQ(r.raw(c) & (core::kStateMask | core::kEnded), LLB_UNWRITTEN) << c;
}

TEST(Breaks, BuiltParityIsNotBuiltAgain)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	built(r);
	action(r, kResync);
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 16 * kChunk);
	u64 blocks;
	EXPECT_FALSE(llb_start_sync(r.b(), 4 * kChunk, &blocks, 0));
	EXPECT_TRUE(r.raw(4) & core::kEnded);
	// nor taken back by what happens to others
	llb_end_sync(r.b(), 4 * kChunk, &blocks);
	EXPECT_TRUE(r.raw(4) & core::kEnded);
	action(r, kResync | PLAT_ARRAY_INTR);
	llb_close_sync(r.b());
	EXPECT_TRUE(r.raw(4) & core::kEnded);
	action(r, 0);
	r.idle();
	EXPECT_EQ(r.counts()[LLB_CLEAN_UNWRITTEN], 16u);
}

TEST(Breaks, ADiscardOfBuiltParityLeavesNothingOfIt)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	built(r);
	discard(r, 4);
	EXPECT_EQ(r.raw(4) & (core::kStateMask | core::kEnded), LLB_UNWRITTEN);
}

TEST(Breaks, AWriteToBuiltParityNeedsNoSync)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .state = LLB_SB_FIRST_USE});
	built(r);
	r.write(4);
	EXPECT_EQ(r.state(4), State::Dirty);
	r.idle();
	EXPECT_EQ(r.disk(4), LLB_CLEAN);
}

// Parity is valid there: a new member has to have it.
TEST(Breaks, ARecoveryCopiesParityWithoutData)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN_UNWRITTEN});
	r.start();
	r.h.fail_member(2);
	r.h.members[2]->flags = 0;
	action(r, kRecover);
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 0u);
	action(r, 0);
}

// ---- another level over the same cells ----

TEST(Breaks, LevelChangeHappensOnce)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.array.level = 5;
	EXPECT_FALSE(llb_blocks_synced(r.b(), 0));
	r.h.run_for(kSleep_ms); // daemon_work() converts the cells
	whole_sync(r, kResync);
	r.h.resync_offset = ~0ull;
	r.idle();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
	EXPECT_TRUE(llb_blocks_synced(r.b(), 0));
	action(r, kResync);
	EXPECT_GT(llb_skip_sync(r.b(), 0), 0u);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
	action(r, 0);
}

TEST(Breaks, LevelChangeAndBack)
{
	Rig r({.level = 5, .members = 3, .fill = LLB_CLEAN});
	r.start();
	r.h.array.level = 1;
	action(r, kResync);
	EXPECT_GT(llb_skip_sync(r.b(), 0), 0u);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
	r.h.array.level = 5;
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 0u) << "what a mirror wrote meanwhile has no parity";
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 64u);
	action(r, 0);
}

// Before anybody asked for one chunk.
TEST(Breaks, AResyncSeesAnotherLevel)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.array.level = 5;
	action(r, kResync);
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 0u);
	action(r, 0);
	r.h.run_lead();
	EXPECT_EQ(r.disk(7), LLB_NEED_SYNC);
}

TEST(Breaks, NothingIsSyncedBehindTheEnd)
{
	Rig r({.level = 5, .members = 3, .fill = LLB_CLEAN});
	r.start();
	EXPECT_TRUE(llb_blocks_synced(r.b(), 63 * kChunk));
	EXPECT_FALSE(llb_blocks_synced(r.b(), 64 * kChunk));
	EXPECT_FALSE(llb_blocks_synced(r.b(), 5000 * kChunk));
}

// raid5 emptied its cache in vain, then became a mirror.
TEST(Breaks, AnotherLevelHasNoStripeCache)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN});
	r.start();
	r.h.fail_member(2);
	r.h.members[2]->flags = 0;
	whole_sync(r, kRecover);
	r.h.members[2]->flags = PLAT_MEMBER_IN_SYNC;
	r.h.degraded = 0;
	int forgotten = r.h.stripes_forgotten;
	r.h.array.level = 1;
	action(r, kResync);
	llb_skip_sync(r.b(), 0);
	action(r, 0);
	EXPECT_EQ(r.h.stripes_forgotten, forgotten);
}

// ---- relayout ----

// Two old chunks in a new one: what it is called. The last of the array has one only.
struct Pair {
	u8 a, b;
	State mirror, parity;
};

TEST(Breaks, RelayoutOfPairs)
{
	const Pair pairs[] = {
		{LLB_UNWRITTEN, LLB_UNWRITTEN, State::Unwritten, State::Unwritten},
		{LLB_CLEAN, LLB_CLEAN, State::Clean, State::Clean},
		{LLB_CLEAN, LLB_UNWRITTEN, State::Clean, State::NeedSync},
		{LLB_UNWRITTEN, LLB_CLEAN, State::Clean, State::NeedSync},
		{LLB_CLEAN, LLB_DIRTY, State::Dirty, State::Dirty},
		{LLB_UNWRITTEN, LLB_DIRTY, State::Dirty, State::NeedSync},
		{LLB_CLEAN, LLB_NEED_SYNC, State::NeedSync, State::NeedSync},
		{LLB_SYNCING, LLB_CLEAN, State::NeedSync, State::NeedSync},
		{LLB_UNWRITTEN, LLB_SYNCING, State::NeedSync, State::NeedSync},
		{LLB_CLEAN_UNWRITTEN, LLB_CLEAN_UNWRITTEN, State::CleanUnwritten, State::CleanUnwritten},
		{LLB_CLEAN_UNWRITTEN, LLB_UNWRITTEN, State::Unwritten, State::Unwritten},
		{LLB_CLEAN_UNWRITTEN, LLB_CLEAN, State::Clean, State::Clean},
		{LLB_SYNCING_UNWRITTEN, LLB_CLEAN, State::Clean, State::NeedSync},
	};
	for (s32 level : {1, 5}) {
		Rig r({.level = level, .members = 3, .chunks = 100001, .fill = LLB_CLEAN});
		r.start();
		for (u64 i = 0; i < std::size(pairs); i++) {
			r.set_raw(2 * i, pairs[i].a);
			r.set_raw(2 * i + 1, pairs[i].b);
		}
		for (auto &m : r.h.members)
			m->m.data_sectors = 200000 * kChunk;
		ASSERT_EQ(llb_resize(r.b(), 200000 * kChunk), 0);
		r.h.array.sync_size = 200000 * kChunk;
		ASSERT_EQ(r.chunk_sectors(), 2 * kChunk);
		for (u64 i = 0; i < std::size(pairs); i++)
			EXPECT_EQ(r.state(i), level == 1 ? pairs[i].mirror : pairs[i].parity)
				<< "level " << level << ", pair " << i;
		EXPECT_EQ(r.state(50000), level == 1 ? State::Clean : State::NeedSync) << level;
		EXPECT_EQ(r.state(50001), State::Unwritten);
		r.h.run_for(kSleep_ms + kIdle_ms);
		EXPECT_GE(r.h.resync_requests, 1);
	}
}

TEST(Breaks, AMirrorsShortLastChunkStaysCleanWhenItGrows)
{
	Rig r({.sync_size = 64 * kChunk - 64, .fill = LLB_CLEAN});
	r.start();
	ASSERT_EQ(llb_resize(r.b(), 80 * kChunk), 0);
	r.h.array.sync_size = 80 * kChunk;
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 0u);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
}

// ---- reshape ----

TEST(Breaks, ASecondReshapeLooksAgain)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN});
	r.start();
	reshape(r);
	discard(r, 7);
	r.idle();
	ASSERT_EQ(r.disk(7), LLB_UNWRITTEN);
	reshape(r);
	EXPECT_EQ(r.state(7), State::NeedSync);
	EXPECT_EQ(r.disk(7), LLB_NEED_SYNC);
	r.idle();
	EXPECT_GE(r.h.resync_requests, 1);
}

// It moved data there: what was discarded before may be written now.
TEST(Breaks, AReshapeTakesADiscardBack)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN});
	r.start();
	discard(r, 7);
	ASSERT_TRUE(r.raw(7) & core::kTrim);
	reshape(r);
	r.idle();
	EXPECT_EQ(r.disk(7), LLB_CLEAN);
}

TEST(Breaks, AMirrorsReshapeMarksNothing)
{
	Rig r({.level = 10, .members = 4, .chunks = 16, .fill = LLB_CLEAN});
	r.start();
	r.set_raw(5, LLB_UNWRITTEN);
	reshape(r);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 15u);
	EXPECT_EQ(r.state(5), State::Unwritten);
}

// One that is whole writes the bitmap once.
TEST(Breaks, TheStepsOfAReshapeCostNothing)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN});
	r.start();
	action(r, kReshape);
	llb_skip_sync(r.b(), 0);
	int before = r.h.io_batches;
	for (u64 s = 0; s < 16; s++)
		llb_skip_sync(r.b(), s * kChunk);
	EXPECT_EQ(r.h.io_batches, before);
	action(r, 0);
}

// Its sectors are not those of a sync: nothing ends, no checkpoint.
TEST(Breaks, NoCheckpointInAReshapeOrARaid10Recovery)
{
	for (u32 flags : {kReshape, kRecover}) {
		Rig r({.level = 10, .members = 4, .chunks = 16, .fill = LLB_CLEAN});
		r.start();
		r.set_raw(1, LLB_SYNCING);
		action(r, flags);
		llb_cond_end_sync(r.b(), 8 * kChunk, 1);
		EXPECT_EQ(r.state(1), State::Syncing) << flags;
		EXPECT_TRUE(r.h.checkpoints.empty()) << flags;
		u64 blocks;
		r.set_raw(2, LLB_NEED_SYNC);
		llb_start_sync(r.b(), 2 * kChunk, &blocks, 0);
		EXPECT_EQ(r.state(2), State::NeedSync) << flags;
		action(r, 0);
	}
}

// A member's bitmap may be what stops it: the sync thread does not wait for ever.
TEST(Breaks, TheSyncThreadDoesNotWaitForABrokenBitmap)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	llb_write_all(r.b());
	for (auto &m : r.h.members)
		m->fail_writes = -1;
	int polls = 0;
	r.h.on_sleep = [&] {
		if (++polls > 100)
			throw std::runtime_error("waits for ever");
	};
	action(r, kRecover);
	EXPECT_NO_THROW(llb_skip_sync(r.b(), 0));
	action(r, 0);
	r.h.on_sleep = nullptr;
}

// ---- recovery of parity ----

TEST(Breaks, NoCheckpointWhileARecoveryGoesBack)
{
	Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN});
	r.start();
	r.h.fail_member(2);
	r.h.members[2]->flags = 0;
	action(r, kRecover);
	llb_skip_sync(r.b(), 0);
	r.set_raw(3, LLB_NEED_SYNC); // first written behind it
	bool asked = false;
	r.h.on_recover = [&](u64 sector) {
		asked = true;
		size_t before = r.h.checkpoints.size();
		llb_cond_end_sync(r.b(), sector, 1);
		EXPECT_EQ(r.h.checkpoints.size(), before);
		u64 blocks;
		llb_start_sync(r.b(), sector, &blocks, 0);
		return 0;
	};
	llb_close_sync(r.b());
	action(r, 0);
	EXPECT_TRUE(asked);
	EXPECT_EQ(r.h.recovered_again.size(), 1u) << "what was recovered is not recovered again";
}

TEST(Breaks, EachSyncEndsItsOwnChunks)
{
	Rig r({.chunks = 16, .fill = LLB_CLEAN});
	r.start();
	for (int turn = 0; turn < 2; turn++) {
		action(r, kResync);
		for (u64 c = 0; c < 16; c++)
			r.set_raw(c, LLB_NEED_SYNC);
		for (u64 c = 0; c < 12; c++) {
			u64 blocks;
			llb_start_sync(r.b(), c * kChunk, &blocks, 0);
		}
		llb_cond_end_sync(r.b(), 0, 0);
		llb_cond_end_sync(r.b(), 12 * kChunk, 1);
		EXPECT_EQ(r.state(0), State::Dirty) << turn;
		llb_close_sync(r.b());
		action(r, 0);
	}
}

// ---- members ----

TEST(Breaks, LoadAsksForNoSyncThatCannotRun)
{
	for (int turn = 0; turn < 3; turn++) {
		Rig r({.fill = LLB_DIRTY});
		if (turn == 1)
			r.h.flags |= PLAT_ARRAY_RESHAPE_PENDING;
		if (turn == 2)
			r.h.fail_member(1);
		r.start();
		EXPECT_EQ(r.h.resync_requests, turn == 0 ? 1 : 0) << turn;
		r.h.run_for(kCleanBy_ms);
		EXPECT_EQ(r.h.resync_requests > 0, turn == 0) << turn;
		r.h.flags &= ~PLAT_ARRAY_RESHAPE_PENDING;
		r.h.members[1]->flags = PLAT_MEMBER_IN_SYNC;
		r.h.degraded = 0;
		r.h.run_for(kCleanBy_ms);
		EXPECT_GE(r.h.resync_requests, 1) << turn;
	}
}

// What is not a member of the data says nothing of it, however new it looks.
TEST(Breaks, OnlyMembersInSyncAreRead)
{
	for (u32 flags :
	     {u32{0}, PLAT_MEMBER_IN_SYNC | PLAT_MEMBER_JOURNAL, PLAT_MEMBER_IN_SYNC | PLAT_MEMBER_OLD,
	      PLAT_MEMBER_IN_SYNC | PLAT_MEMBER_FAULTY, PLAT_MEMBER_IN_SYNC}) {
		Rig r({.members = 3, .chunks = 64, .fill = LLB_CLEAN});
		Options other = r.o;
		other.fill = LLB_UNWRITTEN;
		r.format(2, other);
		r.h.members[2]->flags = flags;
		bool spare = flags == PLAT_MEMBER_IN_SYNC;
		r.h.members[2]->slot = spare ? -1 : 2;
		r.h.array.raid_disks = 2;
		r.start();
		EXPECT_EQ(r.counts()[LLB_CLEAN], 64u) << flags;
	}
}

TEST(Breaks, TwoMembersOpinions)
{
	Rig r({.level = 5, .members = 3, .chunks = 64, .fill = LLB_UNWRITTEN});
	Options other = r.o;
	other.cells = {LLB_CLEAN_UNWRITTEN, LLB_CLEAN, LLB_UNWRITTEN};
	r.format(1, other);
	r.start();
	EXPECT_EQ(r.state(0), State::Unwritten);
	EXPECT_EQ(r.state(1), State::NeedSync);
	EXPECT_EQ(r.state(2), State::Unwritten);
}

// Live removal: plain md trusts parity everywhere, and copies nothing by itself.
TEST(Breaks, RemovalAsksWhereSomethingWasNeverWritten)
{
	for (u8 byte : {LLB_UNWRITTEN, LLB_CLEAN_UNWRITTEN}) {
		Rig r({.level = 5, .members = 3, .chunks = 16, .fill = LLB_CLEAN});
		r.start();
		r.set_raw(3, byte);
		llb_remove_live(r.b());
		EXPECT_EQ(r.h.resync_requests, 1) << int(byte);
	}
}

} // namespace
