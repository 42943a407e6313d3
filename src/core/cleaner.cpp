// SPDX-License-Identifier: GPL-2.0
// The expiry daemon. A pass clears what earlier passes marked and nothing wrote
// since, then marks what is dirty now. Nobody waits for it: a write that comes in
// between takes the mark off with the cas that it does anyway.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

namespace {

// Dirty, or dirty on disk only, or built parity that waits for a flush.
bool cleanable(u8 raw)
{
	State s = state_of(raw);
	return s == State::Dirty || (s == State::SyncingUnwritten && (raw & kEnded)) ||
	       (!dirty_like(s) && (raw & kDirtyOnDisk));
}

u64 with_mark(u64 raw)
{
	return raw & eight::each(kCleaning);
}

} // namespace

void Cleaner::daemon_take()
{
	// full: pairs with daemon_give()
	while (daemon_busy_.exchange_full(1))
		plat_wait(host_, this, PLAT_WAIT_DAEMON, 0);
}

void Cleaner::daemon_give()
{
	daemon_busy_.store_release(0); // pairs with daemon_take()
	base::fence_full(); // before the waiters are looked for
	plat_wake(host_);
}

bool Cleaner::anything_to_clean(const Table *t) const
{
	if (due_anywhere())
		return true;
	for (u32 b = 0; b < t->geo.pages; b++) {
		if (flagged(b) || t->each_cell(b, eight::cleanable, [](u64, Cell &cell) {
			    return cleanable(cell.load_relaxed());
		    }))
			return true;
		if (b % kRelaxEvery == 0)
			plat_relax();
	}
	return false;
}

void Cleaner::daemon()
{
	disarm(); // before the scans
	stop_hurrying();
	daemon_take();
	Table *t = table();
	plat_array_info a;
	plat_array_get(host_, &a);
	u64 now = plat_now_ms();
	bool over = look_at_budget(t);
	u64 keep = keep_bytes(now);

	// What an image of this memory takes for dirty on disk stays so: W1.
	bool may = (a.flags & PLAT_ARRAY_RDWR) && !(a.flags & PLAT_ARRAY_SNAPSHOT) && !broken();
	if (may && rhythm_.pass_due(now)) {
		bool rested = rhythm_.rested(now, idle_ms());
		pass(t, {0, rested || (over && crash_bytes() > keep), true, !over, Hold{false}});
		rhythm_.passed(now, pass_ms());
	} else if (may && over && rhythm_.hurry_due(now)) {
		if (crash_bytes() > keep)
			pass(t, {keep, true, true, false, Hold{false}});
		rhythm_.hurried(now);
	}
	bool left = anything_flagged(t) || due_anywhere();
	bool again = left || anything_to_clean(t) || sync_wanted();
	if (again && stuck(a, left)) {
		// full, then look again: pairs with daemon_work(), which follows the change
		asleep_.exchange_full(1);
		plat_array_get(host_, &a);
		again = !stuck(a, left);
	}
	u64 next = rhythm_.next_ms(over && may);
	daemon_give();
	if (sync_wanted())
		plat_md_wake(host_); // daemon_work() decides
	if (!again)
		return;
	// Woken early, for a sync, it does not put off the pass. A writer may have armed it
	// meanwhile, and for later.
	arm_at_least(next > now ? u32(next - now) : pass_ms());
}

// md has told of a change, perhaps: see daemon(). Relaxed: md wakes its thread after each.
void Cleaner::wake_if_it_helps()
{
	plat_array_info a;

	if (!asleep())
		return;
	plat_array_get(host_, &a);
	if (stuck(a, false))
		return;
	asleep_.exchange_full(0);
	arm(over_half() ? base::min(kHurry_ms, pass_ms()) : pass_ms());
}

// What may stay dirty where the budget is nearly spent: so much less than it as may be
// written until the next two passes, of which the first may only mark.
u64 Cleaner::keep_bytes(u64 now_ms)
{
	u64 budget = budget_bytes();
	u64 growth = rhythm_.growth(now_ms, crash_bytes(), 3 * kHurry_ms);

	if (budget == kNoLimit)
		return budget;
	return budget - base::min(budget / 2, growth) + waiting_bytes();
}

// Would every pass find that it can do nothing, until md tells of a change? left: pages
// are flagged that could not be written.
bool Cleaner::stuck(const plat_array_info &a, bool left) const
{
	if (!(a.flags & PLAT_ARRAY_RDWR) || broken())
		return true;
	plat_slots slots;
	plat_slots_get(host_, &slots);
	return !left && !whole(slots, false);
}

// W3: every slot has an in-sync member, and this flush reached all of them. md's own count of
// missing ones may be too small, even below 0 (K23).
bool Cleaner::whole(const plat_slots &s, bool flushed) const
{
	return s.degraded <= 0 && s.in_sync == s.slots && (!flushed || s.flushed == s.slots);
}

