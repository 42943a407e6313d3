// SPDX-License-Identifier: GPL-2.0
// Starts of writes and discards; their ends: inflight.cpp. In the steady state a write touches only
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
			flag(t->page_of(chunk), kFlagFresh);
			return Start::NeedsCommit;
		}
	}
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
		arm_for_pass();
	}
	return all;
}

// Nearly always a write of one chunk that is dirty: start_range() would do no more than
// this look at its cell. What lies behind the last chunk is its business, too.
[[gnu::always_inline]] inline void Bitmap::start(u64 sector, u64 sectors)
{
	if (sectors == 0)
		return;
	enter(sector);
	Table *t = table();
	u64 chunk = sector >> (t->geo.chunk_shift & 63);
	if (t->in_one_piece(sector, sectors) && chunk < t->geo.chunks &&
	    fast_path(t->cell(chunk).load_relaxed()))
		leave();
	else
		start_range(t, sector, sectors, false);
}

void Bitmap::start_discard(u64 sector, u64 sectors)
{
	if (sectors == 0) // raid4/5/6: no whole stripe
		return;
	enter(sector);
	start_range(table(), sector, sectors, true);
}

// Begins in the section in which the first group was counted, and leaves it.
void Bitmap::start_range(Table *t, u64 sector, u64 sectors, bool discard)
{
	const u64 end = sector + sectors;
	bool need = false;

	for (;;) {
		u64 stop = base::min(end, group_end(sector));
		Start done = start_chunks(t, sector, stop, discard);

		leave();
		if (done == Start::Frozen) { // a new layout is being made: as if we had not come yet
			count_end(sector);
			plat_wait(host_, this, PLAT_WAIT_THAW, reinterpret_cast<u64>(t));
		} else {
			need |= done == Start::NeedsCommit;
			sector = stop;
			if (sector >= end)
				break;
		}
		enter(sector);
		t = table();
	}
	if (need)
		request();
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_start_write(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).start(sector, sectors);
}

void llb_start_discard(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).start_discard(sector, sectors);
}
}
