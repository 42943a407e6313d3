// SPDX-License-Identifier: GPL-2.0
// Groups of chunks, which share a counter of what is under way: whom that keeps dirty, and
// when a sum of it may be believed. (What the daemon does with a quiet group: daemon_test.cpp.)
#include <atomic>
#include <thread>

#include "rig.hpp"

using rig::kCleanBy_ms;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

const Options kFirstUse{.state = LLB_SB_FIRST_USE};

// W4 beside a chunk that is always being written: neighbours have groups of their own.
TEST(Daemon, AHotNeighbourKeepsNothingElseDirty)
{
	const u64 far = u64{16} << 31; // 16 TiB, in chunks of 256 MiB
	for (u64 sync_size : {64 * rig::kChunk, far}) {
		Rig r({.sync_size = sync_size, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
		r.start();
		r.begin(5);
		for (u64 c = 0; c < 64; c++) {
			if (c != 5)
				r.write(c);
		}
		for (u64 ms = 0; ms < kCleanBy_ms; ms += 500) {
			r.begin(5);
			r.end(5); // one is always under way
			r.h.run_for(500);
		}
		for (u64 c = 0; c < 64; c++)
			EXPECT_EQ(r.disk(c), c == 5 ? LLB_DIRTY : LLB_CLEAN) << c;
		llb_stats s;
		llb_stats_get(r.b(), &s);
		EXPECT_EQ(s.crash_bytes, r.chunk_sectors() * 512);
		r.end(5);
	}
}

// The unmarked chunk of the group is written: quiet has nothing to do with marks.
TEST(Daemon, TwoChunksInOneGroup)
{
	Rig r({.level = 5, .members = 3, .fill = LLB_CLEAN, .raid_chunk = 8 * rig::kChunk});
	r.start();
	r.write(5);
	r.h.run_for(kSleep_ms); // 5 is marked
	r.begin(6); // not marked
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(r.disk(6), LLB_DIRTY);
	r.end(6);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(r.disk(6), LLB_CLEAN);
}

// Of several chunks in one section each is asked: the first needs a commit, the last does not.
TEST(Daemon, AWriteOfTwoChunksOfWhichOneIsMarked)
{
	Rig r({.level = 5, .members = 3, .fill = LLB_CLEAN, .raid_chunk = 8 * rig::kChunk});
	r.start();
	r.write(9);
	r.h.run_for(kSleep_ms); // 9 is marked
	llb_start_write(r.b(), 8 * rig::kChunk, 2 * rig::kChunk);
	EXPECT_TRUE(llb_pending(r.b()));
	r.wait_durable();
	EXPECT_EQ(r.disk(8), LLB_DIRTY);
	EXPECT_EQ(r.disk(9), LLB_DIRTY);
	r.idle();
	EXPECT_EQ(r.disk(8), LLB_DIRTY);
	EXPECT_EQ(r.disk(9), LLB_DIRTY);
	llb_end_write(r.b(), 8 * rig::kChunk, 2 * rig::kChunk);
	r.idle();
	EXPECT_EQ(r.disk(8), LLB_CLEAN);
	EXPECT_EQ(r.disk(9), LLB_CLEAN);
}

// A raid chunk beyond all bounds: a section still ends, and what is under way keeps its chunk.
TEST(Daemon, ARaidChunkOfManyChunks)
{
	Rig r({.level = 5,
	       .members = 3,
	       .chunks = 1000,
	       .space = 2048,
	       .fill = LLB_CLEAN,
	       .raid_chunk = 1u << 31});
	r.start();
	for (u64 c : {0, 63, 64, 999})
		r.write(c);
	r.begin(63);
	r.idle();
	for (u64 c : {0, 63}) // one group, of 64 chunks
		EXPECT_EQ(r.disk(c), LLB_DIRTY) << c;
	for (u64 c : {64, 999})
		EXPECT_EQ(r.disk(c), LLB_CLEAN) << c;
	r.end(63);
	r.idle();
	EXPECT_EQ(r.disk(63), LLB_CLEAN);
}

// A write counted itself and found the chunk dirty, before the mark; its count is not
// seen yet. The daemon must wait for its section.
TEST(Daemon, ACountThatIsSeenLate)
{
	Rig r(kFirstUse);
	r.start();
	r.write(5);
	std::atomic<bool> inside{false}, go{false}, waits{false}, stopped{false};
	r.h.on_section = [&] {
		inside = true;
		while (!go)
			std::this_thread::yield();
	};
	r.h.on_grace = [&] { waits = true; };
	std::thread writer([&] { r.begin_nowait(5); });
	while (!inside)
		std::this_thread::yield();
	std::thread stop([&] {
		llb_flush(r.b());
		stopped = true;
	});
	while (!waits && !stopped)
		std::this_thread::yield();
	EXPECT_TRUE(waits);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	go = true;
	writer.join();
	stop.join();
	EXPECT_FALSE(llb_pending(r.b()) && r.disk(5) != LLB_DIRTY);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.end(5);
}

// Between the two sums of a group one write ends and another comes and goes: they must
// not make up for a third that is under way.
TEST(Daemon, WritesBetweenTheTwoSums)
{
	Rig r(kFirstUse);
	r.start();
	r.write(6);
	r.begin(5);
	r.begin(5);
	r.h.run_for(kSleep_ms + 1000); // 5 is marked
	bool once = true;
	r.h.on_sum = [&] {
		if (!once)
			return;
		once = false;
		r.begin_nowait(6);
		r.end(6);
		r.end(5);
	};
	llb_flush(r.b());
	EXPECT_FALSE(once);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.end(5);
}

} // namespace