// A pass over the pages, of what became quiet since it was marked, and then of what is
// dirty now. The caller has daemon_take().
void Cleaner::pass(Table *t, Pass p)
{
	bool left = anything_flagged(t); // could not be written before
	plat_slots slots;

	plat_slots_get(host_, &slots);
	if (whole(slots, false)) { // 3, before any disk is woken for a flush
		walk(t, p);
	} else {
		unmark_cells(t);
		left |= due_anywhere(); // what was cleared before may be written
	}
	if (left)
		write_left(t, p.hold);
}

void Cleaner::write_left(Table *t, Hold hold)
{
	u32 flagged = t->geo.pages;

	leader_lock();
	for (u32 b = 0; b < t->geo.pages; b++) {
		if (!due_in(b))
			continue;
		flag_to(flagged < b ? flagged : b, b);
		flagged = b;
	}
	if (anything_flagged(t))
		(void)commit(hold).failed(); // stays flagged if it still cannot
	leader_unlock();
}

// A batch at a time: a first touch waits for one write of the daemon's, as for another
// writer's, and never for the pass. One that hurries goes round like the hand of a clock,
// and no farther than it has to: what it has marked and finds marked still when it comes
// again was not written in between, and rests longest.
void Cleaner::walk(Table *t, Pass p)
{
	const u32 pages = t->geo.pages;
	const u32 first = p.keep ? hand_ % pages : 0;
	bool clear = p.clear && prepare_clear(t, p.hold);
	bool any = false, left = false;
	u32 done = 0;

	while (done < pages && (!p.keep || crash_bytes() > p.keep)) {
		u32 b = (first + done) % pages;
		u32 end = base::min(b + kBatch, base::min(pages, b + pages - done));
		if ((clear && anything_to_clear(t, b, end)) || anything_due(b, end))
			clear = clear_pages(t, b, &end, {p.keep, clear, p.mark, p.lazily, p.hold}) && clear;
		any |= p.mark && mark_cells(t, b, end, &left);
		done += end - b;
		plat_relax();
	}
	if (p.keep)
		hand_ = (first + done) % pages;
	forget_quiet(); // an old answer clears nothing
	if (any) // a section that loaded a cell before its mark has left by then: its count is
		plat_grace_period(); // in the sums that are read later
	if (!p.keep && p.clear)
		rhythm_.no_mark();
	if ((any || left) && !rhythm_.marked())
		rhythm_.mark(plat_now_ms());
}

// May marked cells be cleared now? Nothing is flushed if there is none.
bool Cleaner::prepare_clear(Table *t, Hold hold)
{
	plat_slots slots;
	bool any = false;

	for (u32 b = 0; b < t->geo.pages && !any; b++)
		any = t->each_cell(b, with_mark, [](u64, Cell &) { return true; });
	if (!any || !find_quiet()) // 1
		return false;
	any = false;
	for (u32 b = 0; b < t->geo.pages && !any; b += kBatch)
		any = anything_to_clear(t, b, base::min(b + kBatch, t->geo.pages));
	if (!any || plat_flush(host_, hold.held, &slots)) // 2
		return false;
	if (!whole(slots, true)) { // 3
		unmark_cells(t);
		return false;
	}
	return raise_events_cleared(hold); // 4
}

// Clear 4: W5. Durable before the first byte that it stands for. Who fails while this waits for the
// lock, or by this very header, has missed nothing that becomes clean, for nothing does: its events
// are no older than what is raised, and it is not marked.
bool Cleaner::raise_events_cleared(Hold hold)
{
	plat_slots slots;

	leader_lock();
	u64 events = plat_events(host_); // before the slots: a failure that they do not show comes later
	u64 before = sb_.events_cleared;
	plat_slots_get(host_, &slots);
	bool ok = whole(slots, false);
	if (ok && before < events) {
		sb_.events_cleared = events;
		ok = !write_header(hold).failed();
		if (!ok)
			sb_.events_cleared = before;
		plat_slots_get(host_, &slots);
		ok = ok && whole(slots, false);
	}
	if (ok) {
		// before what they stand for; also where events did not move: a member that was
		// replaced is faulty before md counts it
		plat_absent_missed(host_);
		show_events_cleared();
	}
	leader_unlock();
	return ok;
}

// Relaxed: what only looks so is decided by the cas in clear_cells().
bool Cleaner::clearable(const Table *t, u64 chunk) const
{
	return (t->cell(chunk).load_relaxed() & kCleaning) && group_quiet(t, chunk);
}

// Without the leader lock: only the daemon marks, so none comes meanwhile.
bool Cleaner::anything_to_clear(const Table *t, u32 from, u32 to) const
{
	for (u32 b = from; b < to; b++) {
		if (t->each_cell(b, with_mark, [this, t](u64 c, Cell &) { return clearable(t, c); }))
			return true;
	}
	return false;
}

bool Cleaner::anything_due(u32 from, u32 to) const
{
	for (u32 b = from; b < to; b++) {
		if (due_in(b)) // a commit meanwhile: then it is 0
			return true;
	}
	return false;
}

