// SPDX-License-Identifier: GPL-2.0
// Where the bitmap lies and how large its chunks are.
#include "rig.hpp"

using core::Geometry;
using core::geometry_for;
using rig::kChunk;
using rig::Rig;

namespace {

u32 shift_for(u64 sync_size, u64 space)
{
	Geometry g;
	return geometry_for(sync_size, space, 0, &g).failed() ? 0 : g.chunk_shift;
}

constexpr u64 kRoom = 256 * 512 - 1024; // chunks in mdadm's 256 sectors, the header counted

TEST(Geometry, TheHeaderIsCounted)
{
	EXPECT_EQ(shift_for(kRoom * kChunk, 256), 7u);
	EXPECT_EQ(shift_for(kRoom * kChunk + 1, 256), 8u);
	EXPECT_EQ(shift_for((kRoom + 1) * kChunk, 256), 8u);
	EXPECT_EQ(shift_for(kRoom * 2 * kChunk, 256), 8u);
	EXPECT_EQ(shift_for(kRoom * 2 * kChunk + 1, 256), 9u);
}

TEST(Geometry, Limits)
{
	EXPECT_EQ(shift_for(1, 256), 7u); // never below 64 KiB
	EXPECT_EQ(shift_for(1, 3), 7u);
	// 16 PiB in mdadm's space: 2^45 sectors
	EXPECT_EQ(shift_for(u64{1} << 45, 256), 29u);
	EXPECT_EQ(shift_for(u64{512} << 31, 3), 31u); // 512 cells in the third sector
	EXPECT_EQ(shift_for((u64{512} << 31) + 1, 3), 0u);
	EXPECT_EQ(shift_for(1, 2), 0u); // the header alone
	EXPECT_EQ(shift_for(1, 0), 0u);
	EXPECT_EQ(shift_for(~u64{0}, 256), 0u);
	Geometry g;
	ASSERT_FALSE(geometry_for(u64{1} << 45, 256, 0, &g).failed());
	EXPECT_EQ(g.chunks, u64{1} << 16);
	EXPECT_EQ(g.pages, 17u); // 1024 + 65536 bytes
	ASSERT_FALSE(geometry_for(3072 * kChunk, 256, 0, &g).failed());
	EXPECT_EQ(g.pages, 1u);
	ASSERT_FALSE(geometry_for(3073 * kChunk, 256, 0, &g).failed());
	EXPECT_EQ(g.pages, 2u);
	ASSERT_FALSE(geometry_for(kChunk, 256, 12, &g).failed()); // not below what is asked for
	EXPECT_EQ(g.chunk_shift, 12u);
}

TEST(Geometry, CellsLieInOrderAndInsideTheirPages)
{
	Geometry g;
	ASSERT_FALSE(geometry_for(9000 * kChunk + 1, 256, 0, &g).failed());
	core::Table *t = core::Table::make(g, g.chunk_shift, nullptr);
	ASSERT_NE(t, nullptr);
	u64 next = 0;
	for (u32 b = 0; b < g.pages; b++) {
		EXPECT_EQ(t->page_first(b), next);
		next = t->page_end(b);
		for (u64 c = t->page_first(b); c < next; c++)
			EXPECT_EQ(t->page_of(c), b);
	}
	EXPECT_EQ(next, 9001u);
	core::Table::destroy(t);
}

TEST(Geometry, ChunkSizeFieldInSectorsOrBytes)
{
	const u64 small = 1000 * kChunk, large = (kRoom + 2000) * kChunk; // large needs 128 KiB
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 128), 7u);
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 256), 8u); // larger than needed
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 65536), 7u); // 64 KiB in bytes
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 64), 0u); // 32 KiB
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 0), 0u);
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 129), 0u);
	EXPECT_EQ(core::chunk_shift_from_disk(small, 256, 0xffffffff), 0u);
	EXPECT_EQ(core::chunk_shift_from_disk(large, 256, 128), 0u); // does not fit
	EXPECT_EQ(core::chunk_shift_from_disk(large, 256, 256), 8u);
	EXPECT_EQ(core::chunk_shift_from_disk(large, 256, 131072), 8u);
	EXPECT_EQ(core::chunk_shift_from_disk(u64{1} << 45, 256, 1u << 29), 29u);
	// the in-tree driver forgets the header: up to 131072 chunks in 256 sectors
	EXPECT_EQ(core::chunk_shift_from_disk(131072 * kChunk, 256, 128), 7u);
	EXPECT_EQ(core::chunk_shift_from_disk(131072 * kChunk + 1, 256, 128), 0u);
}

