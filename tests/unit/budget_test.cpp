// SPDX-License-Identifier: GPL-2.0
// What a crash costs: the count of it, the budget for it, and clears that wait for the next
// write of their page.
#include <random>

#include "rig.hpp"

using core::State;
using rig::kChunk;
using rig::kCleanBy_ms;
using rig::kIdle_ms;
using rig::kSleep_ms;
using rig::Options;
using rig::Rig;

namespace {

constexpr u32 kBudgetField = LLB_SB_RESYNC_BUDGET; // byte offset
constexpr u64 kPass_ms = kSleep_ms * 2 / 3; // between two passes that do not hurry
constexpr u64 kMiB = 2048; // sectors

const Options kClean{.state = LLB_SB_FIRST_USE | LLB_SB_CLEAN};

u64 crash_bytes(Rig &r)
{
	llb_stats s;
	llb_stats_get(r.b(), &s);
	return s.crash_bytes;
}

u64 budget_mib(Rig &r)
{
	llb_metadata m;
	llb_metadata_get(r.b(), &m);
	return m.resync_budget_mib;
}

// The same from a member that is in sync.
u64 on_disk(Rig &r)
{
	u32 m = 0;
	while (m + 1 < r.h.members.size() && !r.h.members[m]->in_sync())
		m++;
	const auto &geo = r.table()->geo;
	u64 n = 0;
	for (u64 c = 0; c < geo.chunks; c++)
		n += Rig::reloads_to_sync(r.disk(m, c));
	return base::min(n * geo.chunk_sectors(), geo.sync_size) * 512;
}

void tune_s(Rig &r, u64 sleep, u64 idle)
{
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_DAEMON_SLEEP, sleep), 0);
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_BARRIER_IDLE, idle), 0);
}

// ---- crash_bytes ----

TEST(CrashBytes, CountsChunksThatAreDirtyOnDisk)
{
	Rig r(kClean);
	r.start();
	EXPECT_EQ(crash_bytes(r), 0u);
	r.begin_nowait(5);
	EXPECT_EQ(crash_bytes(r), 0u) << "not on disk yet";
	r.wait_durable();
	EXPECT_EQ(crash_bytes(r), kChunk * 512);
	r.end(5);
	r.write(9); // covers all 64
	EXPECT_EQ(crash_bytes(r), 64 * kChunk * 512);
	r.idle();
	EXPECT_EQ(crash_bytes(r), 0u);
	r.write(5);
	r.reboot();
	EXPECT_EQ(crash_bytes(r), kChunk * 512) << "it waits for its resync";
}

// What a load reads counts at once, and covers nothing.
TEST(CrashBytes, OfALoad)
{
	std::vector<u8> cells(64, LLB_CLEAN);
	cells[5] = LLB_DIRTY;
	cells[9] = LLB_NEED_SYNC;
	for (bool writable : {false, true}) {
		Rig r({.cells = cells});
		if (!writable)
			r.h.flags &= ~PLAT_ARRAY_RDWR;
		r.start();
		EXPECT_EQ(crash_bytes(r), 2 * kChunk * 512) << writable;
		EXPECT_EQ(r.disk(6), LLB_CLEAN);
	}
}

