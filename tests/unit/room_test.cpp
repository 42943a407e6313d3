// SPDX-License-Identifier: GPL-2.0
// The bitmap may use what lies free on every member, whatever its header says.
#include "rig.hpp"

using core::State;
using rig::kChunk;
using rig::Options;
using rig::Rig;

namespace {

constexpr u64 kStart = 16; // sectors: where a rig's bitmap begins on a member
constexpr u32 kReserved = 64; // byte offset of sectors_reserved

void data_at(Rig &r, u32 member, u64 sector)
{
	r.h.members[member]->m.data_offset = sector;
}

// Nothing was written at or behind this sector of the bitmap, on any member.
void expect_nothing_behind(Rig &r, u64 sectors)
{
	for (const auto &w : r.h.writes)
		EXPECT_LT(w.offset, sectors * 512) << "member " << w.member;
}

TEST(Room, IsTheDistanceToTheNextThing)
{
	plat_array_info a = {};
	a.bitmap_offset = 8;
	plat_member m = {};
	m.sb_start = 8;
	m.data_offset = m.new_data_offset = 2048;
	m.data_sectors = 1 << 20;
	EXPECT_EQ(core::room(a, m), 2032u);
	m.new_data_offset = 1024; // where a reshape moves the data
	EXPECT_EQ(core::room(a, m), 1008u);
	m.bbl_offset = 100;
	m.bbl_sectors = 8;
	m.flags = PLAT_MEMBER_BBL;
	EXPECT_EQ(core::room(a, m), 1008u) << "an empty one is switched off";
	m.bbl_entries = 1;
	EXPECT_EQ(core::room(a, m), 92u);
	m.ppl_start = 40;
	m.ppl_sectors = 8;
	EXPECT_EQ(core::room(a, m), 24u);
	m.data_offset = 10; // data, all around it
	EXPECT_EQ(core::room(a, m), 0u);
	m.separate_meta = 1;
	EXPECT_EQ(core::room(a, m), 24u);
	a.bitmap_offset = -4; // before the superblock
	EXPECT_EQ(core::room(a, m), 4u);
}

// mdadm reserves 256 sectors whatever --data-offset is: a grow must not write over data.
TEST(Room, AGrowStaysBeforeTheData)
{
	for (s32 level : {1, 10, 5}) {
		Rig r({.level = level, .members = 3, .chunks = 64, .state = LLB_SB_FIRST_USE});
		for (u32 m = 0; m < 3; m++)
			data_at(r, m, kStart + 48);
		r.start();
		EXPECT_EQ(r.h.count_log(PLAT_LOG_WARN, "only 48"), 1) << r.h.log_text();
		r.h.array.sync_size = 60000 * kChunk;
		ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0) << r.h.log_text();
		EXPECT_LE(r.table()->geo.bytes(), 48u * 512);
		EXPECT_GT(r.chunk_sectors(), kChunk) << "with larger chunks it fits";
		expect_nothing_behind(r, 48);
		EXPECT_EQ(r.get32(0, kReserved), 48u) << "the next reader is told";
		r.reboot();
		EXPECT_EQ(r.table()->geo.sync_size, r.h.array.sync_size);
	}
}

// One member of all is enough, also one that a reshape moves data on.
TEST(Room, TheLeastOfAllMembers)
{
	Rig r({.members = 3, .chunks = 64, .fill = LLB_CLEAN});
	r.h.members[2]->m.new_data_offset = kStart + 20;
	r.start();
	r.h.array.sync_size = 60000 * kChunk;
	ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0);
	expect_nothing_behind(r, 20);
}

TEST(Room, AResizeThatCannotFitChangesNothing)
{
	Rig r({.members = 2, .chunks = 64, .fill = LLB_CLEAN});
	r.start();
	auto before = r.image();
	data_at(r, 1, kStart + 2); // the header alone
	r.h.array.sync_size = 6000 * kChunk;
	EXPECT_NE(llb_resize(r.b(), r.h.array.sync_size), 0);
	EXPECT_EQ(r.image(), before);
	EXPECT_EQ(r.table()->geo.chunks, 64u);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR), 1) << r.h.log_text();
}

// A damaged field may claim anything up to the most that is possible.
TEST(Room, ADamagedHeaderIsNotBelieved)
{
	Rig r({.members = 2, .chunks = 64, .fill = LLB_CLEAN});
	for (u32 m = 0; m < 2; m++)
		r.put32(m, kReserved, 1 << 16);
	r.start();
	r.h.array.sync_size = 5000000 * kChunk;
	ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0);
	expect_nothing_behind(r, 256); // what is there: the rig checks it, too
}

// A bitmap that is there and does not fit is refused before anything is written.
TEST(Room, AnExistingBitmapOverDataIsRefused)
{
	Rig r({.members = 2, .chunks = 60000, .fill = LLB_CLEAN});
	data_at(r, 1, kStart + 48);
	EXPECT_NE(r.create(), 0);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "overlap data"), 1) << r.h.log_text();
	EXPECT_TRUE(r.h.writes.empty());
}

