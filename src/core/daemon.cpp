// SPDX-License-Identifier: GPL-2.0
// The expiry daemon. A pass clears what earlier passes marked and nothing wrote
// since, then marks what is dirty now. Nobody waits for it: a write that comes in
// between takes the mark off with the cas that it does anyway.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

namespace {

constexpr u32 kRelaxEvery = 64; // pages between two offers to the scheduler
constexpr u32 kRelaxGroups = 32; // groups

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

void Bitmap::daemon_take()
{
	// full: pairs with daemon_give()
	while (daemon_busy_.exchange_full(1))
		plat_wait(host_, this, PLAT_WAIT_DAEMON, 0);
}

void Bitmap::daemon_give()
{
	daemon_busy_.store_release(0); // pairs with daemon_take()
	base::fence_full(); // before the waiters are looked for
	plat_wake(host_);
}

void Bitmap::arm(u32 delay_ms)
{
	// full: pairs with the exchange in daemon(); a write either finds it disarmed
	// or is seen by the scan that follows there
	if (!armed_.exchange_full(1))
		plat_daemon_arm(host_, delay_ms);
}

void Bitmap::arm_for_sync()
{
	armed_.exchange_full(1); // as in arm(); perhaps earlier than what is armed
	plat_daemon_arm(host_, base::min(idle_ms(), sleep_ms()));
}

bool Bitmap::anything_to_clean(const Table *t) const
{
	if (due_.load_relaxed())
		return true;
	for (u32 b = 0; b < t->geo.pages; b++) {
		if (page_info_[b].flagged.load_relaxed() ||
		    t->each_cell(b, eight::cleanable,
				 [](u64, Cell &cell) { return cleanable(cell.load_relaxed()); }))
			return true;
		if (b % kRelaxEvery == 0)
			plat_relax();
	}
	return false;
}

// Between two passes. Three of them take a chunk that is left alone to Clean on disk: marked,
// cleared in memory, written. Together they take two daemon_sleep (W4).
u32 Bitmap::pass_ms() const
{
	return base::max(sleep_ms() * 2 / 3, 1u);
}

void Bitmap::daemon()
{
	armed_.exchange_full(0); // full, before the scans: pairs with arm()
	hurried_.exchange_full(0); // ... and with watch_budget()
	daemon_take();
	Table *t = table();
	plat_array_info a;
	plat_array_get(host_, &a);
	u64 now = plat_now_ms();
	bool over = look_at_budget(t);
	u64 keep = keep_bytes(now);

	// What an image of this memory takes for dirty on disk stays so: W1.
	bool may = (a.flags & PLAT_ARRAY_RDWR) && !(a.flags & PLAT_ARRAY_SNAPSHOT) && !broken_.load_relaxed();
	if (may && now >= next_pass_ms_) {
		bool rested = first_mark_ms_ && now - first_mark_ms_ >= idle_ms();
		pass(t, {0, rested || (over && crash_bytes() > keep), true, !over, Hold{false}});
		// a little early is on time
		next_pass_ms_ = now + pass_ms() - base::min(pass_ms() / 8, 100u);
		next_hurry_ms_ = now + kHurry_ms - kHurry_ms / 8;
	} else if (may && over && now >= next_hurry_ms_) {
		if (crash_bytes() > keep)
			pass(t, {keep, true, true, false, Hold{false}});
		next_hurry_ms_ = now + kHurry_ms - kHurry_ms / 8;
	}
	bool left = flagged_from(t, 0, 1) > 0 || due_.load_relaxed();
	bool again = left || anything_to_clean(t) || sync_wanted_.load_relaxed();
	if (again && stuck(a, left)) {
		// full, then look again: pairs with daemon_work(), which follows the change
		asleep_.exchange_full(1);
		plat_array_get(host_, &a);
		again = !stuck(a, left);
	}
	u64 next = over && may ? base::min(next_pass_ms_, next_hurry_ms_) : next_pass_ms_;
	daemon_give();
	if (sync_wanted_.load_relaxed())
		plat_md_wake(host_); // daemon_work() decides
	if (!again)
		return;
	// Woken early, for a sync, it does not put off the pass. A writer may have armed it
	// meanwhile, and for later.
	armed_.exchange_full(1); // as in arm()
	plat_daemon_arm(host_, next > now ? u32(next - now) : pass_ms());
}

// Is half of the budget spent? Counts what waits for a resync, if that may matter.
bool Bitmap::look_at_budget(const Table *t)
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

// What may stay dirty where the budget is nearly spent: so much less than it as may be
// written until the next two passes, of which the first may only mark.
u64 Bitmap::keep_bytes(u64 now_ms)
{
	u64 budget = budget_bytes();
	u64 crash = crash_bytes();
	u64 more = crash > seen_bytes_ ? crash - seen_bytes_ : 0;
	u64 passed_ms = base::max<u64>(now_ms - seen_ms_, 1);

	seen_ms_ = now_ms;
	seen_bytes_ = crash;
	if (budget == kNoLimit)
		return budget;
	return budget - base::min(budget / 2, more / passed_ms * (3 * kHurry_ms)) +
	       waiting_bytes_.load_relaxed();
}

// Would every pass find that it can do nothing, until md tells of a change? left: pages
// are flagged that could not be written.
bool Bitmap::stuck(const plat_array_info &a, bool left) const
{
	if (!(a.flags & PLAT_ARRAY_RDWR) || broken_.load_relaxed())
		return true;
	plat_slots slots;
	plat_slots_get(host_, &slots);
	return !left && !whole(slots, false);
}

// W3: every slot has an in-sync member, and this flush reached all of them.
bool Bitmap::whole(const plat_slots &s, bool flushed) const
{
	return s.degraded == 0 && s.in_sync == s.slots && (!flushed || s.flushed == s.slots);
}

// A chunk belongs to one group, or to several after a resize made chunks larger.
bool Bitmap::group_quiet(const Table *t, u64 chunk) const
{
	u64 sector = chunk << t->geo.chunk_shift;
	u64 groups = base::min<u64>(t->geo.chunk_sectors() >> group_shift_, groups_);

	for (u64 i = 0; i < groups; i++) {
		if (!quiet_[group_of(sector + (i << group_shift_))])
			return false;
	}
	return true;
}

// Clear 1: groups that were quiet at an instant after the grace period of all marks.
bool Bitmap::find_quiet()
{
	bool any = false;

	for (u32 g = 0; g < groups_; g++) {
		if (g % kRelaxGroups == 0)
			plat_relax(); // each group is two loads from every possible CPU
		// all ends, then all starts: a write that is not in the ends is in the
		// starts, whichever CPU it ends on. Pairs with (c) in end().
		u32 ends = plat_counter_sum(counters_, g * 2 + 1);
		base::fence_full();
		u32 starts = plat_counter_sum(counters_, g * 2);
		quiet_[g] = ends == starts;
		any |= ends == starts;
	}
	// After that instant: a write-behind that began before the mark may not have
	// counted itself until then. Pairs with start_behind() and end_behind().
	return any && behind_.load_seq_cst() == 0;
}

// A pass over the pages, of what became quiet since it was marked, and then of what is
// dirty now. The caller has daemon_take().
void Bitmap::pass(Table *t, Pass p)
{
	bool left = flagged_from(t, 0, 1) > 0; // could not be written before
	plat_slots slots;

	plat_slots_get(host_, &slots);
	if (whole(slots, false)) { // 3, before any disk is woken for a flush
		walk(t, p);
	} else {
		unmark_cells(t);
		left |= due_.load_relaxed() > 0; // what was cleared before may be written
	}
	if (left)
		write_left(t, p.hold);
}

void Bitmap::write_left(Table *t, Hold hold)
{
	u32 flagged = t->geo.pages;

	leader_lock();
	for (u32 b = 0; b < t->geo.pages; b++) {
		if (!page_info_[b].due.load_relaxed())
			continue;
		flag_to(flagged < b ? flagged : b, b);
		flagged = b;
	}
	if (flagged_from(t, 0, 1))
		(void)commit(hold).failed(); // stays flagged if it still cannot
	leader_unlock();
}

// A batch at a time: a first touch waits for one write of the daemon's, as for another
// writer's, and never for the pass. One that hurries goes round like the hand of a clock,
// and no farther than it has to: what it has marked and finds marked still when it comes
// again was not written in between, and rests longest.
void Bitmap::walk(Table *t, Pass p)
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
	for (u32 g = 0; g < groups_; g++) // an old answer clears nothing
		quiet_[g] = 0;
	if (any) // a section that loaded a cell before its mark has left by then: its count is
		plat_grace_period(); // in the sums that are read later
	// barrier_idle is counted from the oldest mark: where daemon_sleep is shorter, a chunk
	// that was marked later is cleared with the others, so that W4's bound holds for it, too.
	if (!p.keep && p.clear)
		first_mark_ms_ = 0;
	if ((any || left) && !first_mark_ms_)
		first_mark_ms_ = plat_now_ms() | 1;
}