TEST(CrashBytes, NoMoreThanTheArray)
{
	Rig r({.sync_size = 64 * kChunk - 8, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	r.write(5);
	r.write(9);
	EXPECT_EQ(crash_bytes(r), (64 * kChunk - 8) * 512);
}

// A crash builds it anew, and costs no more by that.
TEST(CrashBytes, BuiltParityThatIsNotWrittenYetIsNone)
{
	Rig r({.level = 5, .members = 3, .state = LLB_SB_FIRST_USE});
	r.start();
	r.write(1);
	r.set_raw(4, LLB_SYNCING_UNWRITTEN | core::kEnded);
	for (u64 ms = 0; ms < kCleanBy_ms; ms += 100) {
		r.h.run_for(100);
		EXPECT_EQ(crash_bytes(r), on_disk(r)) << ms;
	}
	EXPECT_EQ(r.disk(4), LLB_CLEAN_UNWRITTEN);
}

// A run of everything that changes what lies on disk. Whenever nothing is under way, and
// also before each write of the bitmap lands, the count is what a cut would leave.
class RandomRun {
    public:
	explicit RandomRun(u32 seed)
		: rng_(seed)
		, r_({.chunks = 4000, .space = 24, .state = LLB_SB_FIRST_USE | (seed & 1 ? LLB_SB_CLEAN : 0)})
	{
		r_.h.keep_log = false;
		r_.h.on_io_wait = [this] {
			if (!resizing_)
				check("before a write");
		};
		r_.start();
	}
	void go(int steps)
	{
		for (at_ = 0; at_ < steps && !::testing::Test::HasFailure(); at_++) {
			step();
			check("after a step");
		}
		bring_back();
		r_.h.run_for(4 * kCleanBy_ms);
		check("at the end");
		if (r_.h.resync_requests == 0) {
			EXPECT_EQ(crash_bytes(r_), 0u);
		}
	}

    private:
	u64 below(u64 n) { return rng_() % n; }
	u64 chunks() { return r_.table()->geo.chunks; }
	void check(const char *when)
	{
		EXPECT_EQ(crash_bytes(r_), on_disk(r_)) << when << " " << at_ << " (" << what_ << ")";
	}
	void bring_back()
	{
		r_.h.suspended = false;
		for (auto &m : r_.h.members) {
			m->fail_writes = m->fail_flushes = 0;
			if (m->in_sync())
				continue;
			m->flags = 0;
			llb_write_all(r_.b());
			llb_close_sync(r_.b());
			m->flags = PLAT_MEMBER_IN_SYNC;
			r_.h.degraded = 0;
		}
	}
	void step()
	{
		u64 first = below(8) ? below(base::min<u64>(chunks(), 300)) : below(chunks());
		u64 size = r_.chunk_sectors();
		what_ = rng_() % 12;
		switch (what_) {
		case 0: { // a discard
			u64 n = base::min(1 + below(20), chunks() - first);
			u64 sectors = base::min(n * size, r_.table()->geo.sync_size - first * size);
			llb_start_discard(r_.b(), first * size, sectors);
			r_.wait_durable();
			llb_end_discard(r_.b(), first * size, sectors);
			break;
		}
		case 1: // a long write
			for (u64 c = first; c < base::min(chunks() - 1, first + below(200)); c++)
				r_.write(c);
			break;
		case 2:
			r_.h.run_for(below(3000));
			break;
		case 3:
			r_.h.run_for(below(2 * kPass_ms));
			break;
		case 4: {
			resizing_ = true;
			u64 to = 200 + below(below(40) ? 11000 : 30000); // beyond that, larger chunks
			r_.h.array.sync_size = to * kChunk + below(2) * 8;
			ASSERT_EQ(llb_resize(r_.b(), r_.h.array.sync_size), 0) << r_.h.log_text();
			resizing_ = false;
			break;
		}
		case 5:
			r_.h.suspended = below(3) == 0;
			break;
		case 6: { // a write fails on all members, and perhaps lands all the same
			r_.h.md_error_works = false;
			for (auto &m : r_.h.members)
				m->fail_writes = 1;
			r_.write(first);
			for (auto &m : r_.h.members)
				m->fail_writes = 0;
			r_.h.md_error_works = true;
			break;
		}
		case 7:
			if (below(4))
				bring_back();
			else
				r_.h.fail_member(0);
			break;
		case 8: {
			const u64 budgets[] = {0, 1, 3, 20, 1000};
			ASSERT_EQ(llb_tune(r_.b(), LLB_TUNE_RESYNC_BUDGET, budgets[below(5)]), 0);
			break;
		}
		case 9:
			tune_s(r_, 1 + below(40), 1 + below(8));
			break;
		default:
			r_.write(first);
		}
	}

	std::mt19937 rng_;
	Rig r_;
	int at_ = 0;
	u32 what_ = 0;
	bool resizing_ = false;
};

TEST(CrashBytes, IsWhatLiesOnDiskAtEveryStepOfARandomRun)
{
	for (u32 seed = 1; seed <= 12 && !::testing::Test::HasFailure(); seed++) {
		SCOPED_TRACE(seed);
		RandomRun(seed).go(250);
	}
}

// ---- lazy clears ----

// Chunk 5 is clean in memory, and dirty on disk still.
void cleared_lazily(Rig &r)
{
	r.write(5);
	r.h.run_for(2 * kPass_ms + 500);
	ASSERT_EQ(r.raw(5), LLB_CLEAN);
	ASSERT_EQ(r.disk(5), LLB_DIRTY);
	ASSERT_EQ(crash_bytes(r), r.chunk_sectors() * 512);
}

struct TwoPages : Rig { // 100 GiB in chunks of 1 MiB
	TwoPages()
		: Rig({.sync_size = 100 * 1024 * kMiB, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN})
	{
		start();
	}
};

TEST(Lazy, GoesWithTheNextFirstTouchOfItsPage)
{
	TwoPages r;
	cleared_lazily(r);
	r.write(5000); // another page
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	int adds = r.h.io_adds;
	r.write(2000);
	EXPECT_EQ(r.h.io_adds, adds + 1);
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(crash_bytes(r), 2 * kMiB * 512);
}

TEST(Lazy, ElseTheNextPassWritesIt)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	int batches = r.h.io_batches, flushes = r.h.flush_calls;
	EXPECT_NE(r.h.daemon_due, ~0ull);
	r.h.run_for(kPass_ms);
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(crash_bytes(r), 0u);
	EXPECT_EQ(r.h.io_batches, batches + 1);
	EXPECT_EQ(r.h.flush_calls, flushes) << "nothing became clean";
	r.h.run_for(kPass_ms);
	EXPECT_EQ(r.h.daemon_due, ~0ull) << "there is nothing more to do";
	EXPECT_EQ(r.h.io_batches, batches + 1);
}

TEST(Lazy, AWriteOfItselfIsAFirstTouch)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	r.begin_nowait(5);
	EXPECT_TRUE(llb_pending(r.b()));
	r.wait_durable();
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(crash_bytes(r), kChunk * 512);
	r.h.run_for(3 * kCleanBy_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY) << "it is under way";
	r.end(5);
	r.idle();
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
}

