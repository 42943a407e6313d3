// SPDX-License-Identifier: GPL-2.0
// Group commit: W1 for every writer, few writes for many, and what failures do.
#include <thread>

#include "rig.hpp"

using core::State;
using rig::Options;
using rig::Rig;

namespace {

const Options kFirstUse{.state = LLB_SB_FIRST_USE};

TEST(Commit, FirstTouchIsDurableOnAllMembers)
{
	Rig r({.members = 4, .state = LLB_SB_FIRST_USE});
	r.start();
	EXPECT_FALSE(llb_pending(r.b()));
	llb_start_write(r.b(), 5 * 128, 8);
	EXPECT_TRUE(llb_pending(r.b()));
	for (u32 m = 0; m < 4; m++)
		EXPECT_EQ(r.disk(m, 5), LLB_UNWRITTEN);
	llb_unplug(r.b(), 1);
	for (u32 m = 0; m < 4; m++)
		EXPECT_EQ(r.disk(m, 5), LLB_DIRTY);
	EXPECT_FALSE(llb_pending(r.b()));
	llb_end_write(r.b(), 5 * 128, 8);
	EXPECT_FALSE(llb_pending(r.b()));
	EXPECT_EQ(r.state(5), State::Dirty);
}

TEST(Commit, AWriteOverManyChunksPagesAndGroups)
{
	Rig r({.chunks = 20000, .state = LLB_SB_FIRST_USE});
	r.start();
	const u64 from = 100, to = 12000;
	llb_start_write(r.b(), from * 128 + 127, (to - from) * 128 - 126); // to the first sector of `to`
	llb_unplug(r.b(), 1);
	for (u64 c = 0; c < 20000; c++) {
		bool in = c >= from && c <= to;
		EXPECT_EQ(r.state(c), in ? State::Dirty : State::Unwritten) << c;
		if (in) {
			EXPECT_EQ(r.disk(c), LLB_DIRTY) << c;
		}
	}
	llb_end_write(r.b(), from * 128 + 127, (to - from) * 128 - 126);
	r.idle();
	EXPECT_EQ(r.counts()[LLB_CLEAN], to - from + 1);
	for (u64 c = from; c <= to; c++)
		EXPECT_EQ(r.disk(c), LLB_CLEAN) << c;
}

// Buffers for a batch are taken from what is there at once: without any, page after page.
TEST(Commit, PagesShareABatchWhereThereAreBuffers)
{
	for (bool pages : {true, false}) {
		Rig r({.chunks = 20000, .state = LLB_SB_FIRST_USE});
		r.start();
		int batches = r.h.io_batches;
		fake::no_pages_at_once = !pages;
		llb_start_write(r.b(), 0, 20000 * 128);
		llb_unplug(r.b(), 1);
		fake::no_pages_at_once = false;
		EXPECT_EQ(r.h.io_batches - batches, pages ? 1 : 6);
		for (u64 c = 0; c < 20000; c++)
			ASSERT_EQ(r.disk(c), LLB_DIRTY) << c;
		llb_end_write(r.b(), 0, 20000 * 128);
	}
}

TEST(Commit, LastChunkOfAnOddSize)
{
	Rig r({.sync_size = 10 * 128 + 5, .state = LLB_SB_FIRST_USE});
	r.start();
	EXPECT_EQ(r.table()->geo.chunks, 11u);
	llb_start_write(r.b(), 10 * 128, 5);
	llb_unplug(r.b(), 1);
	llb_end_write(r.b(), 10 * 128, 5);
	EXPECT_EQ(r.disk(10), LLB_DIRTY);
	// past the end: nothing, and no access out of bounds
	llb_start_write(r.b(), 40 * 128, 8);
	llb_end_write(r.b(), 40 * 128, 8);
	llb_start_write(r.b(), 0, 0);
	llb_end_write(r.b(), 0, 0);
	EXPECT_FALSE(llb_pending(r.b()));
}

TEST(Commit, UnplugWithNothingPendingDoesNoIO)
{
	Rig r(kFirstUse);
	r.start();
	int batches = r.h.io_batches;
	llb_unplug(r.b(), 1);
	llb_unplug(r.b(), 0);
	EXPECT_EQ(r.h.io_batches, batches);
	EXPECT_FALSE(r.h.lead_queued);
	r.write(3);
	EXPECT_EQ(r.h.io_batches, batches + 1);
	llb_unplug(r.b(), 1);
	r.write(3); // dirty and durable: no I/O
	EXPECT_EQ(r.h.io_batches, batches + 1);
}

// Dirty in memory is not durable: the second writer waits, or writes itself.
TEST(Commit, SecondWriterOfAChunkThatIsNotDurableYet)
{
	Rig r(kFirstUse);
	r.start();
	r.begin_nowait(5);
	r.begin_nowait(5);
	EXPECT_TRUE(llb_pending(r.b()));
	llb_unplug(r.b(), 1);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.end(5);
	r.end(5);
}

// The first writer made the cell dirty and was stopped before it asked for a commit: the
// second one must ask itself.
TEST(Commit, SecondWriterBeforeTheFirstHasAsked)
{
	Rig r(kFirstUse);
	r.start();
	bool once = true;
	r.h.on_section_leave = [&] {
		if (!once)
			return;
		once = false;
		r.begin_nowait(5);
		EXPECT_TRUE(llb_pending(r.b()));
		llb_unplug(r.b(), 1);
		EXPECT_EQ(r.disk(5), LLB_DIRTY);
	};
	r.begin_nowait(5);
	EXPECT_FALSE(once);
	r.wait_durable();
	r.end(5);
	r.end(5);
}

TEST(Commit, SecondWriterDuringTheCommitOfTheFirst)
{
	for (bool submit : {true, false}) {
		Rig r(kFirstUse);
		r.start();
		r.h.inline_work = false;
		// who was woken looks at once, and not again
		r.h.on_woken = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
		std::thread second, worker;
		std::atomic<bool> asked{false}, returned{false};
		std::atomic<bool> stop{false};
		r.h.on_io_wait = [&] {
			if (second.joinable())
				return;
			second = std::thread([&] {
				r.begin_nowait(5); // dirty in memory, on its way to the disk
				EXPECT_TRUE(llb_pending(r.b()));
				asked = true;
				llb_unplug(r.b(), submit);
				EXPECT_EQ(r.disk(5), LLB_DIRTY) << "returned before it was durable";
				returned = true;
			});
			while (!asked)
				std::this_thread::yield();
			std::this_thread::sleep_for(std::chrono::milliseconds(50));
			EXPECT_FALSE(returned);
		};
		worker = std::thread([&] {
			while (!stop) {
				r.h.run_lead();
				std::this_thread::yield();
			}
		});
		r.begin(5);
		second.join();
		stop = true;
		worker.join();
		r.end(5);
		r.end(5);
	}
}

// Others that come while it is being written ask once more: that needs no write.
TEST(Commit, AFirstTouchMetByParallelWritersIsWrittenOnce)
{
	Rig r(kFirstUse);
	r.start();
	int batches = r.h.io_batches;
	bool once = true;
	r.h.on_io_wait = [&] {
		for (int i = 0; i < 3 && once; i++)
			r.begin_nowait(5);
		once = false;
	};
	r.begin_nowait(5);
	llb_unplug(r.b(), 1);
	ASSERT_FALSE(once);
	EXPECT_TRUE(llb_pending(r.b()));
	r.wait_durable();
	EXPECT_FALSE(llb_pending(r.b()));
	EXPECT_EQ(r.h.io_batches, batches + 1);
	for (int i = 0; i < 4; i++)
		r.end(5);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
}

// A chunk that comes while the commit is under way is not called durable by it.
TEST(Commit, AWriterDuringTheCommitIsNotCoveredByIt)
{
	Rig r(kFirstUse);
	r.start();
	bool once = true;
	r.h.on_io_wait = [&] {
		if (once) {
			once = false;
			r.begin_nowait(40);
		}
	};
	r.begin_nowait(5);
	llb_unplug(r.b(), 1);
	EXPECT_FALSE(once);
	if (r.disk(40) != LLB_DIRTY) {
		EXPECT_TRUE(llb_pending(r.b()));
		EXPECT_FALSE(r.raw(40) & core::kDirtyOnDisk);
		llb_unplug(r.b(), 1);
	}
	EXPECT_EQ(r.disk(40), LLB_DIRTY);
	r.end(5);
	r.end(40);
}

// The same where it lies in the window of the first, but was not covered by it.
TEST(Commit, AWriterDuringTheCommitInsideItsWindow)
{
	Rig r({.level = 5, .members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.set_raw(3, LLB_CLEAN_UNWRITTEN);
	bool once = true;
	r.h.on_io_wait = [&] {
		if (once) {
			once = false;
			r.begin_nowait(3);
		}
	};
	r.begin_nowait(5);
	llb_unplug(r.b(), 1);
	EXPECT_FALSE(once);
	EXPECT_EQ(r.disk(3), LLB_CLEAN_UNWRITTEN);
	EXPECT_EQ(r.state(3), State::Dirty);
	EXPECT_FALSE(r.raw(3) & core::kDirtyOnDisk);
	EXPECT_TRUE(llb_pending(r.b()));
	llb_unplug(r.b(), 1);
	EXPECT_EQ(r.disk(3), LLB_DIRTY);
	r.end(5);
	r.end(3);
}

TEST(Commit, ManyWritersShareOneWrite)
{
	Rig r({.chunks = 3000, .state = LLB_SB_FIRST_USE}); // one page
	r.start();
	int batches = r.h.io_batches;
	for (u64 c = 0; c < 3000; c += 100)
		r.begin_nowait(c);
	for (u64 c = 0; c < 3000; c += 100)
		llb_unplug(r.b(), 1);
	EXPECT_EQ(r.h.io_batches, batches + 1);
	for (u64 c = 0; c < 3000; c += 100) {
		EXPECT_EQ(r.disk(c), LLB_DIRTY);
		r.end(c);
	}
}

TEST(Commit, ManyThreadsShareFewWrites)
{
	constexpr int kWriters = 16;
	Rig r({.chunks = 3000, .state = LLB_SB_FIRST_USE});
	r.start();
	int batches = r.h.io_batches;
	r.h.on_io_wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
	std::vector<std::thread> threads;
	for (int i = 0; i < kWriters; i++) {
		threads.emplace_back([&r, i] {
			r.begin(u64(i) * 150);
			EXPECT_EQ(r.disk(0, u64(i) * 150), LLB_DIRTY);
			EXPECT_EQ(r.disk(1, u64(i) * 150), LLB_DIRTY);
			r.end(u64(i) * 150);
		});
	}
	for (auto &t : threads)
		t.join();
	// all came within the first commit's 30 ms, but a slow machine may need more
	EXPECT_LE(r.h.io_batches - batches, kWriters / 2);
}

// ---- failures ----

TEST(Failures, OneMemberFailsAWrite)
{
	Rig r({.members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.h.members[1]->fail_writes = 1;
	r.begin(5);
	EXPECT_TRUE(r.h.members[1]->has(PLAT_MEMBER_FAULTY));
	EXPECT_EQ(r.h.degraded, 1);
	EXPECT_EQ(r.disk(0, 5), LLB_DIRTY);
	EXPECT_EQ(r.disk(2, 5), LLB_DIRTY);
	EXPECT_FALSE(llb_pending(r.b()));
	EXPECT_FALSE(r.h.flags & PLAT_ARRAY_BROKEN);
	r.end(5);
	r.write(6);
	EXPECT_EQ(r.disk(0, 6), LLB_NEED_SYNC);
}

TEST(Failures, NobodyTakesItOnceThenSomeone)
{
	Rig r(kFirstUse);
	r.start();
	r.h.members[0]->fail_writes = 1; // fails, and is out
	r.h.members[1]->fail_writes = 1; // the last one stays
	r.begin(5);
	EXPECT_FALSE(r.h.flags & PLAT_ARRAY_BROKEN);
	EXPECT_EQ(r.disk(1, 5), LLB_DIRTY);
	EXPECT_FALSE(llb_pending(r.b()));
	r.end(5);
}

TEST(Failures, NobodyTakesIt)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	llb_update_sb(r.b());
	r.h.members[0]->fail_writes = -1;
	r.h.members[1]->fail_writes = -1;
	r.begin_nowait(5);
	int batches = r.h.io_batches;
	llb_unplug(r.b(), 1); // returns
	// the commit's tries and the header's one, then the header that goes with md's superblock
	EXPECT_EQ(r.h.io_batches - batches, int(core::kWriteTries + 1 + core::kWriteTries));
	EXPECT_TRUE(r.h.flags & PLAT_ARRAY_BROKEN);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR), 1) << r.h.log_text();
	EXPECT_FALSE(r.raw(5) & core::kDirtyOnDisk);
	r.end(5);
	// never newer events; when a member takes writes again it is marked stale
	r.h.members[1]->fail_writes = 0;
	r.h.events = 105;
	llb_update_sb(r.b());
	EXPECT_EQ(r.get64(1, 24), 100u);
	EXPECT_TRUE(r.get32(1, 48) & LLB_SB_STALE);
	llb_unplug(r.b(), 0); // nor does anyone wait for ever
	llb_flush(r.b());
	EXPECT_EQ(r.disk(1, 5), LLB_CLEAN) << "nothing was written after it broke";
	r.h.members[0]->flags = PLAT_MEMBER_FAULTY;
	r.h.flags &= ~PLAT_ARRAY_BROKEN;
	r.reboot();
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 64u);
}

TEST(Failures, AHeaderThatNobodyTakes)
{
	Rig r(kFirstUse);
	r.start();
	r.h.members[0]->fail_writes = -1;
	r.h.members[1]->fail_writes = -1;
	r.h.events = 105;
	llb_update_sb(r.b());
	EXPECT_TRUE(r.h.flags & PLAT_ARRAY_BROKEN);
	EXPECT_EQ(r.get64(1, 24), 100u);
}

// The array's first one, after its bytes: a member that takes the next one reads the old
// events and the mark.
TEST(Failures, TheFirstHeaderThatNobodyTakes)
{
	Rig r(kFirstUse);
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.start();
	r.h.flags |= PLAT_ARRAY_RDWR;
	r.h.members[1]->flags = PLAT_MEMBER_FAULTY;
	r.h.degraded = 1;
	r.h.events = 105;
	u32 n = 0;
	r.h.on_io_wait = [&] {
		if (++n > 1 && n <= 1 + core::kWriteTries)
			r.h.members[0]->fail_writes = 1;
	};
	llb_update_sb(r.b());
	EXPECT_EQ(n, 2 + core::kWriteTries);
	EXPECT_TRUE(r.h.flags & PLAT_ARRAY_BROKEN);
	EXPECT_EQ(r.get64(0, 24), 100u);
	EXPECT_TRUE(r.get32(0, 48) & LLB_SB_STALE);
}

// One page's write is taken, another's is not: the first writer may go on only when its own is durable.
TEST(Failures, TheSecondBatchFailsOnce)
{
	Rig r({.chunks = 100000, .state = LLB_SB_FIRST_USE});
	r.start();
	r.h.members[1]->flags = PLAT_MEMBER_FAULTY;
	r.h.degraded = 1;
	int n = 0;
	r.h.on_io_wait = [&] {
		if (++n == 2)
			r.h.members[0]->fail_writes = 1;
	};
	llb_start_write(r.b(), 0, 100000 * 128);
	llb_unplug(r.b(), 1);
	for (u64 c = 0; c < 100000; c++)
		ASSERT_TRUE(r.reloads_to_sync(r.disk(0, c))) << c;
	llb_end_write(r.b(), 0, 100000 * 128);
	EXPECT_FALSE(r.h.flags & PLAT_ARRAY_BROKEN);
}

// ---- who may submit ----

TEST(Unplug, InsideSubmitBioAWorkerLeads)
{
	Rig r(kFirstUse);
	r.start();
	r.h.inline_work = false;
	std::thread::id leader;
	r.h.on_io_wait = [&] { leader = std::this_thread::get_id(); };
	std::atomic<bool> stop{false};
	std::thread worker([&] {
		while (!stop) {
			r.h.run_lead();
			std::this_thread::yield();
		}
	});
	r.begin_nowait(5);
	llb_unplug(r.b(), 0);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(leader, worker.get_id());
	stop = true;
	worker.join();
	r.end(5);
}

// A suspended array waits for its writers: they must not wait for a reference.
TEST(Unplug, WorksWhileSuspended)
{
	for (bool submit : {true, false}) {
		Rig r(kFirstUse);
		r.start();
		r.h.suspended = true;
		r.begin_nowait(5);
		llb_unplug(r.b(), submit);
		EXPECT_EQ(r.disk(5), LLB_DIRTY);
		r.end(5);
	}
}

// A worker that began before the writer came, without a reference, fails; it is
// queued again for the writer.
TEST(Unplug, TheWorkerWasRunningAlready)
{
	Rig r(kFirstUse);
	r.start();
	llb_write_all(r.b());
	r.h.suspended = true;
	r.h.run_lead(); // cannot
	EXPECT_TRUE(llb_pending(r.b()));
	r.begin_nowait(5);
	llb_unplug(r.b(), 0);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	r.end(5);
}

// ---- 4096-byte blocks ----

TEST(Blocks4096, HeaderAndCellsGoTogetherAndFresh)
{
	for (u32 which : {0u, 1u, 2u}) {
		Rig r({.state = LLB_SB_FIRST_USE, .fill = 0x77});
		for (u32 i = 0; i < 2; i++)
			r.h.members[i]->m.logical_block = which == 2 || which == i ? 4096 : 512;
		r.start();
		r.h.events = 107;
		llb_update_sb(r.b());
		EXPECT_EQ(r.get64(0, 24), 107u);
		r.write(5); // the cells' write takes the header along: as it is
		for (u32 m = 0; m < 2; m++) {
			EXPECT_EQ(r.get64(m, 24), 107u);
			EXPECT_EQ(r.get32(m, 48), 0u);
			EXPECT_EQ(r.get32(m, 0), LLB_MAGIC);
		}
		EXPECT_EQ(r.disk(5), LLB_DIRTY);
		r.h.events = 109;
		llb_update_sb(r.b()); // the header's write takes the cells along
		EXPECT_EQ(r.disk(5), LLB_DIRTY);
		EXPECT_EQ(r.get64(1, 24), 109u);
		r.idle();
		EXPECT_EQ(r.disk(5), LLB_CLEAN);
		EXPECT_EQ(r.get64(1, 24), 109u);
		llb_update_sb(r.b());
		EXPECT_EQ(r.disk(5), LLB_CLEAN);
	}
}

TEST(Blocks4096, TheHeaderDoesNotMakeADirtyChunkCleanOnDisk)
{
	Rig r({.state = LLB_SB_FIRST_USE});
	r.h.members[0]->m.logical_block = 4096;
	r.start();
	r.write(5);
	r.write(7);
	EXPECT_EQ(r.disk(6), LLB_DIRTY); // covered
	llb_update_sb(r.b());
	EXPECT_EQ(r.disk(6), LLB_DIRTY) << "it may be written without I/O";
	r.begin_nowait(6);
	EXPECT_FALSE(llb_pending(r.b()));
	llb_update_sb(r.b());
	EXPECT_EQ(r.disk(6), LLB_DIRTY);
	r.end(6);
}

TEST(Blocks4096, AMemberIsAddedLater)
{
	Rig r({.members = 3, .state = LLB_SB_FIRST_USE});
	r.h.array.raid_disks = 2;
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = 0;
	r.h.members[2]->m.logical_block = 4096;
	r.start();
	r.h.fail_member(1);
	r.write(5);
	r.h.members[2]->slot = 1;
	llb_write_all(r.b());
	r.h.run_lead();
	EXPECT_EQ(r.disk(2, 5), LLB_NEED_SYNC); // written while degraded
	EXPECT_EQ(r.get32(2, 0), LLB_MAGIC);
	r.write(40);
	EXPECT_EQ(r.disk(2, 40), LLB_NEED_SYNC);
}

TEST(Members, SparesAreNotWritten)
{
	Rig r({.members = 3, .state = LLB_SB_FIRST_USE});
	r.h.array.raid_disks = 2;
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = 0;
	r.start();
	r.write(5);
	r.idle();
	EXPECT_EQ(r.h.members[2]->batches, 0);
}

TEST(Members, WriteAllReachesAnAddedMember)
{
	Rig r({.members = 3, .chunks = 9000, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.h.array.raid_disks = 2;
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = 0;
	r.start();
	r.write(8999);
	r.h.fail_member(1);
	r.h.members[2]->slot = 1;
	llb_write_all(r.b());
	// close_sync waits, for the member becomes in sync after it
	llb_close_sync(r.b());
	for (u64 c = 0; c < 9000; c++)
		ASSERT_EQ(r.disk(2, c), core::disk_byte(r.raw(c))) << c;
	EXPECT_EQ(r.get32(2, 0), LLB_MAGIC);
	EXPECT_EQ(r.get32(2, 48), 0u);
}

} // namespace
