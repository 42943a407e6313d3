// SPDX-License-Identifier: GPL-2.0
// Every field of the superblock, good and bad.
#include "rig.hpp"

using rig::Rig;

namespace {

// Damages both members alike; one clear line must say why, and nothing is written.
void expect_refused(const std::function<void(Rig &, u32)> &damage, const char *field)
{
	Rig r;
	for (u32 i = 0; i < 2; i++)
		damage(r, i);
	int err = r.create();
	EXPECT_TRUE(err == -LLB_EINVAL || err == -LLB_ENOSPC) << field << " " << err;
	EXPECT_EQ(r.h.bitmap, nullptr);
	EXPECT_GE(r.h.count_log(PLAT_LOG_ERR, field), 1) << field << " in:\n" << r.h.log_text();
	EXPECT_EQ(r.h.writes_total(), 0);
}

TEST(Superblock, Magic)
{
	expect_refused([](Rig &r, u32 i) { r.put32(i, 0, 0x12345678); }, "magic");
	expect_refused([](Rig &r, u32 i) { r.put32(i, 0, 0); }, "magic");
}

TEST(Superblock, Version)
{
	for (u32 version : {0u, 3u, 4u, 5u, 7u, 0xffffffffu})
		expect_refused([=](Rig &r, u32 i) { r.put32(i, 4, version); }, "version");
}

TEST(Superblock, Uuid)
{
	expect_refused([](Rig &r, u32 i) { r.h.members[i]->put(8, 0xff); }, "uuid");
	expect_refused([](Rig &r, u32 i) { r.h.members[i]->put(23, 0xff); }, "uuid");
}

TEST(Superblock, Nodes)
{
	expect_refused([](Rig &r, u32 i) { r.put32(i, 68, 2); }, "cluster");
}

TEST(Superblock, SyncSize)
{
	expect_refused([](Rig &r, u32 i) { r.put64(i, 40, 0); }, "sync_size");
	expect_refused([](Rig &r, u32 i) { r.put64(i, 40, ~0ull); }, "chunksize");
}

TEST(Superblock, Chunksize)
{
	for (u32 field : {0u, 1u, 64u, 127u, 129u, 0x80000000u + 1, 0xffffffffu})
		expect_refused([=](Rig &r, u32 i) { r.put32(i, 52, field); }, "chunksize");
}

TEST(Superblock, SectorsReserved)
{
	for (u32 sectors : {1u, 2u, 0xffffffffu, (1u << 17) + 1})
		expect_refused([=](Rig &r, u32 i) { r.put32(i, 64, sectors); }, "sectors_reserved");
	expect_refused(
		[](Rig &r, u32 i) {
			r.put32(i, 64, 0);
			r.h.array.bitmap_space = 0;
		},
		"sectors_reserved");
	// too small for this array
	expect_refused(
		[](Rig &r, u32 i) {
			r.put32(i, 64, 3);
			r.put64(i, 40, u64{1} << 45);
			r.put32(i, 48, LLB_SB_FIRST_USE);
			r.h.array.sync_size = u64{1} << 45;
			r.h.members[i]->m.data_offset = 8 + 8 + 3; // nor is there more
		},
		"does not fit");
}

TEST(Superblock, EveryRefusalIsOneLine)
{
	Rig r;
	r.put32(0, 4, 5);
	r.put32(1, 4, 5);
	EXPECT_EQ(r.create(), -LLB_EINVAL);
	EXPECT_EQ(r.h.log.size(), 1u) << "one line, not one per member and pass:\n" << r.h.log_text();
}

TEST(Superblock, AbsentSpaceIsMds)
{
	Rig r;
	r.put32(0, 64, 0);
	r.put32(1, 64, 0);
	r.start();
	llb_update_sb(r.b());
	EXPECT_EQ(r.get32(0, 64), 256u);
}

TEST(Superblock, RandomBytesNeverCrash)
{
	u64 seed = 88172645463325252ull;
	for (int round = 0; round < 300; round++) {
		Rig r;
		for (u32 i = 0; i < 2; i++) {
			for (int n = 0; n < 6; n++) {
				seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
				// past magic, version and uuid, so that it gets far
				r.h.members[i]->put(24 + seed % 48, u8(seed >> 32));
			}
		}
		if (r.create() == 0)
			(void)r.load();
	}
}

// Runtime bits of another life are not looked at, and not written back.
TEST(Superblock, RuntimeBitsAreIgnored)
{
	Rig r({.state = LLB_SB_WRITE_ERROR | LLB_SB_DAEMON_BUSY | LLB_SB_SHUTDOWN,
	       .cells = {LLB_CLEAN, LLB_DIRTY}});
	r.start();
	EXPECT_EQ(r.state(0), core::State::Clean);
	EXPECT_EQ(r.state(1), core::State::NeedSync);
	llb_update_sb(r.b());
	EXPECT_EQ(r.get32(0, 48), 0u);
	EXPECT_EQ(r.get32(1, 48), 0u);
}

TEST(Superblock, WrittenAsItWasRead)
{
	Rig r;
	for (u32 i = 0; i < 2; i++) {
		r.put64(i, 32, 77); // events_cleared
		r.put32(i, 60, 123); // write_behind
		r.put32(i, 56, 17); // daemon_sleep
	}
	r.start();
	llb_update_sb(r.b());
	for (u32 i = 0; i < 2; i++) {
		EXPECT_EQ(r.get32(i, 0), LLB_MAGIC);
		EXPECT_EQ(r.get32(i, 4), 6u);
		EXPECT_EQ(r.h.members[i]->at(8), 0x10);
		EXPECT_EQ(r.get64(i, 24), 100u);
		EXPECT_EQ(r.get64(i, 32), 77u);
		EXPECT_EQ(r.get64(i, 40), r.o.sync_size);
		EXPECT_EQ(r.get32(i, 52), 128u);
		EXPECT_EQ(r.get32(i, 56), 17u);
		EXPECT_EQ(r.get32(i, 60), 123u);
		EXPECT_EQ(r.get32(i, 64), 256u);
	}
	llb_metadata m;
	llb_metadata_get(r.b(), &m);
	EXPECT_EQ(m.daemon_sleep_s, 17u);
}

TEST(Superblock, DaemonSleepOutOfRangeIsTheDefault)
{
	for (u32 seconds : {0u, 86401u, 0xffffffffu}) {
		Rig r;
		r.put32(0, 56, seconds);
		r.put32(1, 56, seconds);
		r.start();
		llb_metadata m;
		llb_metadata_get(r.b(), &m);
		EXPECT_EQ(m.daemon_sleep_s, 30u);
	}
}

// md lowers its events when an array becomes clean again.
TEST(Superblock, EventsFollowTheArray)
{
	Rig r;
	r.start();
	r.h.events = 105;
	llb_update_sb(r.b());
	EXPECT_EQ(r.get64(0, 24), 105u);
	r.h.events = 104; // taken back: a cut now must not find the bitmap older
	llb_update_sb(r.b());
	EXPECT_GE(r.get64(0, 24), 104u);
	EXPECT_LE(r.get64(0, 32), 104u); // re-add compares with events_cleared
	r.h.events = 110;
	llb_update_sb(r.b());
	EXPECT_EQ(r.get64(0, 24), 110u);
}

TEST(Superblock, KindsOfArraysThatAreRefused)
{
	struct {
		u32 flag;
		const char *why;
		int err;
	} cases[] = {{PLAT_ARRAY_DM, "dm-raid", LLB_EOPNOTSUPP},
		     {PLAT_ARRAY_CLUSTERED, "cluster", LLB_EOPNOTSUPP},
		     {PLAT_ARRAY_BARE, "running", LLB_EOPNOTSUPP},
		     {PLAT_ARRAY_OTHER_META, "metadata 1.2", LLB_EOPNOTSUPP},
		     {PLAT_ARRAY_BITMAP_FILE, "file", LLB_EINVAL}};
	for (auto c : cases) {
		Rig r;
		r.h.flags |= c.flag;
		EXPECT_EQ(r.create(), -c.err);
		EXPECT_EQ(r.h.log.size(), 1u);
		EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, c.why), 1);
	}
	Rig r;
	r.h.array.bitmap_offset = 0;
	EXPECT_EQ(r.create(), -LLB_EINVAL);
	EXPECT_EQ(r.h.log.size(), 1u);
}

} // namespace