TEST(Lazy, AnOrderlyStopWritesIt)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	llb_flush(r.b());
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(crash_bytes(r), 0u);
}

// It was clean while the array was whole, and stays so.
TEST(Lazy, WrittenAlsoWhereAMemberIsMissing)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	r.h.fail_member(1);
	r.h.run_for(kPass_ms);
	EXPECT_EQ(r.disk(0, 5), LLB_CLEAN);
	EXPECT_EQ(crash_bytes(r), 0u);
}

// The daemon finds a missing member first: there is nothing to clean, but this to write.
TEST(Lazy, WrittenAlsoWhereTheDaemonSleeps)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	r.h.suspended = true; // the pass that follows cannot write it
	r.h.fail_member(1);
	r.h.run_for(kPass_ms);
	ASSERT_EQ(r.disk(0, 5), LLB_DIRTY);
	r.h.suspended = false;
	r.h.run_for(2 * kPass_ms);
	EXPECT_EQ(r.disk(0, 5), LLB_CLEAN);
}

TEST(Lazy, WaitsWhileTheArrayIsSuspended)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	r.h.suspended = true;
	r.h.run_for(2 * kPass_ms);
	EXPECT_EQ(r.disk(5), LLB_DIRTY);
	EXPECT_EQ(crash_bytes(r), kChunk * 512);
	r.h.suspended = false;
	r.h.run_for(kPass_ms);
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(crash_bytes(r), 0u);
}

