// SPDX-License-Identifier: GPL-2.0
// Resize: nothing that was dirty or written is forgotten, in memory, on disk, and in
// every cut in between.
#include <thread>

#include "rig.hpp"

using core::State;
using rig::kChunk;
using rig::kCleanBy_ms;
using rig::Options;
using rig::Rig;

namespace {

// How much a state knows of its chunk's data: a later one may say more, never less.
enum Need { Nothing, Data, Sync };
Need need(State s)
{
	if (s == State::Dirty || s == State::NeedSync || s == State::Syncing)
		return Sync;
	return s == State::Clean ? Data : Nothing;
}

struct Old {
	u64 chunk_sectors;
	u64 sync_size;
	std::vector<Need> needs;
};

Old remember(Rig &r)
{
	Old old{r.chunk_sectors(), r.table()->geo.sync_size, {}};
	for (u64 c = 0; c < r.table()->geo.chunks; c++)
		old.needs.push_back(need(r.state(c)));
	return old;
}

// Every old chunk that lies in the new array is known at least as well.
void expect_remembered(const Old &old, Rig &r, const std::string &when)
{
	u64 size = r.chunk_sectors();
	u64 end = std::min(old.sync_size, r.table()->geo.sync_size);
	for (u64 c = 0; c < old.needs.size() && c * old.chunk_sectors < end; c++) {
		State now = r.state(c * old.chunk_sectors / size);
		ASSERT_GE(need(now), old.needs[c]) << when << ": chunk " << c << " is " << rig::name(now);
	}
}

// A scattering of states that lie in memory and on disk alike.
std::vector<u8> some_cells(u64 n, bool parity, u64 seed)
{
	std::vector<u8> cells(n);
	for (auto &c : cells) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		u32 x = seed % 20;
		c = x < 8    ? LLB_UNWRITTEN
		    : x < 16 ? LLB_CLEAN
		    : x < 19 ? LLB_DIRTY
		    : parity ? LLB_CLEAN_UNWRITTEN
			     : LLB_UNWRITTEN;
	}
	return cells;
}

// The disk after each single sector write of what `change` does, loaded again.
void every_cut(Options o, const std::function<void(Rig &)> &prepare, const std::function<void(Rig &)> &change,
	       u64 new_size, u32 block = 512)
{
	Rig r(o);
	r.h.members[0]->m.logical_block = block;
	r.start();
	prepare(r);
	Old old = remember(r);
	r.h.writes.clear();
	rig::Image before = r.image();
	change(r);
	ASSERT_FALSE(r.h.writes.empty());
	ASSERT_EQ(r.table()->geo.sync_size, new_size);
	expect_remembered(old, r, "after it");
	std::vector<rig::Image> cuts = r.cuts(before);
	r.stop();
	for (size_t i = 0; i < cuts.size(); i++) {
		// md writes the array's new size after the bitmap is done
		for (bool grown : {false, true}) {
			if (grown && i + 1 < cuts.size())
				continue;
			Rig again(o);
			again.h.members[0]->m.logical_block = block;
			again.restore(cuts[i]);
			again.h.array.sync_size = grown ? new_size : old.sync_size;
			again.start();
			expect_remembered(old, again,
					  "cut " + std::to_string(i) + " of " + std::to_string(cuts.size()) +
						  (grown ? ", grown" : ""));
			if (testing::Test::HasFatalFailure())
				return;
		}
	}
}

void resize_to(Rig &r, u64 size)
{
	ASSERT_EQ(llb_resize(r.b(), size), 0) << r.h.log_text();
	r.h.array.sync_size = size;
}

TEST(Resize, ToItsOwnSizeIsNothing)
{
	Rig r({.fill = LLB_CLEAN});
	r.start();
	int batches = r.h.io_batches;
	EXPECT_EQ(llb_resize(r.b(), r.o.sync_size), 0);
	EXPECT_EQ(r.h.io_batches, batches);
}

TEST(Resize, GrowWithTheSameChunk)
{
	Rig r({.chunks = 3000, .fill = LLB_CLEAN});
	r.start();
	r.begin(5);
	resize_to(r, 9000 * kChunk);
	EXPECT_EQ(r.table()->geo.chunks, 9000u);
	EXPECT_EQ(r.state(5), State::Dirty);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 2999u);
	EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 6000u);
	EXPECT_EQ(r.get64(0, 40), 9000 * kChunk);
	r.end(5);
	r.write(8999);
	EXPECT_EQ(r.disk(8999), LLB_DIRTY);
	r.idle();
	EXPECT_EQ(r.disk(8999), LLB_CLEAN);
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	llb_stats s;
	llb_stats_get(r.b(), &s);
	EXPECT_EQ(s.sync_size, 9000 * kChunk);
	EXPECT_EQ(s.pages, 3u);
	r.reboot();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 3001u);
}