// ---- the same through create, with what a member says ----

int create_err(Rig &r)
{
	return r.create();
}

void expect_refused(Rig &r, int err, const char *why)
{
	EXPECT_EQ(create_err(r), -err);
	EXPECT_EQ(r.h.bitmap, nullptr);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, why), 1) << why << " in:\n" << r.h.log_text();
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR), 1) << r.h.log_text();
	EXPECT_EQ(r.h.writes_total(), 0);
}

TEST(Geometry, FirstUseChoosesItsOwn)
{
	// mdadm's chunk size is ignored on first use
	Rig r({.sync_size = (kRoom + 1) * kChunk, .state = LLB_SB_FIRST_USE, .chunksize = 12345});
	r.start();
	EXPECT_EQ(r.chunk_sectors(), 256u);
	EXPECT_EQ(r.h.chunk_bytes, 131072u);
	EXPECT_EQ(r.get32(0, LLB_SB_CHUNKSIZE), 256u);
	EXPECT_EQ(r.get64(0, LLB_SB_SYNC_SIZE), (kRoom + 1) * kChunk);
}

TEST(Geometry, AnArrayOf16PiBRuns)
{
	Rig r({.sync_size = u64{1} << 45, .state = LLB_SB_FIRST_USE});
	r.h.members[0]->m.data_sectors = r.h.members[1]->m.data_sectors = u64{1} << 45;
	r.start();
	EXPECT_EQ(r.chunk_sectors(), u64{1} << 29);
	r.write(65535);
	EXPECT_EQ(r.disk(65535), LLB_DIRTY);
	r.idle();
	EXPECT_EQ(r.disk(65535), LLB_CLEAN);
}

TEST(Geometry, ExactlyAtTheLimitWritesNothingBeyond)
{
	// the fixture fails if a byte beyond the space is written
	Rig r({.sync_size = kRoom * kChunk, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(kRoom - 1);
	EXPECT_EQ(r.disk(kRoom - 1), LLB_DIRTY);
	r.idle();
	EXPECT_EQ(r.disk(kRoom - 1), LLB_CLEAN);
}

TEST(Geometry, AnInTreeBitmapMayOverrunByItsHeader)
{
	Rig r({.sync_size = 131072 * kChunk, .chunksize = 128});
	for (auto &m : r.h.members)
		m->m.data_offset = 8 + 8 + 258; // where the overrun ends
	r.h.check_space = false;
	r.start();
	EXPECT_EQ(r.chunk_sectors(), 128u);
	r.write(131071);
	EXPECT_EQ(r.disk(131071), LLB_DIRTY);
}

TEST(Geometry, ButNotIntoTheData)
{
	Rig r({.sync_size = 131072 * kChunk, .chunksize = 128});
	for (auto &m : r.h.members)
		m->m.data_offset = 8 + 8 + 257;
	expect_refused(r, LLB_EINVAL, "overlap data");
}

TEST(Geometry, DataBeforeTheBitmap)
{
	// 1.0 metadata: data from 0, bitmap and superblock behind it
	Rig r({.state = LLB_SB_FIRST_USE});
	r.h.array.bitmap_offset = -272;
	for (auto &m : r.h.members) {
		m->m.sb_start = 100000;
		m->m.data_offset = 0;
		m->m.data_sectors = 100000 - 272;
	}
	r.start();
	r.stop();
	for (auto &m : r.h.members)
		m->m.data_sectors = 100000 - 271;
	EXPECT_EQ(r.create(), -LLB_EINVAL);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "overlap data"), 1);
}

TEST(Geometry, DataOnADeviceOfItsOwnDoesNotOverlap)
{
	Rig r;
	for (auto &m : r.h.members) {
		m->m.data_offset = 0;
		m->m.separate_meta = 1;
	}
	r.start();
}

TEST(Geometry, OverlapWithTheSuperblock)
{
	Rig r;
	r.h.array.bitmap_offset = -2; // 1024 + 64 bytes: 3 sectors
	for (auto &m : r.h.members)
		m->m.data_offset = 1000;
	expect_refused(r, LLB_EINVAL, "superblock");
}

TEST(Geometry, BeforeTheDevice)
{
	Rig r;
	r.h.array.bitmap_offset = -16;
	expect_refused(r, LLB_EINVAL, "aligned");
}

TEST(Geometry, BlocksOf4096)
{
	Rig r({.state = LLB_SB_FIRST_USE});
	for (auto &m : r.h.members)
		m->m.logical_block = 4096;
	r.start();
	r.write(3);
	EXPECT_EQ(r.disk(3), LLB_DIRTY);
}

