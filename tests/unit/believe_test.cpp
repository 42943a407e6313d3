// SPDX-License-Identifier: GPL-2.0
// What a load believes where the members' headers differ, or say what cannot be; and what
// it must find after no member took the bitmap.
#include "rig.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using core::State;
using rig::kChunk;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

constexpr u32 kEvents = 24, kEventsCleared = 32, kSyncSize = 40, kState = 48, kChunksize = 52;

u64 need_sync(Rig &r)
{
	return r.counts()[LLB_NEED_SYNC];
}

// ---- headers of equal events ----

// A cut in the first header's write, or one flipped bit: one member still calls it new.
TEST(Believe, NewOnlyIfAllSaySo)
{
	for (u32 one : {0u, 1u}) {
		Rig r({.fill = LLB_DIRTY});
		r.put32(one, kState, LLB_SB_FIRST_USE);
		r.start();
		EXPECT_EQ(need_sync(r), 64u) << "FIRST_USE on member " << one;
	}
	// nothing is lost of what the other one knows
	Rig r({.fill = LLB_CLEAN});
	r.put32(0, kState, LLB_SB_FIRST_USE | LLB_SB_CLEAN);
	r.start();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
}

// On all of them: a new array has seen no event.
TEST(Believe, AUsedBitmapIsNotNew)
{
	for (u32 field : {kEvents, kEventsCleared}) {
		Rig r({.fill = LLB_CLEAN});
		for (u32 m = 0; m < 2; m++) {
			r.put32(m, kState, LLB_SB_FIRST_USE);
			r.put64(m, kEvents, 0);
			r.put64(m, kEventsCleared, 0);
			r.put64(m, field, 7);
		}
		r.start();
		EXPECT_EQ(need_sync(r), 64u) << "field at " << field;
		EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, "calls itself new"), 1) << r.h.log_text();
	}
}

TEST(Believe, StaleIfAnySaysSo)
{
	for (u32 one : {0u, 1u}) {
		Rig r({.fill = LLB_CLEAN});
		r.put32(one, kState, LLB_SB_STALE);
		r.start();
		EXPECT_EQ(need_sync(r), 64u) << "STALE on member " << one;
	}
}

TEST(Believe, WhatOneDoesNotSpeakOfIsUnknown)
{
	for (u32 one : {0u, 1u}) {
		Rig r({.fill = LLB_CLEAN});
		r.put64(one, kSyncSize, 40 * kChunk);
		r.start();
		EXPECT_EQ(need_sync(r), 24u) << "sync_size on member " << one;
		EXPECT_EQ(r.state(39), State::Clean);
		EXPECT_EQ(r.state(40), State::NeedSync);
	}
}

TEST(Believe, TwoChunkSizesMeanNothing)
{
	for (u32 one : {0u, 1u}) {
		Rig r({.fill = LLB_CLEAN});
		r.put32(one, kChunksize, 256);
		r.start();
		EXPECT_EQ(need_sync(r), r.table()->geo.chunks) << "chunksize on member " << one;
	}
}

TEST(Believe, TheHigherEventsCleared)
{
	for (u32 one : {0u, 1u}) {
		Rig r({.fill = LLB_CLEAN});
		r.put64(one, kEventsCleared, 90);
		r.start();
		llb_stats stats;
		llb_stats_get(r.b(), &stats);
		EXPECT_EQ(stats.events_cleared, 90u) << "on member " << one;
	}
}

// An old one has no say.
TEST(Believe, AnOldHeaderHasNoSay)
{
	Rig r({.fill = LLB_CLEAN});
	r.put64(1, kEvents, 99);
	r.put32(1, kState, LLB_SB_STALE);
	r.put64(1, kSyncSize, 40 * kChunk);
	r.start();
	EXPECT_EQ(need_sync(r), 0u) << r.h.log_text();
}

// Every single bit of the state field, on one member and on both: never Unwritten.
TEST(Believe, NoFlippedBitForgetsAWrite)
{
	for (u32 bit = 0; bit < 32; bit++) {
		for (u32 members = 1; members <= 3; members++) {
			Rig r({.fill = LLB_DIRTY});
			for (u32 m = 0; m < 2; m++) {
				if (members & 1u << m)
					r.put32(m, kState, 1u << bit);
			}
			r.start();
			EXPECT_EQ(need_sync(r), 64u) << "bit " << bit << " on members " << members;
		}
	}
}

