// SPDX-License-Identifier: GPL-2.0
// A reshape moves data: what the bitmap knows of absent members is void, and members that
// it adds are in sync from its start.
#include "rig.hpp"

using core::State;
using rig::kChunk;
using rig::Options;
using rig::Rig;

namespace {

constexpr u32 kRunning = PLAT_ARRAY_RUNNING | PLAT_ARRAY_RESHAPE;
constexpr u32 kSeveralPages = 9000; // chunks
constexpr u32 kEventsCleared = 32; // byte offset in the header

// A superblock of md's, as for each change that it records.
void record(Rig &r)
{
	r.h.events++;
	llb_update_sb(r.b());
}

// What md does between the request and the first stripe: the superblock says that a reshape
// is not finished.
void begin(Rig &r)
{
	r.h.flags |= PLAT_ARRAY_RESHAPE_PENDING;
	record(r);
	r.h.flags |= kRunning;
}

void steps(Rig &r)
{
	for (u64 s = 0; s < r.h.array.sync_size; s += 64 * kChunk)
		EXPECT_EQ(llb_skip_sync(r.b(), s), 0u) << "a reshape skips nothing";
}

void finish(Rig &r)
{
	r.h.flags &= ~(kRunning | PLAT_ARRAY_RESHAPE_PENDING);
	record(r);
}

// Member m as a used disk that is a spare: nothing of ours is on it.
void make_spare(Rig &r, u32 m)
{
	r.h.members[m]->slot = -1;
	r.h.members[m]->flags = 0;
	for (u32 at = 0; at < r.h.space_bytes; at++)
		r.h.members[m]->put(at, 0xff);
}

// As raid5_start_reshape() and raid10_start_reshape() do: a slot, and in sync at once.
void give_slot(Rig &r, u32 m)
{
	r.h.members[m]->slot = s32(m);
	r.h.members[m]->flags = PLAT_MEMBER_IN_SYNC | (r.h.members[m]->flags & PLAT_MEMBER_BBL);
	r.h.array.raid_disks = s32(m) + 1;
}

void orderly_restart(Rig &r)
{
	llb_flush(r.b());
	record(r);
	r.reboot();
}

void expect_like_first(Rig &r, u32 m)
{
	for (u64 at = 0; at < LLB_CELLS_OFFSET + r.table()->geo.chunks; at++)
		ASSERT_EQ(r.h.members[m]->at(at), r.h.members[0]->at(at))
			<< "member " << m << ", byte " << at;
}

// Whoever is away while it runs is not re-added by the bitmap: md refuses an event count
// below events_cleared. At its start, for each failure in it, and at its end.
TEST(Reshape, NothingIsKnownOfAbsentMembers)
{
	for (s32 level : {5, 6, 10, 4}) {
		Rig r({.level = level, .members = 6, .fill = LLB_CLEAN});
		r.start();
		record(r);
		u64 away_before = r.h.events; // fails now, and comes back when all is over
		r.h.fail_member(5);
		record(r);
		ASSERT_LE(r.get64(0, kEventsCleared), away_before) << "else the test shows nothing";

		begin(r);
		EXPECT_GT(r.get64(0, kEventsCleared), away_before) << "level " << level << ": at its start";
		steps(r);
		u64 away_in_it = r.h.events;
		r.h.fail_member(4);
		record(r);
		EXPECT_GT(r.get64(0, kEventsCleared), away_in_it) << "level " << level << ": in it";
		steps(r);
		u64 away_late = r.h.events;
		r.h.fail_member(3);
		finish(r);
		for (u32 m = 0; m < 3; m++)
			EXPECT_GT(r.get64(m, kEventsCleared), away_late)
				<< "level " << level << ": at its end, member " << m;
		llb_stats stats;
		llb_stats_get(r.b(), &stats);
		EXPECT_GT(stats.events_cleared, away_late) << "what md asks";

		// And after it the bitmap knows again.
		u64 later = r.h.events;
		record(r);
		EXPECT_LE(r.get64(0, kEventsCleared), later);
	}
}

// It is on disk: a restart in it, and one after it, forget nothing of that.
TEST(Reshape, ARestartInItKeepsThat)
{
	Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
	r.start();
	begin(r);
	steps(r);
	u64 away = r.h.events;
	r.h.fail_member(3);
	record(r);
	r.h.flags &= ~kRunning;
	r.reboot();
	record(r);
	r.h.flags |= kRunning;
	steps(r);
	finish(r);
	r.reboot();
	llb_stats stats;
	llb_stats_get(r.b(), &stats);
	EXPECT_GT(stats.events_cleared, away);
}

TEST(Reshape, AnotherLevelIsLikeOne)
{
	Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
	r.start();
	u64 away = r.h.events;
	r.h.fail_member(3);
	r.h.array.level = 6;
	record(r);
	EXPECT_GT(r.get64(0, kEventsCleared), away);
	u64 later = r.h.events;
	record(r);
	EXPECT_LE(r.get64(0, kEventsCleared), later) << "once";
}

TEST(Reshape, AHeaderThatFailsIsWrittenAgain)
{
	Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
	r.start();
	u64 before = r.get64(0, kEventsCleared);
	r.h.keep_last = false;
	for (u32 m = 0; m < 4; m++)
		r.h.members[m]->fail_writes = 1; // raid5: all fail
	r.h.flags |= PLAT_ARRAY_RESHAPE_PENDING;
	r.h.md_error_works = false; // (they stay, so that the next try finds them)
	record(r);
	r.h.md_error_works = true;
	u64 events = r.h.events;
	record(r);
	EXPECT_GT(r.get64(0, kEventsCleared), before);
	EXPECT_GE(r.get64(0, kEventsCleared), events);
}

// Parity: the second reshape of one assembly, too.
TEST(Reshape, AddedMembersHaveTheWholeBitmap5)
{
	Rig r({.level = 5, .members = 5, .chunks = kSeveralPages, .fill = LLB_CLEAN});
	make_spare(r, 3);
	make_spare(r, 4);
	r.h.array.raid_disks = 3;
	r.start();
	for (u32 m : {3u, 4u}) {
		give_slot(r, m);
		begin(r);
		expect_like_first(r, m); // before the first stripe moves
		steps(r);
		finish(r);
		r.idle();
	}
	orderly_restart(r);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 0u) << r.h.log_text();
	EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN), 0) << r.h.log_text();
}