TEST(Geometry, BlocksOf4096NotAligned)
{
	Rig r;
	r.h.members[1]->m.logical_block = 4096;
	r.h.members[1]->m.sb_start = 9;
	expect_refused(r, LLB_EINVAL, "4096-byte blocks");
}

TEST(Geometry, BlocksOf8192)
{
	Rig r;
	r.h.members[1]->m.logical_block = 8192;
	expect_refused(r, LLB_EINVAL, "8192");
}

// The tail of the bitmap is written in the largest block of any member, so that is
// what must not reach a member's data.
TEST(Geometry, MixedBlocksRoundUpOnAllMembers)
{
	Rig r({.chunks = 64, .state = LLB_SB_FIRST_USE});
	r.h.members[0]->m.data_offset = 16 + 3; // enough for 1024 + 64 bytes in sectors
	r.h.members[1]->m.logical_block = 4096;
	if (r.create() != 0)
		return; // refused: fine too
	ASSERT_EQ(r.load(), 0);
	u32 end = 0;
	for (const auto &w : r.h.writes)
		end = std::max(end, w.member == 0 ? w.offset + 512 : 0);
	EXPECT_LE(end, 3u * 512) << "data of member 0 is overwritten";
}

TEST(Geometry, ABadBlockLogInsideIsSwitchedOff)
{
	Rig r;
	for (auto &m : r.h.members) {
		m->flags |= PLAT_MEMBER_BBL;
		m->m.bbl_offset = 16; // bitmap offset + 8, as mdadm 4.6 places it
		m->m.bbl_sectors = 8;
	}
	r.start();
	for (auto &m : r.h.members)
		EXPECT_TRUE(m->bad_log_disabled);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_NOTICE, "bad-block log"), 2) << r.h.log_text(); // one per member
}

TEST(Geometry, ABadBlockLogWithEntriesIsNot)
{
	Rig r;
	r.h.members[1]->flags |= PLAT_MEMBER_BBL;
	r.h.members[1]->m.bbl_offset = 16;
	r.h.members[1]->m.bbl_sectors = 8;
	r.h.members[1]->m.bbl_entries = 3;
	expect_refused(r, LLB_EINVAL, "bad-block log");
	EXPECT_FALSE(r.h.members[1]->bad_log_disabled);
}

TEST(Geometry, ABadBlockLogElsewhereStaysOn)
{
	Rig r;
	r.h.members[1]->flags |= PLAT_MEMBER_BBL;
	r.h.members[1]->m.bbl_offset = 8 + 256;
	r.h.members[1]->m.bbl_sectors = 8;
	r.h.members[1]->m.bbl_entries = 3;
	r.start();
	EXPECT_FALSE(r.h.members[1]->bad_log_disabled);
}

TEST(Geometry, AHotAddedMemberIsCheckedToo)
{
	Rig r({.members = 3});
	r.h.array.raid_disks = 2;
	r.h.members[2]->slot = -1;
	r.start();
	r.h.members[2]->slot = 1;
	r.h.members[2]->flags = PLAT_MEMBER_BBL;
	r.h.members[2]->m.bbl_offset = 16;
	r.h.members[2]->m.bbl_sectors = 8;
	llb_write_all(r.b());
	EXPECT_TRUE(r.h.members[2]->bad_log_disabled);
}

// A shrunk array keeps its chunk size where it can; what it writes must be read back
// as sectors, also at the size that fits only if the header is not counted.
TEST(Geometry, AShrunkArraysChunkSizeIsNotTakenForBytes)
{
	for (u64 small : {131072 * kChunk, kRoom * kChunk, kRoom * kChunk + 1, 1000 * kChunk}) {
		Rig r({.sync_size = u64{100000} << 16, .state = LLB_SB_FIRST_USE});
		for (auto &m : r.h.members) {
			m->m.data_offset = 8 + 8 + 256; // no room for more
			m->m.data_sectors = u64{100000} << 16;
		}
		r.start();
		ASSERT_EQ(r.chunk_sectors(), 65536u);
		ASSERT_EQ(llb_resize(r.b(), small), 0);
		u64 chunk = r.chunk_sectors();
		r.h.array.sync_size = small;
		llb_update_sb(r.b());
		r.h.check_space = false;
		r.reboot();
		EXPECT_EQ(r.chunk_sectors(), chunk) << "array of " << small << " sectors";
	}
}

} // namespace