// What lies on disk beyond the old end is garbage.
TEST(Resize, GrowOverGarbage)
{
	Rig r({.chunks = 64, .fill = LLB_CLEAN});
	for (u32 m = 0; m < 2; m++) {
		for (u32 at = 1536; at < 100000; at++)
			r.h.members[m]->put(at, 0x01);
	}
	r.start();
	resize_to(r, 9000 * kChunk);
	for (u64 c = 512; c < 9000; c++)
		ASSERT_EQ(r.disk(c), LLB_UNWRITTEN) << c;
	r.reboot();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
}

// A chunk that was cut short by the old end has more sectors now. Their parity was
// never built.
TEST(Resize, TheShortLastChunkGrows)
{
	for (u8 was : {LLB_CLEAN, LLB_DIRTY, LLB_CLEAN_UNWRITTEN}) {
		Rig r({.level = 5, .members = 3, .sync_size = 63 * kChunk + 8, .fill = LLB_CLEAN});
		r.start();
		r.set_raw(63, was);
		resize_to(r, 100 * kChunk);
		EXPECT_FALSE(llb_blocks_synced(r.b(), 63 * kChunk + 64))
			<< "was " << rig::name(static_cast<State>(was)) << ", is " << rig::name(r.state(63));
	}
}

TEST(Resize, Shrink)
{
	Rig r({.chunks = 9000, .fill = LLB_CLEAN});
	r.start();
	resize_to(r, 100 * kChunk);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 100u);
	r.write(99);
	r.reboot();
	EXPECT_GE(r.counts()[LLB_NEED_SYNC], 1u);
	EXPECT_EQ(r.table()->geo.chunks, 100u);
}

TEST(Resize, ShrinkAndGrowAgainForgetsWhatWasThere)
{
	Rig r({.chunks = 9000, .fill = LLB_CLEAN});
	r.start();
	r.write(8000);
	r.write(150);
	resize_to(r, 100 * kChunk);
	resize_to(r, 9000 * kChunk);
	EXPECT_EQ(r.counts()[LLB_CLEAN], 100u);
	EXPECT_EQ(r.counts()[LLB_UNWRITTEN], 8900u);
	EXPECT_EQ(r.disk(150), core::disk_byte(r.raw(150)));
	for (int i = 0; i < 5; i++) {
		resize_to(r, u64(50 + i * 3000) * kChunk);
		resize_to(r, u64(9000 - i * 1000) * kChunk);
	}
	EXPECT_EQ(r.counts()[LLB_CLEAN], 50u);
}

TEST(Resize, ToALargerChunk)
{
	Rig r({.chunks = 100000, .cells = some_cells(100000, false, 7)});
	r.start();
	r.begin(5);
	Old old = remember(r);
	resize_to(r, 200000 * kChunk);
	EXPECT_EQ(r.chunk_sectors(), 256u);
	EXPECT_EQ(r.h.chunk_bytes, 131072u);
	expect_remembered(old, r, "memory");
	for (u64 c = 0; c < r.table()->geo.chunks; c++) {
		if (need(r.state(c)) == Sync) {
			ASSERT_TRUE(r.reloads_to_sync(r.disk(c))) << c;
		}
	}
	llb_end_write(r.b(), 5 * kChunk + 8, 8); // begun under the old layout
	r.write(99999);
	r.idle();
	EXPECT_EQ(r.disk(99999), LLB_CLEAN);
	r.reboot();
	expect_remembered({kChunk, 100000 * kChunk, std::vector<Need>(1, Nothing)}, r, "reload");
	EXPECT_EQ(r.chunk_sectors(), 256u);
}

