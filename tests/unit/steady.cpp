// SPDX-License-Identifier: GPL-2.0
// The steady state (an array that was written before): what one write touches. The
// accesses are those of the core itself, logged by its own atomics policy.
#include <map>
#include <set>

#include "rig.hpp"

using base::Access;
using rig::Rig;

namespace {

struct Seen {
	std::map<Access, int> kinds;
	std::vector<std::string> calls;
	bool memory_changed; // also by stores that are no atomics
};

Seen watch(const std::function<void()> &work)
{
	std::vector<u8> before = fake::memory();
	base::logged_accesses.clear();
	fake::watch_calls(true);
	base::log_accesses = true;
	work();
	base::log_accesses = false;
	Seen seen;
	seen.calls = fake::take_calls();
	seen.memory_changed = before != fake::memory();
	fake::watch_calls(false);
	for (const auto &a : base::logged_accesses)
		seen.kinds[a.kind]++;
	return seen;
}

void expect_no_store(const Seen &seen)
{
	for (Access kind : {Access::Store, Access::Rmw, Access::FailedCas, Access::FullFence})
		EXPECT_EQ(seen.kinds.count(kind), 0u) << "kind " << int(kind);
	EXPECT_FALSE(seen.memory_changed);
}

// Every way in which an array gets to the steady state.
void in_the_steady_state(const std::function<void(Rig &, u64 sector)> &test)
{
	for (s32 level : {1, 5, 10}) {
		for (bool degraded : {false, true}) {
			Rig r({.level = level, .members = 4, .chunks = 9000, .state = LLB_SB_FIRST_USE});
			r.start();
			if (degraded)
				r.h.fail_member(3);
			for (u64 c : {0, 17, 31, 32, 3071, 3072, 8999})
				r.write(c);
			for (u64 c : {0, 17, 31, 32, 3071, 3072, 8999}) {
				SCOPED_TRACE(testing::Message() << "level " << level << " degraded "
								<< degraded << " chunk " << c);
				test(r, c * 128 + 8);
			}
		}
	}
}

TEST(SteadyState, AWriteStoresToNoSharedWord)
{
	std::set<std::string> names;
	int loads = 0;
	in_the_steady_state([&](Rig &r, u64 sector) {
		Seen start = watch([&] { llb_start_write(r.b(), sector, 8); });
		Seen end = watch([&] { llb_end_write(r.b(), sector, 8); });
		expect_no_store(start);
		expect_no_store(end);
		EXPECT_EQ(start.kinds[Access::Load], 2); // the table, and the cell
		EXPECT_EQ(end.kinds[Access::Load], 0);
		EXPECT_EQ(end.kinds[Access::ReleaseFence], 1);
		EXPECT_EQ(start.calls,
			  (std::vector<std::string>{"plat_section_enter", "plat_section_leave"}));
		EXPECT_EQ(end.calls, (std::vector<std::string>{"plat_counter_inc"}));
		loads = start.kinds[Access::Load];
		for (const auto &all : {start.calls, end.calls})
			names.insert(all.begin(), all.end());
	});
	EXPECT_EQ(names,
		  (std::set<std::string>{"plat_section_enter", "plat_section_leave", "plat_counter_inc"}));
	std::string list;
	for (const auto &name : names)
		list += " " + name;
	printf("start_write + end_write: %d atomic loads, 0 stores, 0 read-modify-writes; plat_ calls:%s\n",
	       loads, list.c_str());
}

TEST(SteadyState, AskingWhetherToUnplugIsFalseAndStoresNothing)
{
	in_the_steady_state([](Rig &r, u64 sector) {
		llb_start_write(r.b(), sector, 8);
		llb_u32 answer = 1;
		Seen seen = watch([&] { answer = llb_pending(r.b()); });
		EXPECT_EQ(answer, 0u);
		expect_no_store(seen);
		EXPECT_TRUE(seen.calls.empty());
		llb_end_write(r.b(), sector, 8);
	});
}

// A large write counts itself once for each group: a chunk, or a raid chunk where md always
// announces the whole of one.
TEST(SteadyState, OneCountPerGroup)
{
	constexpr u32 kRaidChunk = 8 * rig::kChunk;
	struct Case {
		s32 level;
		u32 raid_chunk; // sectors
		int counts; // of a write to the first 32 chunks
	};
	for (const Case &c : {Case{1, 0, 32},
			      {10, kRaidChunk, 32},
			      {5, kRaidChunk, 4},
			      {6, kRaidChunk, 4},
			      {5, 8, 32},
			      {5, 2 * kRaidChunk, 2}}) {
		SCOPED_TRACE(testing::Message() << "level " << c.level << " raid chunk " << c.raid_chunk);
		Rig r({.level = c.level,
		       .members = 4,
		       .state = LLB_SB_FIRST_USE,
		       .raid_chunk = c.raid_chunk});
		r.start();
		llb_start_write(r.b(), 0, 32 * rig::kChunk);
		llb_unplug(r.b(), 1);
		llb_end_write(r.b(), 0, 32 * rig::kChunk);
		Seen seen = watch([&] {
			llb_start_write(r.b(), 0, 32 * rig::kChunk);
			llb_end_write(r.b(), 0, 32 * rig::kChunk);
		});
		expect_no_store(seen);
		std::vector<std::string> calls;
		for (int i = 0; i < c.counts; i++)
			calls.insert(calls.end(), {"plat_section_enter", "plat_section_leave"});
		calls.insert(calls.end(), size_t(c.counts), "plat_counter_inc");
		EXPECT_EQ(seen.calls, calls);
	}
}

// The log itself sees what it should: a first touch does store.
TEST(SteadyState, AFirstTouchIsSeen)
{
	Rig r({.state = LLB_SB_FIRST_USE});
	r.start();
	Seen seen = watch([&] { llb_start_write(r.b(), 0, 8); });
	EXPECT_GE(seen.kinds[Access::Rmw], 3); // cell, flag, requested
	EXPECT_TRUE(seen.memory_changed);
	llb_end_write(r.b(), 0, 8);
}

} // namespace