// One bit of an old header's event count, on both or on one: it does not become current.
TEST(Believe, NoEventsFromTheFuture)
{
	for (u32 bit = 7; bit < 64; bit++) {
		for (u32 members = 1; members <= 3; members++) {
			Rig r({.fill = LLB_CLEAN, .disk_events = 90});
			for (u32 m = 0; m < 2; m++) {
				if (members & 1u << m)
					r.put64(m, kEvents, 90 | u64{1} << bit);
			}
			r.start();
			EXPECT_EQ(need_sync(r), 64u) << "bit " << bit << " on members " << members;
		}
	}
	Rig ahead({.fill = LLB_CLEAN, .disk_events = 101}); // a cut before md's superblock
	ahead.start();
	EXPECT_EQ(need_sync(ahead), 0u);
}

// ---- the last member ----

// Nobody takes the bitmap, not even a mark in its header: md's superblock must tell it.
TEST(LastMember, TheSuperblockTellsIt)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.fail_member(1);
	r.h.events++;
	llb_update_sb(r.b());
	r.h.members[0]->fail_writes = -1;
	r.begin(7); // returns: the data is written, and acknowledged
	EXPECT_TRUE(r.h.flags & PLAT_ARRAY_BROKEN);
	EXPECT_GE(r.h.superblocks, 1);
	r.h.members[0]->fail_writes = 0;
	r.h.flags &= ~PLAT_ARRAY_BROKEN;
	r.reboot(); // a cut: nothing else was written
	EXPECT_EQ(need_sync(r), 64u) << r.h.log_text();
}

// Its cells cannot be written, its header can: that is enough, and md need not be waited for.
TEST(LastMember, TheHeaderTellsIt)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.h.fail_member(1);
	r.h.events++;
	llb_update_sb(r.b());
	r.h.superblock_busy = true;
	r.h.members[0]->fail_writes = int(core::kWriteTries); // the commit's, not the header's
	r.begin(7);
	EXPECT_TRUE(r.h.flags & PLAT_ARRAY_BROKEN);
	EXPECT_TRUE(r.get32(0, kState) & LLB_SB_STALE);
	EXPECT_EQ(r.h.superblocks, 0);
	r.h.flags &= ~PLAT_ARRAY_BROKEN;
	r.reboot();
	EXPECT_EQ(need_sync(r), 64u) << r.h.log_text();
}

// No write is acknowledged before that is on disk, also one inside submit_bio.
TEST(LastMember, NothingIsAcknowledgedBefore)
{
	for (u32 may_submit : {0u, 1u}) {
		Rig r({.fill = LLB_CLEAN});
		r.start();
		r.h.members[0]->fail_writes = -1;
		r.h.members[1]->fail_writes = -1;
		u64 events = r.h.events;
		r.begin_nowait(7);
		ASSERT_TRUE(llb_pending(r.b()));
		llb_unplug(r.b(), may_submit);
		EXPECT_GT(r.h.events.load(), events) << "may_submit " << may_submit;
	}
}

// ---- hibernation ----

// A snapshot of memory meets the disk that the old kernel went on writing: the daemon on
// its queue, and the orderly flush of the power-off that ends it.
TEST(Snapshot, NothingIsCleanedBehindIt)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	r.write(7);
	r.h.run_for(kSleep_ms + 1000);
	r.h.flags |= PLAT_ARRAY_SNAPSHOT; // from before the image is made
	size_t n = r.h.members[0]->bytes.size();
	u8 *shared = static_cast<u8 *>(
		mmap(nullptr, 2 * n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pid_t pid = fork(); // the image
	if (!pid) { // the old kernel, until it is off
		r.h.run_for(4 * kSleep_ms);
		llb_flush(r.b());
		for (u32 m = 0; m < 2; m++)
			for (size_t i = 0; i < n; i++)
				shared[m * n + i] = r.h.members[m]->at(i);
		_exit(0);
	}
	int status;
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	for (u32 m = 0; m < 2; m++)
		for (size_t i = 0; i < n; i++)
			r.h.members[m]->put(i, shared[m * n + i]);
	munmap(shared, 2 * n);
	r.h.flags &= ~PLAT_ARRAY_SNAPSHOT; // resumed
	r.begin(7);
	EXPECT_TRUE(r.reloads_to_sync(r.disk(7))) << "the byte under a write is " << int(r.disk(7));
	r.end(7);
	r.idle(); // and the daemon goes on
	EXPECT_EQ(r.disk(7), LLB_CLEAN);
}

} // namespace