// Whatever a group is of the chunks: one, several, or a part of the new one.
TEST(Resize, AWriteUnderWayAcrossARelayoutKeepsItsChunkDirty)
{
	for (u32 group : {1, 2, 4, 64}) { // old chunks
		for (u64 larger : {2, 4, 16}) {
			SCOPED_TRACE(testing::Message() << "group " << group << " larger " << larger);
			Rig r({.level = 5,
			       .members = 3,
			       .chunks = 100000,
			       .fill = LLB_CLEAN,
			       .raid_chunk = u32(group * kChunk)});
			r.start();
			const u64 kAt = 17; // old chunk
			llb_start_write(r.b(), kAt * kChunk, 8);
			llb_unplug(r.b(), 1);
			resize_to(r, larger * 100000 * kChunk);
			ASSERT_EQ(r.chunk_sectors(), larger * kChunk);
			r.h.run_for(3 * kCleanBy_ms);
			EXPECT_TRUE(r.reloads_to_sync(r.disk(kAt / larger)));
			llb_end_write(r.b(), kAt * kChunk, 8);
			r.idle();
			EXPECT_EQ(r.disk(kAt / larger), LLB_CLEAN);
			for (u64 part = 0; part < larger; part++) { // of the new chunk
				u64 sector = (32 + part) * kChunk;
				llb_start_write(r.b(), sector, 8);
				r.wait_durable();
				r.h.run_for(2 * kCleanBy_ms);
				EXPECT_EQ(r.disk(32 / larger + part / larger), LLB_DIRTY) << part;
				llb_end_write(r.b(), sector, 8);
			}
			r.idle();
			EXPECT_EQ(r.disk(32 / larger), LLB_CLEAN);
		}
	}
}

// A chunk much larger than a group is quiet only if all of its groups are.
TEST(Resize, ChunksLargerThanAGroup)
{
	Rig r({.sync_size = 100 * kChunk, .fill = LLB_CLEAN});
	r.start();
	const u64 size = u64{130048} << 14; // chunks of 2^14 sectors, groups of 2^7
	for (auto &m : r.h.members)
		m->m.data_sectors = size;
	resize_to(r, size);
	ASSERT_EQ(r.chunk_sectors(), u64{1} << 14);
	for (u64 part : {u64{0}, u64{5000}, u64{16000}}) {
		u64 at = (u64{1000} << 14) + part;
		llb_start_write(r.b(), at, 8);
		r.wait_durable();
		r.h.run_for(2 * kCleanBy_ms);
		EXPECT_EQ(r.disk(1000), LLB_DIRTY) << part;
		llb_end_write(r.b(), at, 8);
		r.idle();
		EXPECT_EQ(r.disk(1000), LLB_CLEAN) << part;
	}
	// over the edge of a group, and of a chunk
	u64 at = (u64{1001} << 14) - 4;
	llb_start_write(r.b(), at - 4096, 8192);
	r.wait_durable();
	llb_end_write(r.b(), at - 4096, 8192);
	r.idle();
	EXPECT_EQ(r.disk(1000), LLB_CLEAN);
	EXPECT_EQ(r.disk(1001), LLB_CLEAN);
}

TEST(Resize, TooLarge)
{
	Rig r({.space = 3});
	r.start();
	EXPECT_EQ(llb_resize(r.b(), ~u64{0} >> 8), -LLB_ENOSPC);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "refused"), 1);
	EXPECT_EQ(r.table()->geo.chunks, 64u);
	r.write(5);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
}

// All writes end inside the bitmap's space, also if that is no whole number of blocks:
// the data may begin right after it. The fixture looks.
TEST(Resize, NothingIsWrittenBeyondTheSpace)
{
	for (u32 space : {3u, 5u, 6u, 250u}) {
		Rig r({.chunks = 300, .space = space, .fill = LLB_CLEAN});
		r.start();
		for (u64 size : {600u, 5000u, 50000u, 200000u}) {
			if (llb_resize(r.b(), size * kChunk) == 0)
				r.h.array.sync_size = size * kChunk;
		}
		r.idle();
	}
}

TEST(Resize, EveryCutOfAGrow)
{
	for (u32 block : {512u, 4096u})
		every_cut(
			{.chunks = 1000, .cells = some_cells(1000, false, 3)}, [](Rig &) {},
			[](Rig &r) { ASSERT_EQ(llb_resize(r.b(), 9000 * kChunk), 0); }, 9000 * kChunk, block);
}

TEST(Resize, EveryCutOfAShrink)
{
	for (u32 block : {512u, 4096u})
		every_cut(
			{.chunks = 3000, .cells = some_cells(3000, false, 5)}, [](Rig &) {},
			[](Rig &r) { ASSERT_EQ(llb_resize(r.b(), 700 * kChunk), 0); }, 700 * kChunk, block);
}