// What fails on all members once is written by the next try, the clean ones with it.
TEST(Lazy, AWriteThatFailedIsTriedAgain)
{
	Rig r(kClean);
	r.start();
	cleared_lazily(r);
	r.h.md_error_works = false;
	r.h.members[0]->fail_writes = r.h.members[1]->fail_writes = 1;
	std::vector<u64> before;
	r.h.on_io_wait = [&] { before.push_back(crash_bytes(r)); };
	r.h.run_for(kPass_ms);
	EXPECT_EQ(before, std::vector<u64>(2, kChunk * 512));
	EXPECT_EQ(r.disk(5), LLB_CLEAN);
	EXPECT_EQ(crash_bytes(r), 0u);
}

// Many neighbours of one pass, and pages between them that need no write.
TEST(Lazy, NeighboursAreOneWrite)
{
	Rig r({.chunks = 40 * 4096, .space = 41 * 8, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	for (u32 page : {2u, 3u, 3 + core::kBridge, 4 + 2 * core::kBridge})
		r.write(u64{page} * 4096);
	r.h.run_for(2 * kPass_ms + 500);
	ASSERT_EQ(r.state(2 * 4096), State::Clean);
	std::vector<u32> pages;
	r.h.on_io_wait = [&] {
		for (const auto &p : r.h.pieces)
			pages.push_back(p.offset / 4096);
	};
	r.h.run_for(kPass_ms);
	std::vector<u32> expected; // 2 to 11 in one, 20 alone
	for (u32 b = 2; b <= 3 + core::kBridge; b++)
		expected.push_back(b);
	expected.push_back(4 + 2 * core::kBridge);
	EXPECT_EQ(pages, expected);
	EXPECT_EQ(crash_bytes(r), 0u);
}

// ---- barrier_idle ----

TEST(Rest, BarrierIdleIsKeptAlsoTheSecondTime)
{
	Rig r({.chunks = 9000, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
	r.start();
	tune_s(r, 1, 20);
	for (u64 c : {5, 2000, 4000, 5}) {
		r.write(c);
		r.h.run_for(19500);
		EXPECT_EQ(r.state(c), State::Dirty) << c;
		r.h.run_for(2500);
		EXPECT_EQ(r.disk(c), LLB_CLEAN) << c;
	}
}

// A write since the find of quiet groups, and the next pass comes before barrier_idle: what
// was quiet then says nothing now.
TEST(Rest, QuietIsForgottenAfterThePass)
{
	Rig r(kClean);
	r.start();
	tune_s(r, 1, 5);
	r.write(5);
	bool once = true;
	r.h.on_flush = [&] {
		if (once)
			r.begin(6); // its group was found quiet, and it will be marked
		once = false;
	};
	r.h.run_for(6300);
	ASSERT_FALSE(once);
	r.h.run_for(60000);
	EXPECT_EQ(r.state(6), State::Dirty);
	EXPECT_EQ(r.disk(6), LLB_DIRTY);
	r.end(6);
	r.h.run_for(7100);
	EXPECT_EQ(r.disk(6), LLB_CLEAN);
}

// Written while the pass flushes: it is marked by that pass, and not cleared by it.
TEST(Rest, NothingIsMarkedAndClearedByOnePass)
{
	for (u64 budget : {0, 1}) { // 1: a pass that hurries
		Rig r({.chunks = 20000, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
		r.start();
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, budget), 0);
		for (u64 i = 0; i < 30; i++)
			r.write(4000 + i);
		bool once = true;
		r.h.on_flush = [&] {
			if (once)
				r.write(4100);
			once = false;
		};
		for (int i = 0; i < 100000 && once; i++)
			r.h.run_for(100);
		ASSERT_FALSE(once);
		EXPECT_EQ(r.state(4100), State::Dirty) << budget;
		EXPECT_EQ(r.disk(4100), LLB_DIRTY) << budget;
		r.h.run_for(kCleanBy_ms);
		EXPECT_EQ(r.disk(4100), LLB_CLEAN) << budget;
	}
}

// A chunk that is always written is never quiet: no disk is flushed for it.
TEST(Rest, APassThatCanClearNothingFlushesNothing)
{
	for (u64 budget : {0, 1}) {
		Rig r({.chunks = 20000, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
		r.start();
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, budget), 0);
		for (u64 i = 0; i < 30; i++)
			r.begin(4000 + i);
		r.h.run_for(3 * kSleep_ms); // what was covered beside them is clean
		EXPECT_TRUE(r.raw(4000) & core::kCleaning) << "marked it is";
		EXPECT_EQ(crash_bytes(r), 30 * kChunk * 512);
		int flushes = r.h.flush_calls, batches = r.h.io_batches;
		r.h.run_for(10 * kSleep_ms);
		EXPECT_EQ(r.h.flush_calls, flushes) << budget;
		EXPECT_EQ(r.h.io_batches, batches) << budget;
		for (u64 i = 0; i < 30; i++)
			r.end(4000 + i);
		r.idle();
		EXPECT_EQ(r.disk(4000), LLB_CLEAN);
	}
}

// ---- the budget ----

// One chunk in each window of a page, so that none covers another.
struct Many : Rig {
	static constexpr u64 kPages = 4 * core::kBatch;
	Many()
		: Rig({.chunks = kPages * 4096,
		       .space = (kPages + 1) * 8,
		       .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN})
	{
		h.keep_log = false;
		start();
		EXPECT_EQ(chunk_sectors(), kChunk);
	}
	static std::vector<u64> in_group(u64 group)
	{
		std::vector<u64> all;
		for (u64 page = group * core::kBatch; page < (group + 1) * core::kBatch; page++) {
			for (u64 at = page ? 0 : 1024; at < 4096; at += 1024)
				all.push_back(page * 4096 + at + 10 - LLB_CELLS_OFFSET);
		}
		return all;
	}
	void write_group(u64 group, size_t n = ~size_t{0})
	{
		auto all = in_group(group);
		for (size_t i = 0; i < base::min(n, all.size()); i++)
			write(all[i]);
	}
	u64 dirty_of(u64 group)
	{
		u64 n = 0;
		for (u64 c : in_group(group))
			n += state(c) == State::Dirty;
		return n;
	}
	u64 mib() { return crash_bytes(*this) >> 20; }
};

TEST(Budget, AboveItTheDaemonHurries)
{
	for (u64 budget : {0, 17}) {
		Many r;
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, budget), 0);
		for (u64 g = 0; g < 4; g++)
			r.write_group(g);
		ASSERT_EQ(r.mib(), 31u);
		r.h.run_for(3000);
		if (budget) {
			EXPECT_LE(r.mib(), budget);
			EXPECT_GE(crash_bytes(r), (budget << 20) - (1 << 19)) << "what fits is not hurried";
			EXPECT_EQ(crash_bytes(r), on_disk(r)) << "lazily";
		} else {
			EXPECT_EQ(r.mib(), 31u);
		}
		r.h.run_for(kCleanBy_ms);
		EXPECT_EQ(r.mib(), 0u);
	}
}

// What was cleared lazily, before the budget went, is the cheapest to be rid of.
TEST(Budget, AHurryWritesWhatIsDue)
{
	Many r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 17), 0);
	r.write_group(0); // 7.9 of 8.5
	r.h.run_for(2 * kPass_ms + 500);
	ASSERT_EQ(r.dirty_of(0), 0u);
	ASSERT_EQ(r.mib(), 7u) << "due";
	r.write_group(1);
	auto more = Many::in_group(2);
	for (size_t i = 0; i < 96; i++) { // 1 MiB each second: what is written is never too much
		if (i % 16 == 0)
			r.h.run_for(1000);
		r.write(more[i]);
		EXPECT_LE(r.mib(), 17u) << i;
	}
	EXPECT_EQ(crash_bytes(r), on_disk(r));
}