// raid10 resizes first, then adds the disks.
TEST(Reshape, AddedMembersHaveTheWholeBitmap10)
{
	Rig r({.level = 10, .members = 5, .chunks = kSeveralPages, .fill = LLB_CLEAN});
	make_spare(r, 4);
	r.h.array.raid_disks = 4;
	r.start();
	r.h.array.sync_size = kSeveralPages * kChunk / 4 * 5;
	ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0);
	give_slot(r, 4);
	begin(r);
	expect_like_first(r, 4);
	steps(r);
	finish(r);
	r.idle();
	orderly_restart(r);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 0u) << r.h.log_text();
	EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN), 0) << r.h.log_text();
}

TEST(Reshape, AddedMembersRecordNoBadBlocks)
{
	Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
	make_spare(r, 3);
	for (auto &m : r.h.members) { // mdadm 4.6 puts it inside the bitmap's space
		m->m.bbl_offset = 16;
		m->m.bbl_sectors = 8;
		m->flags = m->flags | PLAT_MEMBER_BBL;
	}
	r.h.array.raid_disks = 3;
	r.start();
	give_slot(r, 3);
	begin(r);
	for (u32 m = 0; m < 4; m++)
		EXPECT_TRUE(r.h.members[m]->bad_log_disabled) << "member " << m;
}

// One without room for the bitmap fails before it counts.
TEST(Reshape, AnAddedMemberWithoutRoomFails)
{
	Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
	make_spare(r, 3);
	r.h.members[3]->m.data_offset = 17; // the bitmap begins at 16
	r.h.array.raid_disks = 3;
	r.start();
	give_slot(r, 3);
	begin(r);
	EXPECT_TRUE(r.h.members[3]->has(PLAT_MEMBER_FAULTY));
	EXPECT_EQ(r.h.members[3]->at(0), 0xff) << "something was written there";
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "slot 3"), 1) << r.h.log_text();
}

