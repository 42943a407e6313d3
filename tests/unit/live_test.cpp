// SPDX-License-Identifier: GPL-2.0
// A bitmap added to an array that runs without one (llbitmap convert).
#include "rig.hpp"

namespace {

using rig::Rig;

// As md hands it over: writes suspended, at the place of SET_ARRAY_INFO; with the header that
// the tool wrote there.
struct Live : Rig {
	explicit Live(u32 state = LLB_SB_FIRST_USE)
		: Rig({.state = state, .fill = LLB_NEED_SYNC, .disk_events = 1})
	{
		for (u32 m = 0; m < 2; m++) {
			put64(m, LLB_SB_EVENTS_CLEARED, 1);
			put32(m, LLB_SB_SECTORS_RESERVED, core::kLiveSpace);
		}
		h.flags |= PLAT_ARRAY_BARE | PLAT_ARRAY_SUSPENDED;
		h.suspended = true;
		h.array.bitmap_offset = core::kLiveOffset;
		h.array.bitmap_space = core::kLiveSpace;
	}
	void refused(int err, const char *why)
	{
		EXPECT_EQ(create(), -err);
		EXPECT_EQ(h.log.size(), 1u);
		EXPECT_EQ(h.count_log(PLAT_LOG_ERR, why), 1);
		EXPECT_EQ(h.writes_total(), 0);
	}
};

TEST(Live, AllIsCleanAtMdadmsPlace)
{
	Live r;
	r.start();
	EXPECT_EQ(r.h.array.bitmap_offset, core::kPlace);
	EXPECT_EQ(r.h.array.bitmap_space, 0u);
	for (u64 c = 0; c < 64; c++)
		EXPECT_EQ(r.state(c), core::State::Clean);
	EXPECT_EQ(r.h.resync_requests, 0);
	for (u32 m = 0; m < 2; m++) {
		EXPECT_EQ(r.get32(m, LLB_SB_STATE), 0u);
		EXPECT_EQ(r.get64(m, LLB_SB_EVENTS), 100u);
		EXPECT_EQ(r.get32(m, LLB_SB_SECTORS_RESERVED), core::kReserved);
		EXPECT_EQ(r.h.members[m]->at(LLB_CELLS_OFFSET), LLB_CLEAN);
	}
}

// A new array's header of the same kind, and what else might be taken for the tool's: only where
// md is asked like this does it say that anything is in sync.
TEST(Live, TheSignAloneIsNoBitmap)
{
	Live r;
	r.h.flags &= ~(PLAT_ARRAY_BARE | PLAT_ARRAY_SUSPENDED);
	r.h.suspended = false;
	r.h.array.bitmap_offset = core::kPlace;
	r.start();
	for (u64 c = 0; c < 64; c++)
		EXPECT_EQ(r.state(c), core::State::NeedSync);
}

// What is in a member's cache when the header says Clean can be lost by a power cut, and nothing
// would resynchronise it.
TEST(Live, EveryMemberIsFlushedBeforeAnythingIsWritten)
{
	Live r;
	int flushed_before = -1;
	r.h.on_byte = [&](u32, u32, u8, u8) {
		if (flushed_before < 0)
			flushed_before = r.h.members[0]->flushes + r.h.members[1]->flushes;
	};
	ASSERT_EQ(r.create(), 0);
	EXPECT_EQ(r.h.writes_total(), 0);
	ASSERT_EQ(r.load(), 0);
	EXPECT_GT(r.h.writes_total(), 0);
	EXPECT_EQ(flushed_before, 2);
}

TEST(Live, AMemberThatCannotBeFlushed)
{
	Live r;
	r.h.members[1]->fail_flushes = -1;
	EXPECT_EQ(r.create(), -LLB_EIO);
	EXPECT_EQ(r.h.count_log(PLAT_LOG_ERR, "flushed"), 1);
	EXPECT_EQ(r.h.writes_total(), 0);
}

// A member that was away before has missed what no bitmap tells.
TEST(Live, WhoWasAwayIsNotTrusted)
{
	Live r;
	r.start();
	llb_stats s;
	llb_stats_get(r.b(), &s);
	EXPECT_EQ(s.events_cleared, 100u);
	EXPECT_EQ(r.get64(0, LLB_SB_EVENTS_CLEARED), 100u);
}

// md takes one back that is still bound without a look at its events.
TEST(Live, NorWhoFailedAndIsStillBound)
{
	Live r;
	r.h.members.push_back(std::make_unique<fake::Member>(r.h.members[0]->bytes.size()));
	r.h.members[2]->m = r.h.members[0]->m;
	r.h.members[2]->slot = -1;
	r.h.members[2]->flags = PLAT_MEMBER_FAULTY;
	r.start();
	EXPECT_TRUE(r.h.members[2]->has(PLAT_MEMBER_MISSED));
	EXPECT_FALSE(r.h.members[0]->has(PLAT_MEMBER_MISSED));
}

TEST(Live, OnlyAsMdAddsOneWithItsOwnFilesLeftOut)
{
	{
		Live r; // bitmap/location
		r.h.array.bitmap_offset = core::kPlace;
		r.refused(LLB_EOPNOTSUPP, "llbitmap convert");
	}
	{
		Live r; // the same, at the other place
		r.h.array.bitmap_space = 0;
		r.refused(LLB_EOPNOTSUPP, "llbitmap convert");
	}
	{
		Live r; // a write may be under way
		r.h.flags &= ~PLAT_ARRAY_SUSPENDED;
		r.refused(LLB_EOPNOTSUPP, "llbitmap convert");
	}
}

TEST(Live, OnlyAWholeArray)
{
	{
		Live r;
		r.h.degraded = 1;
		r.refused(LLB_EINVAL, "whole");
	}
	{
		Live r;
		r.h.flags |= PLAT_ARRAY_RESYNC_DUE;
		r.refused(LLB_EINVAL, "in sync");
	}
	{
		Live r;
		r.h.flags |= PLAT_ARRAY_RESHAPE_PENDING;
		r.refused(LLB_EINVAL, "whole");
	}
	{
		Live r;
		r.h.flags &= ~PLAT_ARRAY_RDWR;
		r.refused(LLB_EINVAL, "read-only");
	}
}

// Not written by the tool: one that was used.
TEST(Live, AnOldHeaderIsNotTaken)
{
	Live r(0);
	r.refused(LLB_EINVAL, "old bitmap");
}

TEST(Live, WithoutAHeaderThereIsNone)
{
	Live r;
	r.put32(0, LLB_SB_MAGIC, 0);
	r.put32(1, LLB_SB_MAGIC, 0);
	EXPECT_NE(r.create(), 0);
	EXPECT_EQ(r.h.writes_total(), 0);
}

} // namespace