// Regular passes that come as often as those that hurry.
TEST(Budget, AShortDaemonSleepHurriesToo)
{
	Many r;
	tune_s(r, 1, 60);
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 17), 0);
	for (u64 g = 0; g < 4; g++)
		r.write_group(g);
	r.h.run_for(4000);
	EXPECT_LE(r.mib(), 17u);
}

TEST(Budget, ACoverTakesHalfOfWhatIsLeft)
{
	Rig r(kClean); // 64 chunks, 4 MiB
	r.start();
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 1), 0); // 16 of them
	r.write(0);
	r.write(2);
	EXPECT_EQ(crash_bytes(r), 4 * kChunk * 512);
	r.write(63);
	r.write(40);
	EXPECT_EQ(crash_bytes(r), 6 * kChunk * 512);
}

TEST(Budget, WhatFitsIsNotTakenBack)
{
	Many r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 18), 0);
	r.write_group(0); // 7.9 of 9
	int batches = r.h.io_batches;
	for (int i = 0; i < 60; i++) { // a hot working set
		r.h.run_for(3000);
		r.write_group(0);
	}
	EXPECT_EQ(r.h.io_batches, batches) << "pays no writes of the bitmap";
	EXPECT_EQ(r.dirty_of(0), Many::in_group(0).size());
}