// May marked cells be cleared now? Nothing is flushed if there is none.
bool Bitmap::prepare_clear(Table *t, Hold hold)
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

// Clear 4: W5. Durable before the first byte that it stands for.
bool Bitmap::raise_events_cleared(Hold hold)
{
	leader_lock();
	u64 events = plat_events(host_);
	u64 before = sb_.events_cleared;
	bool ok = true;
	if (before < events) {
		sb_.events_cleared = events;
		ok = !write_header(hold).failed();
		if (!ok)
			sb_.events_cleared = before;
	}
	if (ok)
		events_cleared_.store_release(sb_.events_cleared); // before what it stands for
	leader_unlock();
	return ok;
}

// Relaxed: what only looks so is decided by the cas in clear_cells().
bool Bitmap::clearable(const Table *t, u64 chunk) const
{
	return (t->cell(chunk).load_relaxed() & kCleaning) && group_quiet(t, chunk);
}

// Without the leader lock: only the daemon marks, so none comes meanwhile.
bool Bitmap::anything_to_clear(const Table *t, u32 from, u32 to) const
{
	for (u32 b = from; b < to; b++) {
		if (t->each_cell(b, with_mark, [this, t](u64 c, Cell &) { return clearable(t, c); }))
			return true;
	}
	return false;
}

