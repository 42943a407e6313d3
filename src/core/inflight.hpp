// SPDX-License-Identifier: GPL-2.0
// Writes under way. Each counts itself in its chunk's group when it starts, and in the group's
// other counter when it ends, on the CPU it is on; the daemon asks which groups are quiet.
// Neighbouring chunks are in different groups, but for those that md always announced together
// when the array was assembled: one that is never quiet keeps few others dirty, far from it.
#pragma once

#include "core/ground.hpp"

namespace core {

#ifndef LLB_GROUPS_MAX // the model's is smaller, so that few chunks share a group
#define LLB_GROUPS_MAX 1024
#endif
constexpr u32 kGroupsMax = LLB_GROUPS_MAX; // a power of two

class Inflight : public Ground {
    public:
	LLB_HOT inline void end(u64 sector, u64 sectors); // of a write or a discard; in inflight.cpp alone
	void start_behind();
	void end_behind();
	void wait_behind();
	// Write-behinds under way. Pairs with end_behind().
	s32 behind() const { return behind_.load_acquire(); }
	bool behind_waited_for() const { return behind_waiters_.load_relaxed() > 0; }

    protected:
	using Ground::Ground;

	bool make_groups(const Geometry &geo, u32 announced); // false: no memory
	void free_groups();
	u32 group_shift() const { return group_shift_; } // of sectors
	// The end of the sector's part of the array that is all one group's.
	u64 group_end(u64 sector) const { return ((sector >> group_shift_) + 1) << group_shift_; }

	// A write's start is counted and then its cells are loaded, in one section: the daemon
	// marks, waits for a grace period, and then reads the sums.
	void enter(u64 sector) { plat_section_enter(counters_, starts_of(group_of(sector))); }
	void leave() { plat_section_leave(); }
	void count_end(u64 sector) { plat_counter_inc(counters_, ends_of(group_of(sector))); }

	// The daemon's: find_quiet() asks once, group_quiet() is what it found.
	bool find_quiet();
	bool group_quiet(const Table *t, u64 chunk) const;
	void forget_quiet();

    private:
	friend struct Peek;

	// Shifts on a write's way are & 63: kernels with UBSAN_SHIFT check others.
	u32 group_of(u64 sector) const { return u32(sector >> (group_shift_ & 63)) & (groups_ - 1); }
	static u32 starts_of(u32 group) { return group * 2; }
	static u32 ends_of(u32 group) { return group * 2 + 1; }
	void end_groups(u64 sector, u64 end);

	plat_counters *counters_ = nullptr;
	u32 group_shift_ = 0; // fixed for the life of the object
	u32 groups_ = 0; // a power of two
	u8 *quiet_ = nullptr; // of groups_: no write of before the marks is under way
	// All above is only read while writes go on.
	alignas(64) base::Atomic<s32> behind_{0};
	base::Atomic<s32> behind_waiters_{0};
};

} // namespace core