// What rests longest first: a pass that hurries goes on where the last one stopped.
TEST(Budget, TheHandGoesOn)
{
	Many r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 17), 0); // 272 chunks
	for (u64 g = 0; g < 4; g++)
		r.write_group(g);
	r.h.run_for(1950); // all is marked; then less than half is enough
	EXPECT_EQ(r.dirty_of(0), 0u);
	ASSERT_EQ(r.dirty_of(2) + r.dirty_of(3), 256u);
	r.write_group(0, 32);
	r.h.run_for(1000);
	ASSERT_LT(r.dirty_of(2), 128u);
	ASSERT_EQ(r.dirty_of(3), 128u);
	r.write_group(1);
	r.h.run_for(1000);
	EXPECT_EQ(r.dirty_of(3), 0u) << "rests since the beginning";
	EXPECT_EQ(r.dirty_of(0), 32u) << "was written later";
}

TEST(Budget, APassThatHurriesKeepsWhatWasWrittenSinceItsMark)
{
	Many r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 1), 0);
	r.write_group(0);
	r.write_group(1);
	for (int i = 0; i < 20; i++) {
		r.h.run_for(400);
		r.write_group(0);
	}
	EXPECT_EQ(r.dirty_of(0), Many::in_group(0).size());
	EXPECT_EQ(r.dirty_of(1), 0u);
	EXPECT_EQ(crash_bytes(r), on_disk(r));
}

TEST(Budget, IsKeptOverARestart)
{
	for (u64 mib : {u64{0}, u64{1}, u64{5000}, u64{0xfffffffe}}) {
		Rig r(kClean);
		r.start();
		EXPECT_EQ(r.get32(0, kBudgetField), 0u) << "the default is told by 0";
		ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, mib), 0);
		EXPECT_EQ(budget_mib(r), mib);
		EXPECT_EQ(r.get32(1, kBudgetField), mib ? u32(mib) : LLB_BUDGET_NONE) << "at once";
		r.reboot();
		EXPECT_EQ(budget_mib(r), mib);
		r.h.events++;
		llb_update_sb(r.b());
		EXPECT_EQ(r.get32(0, kBudgetField), mib ? u32(mib) : LLB_BUDGET_NONE);
	}
}

// One from the superblock is also obeyed.
TEST(Budget, OfTheSuperblockIsObeyed)
{
	Many r;
	ASSERT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, 3), 0);
	llb_update_sb(r.b());
	r.reboot();
	r.write_group(0);
	r.h.run_for(3000);
	EXPECT_LE(r.mib(), 3u);
}

TEST(Budget, WhatIsTuned)
{
	Rig r(kClean);
	r.start();
	for (u64 bad : {u64{0xffffffff}, u64{1} << 32, (u64{1} << 32) + 1, u64{1} << 63, ~u64{0}})
		EXPECT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, bad), -LLB_ERANGE) << bad;
	EXPECT_EQ(budget_mib(r), 4u) << "unchanged: the whole array";
	for (u64 good : {u64{1}, u64{0xfffffffe}, u64{0}})
		EXPECT_EQ(llb_tune(r.b(), LLB_TUNE_RESYNC_BUDGET, good), 0) << good;
	EXPECT_EQ(budget_mib(r), 0u);
}