bool Bitmap::anything_due(u32 from, u32 to) const
{
	for (u32 b = from; b < to; b++) {
		if (page_info_[b].due.load_relaxed()) // a commit meanwhile: then it is 0
			return true;
	}
	return false;
}

// Clear 5 and 6, of these pages. False: not written now; it stays flagged. A last look at
// the slots: raid5 ends a write some microseconds before it fails the member that could
// not take it. Stops, and says where, when no more has to be cleared. Lazily: what is cleared
// now is written with the next first touch in its page, or by the next pass. Where nothing
// may be cleared, only what was before is written.
bool Bitmap::clear_pages(Table *t, u32 from, u32 *to, Pass p)
{
	plat_slots slots;
	u32 flagged = *to; // the last page that was; *to: none
	u32 b = from;

	leader_lock();
	plat_slots_get(host_, &slots);
	bool ok = whole(slots, false);
	for (; b < *to && ok; b++) {
		u64 dirty = dirty_on_disk_.load_relaxed() << t->geo.chunk_shift << kSectorShift;
		if (p.keep && dirty <= p.keep) // what is due is written now
			break;
		u16 due = page_info_[b].due.load_relaxed();
		u32 cleared = p.clear ? clear_cells(t, b) : 0;
		page_info_[b].due.store_relaxed(u16(due + cleared));
		due_.store_relaxed(due_.load_relaxed() + cleared);
		if (!due && (p.lazily || !cleared))
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
void Bitmap::flag_to(u32 last, u32 page)
{
	for (u32 b = page - last <= kBridge ? last : page; b <= page; b++)
		page_info_[b].flagged.fetch_or_full(kFlagWrite);
}

// 5. The caller holds the leader lock, so no commit is between its copy and its confirm.
// Returns how many became clean.
u32 Bitmap::clear_cells(Table *t, u32 page)
{
	u32 cleared = 0;
	u64 taken_off = 0;

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
				cleared++;
				taken_off += (raw & kDirtyOnDisk) != 0;
				if (to == State::Unwritten) // a later reshape looks again
					written_marked_.exchange_full(0);
				break;
			}
		}
		return false;
	});
	dirty_on_disk_.store_relaxed(dirty_on_disk_.load_relaxed() - taken_off);
	return cleared;
}

// The array is not whole: nothing is clean now. Parity that was built but not
// flushed is forgotten.
void Bitmap::unmark_cells(Table *t)
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
	first_mark_ms_ = 0;
}

// Of the pages [from, to): is one marked that was not? left: or was one before? A grace
// period follows.
bool Bitmap::mark_cells(Table *t, u32 from, u32 to, bool *left)
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
void Bitmap::flush()
{
	const Hold held{true};
	plat_array_info a;

	plat_array_get(host_, &a);
	if (!(a.flags & PLAT_ARRAY_RDWR) || broken_.load_relaxed())
		return;
	if (a.flags & PLAT_ARRAY_SNAPSHOT) { // the power-off that ends a hibernation
		commit_upto(requested_.load_acquire(), held);
		return;
	}
	commit_upto(requested_.load_acquire(), held);
	daemon_take();
	Table *t = table();
	pass(t, {0, false, true, false, held});
	pass(t, {0, true, false, false, held});
	daemon_give();
}

