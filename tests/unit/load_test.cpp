// SPDX-License-Identifier: GPL-2.0
// Create and load: what is believed, what becomes durable and in which order.
#include "rig.hpp"

using core::State;
using rig::kChunk;
using rig::Options;
using rig::Rig;

namespace {

u32 field32(const fake::SectorWrite &w, u32 at)
{
	return u32(w.data[at]) | u32(w.data[at + 1]) << 8 | u32(w.data[at + 2]) << 16 |
	       u32(w.data[at + 3]) << 24;
}

TEST(Load, FirstUseIsUnwrittenOrClean)
{
	for (bool clean : {false, true}) {
		Rig r({.chunks = 5000, .state = LLB_SB_FIRST_USE | (clean ? LLB_SB_CLEAN : 0), .fill = 0x77});
		r.start();
		u8 want = clean ? LLB_CLEAN : LLB_UNWRITTEN;
		EXPECT_EQ(r.counts()[want], 5000u);
		for (u64 c = 0; c < 5000; c++)
			ASSERT_EQ(r.disk(c), want) << c;
		EXPECT_EQ(r.get32(0, 48), 0u); // neither FIRST_USE nor CLEAN
		EXPECT_EQ(r.get32(1, 48), 0u);
		EXPECT_EQ(r.h.resync_requests, 0);
		r.reboot();
		EXPECT_EQ(r.counts()[want], 5000u);
	}
}

// A cut in the middle must find FIRST_USE on every member whose bytes it may not trust.
TEST(Load, FirstUseIsTakenOffAfterAllBytesOnAllMembers)
{
	for (u32 block : {512u, 4096u}) {
		Options o{.members = 3, .chunks = 40000, .state = LLB_SB_FIRST_USE, .fill = 0x77};
		Rig r(o);
		r.h.members[1]->m.logical_block = block;
		rig::Image before = r.image();
		r.start();
		size_t n = r.h.writes.size();
		for (size_t i = 0; i < n; i++) {
			const auto &w = r.h.writes[i];
			if (w.offset != 0 || (field32(w, 48) & LLB_SB_FIRST_USE))
				continue;
			rig::Image now = r.replay(before, i);
			for (u32 m = 0; m < 3; m++) {
				for (u32 at = LLB_CELLS_OFFSET; at < LLB_CELLS_OFFSET + 40000; at++)
					ASSERT_EQ(now[m][at], 0) << "member " << m << " byte " << at;
			}
		}
		EXPECT_EQ(r.get32(2, 48), 0u);
	}
}

TEST(Load, EveryStateReloads)
{
	Rig r({.cells = {0, 1, 2, 3, 4, 5, 6, 7, 8, 99, 255}});
	r.start();
	const State want[] = {State::Unwritten, State::Clean,	  State::NeedSync,  State::NeedSync,
			      State::NeedSync,	State::Unwritten, State::Unwritten, State::CleanUnwritten,
			      State::NeedSync,	State::NeedSync,  State::NeedSync};
	for (u64 c = 0; c < 11; c++) {
		EXPECT_EQ(r.state(c), want[c]) << c;
		EXPECT_EQ(r.disk(c), core::disk_byte(r.raw(c))) << c; // durable before any sync
		if (r.reloads_to_sync(u8(want[c]))) {
			EXPECT_TRUE(r.reloads_to_sync(r.disk(c))) << c;
		}
	}
	EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, "state bytes are invalid"), 1) << r.h.log_text();
	EXPECT_EQ(r.h.log.size(), 1u) << r.h.log_text();
	EXPECT_EQ(r.h.resync_requests, 1);
}

TEST(Load, NothingToSyncAsksForNothing)
{
	Rig r({.cells = {0, 1, 7}});
	r.start();
	EXPECT_EQ(r.h.resync_requests, 0);
	EXPECT_TRUE(r.h.log.empty()) << r.h.log_text();
}

TEST(Load, MembersThatDifferAreMerged)
{
	Rig r({.fill = LLB_CLEAN});
	for (u8 a = 0; a < 8; a++) {
		for (u8 b = 0; b < 8; b++) {
			r.h.members[0]->put(LLB_CELLS_OFFSET + a * 8 + b, a);
			r.h.members[1]->put(LLB_CELLS_OFFSET + a * 8 + b, b);
		}
	}
	r.start();
	for (u8 a = 0; a < 8; a++) {
		for (u8 b = 0; b < 8; b++) {
			State got = r.state(a * 8 + b);
			bool sync = r.reloads_to_sync(a) || r.reloads_to_sync(b);
			bool clean_a = a == LLB_CLEAN, clean_b = b == LLB_CLEAN;
			if (sync || clean_a != clean_b) // one knows of data, the other not
				EXPECT_EQ(got, State::NeedSync) << int(a) << " " << int(b);
			else if (clean_a)
				EXPECT_EQ(got, State::Clean);
			else if (a == 7 && b == 7)
				EXPECT_EQ(got, State::CleanUnwritten);
			else
				EXPECT_EQ(got, State::Unwritten) << int(a) << " " << int(b);
			EXPECT_EQ(r.disk(a * 8 + b), core::disk_byte(r.raw(a * 8 + b)));
		}
	}
}