// 12 GiB by default, or what there is.
TEST(Budget, TheDefault)
{
	const u64 gib = 1024 * kMiB;
	struct {
		u64 size, budget;
		bool hurries;
	} cases[] = {{12 * gib, 12288, false}, {12 * gib + 2048, 12288, true}, {100 * gib, 12288, true}};
	for (auto c : cases) {
		Rig r({.sync_size = c.size, .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN});
		r.h.keep_log = false;
		r.start();
		EXPECT_EQ(budget_mib(r), c.budget);
		// Over a few seconds: what comes at that rate would soon be over a budget of as much.
		const u64 chunk = r.chunk_sectors(), chunks = base::min(c.size, 13 * gib) / chunk;
		for (u64 i = 0; i < chunks; i++) {
			r.write(i);
			if (i % (chunks / 4) == 0)
				r.h.run_for(1000);
		}
		r.h.run_for(3000);
		EXPECT_EQ(crash_bytes(r) < chunks * chunk * 512, c.hurries) << c.size;
	}
}

// ---- large bitmaps ----

// 16 TiB in chunks of 4 MiB.
struct Large : Rig {
	static constexpr u64 kTiB = u64{1} << 31; // sectors
	explicit Large(u64 tib = 16)
		: Rig({.space = core::kSpaceSectorsWanted,
		       .sync_size = tib * kTiB,
		       .state = LLB_SB_FIRST_USE | LLB_SB_CLEAN})
	{
		h.keep_log = false;
		for (u32 m = 0; m < 2; m++) {
			put32(m, LLB_SB_SECTORS_RESERVED, 256); // as mdadm does
			h.members[m]->m.data_sectors = 32 * kTiB;
			h.members[m]->m.data_offset = 1u << 20; // room enough
		}
		start();
	}
};

TEST(Large, FewWritesToLoadAndToResize)
{
	Large r(15);
	EXPECT_EQ(r.chunk_sectors(), 4 * kMiB);
	u32 pages = r.table()->geo.pages;
	EXPECT_EQ(pages, (u32{15} << 18) / 4096 + 1);
	EXPECT_LE(u32(r.h.io_batches), pages / core::kBatch + 3);
	r.write(7);
	int before = r.h.io_batches;
	r.h.array.sync_size = 16 * Large::kTiB;
	ASSERT_EQ(llb_resize(r.b(), r.h.array.sync_size), 0) << r.h.log_text();
	EXPECT_EQ(r.chunk_sectors(), 4 * kMiB);
	EXPECT_LE(u32(r.h.io_batches - before), (u32{1} << 18) / 4096 / core::kBatch + 4) << "what is new";
	r.stop();
	before = r.h.io_batches;
	r.start();
	EXPECT_LE(u32(r.h.io_batches - before), r.table()->geo.pages / core::kBatch + 3);
	EXPECT_EQ(r.chunk_sectors(), 4 * kMiB);
	EXPECT_EQ(r.counts()[LLB_NEED_SYNC], 1u);
}

TEST(Large, APassTouchesOnlyPagesWithSomethingToClean)
{
	Large r;
	ASSERT_EQ(r.table()->geo.chunks, u64{4} << 20);
	const std::vector<u64> written = {5, 1000000, 4194303};
	for (u64 c : written)
		r.write(c);
	llb_update_sb(r.b());
	std::vector<u32> pages;
	r.h.on_io_wait = [&] {
		for (const auto &p : r.h.pieces)
			pages.push_back(p.offset / 4096);
	};
	r.h.run_for(kCleanBy_ms);
	for (u64 c : written)
		EXPECT_EQ(r.disk(c), LLB_CLEAN);
	EXPECT_EQ(pages, (std::vector<u32>{0, 0, 244, 1024})) << "once for events_cleared";
	EXPECT_EQ(crash_bytes(r), 0u);
}

} // namespace
