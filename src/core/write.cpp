// SPDX-License-Identifier: GPL-2.0
// Start and end of writes and discards. In the steady state a write touches only
// this CPU's counters: the cell, the table and the ledger's line are read.
#include "core/bitmap.hpp"

namespace core {

namespace {

// The cell may be written as it is: dirty on disk, and nobody needs to know of
// one more write (the daemon's mark and a pending discard do).
constexpr bool short_path(u8 raw)
{
	return u8(raw - (kCovered | LLB_DIRTY)) <= LLB_SYNCING - LLB_DIRTY;
}

// The three values in that range are what it should say yes to.
constexpr bool short_path_is_right()
{
	for (u32 raw = 0; raw < 256; raw++) {
		bool right = dirty_like(state_of(u8(raw))) && (raw & ~u32{kStateMask}) == kCovered;
		if (short_path(u8(raw)) != right)
			return false;
	}
	return true;
}
static_assert(short_path_is_right());

} // namespace

Context Bitmap::context() const
{
	kx_array a;
	kx_array_get(host_, &a);
	return Context{is_parity(a.level), a.degraded > 0};
}

// The slow half of start(), inside the section. Flag before request(): see there.
Bitmap::Slow Bitmap::start_slow(Table *t, u64 chunk, bool discard, bool whole)
{
	Cell &cell = t->cell(chunk);
	u8 raw = cell.load_relaxed();
	const Context ctx = context();

	for (;;) {
		// pairs with relayout(): it freezes, then waits for a grace period
		if (t->frozen.load_relaxed())
			return Slow::Frozen;
		State s = state_of(raw);
		if (discard && never_written(s)) {
			// No data to lose. Parity that is being built here is not
			// wanted any more; on disk this reloads to Unwritten already.
			State to = next(s, Event::Discard, ctx);
			if (to == State::None ||
			    cell.cas_full(raw, u8(with_state(raw, to) & ~(kCleaning | kEnded))))
				return Slow::Done;
			continue;
		}
		if (!(discard && whole) && short_path(raw))
			return Slow::Done;

		State to = next(s, Event::StartWrite, ctx);
		// parity is built and only waits for its flush: a plain dirty chunk
		if (s == State::SyncingUnwritten && (raw & kEnded))
			to = State::Dirty;
		if (to == State::None)
			to = s;
		u8 want = u8((raw & kCovered) | static_cast<u8>(to));
		// Lane sums cannot prove that a discard is alone, so it counts as such
		// only if nothing was written here since the last clean.
		if (discard && whole && (!dirty_like(s) || (raw & kTrim)))
			want |= kTrim;
		// (a) full: pairs with round_once() step 2 (flag taken, then copied) and
		// with the daemon's clearing cas
		if (cell.cas_full(raw, want)) {
			if (to == State::NeedSync)
				want_sync();
			if (want & kCovered)
				return Slow::Done;
			flag(t, chunk);
			return Slow::NeedsWrite;
		}
	}
}

// Full, so that it precedes request() and follows the cell: pairs with the exchange
// of round_once() step 2.
void Bitmap::flag(Table *t, u64 chunk)
{
	blocks_[t->block_of(chunk)].flagged.fetch_or_full(kFlagFresh);
}

// (b) full, after the flags: pairs with the load of requested in round_once() step 1.
void Bitmap::request()
{
	requested_.fetch_add_full(1);
}

// The chunks of [sector, stop), in one lane and one section.
Bitmap::Slow Bitmap::start_chunks(Table *t, u64 sector, u64 stop, bool discard)
{
	const u32 shift = t->geo.chunk_shift;
	const u64 last = base::min((stop - 1) >> shift, t->geo.chunks - 1);
	Slow all = Slow::Done;

	for (u64 chunk = sector >> shift; chunk <= last; chunk++) {
		u8 raw = t->cell(chunk).load_relaxed();
		bool whole = discard && chunk << shift >= sector &&
			     base::min((chunk + 1) << shift, t->geo.sync_size) <= stop;
		if (short_path(raw) && !whole)
			continue;
		Slow done = start_slow(t, chunk, discard, whole);
		if (done == Slow::Frozen)
			return done;
		if (done == Slow::NeedsWrite)
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
	u32 starts = lane_of(sector) * 2;

	if (sectors == 0)
		return;
	// The count and the cells' loads are one section: the daemon marks, waits for a
	// grace period, and then reads the sums.
	kx_section_enter(counters_, starts);
	Table *t = table();
	u64 chunk = sector >> (t->geo.chunk_shift & 63);
	if (t->in_one_piece(sector, sectors) && chunk < t->geo.chunks &&
	    short_path(t->cell(chunk).load_relaxed()))
		kx_section_leave();
	else
		start_range(t, sector, sectors, false);
}

void Bitmap::start_discard(u64 sector, u64 sectors)
{
	if (sectors == 0) // raid4/5/6: no whole stripe
		return;
	kx_section_enter(counters_, lane_of(sector) * 2);
	start_range(table(), sector, sectors, true);
}

// Begins in the section in which the first lane was counted, and leaves it.
void Bitmap::start_range(Table *t, u64 sector, u64 sectors, bool discard)
{
	const u64 end = sector + sectors;
	bool need = false;

	for (;;) {
		u64 stop = base::min(end, ((sector >> lane_shift_) + 1) << lane_shift_);
		Slow done = start_chunks(t, sector, stop, discard);

		kx_section_leave();
		if (done == Slow::Frozen) { // a new layout is being made: as if we had not come yet
			kx_counter_inc(counters_, lane_of(sector) * 2 + 1);
			kx_wait(host_, this, KX_WAIT_THAW, reinterpret_cast<u64>(t));
		} else {
			need |= done == Slow::NeedsWrite;
			sector = stop;
			if (sector >= end)
				break;
		}
		kx_section_enter(counters_, lane_of(sector) * 2);
		t = table();
	}
	if (need)
		request();
}

// The lanes of [sector, end), end > sector.
void Bitmap::end_lanes(u64 sector, u64 end)
{
	while (sector < end) {
		kx_counter_inc(counters_, lane_of(sector) * 2 + 1);
		sector = ((sector >> lane_shift_) + 1) << lane_shift_;
	}
}

void Bitmap::end(u64 sector, u64 sectors)
{
	if (sectors == 0)
		return;
	// (c) release: the write is complete before it is counted as ended; pairs with
	// the full fence between the two sums in find_quiet()
	base::fence_release();
	if (sector >> (lane_shift_ & 63) == (sector + sectors - 1) >> (lane_shift_ & 63))
		kx_counter_inc(counters_, lane_of(sector) * 2 + 1); // nearly always
	else
		end_lanes(sector, sector + sectors);
}

void Bitmap::start_behind()
{
	behind_.fetch_add_full(1); // full: pairs with find_quiet()'s load after the sums
}

void Bitmap::end_behind()
{
	// full: the write is complete before the count falls; pairs as above
	if (behind_.fetch_sub_full(1) == 1)
		kx_wake(host_);
}

void Bitmap::wait_behind()
{
	behind_waiters_.fetch_add_full(1); // read by stats(): no new write-behind meanwhile
	kx_wait(host_, this, KX_WAIT_BEHIND, 0);
	behind_waiters_.fetch_sub_full(1);
}

} // namespace core