TEST(Load, StaleIsNeedSyncBeforeNewerEvents)
{
	for (bool flag : {false, true}) {
		Rig r({.chunks = 9000,
		       .state = flag ? LLB_SB_STALE : 0,
		       .fill = LLB_CLEAN,
		       .disk_events = flag ? 100u : 99u});
		rig::Image before = r.image();
		r.start();
		EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN), 1) << r.h.log_text();
		llb_update_sb(r.b());
		EXPECT_EQ(r.get64(0, 24), 100u);
		EXPECT_EQ(r.get32(0, 48), 0u);
		EXPECT_EQ(r.h.resync_requests, 1);
		// in every cut: still stale by the header, or all bytes say NeedSync
		for (size_t i = 0; i <= r.h.writes.size(); i++) {
			rig::Image now = r.replay(before, i);
			for (u32 m = 0; m < 2; m++) {
				bool stale = (now[m][48] & LLB_SB_STALE) || now[m][24] < 100;
				for (u32 c = 0; !stale && c < 9000; c++)
					ASSERT_EQ(now[m][LLB_CELLS_OFFSET + c], LLB_NEED_SYNC) << i;
			}
		}
	}
}

// One member is behind: its bytes missed writes and are not believed; neither is a
// bitmap that claims to be newer than all others believed alone.
TEST(Load, AMemberThatIsBehindIsNotMerged)
{
	Rig r({.fill = LLB_CLEAN});
	r.put64(1, 24, 90);
	for (u32 c = 0; c < 64; c++)
		r.h.members[1]->put(LLB_CELLS_OFFSET + c, LLB_DIRTY);
	r.start();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
	EXPECT_EQ(r.disk(1, 5), LLB_CLEAN); // and brought up to date
}

TEST(Load, AMemberThatIsBeingReaddedIsNotRead)
{
	Rig r({.fill = LLB_CLEAN});
	r.h.members[1]->flags = PLAT_MEMBER_OLD;
	r.h.degraded = 1;
	for (u32 c = 0; c < 64; c++)
		r.h.members[1]->put(LLB_CELLS_OFFSET + c, LLB_DIRTY);
	r.start();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
}

TEST(Load, OneUnreadableMember)
{
	for (u32 bad : {0u, 1u}) {
		Rig r({.cells = {LLB_CLEAN, LLB_DIRTY}});
		r.h.members[bad]->fail_reads = -1;
		r.start();
		EXPECT_EQ(r.state(0), State::Clean);
		EXPECT_EQ(r.state(1), State::NeedSync);
	}
}

TEST(Load, OneMemberWithAForeignSuperblock)
{
	Rig r({.cells = {LLB_CLEAN, LLB_DIRTY}});
	r.h.members[0]->put(8, 0xff); // uuid
	r.start();
	EXPECT_EQ(r.state(0), State::Clean);
	EXPECT_EQ(r.state(1), State::NeedSync);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, "uuid"), 1) << "one line:\n" << r.h.log_text();
}

TEST(Load, NoneReadable)
{
	Rig r;
	r.h.members[0]->fail_reads = r.h.members[1]->fail_reads = -1;
	EXPECT_EQ(r.create(), -LLB_EIO);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "could not be read"), 1);
	EXPECT_EQ(r.h.log.size(), 1u);
}

TEST(Load, BytesThatNobodyCanRead)
{
	Rig r;
	int reads = 0;
	r.h.on_read = [&](u32 m) { return m == 0 && ++reads == 1; }; // its superblock
	EXPECT_NE(r.create(), 0);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR), 1) << r.h.log_text();
	EXPECT_EQ(r.h.writes_total(), 0);
}

TEST(Load, AReadOnlyArrayIsNotWritten)
{
	Rig r({.state = LLB_SB_FIRST_USE, .fill = 0x77});
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.start();
	r.h.run_for(10 * rig::kCleanBy_ms);
	llb_flush(r.b());
	EXPECT_EQ(r.h.writes_total(), 0);
	// its first write makes all of it durable first
	r.h.flags |= PLAT_ARRAY_RDWR;
	EXPECT_TRUE(llb_pending(r.b()));
	r.begin(3);
	EXPECT_EQ(r.disk(3), LLB_DIRTY);
	EXPECT_EQ(r.disk(40), LLB_UNWRITTEN);
	EXPECT_EQ(r.get32(0, 48), 0u);
	r.end(3);
}