// No member may be taken for whole before all that it needs is there.
TEST(Reshape, NoStripeMovesBeforeItsMark)
{
	Rig r({.level = 5, .members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	begin(r);
	EXPECT_EQ(llb_skip_sync(r.b(), 0), 0u);
	for (u64 c = 0; c < 64; c++)
		EXPECT_TRUE(r.reloads_to_sync(r.disk(c))) << "chunk " << c << " is " << int(r.disk(c));
}

// Chunks that came between two reshapes of one assembly are written by the second one, too.
TEST(Reshape, TheSecondOneAfterAGrow)
{
	for (u64 larger : {9000u, 600000u}) { // the same chunk size, and another one
		Rig r({.level = 5, .members = 3, .chunks = 5000, .fill = LLB_CLEAN});
		r.start();
		begin(r);
		steps(r);
		finish(r);
		r.h.array.sync_size = larger * kChunk;
		ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0);
		ASSERT_GT(r.counts()[LLB_UNWRITTEN], 0u);
		begin(r);
		llb_skip_sync(r.b(), 0);
		EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 0u);
		finish(r);
	}
}

// raid10 that gets disks, assembled in the middle: md says the new size only at the end.
TEST(Reshape, Raid10AssembledInTheMiddle)
{
	Rig r({.level = 10, .members = 4, .chunks = 100, .fill = LLB_CLEAN});
	r.start();
	u64 larger = 125 * kChunk;
	ASSERT_EQ(llb_resize(r.b(), larger), 0);
	begin(r);
	steps(r);
	r.h.flags &= ~kRunning;
	r.h.array.sync_size = 100 * kChunk; // as raid10_run() does
	r.reboot();
	EXPECT_EQ(r.get64(0, 40), larger);
	r.h.flags |= kRunning;
	steps(r);
	r.h.array.sync_size = larger; // raid10_finish_reshape()
	finish(r);
	r.write(120);
	EXPECT_TRUE(r.reloads_to_sync(r.disk(120)));
	r.idle();
	orderly_restart(r);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 0u) << r.h.log_text();
}

// A member that had failed is taken back through its state file, past md's own question;
// one that waits for a slot was asked before.
TEST(Reshape, AMemberThatMissedItGetsEverything)
{
	for (bool missed : {true, false}) {
		Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
		r.start();
		record(r);
		r.h.fail_member(3);
		record(r);
		if (missed) {
			begin(r);
			steps(r);
			finish(r);
		}
		// in its slot, to be recovered
		r.h.members[3]->flags &= ~(PLAT_MEMBER_FAULTY | PLAT_MEMBER_IN_SYNC);
		llb_write_all(r.b());
		r.h.run_lead();
		EXPECT_EQ(r.h.distrusted.size(), missed);
		r.h.flags |= PLAT_ARRAY_RUNNING;
		r.set_raw(9, LLB_CLEAN);
		u64 blocks;
		EXPECT_EQ(llb_skip_sync(r.b(), 9 * kChunk), 0u);
		EXPECT_EQ(llb_start_sync(r.b(), 9 * kChunk, &blocks, 1), missed);
		llb_close_sync(r.b()); // done
		EXPECT_FALSE(llb_start_sync(r.b(), 9 * kChunk, &blocks, 1)) << "for one recovery";
	}
}

// A disk that gets a slot before the bitmap is told: it was counted as a spare.
TEST(Reshape, ASpareWithLargerBlocks)
{
	Rig r({.level = 5, .members = 4, .fill = LLB_CLEAN});
	make_spare(r, 3);
	r.h.members[3]->m.logical_block = 4096;
	r.h.array.raid_disks = 3;
	r.start();
	give_slot(r, 3);
	r.write(5); // the rig watches the size of what is written
}

} // namespace
