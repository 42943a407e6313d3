// SPDX-License-Identifier: GPL-2.0
// Start and end of writes and discards. In the steady state a write touches only
// this CPU's counters: the cell, the table and the commit's line are read.
#include "core/bitmap.hpp"

namespace core {

namespace {

// The cell may be written as it is: dirty on disk, and nobody needs to know of
// one more write (the daemon's mark and a pending discard do).
constexpr bool fast_path(u8 raw)
{
	return u8(raw - (kDirtyOnDisk | LLB_DIRTY)) <= LLB_SYNCING - LLB_DIRTY;
}

// The three values in that range are what it should say yes to.
constexpr bool fast_path_is_right()
{
	for (u32 raw = 0; raw < 256; raw++) {
		bool right = dirty_like(state_of(u8(raw))) && (raw & ~u32{kStateMask}) == kDirtyOnDisk;
		if (fast_path(u8(raw)) != right)
			return false;
	}
	return true;
}
static_assert(fast_path_is_right());

} // namespace

Context Bitmap::context() const
{
	plat_array_info a;
	plat_array_get(host_, &a);
	return Context{is_parity(a.level), a.degraded > 0};
}

// The slow half of start(), inside the section. Flag before request(): see there.
Bitmap::Start Bitmap::start_slow(Table *t, u64 chunk, bool discard, bool whole)
{
	Cell &cell = t->cell(chunk);
	u8 raw = cell.load_relaxed();
	const Context ctx = context();

	for (;;) {
		// pairs with relayout(): it freezes, then waits for a grace period
		if (t->frozen.load_relaxed())
			return Start::Frozen;
		State s = state_of(raw);
		if (discard && never_written(s)) {
			// No data to lose. Parity that is being built here is not
			// wanted any more; on disk this reloads to Unwritten already.
			State to = next(s, Event::Discard, ctx);
			if (to == State::None ||
			    cell.cas_full(raw, u8(with_state(raw, to) & ~(kCleaning | kEnded))))
				return Start::Ready;
			continue;
		}
		if (!(discard && whole) && fast_path(raw))
			return Start::Ready;

		State to = next(s, Event::StartWrite, ctx);
		// parity is built and only waits for its flush: a plain dirty chunk
		if (s == State::SyncingUnwritten && (raw & kEnded))
			to = State::Dirty;
		if (to == State::None)
			to = s;
		u8 want = u8((raw & kDirtyOnDisk) | static_cast<u8>(to));
		// Group sums cannot prove that a discard is alone, so it counts as such
		// only if nothing was written here since the last clean.
		if (discard && whole && (!dirty_like(s) || (raw & kTrim)))
			want |= kTrim;
		// (a) full: pairs with commit_once() step 2 (flag taken, then copied) and
		// with the daemon's clearing cas
		if (cell.cas_full(raw, want)) {
			if (to == State::NeedSync)
				want_sync();
			if (want & kDirtyOnDisk)
				return Start::Ready;
			flag(t, chunk);
			return Start::NeedsCommit;
		}
	}
}

// Full, so that it precedes request() and follows the cell: pairs with the exchange
// of commit_once() step 2.
void Bitmap::flag(Table *t, u64 chunk)
{
	page_info_[t->page_of(chunk)].flagged.fetch_or_full(kFlagFresh);
}

// (b) full, after the flags: pairs with the load of requested in commit_once() step 1.
void Bitmap::request()
{
	requested_.fetch_add_full(1);
}

// The chunks of [sector, stop), in one group and one section.
Bitmap::Start Bitmap::start_chunks(Table *t, u64 sector, u64 stop, bool discard)
{
	const u32 shift = t->geo.chunk_shift;
	const u64 last = base::min((stop - 1) >> shift, t->geo.chunks - 1);
	Start all = Start::Ready;

	for (u64 chunk = sector >> shift; chunk <= last; chunk++) {
		u8 raw = t->cell(chunk).load_relaxed();
		bool whole = discard && chunk << shift >= sector &&
			     base::min((chunk + 1) << shift, t->geo.sync_size) <= stop;
		if (fast_path(raw) && !whole)
			continue;
		Start done = start_slow(t, chunk, discard, whole);
		if (done == Start::Frozen)
			return done;
		if (done == Start::NeedsCommit)
			all = done;
		// relaxed: the daemon looks again after it disarms (full there)
		if (!armed_.load_relaxed())
			arm(pass_ms());
	}
	return all;
}

// Nearly always a write of one chunk that is dirty: start_range() would do no more than
// this look at its cell. What lies behind the last chunk is its business, too.
void Bitmap::start(u64 sector, u64 sectors)
{
	u32 starts = group_of(sector) * 2;

	if (sectors == 0)
		return;
	// The count and the cells' loads are one section: the daemon marks, waits for a
	// grace period, and then reads the sums.
	plat_section_enter(counters_, starts);
	Table *t = table();
	u64 chunk = sector >> (t->geo.chunk_shift & 63);
	if (t->in_one_piece(sector, sectors) && chunk < t->geo.chunks &&
	    fast_path(t->cell(chunk).load_relaxed()))
		plat_section_leave();
	else
		start_range(t, sector, sectors, false);
}

void Bitmap::start_discard(u64 sector, u64 sectors)
{
	if (sectors == 0) // raid4/5/6: no whole stripe
		return;
	plat_section_enter(counters_, group_of(sector) * 2);
	start_range(table(), sector, sectors, true);
}

// Begins in the section in which the first group was counted, and leaves it.
void Bitmap::start_range(Table *t, u64 sector, u64 sectors, bool discard)
{
	const u64 end = sector + sectors;
	bool need = false;

	for (;;) {
		u64 stop = base::min(end, ((sector >> group_shift_) + 1) << group_shift_);
		Start done = start_chunks(t, sector, stop, discard);

		plat_section_leave();
		if (done == Start::Frozen) { // a new layout is being made: as if we had not come yet
			plat_counter_inc(counters_, group_of(sector) * 2 + 1);
			plat_wait(host_, this, PLAT_WAIT_THAW, reinterpret_cast<u64>(t));
		} else {
			need |= done == Start::NeedsCommit;
			sector = stop;
			if (sector >= end)
				break;
		}
		plat_section_enter(counters_, group_of(sector) * 2);
		t = table();
	}
	if (need)
		request();
}

// The groups of [sector, end), end > sector.
void Bitmap::end_groups(u64 sector, u64 end)
{
	while (sector < end) {
		plat_counter_inc(counters_, group_of(sector) * 2 + 1);
		sector = ((sector >> group_shift_) + 1) << group_shift_;
	}
}

void Bitmap::end(u64 sector, u64 sectors)
{
	if (sectors == 0)
		return;
	// (c) release: the write is complete before it is counted as ended; pairs with
	// the full fence between the two sums in find_quiet()
	base::fence_release();
	if (sector >> (group_shift_ & 63) == (sector + sectors - 1) >> (group_shift_ & 63))
		plat_counter_inc(counters_, group_of(sector) * 2 + 1); // nearly always
	else
		end_groups(sector, sector + sectors);
}

void Bitmap::start_behind()
{
	behind_.fetch_add_full(1); // full: pairs with find_quiet()'s load after the sums
}

void Bitmap::end_behind()
{
	// full: the write is complete before the count falls; pairs as above
	if (behind_.fetch_sub_full(1) == 1)
		plat_wake(host_);
}

void Bitmap::wait_behind()
{
	behind_waiters_.fetch_add_full(1); // read by stats(): no new write-behind meanwhile
	plat_wait(host_, this, PLAT_WAIT_BEHIND, 0);
	behind_waiters_.fetch_sub_full(1);
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_start_write(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).start(sector, sectors);
}

void llb_end_write(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).end(sector, sectors);
}

void llb_start_discard(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).start_discard(sector, sectors);
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

u32 llb_behind_idle(llb_bitmap *b)
{
	return of(b).wait_done(PLAT_WAIT_BEHIND, 0);
}
}