// Its first superblock: the bytes that were not written yet, then one header.
TEST(Load, OneHeaderForTheBytesAndTheEvents)
{
	Rig r({.state = LLB_SB_FIRST_USE});
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.start();
	r.h.flags |= PLAT_ARRAY_RDWR;
	r.h.events = 105;
	int before = r.h.io_batches;
	llb_update_sb(r.b());
	EXPECT_EQ(r.h.io_batches - before, 2);
	EXPECT_EQ(r.get64(0, 24), 105u);
	EXPECT_EQ(r.get32(0, 48), 0u);
	EXPECT_FALSE(llb_pending(r.b()));
}

TEST(Load, AReadOnlyArrayThatIsStaleStaysSo)
{
	Rig r({.fill = LLB_CLEAN, .disk_events = 90});
	r.h.flags &= ~PLAT_ARRAY_RDWR;
	r.start();
	EXPECT_EQ(r.h.writes_total(), 0);
	r.h.flags |= PLAT_ARRAY_RDWR;
	llb_update_sb(r.b()); // md's first superblock write: bytes before events
	EXPECT_EQ(r.disk(7), LLB_NEED_SYNC);
	EXPECT_EQ(r.get64(0, 24), 100u);
	r.reboot();
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 64u);
}

TEST(Load, NoMemberTakesTheBytes)
{
	Rig r({.state = LLB_SB_FIRST_USE});
	r.h.members[0]->fail_writes = r.h.members[1]->fail_writes = -1;
	ASSERT_EQ(r.create(), 0);
	EXPECT_NE(r.load(), 0);
	EXPECT_NE(r.get32(0, 48) & LLB_SB_FIRST_USE, 0u);
}

TEST(Load, OneMemberTakesThem)
{
	Rig r({.cells = {LLB_DIRTY}, .disk_events = 99});
	r.h.members[0]->fail_writes = 1;
	r.start();
	EXPECT_TRUE(r.h.members[0]->has(PLAT_MEMBER_FAULTY));
	EXPECT_EQ(r.disk(1, 0), LLB_NEED_SYNC);
}

TEST(Load, TheArrayGrewWithoutItsBitmap)
{
	Rig r({.chunks = 64, .fill = LLB_CLEAN});
	r.h.array.sync_size = 100 * kChunk;
	r.start();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 64u);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 36u);
	Rig p({.sync_size = 63 * kChunk + 8, .fill = LLB_CLEAN});
	p.h.array.sync_size = 100 * kChunk;
	p.start();
	EXPECT_EQ(p.counts()[LLB_CLEAN], 63u); // the last one covered less
	EXPECT_EQ(p.counts()[LLB_NEED_SYNC], 37u);
	// grown by less than the rest of its last chunk
	Rig q({.sync_size = 63 * kChunk + 8, .fill = LLB_CLEAN});
	q.h.array.sync_size = 63 * kChunk + 16;
	q.start();
	EXPECT_EQ(q.counts()[LLB_CLEAN], 63u);
	EXPECT_EQ(q.counts()[LLB_NEED_SYNC], 1u);
}

TEST(Load, TheArrayShrankWithoutItsBitmap)
{
	Rig r({.chunks = 64, .fill = LLB_CLEAN});
	r.h.array.sync_size = 50 * kChunk;
	r.start();
	EXPECT_EQ(r.counts()[LLB_CLEAN], 50u);
}

TEST(Load, TheArrayGrewPastTheChunkSize)
{
	Rig r({.chunks = 100000, .fill = LLB_CLEAN});
	r.h.array.sync_size = 200000 * kChunk;
	r.start();
	EXPECT_EQ(r.chunk_sectors(), 256u);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 100000u);
}

TEST(Load, DestroyTwiceAndOfNothing)
{
	llb_destroy(nullptr);
	Rig r;
	ASSERT_EQ(r.create(), 0);
	r.stop(); // never loaded
	r.stop();
	EXPECT_EQ(r.h.writes_total(), 0);
}

TEST(Load, EveryAllocationOfCreateMayFail)
{
	int n = 1;
	for (;; n++) {
		Rig r({.chunks = 9000, .cells = {1, 2, 3}});
		fake::fail_allocation(n);
		int err = r.create();
		fake::fail_allocation(0);
		if (err == 0)
			break;
		EXPECT_EQ(err, -LLB_ENOMEM) << n;
		EXPECT_EQ(r.h.bitmap, nullptr);
		// the fixture looks for leaks
	}
	EXPECT_GT(n, 10);
	printf("%d allocations\n", n - 1);
}

TEST(Load, RemoveLiveAsksForAResyncUnlessAllAgrees)
{
	struct {
		u8 state;
		bool asks;
	} cases[] = {{0, true}, {1, false}, {2, false}, {3, true},
		     {4, true}, {5, true},  {6, true},	{7, true}};
	for (auto c : cases) {
		Rig r({.fill = LLB_CLEAN});
		r.start();
		r.set_raw(63, c.state);
		llb_remove_live(r.b());
		EXPECT_EQ(r.h.resync_requests, c.asks) << int(c.state);
		if (c.asks) {
			EXPECT_EQ(r.h.resync_offset, 0u);
		}
	}
}

} // namespace
