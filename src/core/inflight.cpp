// SPDX-License-Identifier: GPL-2.0
#include "core/bitmap.hpp"

namespace core {

namespace {

constexpr u32 kRelaxGroups = 32; // between two offers to the scheduler
constexpr u32 kGroupChunksShiftMax = 6; // a section looks at no more than 64 cells

} // namespace

// announced: raid4/5/6: md names a write's raid chunk, whole (sectors; a power of two; 0: what is
// written). The chunks of one begin and end together, and so count together.
bool Inflight::make_groups(const Geometry &geo, u32 announced)
{
	u32 more = 0;
	while (more < kGroupChunksShiftMax && geo.chunk_sectors() << (more + 1) <= announced)
		more++;
	group_shift_ = geo.chunk_shift + more;
	groups_ = 1;
	while (groups_ < kGroupsMax && groups_ < geo.chunks) // the array may grow
		groups_ *= 2;
	counters_ = plat_counters_alloc(groups_ * 2);
	quiet_ = static_cast<u8 *>(plat_alloc(groups_));
	return counters_ && quiet_;
}

void Inflight::free_groups()
{
	if (counters_)
		plat_counters_free(counters_);
	plat_free(quiet_);
}

// The groups of [sector, end), end > sector.
void Inflight::end_groups(u64 sector, u64 end)
{
	while (sector < end) {
		count_end(sector);
		sector = group_end(sector);
	}
}

[[gnu::always_inline]] inline void Inflight::end(u64 sector, u64 sectors)
{
	if (sectors == 0)
		return;
	// (c) release: the write is complete before it is counted as ended; pairs with
	// the full fence between the two sums in find_quiet()
	base::fence_release();
	if (sector >> (group_shift_ & 63) == (sector + sectors - 1) >> (group_shift_ & 63))
		count_end(sector); // nearly always
	else
		end_groups(sector, sector + sectors);
}

void Inflight::start_behind()
{
	behind_.fetch_add_full(1); // full: pairs with find_quiet()'s load after the sums
}

void Inflight::end_behind()
{
	// full: the write is complete before the count falls; pairs as above
	if (behind_.fetch_sub_full(1) == 1)
		plat_wake(host_);
}

void Inflight::wait_behind()
{
	behind_waiters_.fetch_add_full(1); // read by behind_waited_for(): no new write-behind meanwhile
	plat_wait(host_, this, PLAT_WAIT_BEHIND, 0);
	behind_waiters_.fetch_sub_full(1);
}

// ---- is it quiet? ----

// Clear 1: groups that were quiet at an instant after the grace period of all marks.
bool Inflight::find_quiet()
{
	bool any = false;

	for (u32 g = 0; g < groups_; g++) {
		if (g % kRelaxGroups == 0)
			plat_relax(); // each group is two loads from every possible CPU
		// all ends, then all starts: a write that is not in the ends is in the
		// starts, whichever CPU it ends on. Pairs with (c) in end().
		u32 ends = plat_counter_sum(counters_, ends_of(g));
		base::fence_full();
		u32 starts = plat_counter_sum(counters_, starts_of(g));
		quiet_[g] = ends == starts;
		any |= ends == starts;
	}
	// After that instant: a write-behind that began before the mark may not have
	// counted itself until then. Pairs with start_behind() and end_behind().
	return any && behind_.load_seq_cst() == 0;
}

// A chunk is in one group, or has several once a resize made chunks larger.
bool Inflight::group_quiet(const Table *t, u64 chunk) const
{
	u64 sector = chunk << t->geo.chunk_shift;
	u64 groups = base::min<u64>(t->geo.chunk_sectors() >> group_shift_, groups_);

	groups = base::max<u64>(groups, 1); // of which it may be a part
	for (u64 i = 0; i < groups; i++) {
		if (!quiet_[group_of(sector + (i << group_shift_))])
			return false;
	}
	return true;
}

void Inflight::forget_quiet()
{
	for (u32 g = 0; g < groups_; g++)
		quiet_[g] = 0;
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_end_write(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).end(sector, sectors);
}

void llb_end_discard(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).end(sector, sectors);
}

void llb_start_behind(llb_bitmap *b)
{
	of(b).start_behind();
}

void llb_end_behind(llb_bitmap *b)
{
	of(b).end_behind();
}

void llb_wait_behind(llb_bitmap *b)
{
	of(b).wait_behind();
}
}