TEST(Resize, EveryCutOfARelayout)
{
	for (s32 level : {1, 5}) {
		for (u32 block : {512u, 4096u}) {
			// 4 sectors of cells: 2048 chunks, then chunks of twice the size
			every_cut(
				{.level = level,
				 .members = 3,
				 .chunks = 7000,
				 .space = 16,
				 .cells = some_cells(7000, level == 5, 11)},
				[](Rig &r) { r.write(40); },
				[](Rig &r) { ASSERT_EQ(llb_resize(r.b(), 8000 * kChunk), 0); }, 8000 * kChunk,
				block);
		}
	}
}

TEST(Resize, EveryCutOfARelayoutBackToALargerArray)
{
	// shrinking may also need another chunk size, so as not to be taken for bytes
	every_cut(
		{.space = 16, .sync_size = u64{3000} << 16, .cells = some_cells(6000, false, 2)},
		[](Rig &) {}, [](Rig &r) { ASSERT_EQ(llb_resize(r.b(), u64{4000} << 17), 0); },
		u64{4000} << 17);
}

// A write of the relayout that nobody takes, at each place.
TEST(Resize, AFailingWriteInTheMiddle)
{
	for (int fail_at = 1; fail_at < 40; fail_at++) {
		Rig r({.chunks = 7000, .space = 16, .cells = some_cells(7000, false, 17)});
		r.start();
		r.idle();
		r.begin(40);
		Old old = remember(r);
		int n = 0;
		r.h.on_io_wait = [&] {
			if (++n == fail_at)
				r.h.members[0]->fail_writes = r.h.members[1]->fail_writes = -1;
		};
		int err = llb_resize(r.b(), 8000 * kChunk);
		r.h.on_io_wait = nullptr;
		if (n < fail_at) {
			EXPECT_EQ(err, 0);
			r.end(40);
			break;
		}
		EXPECT_NE(err, 0) << fail_at;
		expect_remembered(old, r, "memory, write " + std::to_string(fail_at));
		u64 disk_size = 7000 * kChunk; // md gave the resize up
		r.h.members[0]->fail_writes = r.h.members[1]->fail_writes = 0;
		llb_update_sb(r.b());
		r.end(40);
		r.h.flags &= ~PLAT_ARRAY_BROKEN;
		for (auto &m : r.h.members)
			m->flags = PLAT_MEMBER_IN_SYNC;
		r.h.degraded = 0;
		r.h.array.sync_size = disk_size;
		r.reboot();
		expect_remembered(old, r, "disk, write " + std::to_string(fail_at));
	}
}

// A write that fails may have reached the disk. The old layout comes back with every
// cut on the way.
TEST(Resize, AFailingWriteThatLanded)
{
	for (int fail_at = 1; fail_at < 40; fail_at++) {
		Options o{.chunks = 7000, .space = 16, .cells = some_cells(7000, false, 17)};
		Rig r(o);
		r.start();
		r.idle();
		Old old = remember(r);
		int n = 0;
		r.h.md_error_works = false; // a passing fault: members stay
		r.h.failures_land = true;
		r.h.writes.clear();
		rig::Image before = r.image();
		r.h.on_io_wait = [&] {
			if (++n == fail_at)
				r.h.members[0]->fail_writes = r.h.members[1]->fail_writes = 1;
		};
		int err = llb_resize(r.b(), 8000 * kChunk);
		r.h.on_io_wait = nullptr;
		if (n < fail_at)
			break;
		r.idle();
		r.idle();
		std::vector<rig::Image> cuts = r.cuts(before);
		r.stop();
		for (size_t i = 0; i < cuts.size(); i += 1 + cuts.size() / 200) {
			Rig again(o);
			again.restore(cuts[i]);
			again.start();
			expect_remembered(old, again,
					  "write " + std::to_string(fail_at) + ", error " +
						  std::to_string(err) + ", cut " + std::to_string(i) +
						  " of " + std::to_string(cuts.size()));
			if (HasFatalFailure())
				return;
		}
	}
}