// Added with --add to a running array: that member fails, nothing is written to it.
TEST(Room, AnAddedMemberWithoutRoomFails)
{
	Rig r({.members = 3, .chunks = 60000, .fill = LLB_CLEAN});
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = 0;
	r.h.array.raid_disks = 2;
	data_at(r, 2, kStart + 48);
	r.start(); // a spare without room is no reason to refuse the array
	r.h.writes.clear();
	r.h.members[2]->slot = 2;
	llb_write_all(r.b());
	r.h.run_lead();
	EXPECT_TRUE(r.h.members[2]->has(PLAT_MEMBER_FAULTY));
	for (const auto &w : r.h.writes)
		EXPECT_NE(w.member, 2u);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "slot 2"), 1) << r.h.log_text();
}

// One that has less room than the others, but enough today, bounds what comes.
TEST(Room, AnAddedMemberWithLessRoomBoundsAResize)
{
	Rig r({.members = 3, .chunks = 64, .fill = LLB_CLEAN});
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = 0;
	r.h.array.raid_disks = 2;
	data_at(r, 2, kStart + 24);
	r.start();
	r.h.members[2]->slot = 1;
	llb_write_all(r.b());
	r.h.run_lead();
	EXPECT_FALSE(r.h.members[2]->has(PLAT_MEMBER_FAULTY)) << r.h.log_text();
	r.h.array.sync_size = 60000 * kChunk;
	ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0);
	expect_nothing_behind(r, 24);
}

// A disk that a grow is about to give a slot bounds it before it has one.
TEST(Room, ASpareBoundsAResize)
{
	Rig r({.level = 10, .members = 3, .chunks = 64, .fill = LLB_CLEAN});
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = 0;
	r.h.array.raid_disks = 2;
	data_at(r, 2, kStart + 24);
	r.start();
	r.h.array.sync_size = 60000 * kChunk;
	ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0);
	expect_nothing_behind(r, 24);
}

// ---- a new bitmap takes more than mdadm reserves, where all have it ----

constexpr u32 kMuch = 1 << 20; // sectors: where the data of a member with room begins

// 16 TiB, as mdadm makes it.
struct New : Rig {
	explicit New(u32 members = 2)
		: Rig({.members = members,
		       .space = core::kSpaceSectorsWanted,
		       .sync_size = u64{16} << 31,
		       .state = LLB_SB_FIRST_USE})
	{
		h.keep_log = false;
		for (u32 m = 0; m < members; m++) {
			put32(m, kReserved, 256);
			h.members[m]->m.data_sectors = u64{16} << 31;
			data_at(*this, m, kMuch);
		}
	}
	void bbl(u32 m, u32 entries)
	{
		h.members[m]->m.bbl_offset = 8 + 256; // as mdadm's
		h.members[m]->m.bbl_sectors = 8;
		h.members[m]->m.bbl_entries = entries;
		h.members[m]->flags |= PLAT_MEMBER_BBL;
	}
};

TEST(FirstUse, TakesTheRoomForSmallChunks)
{
	New r;
	r.start();
	EXPECT_EQ(r.chunk_sectors(), 8192u);
	EXPECT_EQ(r.get32(0, kReserved), core::kSpaceSectorsWanted);
	r.write(4000000);
	r.reboot();
	EXPECT_EQ(r.chunk_sectors(), 8192u);
	EXPECT_EQ(r.state(4000000), State::NeedSync);
}

TEST(FirstUse, NotForAnArrayThatNeedsNone)
{
	Rig r({.sync_size = u64{100} << 21, .state = LLB_SB_FIRST_USE}); // 100 GiB
	for (u32 m = 0; m < 2; m++) {
		r.h.members[m]->m.data_sectors = u64{100} << 21;
		data_at(r, m, kMuch);
	}
	r.start();
	EXPECT_EQ(r.get32(0, kReserved), 256u);
}

TEST(FirstUse, OneMemberWithoutRoomIsEnough)
{
	for (bool spare : {false, true}) {
		New r(3);
		data_at(r, 2, kStart + 300);
		if (spare) {
			r.h.array.raid_disks = 2;
			r.h.members[2]->slot = -1;
			r.h.members[2]->flags = 0;
		}
		r.start();
		EXPECT_EQ(r.get32(0, kReserved), 256u) << spare;
		EXPECT_LE(r.table()->geo.bytes(), 256u * 512);
		if (!spare)
			continue;
		r.h.array.raid_disks = 3;
		r.h.members[2]->slot = 2; // it gets a slot, and takes the bitmap
		llb_write_all(r.b());
		r.h.run_lead();
		EXPECT_FALSE(r.h.members[2]->has(PLAT_MEMBER_FAULTY)) << r.h.log_text();
	}
}

TEST(FirstUse, ABadBlockLogIsInTheWayIfItHasEntries)
{
	for (u32 entries : {0u, 1u}) {
		New r;
		r.bbl(1, entries);
		r.start();
		EXPECT_EQ(r.get32(0, kReserved), entries ? 256u : core::kSpaceSectorsWanted);
		EXPECT_EQ(r.h.members[1]->bad_log_disabled, entries == 0);
	}
}

} // namespace