Result Bitmap::tune(u32 what, u64 value)
{
	u64 most = what == LLB_TUNE_DAEMON_SLEEP   ? kDaemonSleepMax_s
		   : what == LLB_TUNE_BARRIER_IDLE ? kBarrierIdleMax_s
						   : LLB_BUDGET_NONE - 1;
	if (value == 0 && what != LLB_TUNE_RESYNC_BUDGET)
		return Result::error(LLB_EINVAL);
	if (value > most)
		return Result::error(LLB_ERANGE);
	if (what == LLB_TUNE_BARRIER_IDLE) {
		barrier_idle_s_.store_relaxed(u32(value));
		next_request_ms_.store_relaxed(0); // the old time between two requests is over
		if (sync_wanted_.load_relaxed())
			arm_for_sync();
		return Result::ok();
	}
	leader_lock();
	if (what == LLB_TUNE_DAEMON_SLEEP) {
		daemon_sleep_s_.store_relaxed(u32(value));
		sb_.daemon_sleep_s = u32(value);
	} else {
		sb_.resync_budget = value ? u32(value) : LLB_BUDGET_NONE;
		budget_mib_.store_relaxed(sb_.resync_budget);
	}
	watch_budget();
	plat_array_info a;
	plat_array_get(host_, &a);
	// On disk now, so that it is kept over a restart; or with the next header, if that cannot be.
	header_dirty_ = true;
	if ((a.flags & PLAT_ARRAY_RDWR) && !init_pending_.load_relaxed() && !broken_.load_relaxed())
		(void)write_header(Hold{false}).failed();
	leader_unlock();
	daemon_take();
	next_pass_ms_ = 0; // the new period begins now
	daemon_give();
	plat_daemon_arm(host_, pass_ms());
	return Result::ok();
}

// ---- asking md for a sync ----

void Bitmap::want_sync()
{
	// relaxed: a hint; daemon_work() looks at the cells
	if (sync_wanted_.load_relaxed())
		return;
	sync_wanted_.exchange_full(1);
	arm_for_sync();
}

bool Bitmap::anything_to_sync(const Table *t) const
{
	for (u32 b = 0; b < t->geo.pages; b++) {
		if (t->each_cell(b, eight::wants_sync, [](u64, Cell &cell) {
			    u8 raw = cell.load_relaxed();
			    return wants_sync(state_of(raw)) && !(raw & kEnded);
		    }))
			return true;
	}
	return false;
}

// The only place where a sync may be asked for: no sync starts behind its back.
void Bitmap::daemon_work()
{
	plat_array_info a;

	if (asleep_.load_relaxed()) { // relaxed: md wakes its thread after each change
		plat_array_get(host_, &a);
		if (!stuck(a, false)) {
			asleep_.exchange_full(0);
			arm(over_half() ? base::min(kHurry_ms, pass_ms()) : pass_ms());
		}
	}
	if (!sync_wanted_.load_relaxed())
		return;
	plat_array_get(host_, &a);
	if (!(a.flags & PLAT_ARRAY_RDWR) || !(a.flags & PLAT_ARRAY_LIVE) ||
	    (a.flags &
	     (PLAT_ARRAY_RUNNING | PLAT_ARRAY_FROZEN | PLAT_ARRAY_RESHAPE_PENDING | PLAT_ARRAY_BROKEN)))
		return;
	convert_level(a.level);
	plat_slots slots;
	plat_slots_get(host_, &slots);
	if (!whole(slots, false))
		return; // a recovery comes first
	u64 now = plat_now_ms();
	if (now < next_request_ms_.load_relaxed()) {
		arm_for_sync(); // so that we are woken again: nobody else need be
		return;
	}
	if (!anything_to_sync(table())) {
		// full, then look again: pairs with want_sync(), which follows its cell
		sync_wanted_.exchange_full(0);
		if (anything_to_sync(table()))
			want_sync();
		return;
	}
	// It stays wanted, and the daemon armed, until a scan finds nothing.
	next_request_ms_.store_relaxed(now + idle_ms());
	arm_for_sync();
	plat_resync_request(host_);
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_flush(llb_bitmap *b)
{
	of(b).flush();
}

void llb_daemon_work(llb_bitmap *b)
{
	of(b).daemon_work();
}

void llb_daemon(llb_bitmap *b)
{
	of(b).daemon();
}

int llb_tune(llb_bitmap *b, u32 what, u64 value)
{
	return of(b).tune(what, value).value();
}
}