// Clear 5 and 6, of these pages. False: not written now; it stays flagged. A last look at
// the slots: raid5 ends a write some microseconds before it fails the member that could
// not take it. Stops, and says where, when no more has to be cleared; what was cleared before
// is written also then, for only that makes a crash cost less. Lazily: what is cleared now is
// written with the next first touch in its page, or by the next pass. Where nothing may be
// cleared, only what was before is written.
bool Cleaner::clear_pages(Table *t, u32 from, u32 *to, Pass p)
{
	plat_slots slots;
	u32 flagged = *to; // the last page that was; *to: none
	u32 b = from;

	leader_lock();
	plat_slots_get(host_, &slots);
	bool ok = whole(slots, false);
	for (; b < *to && ok; b++) {
		bool enough = p.keep && dirty_on_disk_bytes(t) <= p.keep;
		if (enough && !anything_due(b, *to))
			break;
		u32 due = due_in(b);
		Cleared cleared = p.clear && !enough ? clear_cells(t, b) : Cleared{0, false};
		became_due(b, due, cleared.dirty);
		if (!due && !cleared.parity && (p.lazily || !cleared.dirty))
			continue;
		flag_to(flagged == *to ? b : flagged, b);
		flagged = b;
	}
	if (flagged != *to)
		ok = !commit(p.hold).failed();
	leader_unlock();
	if (b > from) // where it went no farther, for enough is clean
		*to = b;
	return ok;
}

// Has this page written, and those between the last one and it, if they are so few that
// one write of all costs less than two. After the cells: pairs with gather().
void Cleaner::flag_to(u32 last, u32 page)
{
	for (u32 b = page - last <= kBridge ? last : page; b <= page; b++)
		flag(b, kFlagWrite);
}

// 5. The caller holds the leader lock, so no commit is between its copy and its confirm.
Cleaner::Cleared Cleaner::clear_cells(Table *t, u32 page)
{
	Cleared cleared = {0, false};

	t->each_cell(page, with_mark, [&](u64 c, Cell &cell) {
		if (!clearable(t, c))
			return false;
		u8 raw = cell.load_relaxed();
		while (raw & kCleaning) {
			State s = state_of(raw);
			State to = s;
			if (s == State::Dirty)
				to = next(s, raw & kTrim ? Event::Discard : Event::Daemon, {});
			else if (s == State::SyncingUnwritten && (raw & kEnded))
				to = next(s, Event::EndSync, {});
			// full: pairs with (a): a write either took CLEANING
			// off, or finds the cell without DIRTY_ON_DISK
			if (cell.cas_full(raw, static_cast<u8>(to))) {
				cleared.dirty += (raw & kDirtyOnDisk) != 0;
				cleared.parity |= s == State::SyncingUnwritten;
				if (to == State::Unwritten) // a later reshape looks again
					set_written_marked(false);
				break;
			}
		}
		return false;
	});
	no_longer_dirty_on_disk(cleared.dirty);
	return cleared;
}

// The array is not whole: nothing is clean now. Parity that was built but not
// flushed is forgotten.
void Cleaner::unmark_cells(Table *t)
{
	auto to_unmark = [](u64 raw) { return raw & eight::each(kCleaning | kEnded); };

	for (u32 b = 0; b < t->geo.pages; b++) {
		t->each_cell(b, to_unmark, [](u64, Cell &cell) {
			u8 raw = cell.load_relaxed();
			while (raw & (kCleaning | kEnded)) {
				u8 want = raw & ~kCleaning;
				if (raw & kEnded)
					want = u8(with_state(want,
							     next(state_of(raw), Event::ClearUnwritten, {})) &
						  ~kEnded);
				if (cell.cas_full(raw, want)) // pairs with (a)
					break;
			}
			return false;
		});
		if (b % kRelaxEvery == 0)
			plat_relax();
	}
	rhythm_.no_mark();
}

// Of the pages [from, to): is one marked that was not? left: or was one before? A grace
// period follows.
bool Cleaner::mark_cells(Table *t, u32 from, u32 to, bool *left)
{
	bool any = false;

	for (u32 b = from; b < to; b++) {
		t->each_cell(b, eight::cleanable, [&any, left](u64, Cell &cell) {
			u8 raw = cell.load_relaxed();
			*left |= (raw & kCleaning) != 0;
			// One try: who changed it meanwhile is at work here. Full: pairs with (a).
			any |= cleanable(raw) && !(raw & kCleaning) && cell.cas_full(raw, raw | kCleaning);
			return false;
		});
	}
	return any;
}

// An orderly stop: what was written is clean and durable when this returns, where
// the array is whole and nothing is under way.
void Cleaner::flush()
{
	const Hold held{true};
	plat_array_info a;

	plat_array_get(host_, &a);
	if (!(a.flags & PLAT_ARRAY_RDWR) || broken())
		return;
	if (a.flags & PLAT_ARRAY_SNAPSHOT) { // the power-off that ends a hibernation
		commit_upto(requested(), held);
		return;
	}
	commit_upto(requested(), held);
	daemon_take();
	Table *t = table();
	pass(t, {0, false, true, false, held});
	pass(t, {0, true, false, false, held});
	daemon_give();
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_flush(llb_bitmap *b)
{
	of(b).flush();
}

void llb_daemon(llb_bitmap *b)
{
	of(b).daemon();
}
}