// The same with one member that fails: the others carry on.
TEST(Resize, OneMemberFailsInTheMiddle)
{
	for (int fail_at = 1; fail_at < 40; fail_at++) {
		Rig r({.chunks = 7000, .space = 16, .cells = some_cells(7000, false, 17)});
		r.start();
		r.idle();
		Old old = remember(r);
		int n = 0;
		r.h.on_io_wait = [&] {
			if (++n == fail_at)
				r.h.members[0]->fail_writes = -1;
		};
		resize_to(r, 8000 * kChunk);
		r.h.on_io_wait = nullptr;
		expect_remembered(old, r, "memory");
		if (n < fail_at)
			break;
		r.reboot();
		expect_remembered(old, r, "disk");
	}
}

// After a resize that failed the array goes on as before.
TEST(Resize, AfterAFailureWritesAndCleaningGoOn)
{
	Rig r({.chunks = 7000, .space = 16, .fill = LLB_CLEAN});
	r.start();
	// one write fails on the last member, which stays
	r.h.fail_member(0);
	int n = 0;
	r.h.on_io_wait = [&] {
		if (++n == 2)
			r.h.members[1]->fail_writes = 1;
	};
	int err = llb_resize(r.b(), 8000 * kChunk);
	r.h.on_io_wait = nullptr;
	if (err) {
		r.h.members[0]->flags = PLAT_MEMBER_IN_SYNC;
		r.h.degraded = 0;
		llb_write_all(r.b());
		r.h.run_lead();
		r.idle();
		r.idle();
		u64 dirty = 0;
		for (u64 c = 0; c < 7000; c++)
			dirty += r.reloads_to_sync(r.disk(1, c));
		EXPECT_EQ(dirty, 0u) << "an idle array is left dirty on disk";
		r.write(5);
		EXPECT_EQ(r.disk(5), LLB_DIRTY);
	}
}

TEST(Resize, WithoutAWriteAFailedOneIsCleanedUp)
{
	Rig r({.chunks = 7000, .space = 16, .fill = LLB_CLEAN});
	r.start();
	r.h.keep_last = true;
	int n = 0;
	r.h.md_error_works = false; // a passing fault: members stay
	r.h.on_io_wait = [&] {
		if (++n == 2)
			r.h.members[0]->fail_writes = r.h.members[1]->fail_writes = 1;
	};
	EXPECT_NE(llb_resize(r.b(), 8000 * kChunk), 0);
	r.h.on_io_wait = nullptr;
	EXPECT_FALSE(r.h.flags & PLAT_ARRAY_BROKEN);
	r.idle();
	r.idle();
	u64 dirty = 0;
	for (u64 c = 0; c < 7000; c++)
		dirty += r.reloads_to_sync(r.disk(1, c));
	EXPECT_EQ(dirty, 0u) << "W4: nobody takes the cover back";
}

TEST(Resize, EveryAllocationMayFail)
{
	for (u64 size : {9000 * kChunk, 200000 * kChunk}) {
		Rig r({.chunks = 1000, .fill = LLB_CLEAN});
		r.start();
		for (int n = 1;; n++) {
			fake::fail_allocation(n);
			int err = llb_resize(r.b(), size);
			fake::fail_allocation(0);
			if (err == 0)
				break;
			EXPECT_EQ(err, -LLB_ENOMEM);
			EXPECT_EQ(r.counts()[LLB_CLEAN], 1000u);
			r.write(5);
			r.idle();
		}
		EXPECT_EQ(r.table()->geo.sync_size, size);
	}
}

TEST(Resize, WritersMeetAFrozenTable)
{
	// a write that comes while the new layout is made waits, and counts once
	Rig r({.chunks = 100000, .fill = LLB_CLEAN});
	r.start();
	r.h.inline_work = false;
	std::thread writer;
	std::atomic<bool> done{false};
	r.h.on_io_wait = [&] {
		if (writer.joinable())
			return;
		writer = std::thread([&] {
			llb_start_write(r.b(), 77 * kChunk, 8);
			if (llb_pending(r.b()))
				llb_unplug(r.b(), 1);
			EXPECT_TRUE(r.reloads_to_sync(r.disk(77 * kChunk / r.chunk_sectors())));
			done = true;
		});
		std::this_thread::sleep_for(std::chrono::milliseconds(30));
		EXPECT_FALSE(done);
	};
	resize_to(r, 200000 * kChunk);
	writer.join();
	r.h.on_io_wait = nullptr;
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_TRUE(r.reloads_to_sync(r.disk(38)));
	llb_end_write(r.b(), 77 * kChunk, 8);
	r.idle();
	EXPECT_EQ(r.disk(38), LLB_CLEAN);
}

} // namespace
