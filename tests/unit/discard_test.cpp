// SPDX-License-Identifier: GPL-2.0
// Discards: when a chunk becomes unwritten, and when it must not.
#include "rig.hpp"

using core::State;
using rig::kCleanBy_ms;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

const Options kFirstUse{.state = LLB_SB_FIRST_USE};

void discard(Rig &r, u64 from, u64 sectors)
{
	llb_start_discard(r.b(), from, sectors);
	r.wait_durable();
	llb_end_discard(r.b(), from, sectors);
}

TEST(Discard, AWholeChunkBecomesUnwritten)
{
	for (State from : {State::Clean, State::CleanUnwritten}) {
		Rig r({.level = 5, .members = 3, .fill = u8(from)});
		r.start();
		llb_start_discard(r.b(), 5 * 128, 256); // two chunks
		r.wait_durable();
		EXPECT_TRUE(r.reloads_to_sync(r.disk(5)));
		llb_end_discard(r.b(), 5 * 128, 256);
		EXPECT_EQ(r.state(5), State::Dirty) << "not yet: it must be flushed first";
		r.idle();
		EXPECT_EQ(r.disk(5), LLB_UNWRITTEN);
		EXPECT_EQ(r.disk(6), LLB_UNWRITTEN);
		EXPECT_EQ(r.disk(7), u8(from));
		EXPECT_EQ(r.disk(4), u8(from));
	}
}

TEST(Discard, PartOfAChunkDoesNot)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	discard(r, 5 * 128 + 1, 255); // all but the first sector of 5, whole 6
	discard(r, 10 * 128, 127);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(r.disk(6), LLB_UNWRITTEN);
	EXPECT_EQ(r.disk(10), LLB_CLEAN);
}

TEST(Discard, TheShortLastChunkIsWhole)
{
	Rig r({.sync_size = 10 * 128 + 5, .fill = LLB_CLEAN});
	r.start();
	discard(r, 10 * 128, 5);
	r.idle();
	EXPECT_EQ(r.disk(10), LLB_UNWRITTEN);
}

TEST(Discard, OfUnwrittenWritesNothing)
{
	Rig r(kFirstUse);
	r.start();
	int batches = r.h.io_batches;
	discard(r, 5 * 128, 256);
	EXPECT_EQ(r.state(5), State::Unwritten);
	EXPECT_EQ(r.h.io_batches, batches);
}

TEST(Discard, OfAWrittenChunkEndsCleanOnly)
{
	// what was written since the last clean may still be on its way
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.write(5);
	discard(r, 5 * 128, 128);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	discard(r, 5 * 128, 128); // now it is alone
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_UNWRITTEN);
}

TEST(Discard, AWriteAfterItTakesItBack)
{
	for (bool marked : {false, true}) {
		Rig r({.fill = LLB_CLEAN});
		r.start();
		discard(r, 5 * 128, 128);
		if (marked)
			r.h.run_for(kSleep_ms);
		r.write(5);
		EXPECT_TRUE(r.reloads_to_sync(r.disk(5)));
		r.idle();
		EXPECT_EQ(r.disk(5), LLB_CLEAN);
	}
}

TEST(Discard, AWriteDuringItTakesItBack)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	llb_start_discard(r.b(), 5 * 128, 128);
	r.wait_durable();
	r.begin(5);
	llb_end_discard(r.b(), 5 * 128, 128);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_TRUE(r.reloads_to_sync(r.disk(5)));
	r.end(5);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
}

TEST(Discard, AWriteBeforeItIsNotForgotten)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.begin(5);
	discard(r, 5 * 128, 128);
	r.end(5);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
}

TEST(Discard, TwiceIsOnce)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	discard(r, 5 * 128, 128);
	discard(r, 5 * 128, 128);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_UNWRITTEN);
	discard(r, 6 * 128, 128);
	discard(r, 6 * 128, 8); // a part, which is a write like any other
	r.idle();
	EXPECT_EQ(r.disk(6), LLB_CLEAN);
}

TEST(Discard, OfAChunkThatNeedsSyncLeavesThat)
{
	Rig r({.cells = {LLB_DIRTY}, .fill = LLB_CLEAN});
	r.start();
	discard(r, 0, 128);
	EXPECT_EQ(r.state(0), State::NeedSync);
	r.idle();
	EXPECT_TRUE(r.reloads_to_sync(r.disk(0)));
}

TEST(Discard, DegradedStaysNeedSync)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.fail_member(1);
	discard(r, 5 * 128, 128);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.state(5), State::NeedSync);
	EXPECT_EQ(r.disk(0, 5), LLB_NEED_SYNC);
}

} // namespace
