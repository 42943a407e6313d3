// SPDX-License-Identifier: GPL-2.0
#include "core/cost.hpp"

namespace core {

bool Cost::make_due(u32 pages)
{
	due_of_ = static_cast<base::Atomic<u16> *>(plat_alloc(u64{pages} * sizeof(*due_of_)));
	return due_of_;
}

void Cost::free_due()
{
	plat_free(due_of_);
}

// Chunks that are dirty on disk, in bytes of what is synchronised: a member's, raid10's
// array's. [any]
u64 Cost::crash_bytes() const
{
	const Table *t = table();
	u64 chunks = init_pending_.load_relaxed() ? loaded_dirty_.load_relaxed()
						  : dirty_on_disk_.load_relaxed() + due_.load_relaxed();

	return base::min(chunks << t->geo.chunk_shift, t->geo.sync_size) << kSectorShift;
}

// What it may cost; kNoLimit: anything. An array that can be resynchronised in that time as
// a whole has no limit. [any]
u64 Cost::budget_bytes() const
{
	u32 mib = budget_mib_.load_relaxed();

	if (mib == 0)
		mib = table()->geo.sync_size >> 11 <= kBudgetDefault_mib ? LLB_BUDGET_NONE
									 : kBudgetDefault_mib;
	return mib == LLB_BUDGET_NONE ? kNoLimit : u64{mib} << 20;
}

// The limit that holds; 0: none.
u64 Cost::budget_mib() const
{
	u32 mib = budget_mib_.load_relaxed();

	if (mib == 0)
		return base::min<u64>(base::div_up(table()->geo.sync_size, 2048), kBudgetDefault_mib);
	return mib == LLB_BUDGET_NONE ? 0 : mib;
}

// Is half of the budget spent, on what can be cleaned? What waits for a resync costs as much
// whatever the daemon does. [any]
bool Cost::over_half() const
{
	u64 budget = budget_bytes();

	return budget != kNoLimit &&
	       crash_bytes() > base::min(waiting_bytes_.load_relaxed(), kNoLimit - budget) + budget / 2;
}

// Is half of the budget spent? Counts what waits for a resync, if that may matter.
bool Cost::look_at_budget(const Table *t)
{
	u64 waiting = 0;

	waiting_bytes_.store_relaxed(0);
	if (!over_half())
		return false;
	for (u32 b = 0; b < t->geo.pages; b++) {
		t->each_cell(b, eight::wants_sync, [&waiting](u64, Cell &cell) {
			u8 raw = cell.load_relaxed();
			waiting += dirty_like(state_of(raw)) && state_of(raw) != State::Dirty &&
				   (raw & kDirtyOnDisk);
			return false;
		});
		if (b % kRelaxEvery == 0)
			plat_relax();
	}
	waiting_bytes_.store_relaxed(waiting << t->geo.chunk_shift << kSectorShift);
	return over_half();
}

// Then the daemon looks each second. [the leader lock]
void Cost::watch_budget()
{
	if (!over_half() || hurried_.load_relaxed())
		return;
	hurried_.exchange_full(1);
	arm_at_least(base::min(kHurry_ms, sleep_ms()));
}

void Cost::became_dirty_on_disk(u64 cells)
{
	dirty_on_disk_.store_relaxed(dirty_on_disk_.load_relaxed() + cells);
	dirtied_.store_relaxed(dirtied_.load_relaxed() + cells);
}

void Cost::no_longer_dirty_on_disk(u64 cells)
{
	dirty_on_disk_.store_relaxed(dirty_on_disk_.load_relaxed() - cells);
	cleaned_.store_relaxed(cleaned_.load_relaxed() + cells);
}

void Cost::became_due(u32 page, u32 had, u32 cells)
{
	due_of_[page].store_relaxed(u16(had + cells));
	due_.store_relaxed(due_.load_relaxed() + cells);
}

// What was cleared in memory is clean on disk.
void Cost::page_written(u32 page)
{
	u16 due = due_of_[page].load_relaxed();

	if (!due)
		return;
	due_of_[page].store_relaxed(0);
	due_.store_relaxed(due_.load_relaxed() - due);
}

void Cost::recount(const Table *t)
{
	u64 dirty = 0, due = 0;

	for (u32 b = 0; b < t->geo.pages; b++) {
		for (u64 c = t->page_first(b); c < t->page_end(b); c++)
			dirty += (t->cell(c).load_relaxed() & kDirtyOnDisk) != 0;
		due += due_of_[b].load_relaxed();
		plat_relax();
	}
	// all of the old table, and all of the new one: the difference stays what is dirty
	cleaned_.store_relaxed(cleaned_.load_relaxed() + dirty_on_disk_.load_relaxed());
	dirtied_.store_relaxed(dirtied_.load_relaxed() + dirty);
	dirty_on_disk_.store_relaxed(dirty);
	due_.store_relaxed(due);
}

} // namespace core
