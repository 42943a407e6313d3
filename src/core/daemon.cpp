// SPDX-License-Identifier: GPL-2.0
// The expiry daemon. A pass clears what earlier passes marked and nothing wrote
// since, then marks what is dirty now. Nobody waits for it: a write that comes in
// between takes the mark off with the cas that it does anyway.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

namespace {

constexpr u32 kRelaxEvery = 4096; // chunks between two offers to the scheduler
constexpr u32 kRelaxLanes = 32; // lanes

// Dirty, or dirty on disk only, or built parity that waits for a flush.
bool cleanable(u8 raw)
{
	State s = state_of(raw);
	return s == State::Dirty || (s == State::SyncingUnwritten && (raw & kEnded)) ||
	       (!dirty_like(s) && (raw & kCovered));
}

} // namespace

void Bitmap::daemon_take()
{
	// full: pairs with daemon_give()
	while (daemon_busy_.exchange_full(1))
		kx_wait(host_, this, KX_WAIT_DAEMON, 0);
}

void Bitmap::daemon_give()
{
	daemon_busy_.store_release(0); // pairs with daemon_take()
	base::fence_full(); // before the waiters are looked for
	kx_wake(host_);
}

void Bitmap::arm(u32 delay_ms)
{
	// full: pairs with the exchange in daemon(); a write either finds it disarmed
	// or is seen by the scan that follows there
	if (!armed_.exchange_full(1))
		kx_daemon_arm(host_, delay_ms);
}

void Bitmap::arm_for_sync()
{
	armed_.exchange_full(1); // as in arm(); perhaps earlier than what is armed
	kx_daemon_arm(host_, base::min(idle_ms(), sleep_ms()));
}

bool Bitmap::anything_to_clean(const Table *t) const
{
	for (u32 b = 0; b < t->geo.blocks; b++) {
		if (blocks_[b].flagged.load_relaxed())
			return true;
		for (u64 c = t->block_first(b); c < t->block_end(b); c++) {
			if (cleanable(t->cell(c).load_relaxed()))
				return true;
		}
		kx_relax();
	}
	return false;
}

void Bitmap::daemon()
{
	armed_.exchange_full(0); // full, before the scans: pairs with arm()
	daemon_take();
	Table *t = table();
	kx_array a;
	kx_array_get(host_, &a);
	u64 now = kx_now_ms();

	// What an image of this memory takes for dirty on disk stays so: W1.
	if ((a.flags & KX_ARRAY_RDWR) && !(a.flags & KX_ARRAY_SNAPSHOT) && !broken_.load_relaxed() &&
	    now >= next_pass_ms_) {
		clear_marked(t, false, Hold{false});
		mark_cells(t);
		// a little early is on time: two passes and the idle time bound W4
		next_pass_ms_ = now + sleep_ms() - base::min(sleep_ms() / 8, 100u);
	}
	bool left = flagged_from(t, 0) > 0;
	bool again = left || anything_to_clean(t) || sync_wanted_.load_relaxed();
	if (again && stuck(a, left)) {
		// full, then look again: pairs with daemon_work(), which follows the change
		asleep_.exchange_full(1);
		kx_array_get(host_, &a);
		again = !stuck(a, left);
	}
	daemon_give();
	if (sync_wanted_.load_relaxed())
		kx_md_wake(host_); // daemon_work() decides
	if (again) // woken early, for a sync, it does not put off the pass
		arm(next_pass_ms_ > now ? u32(next_pass_ms_ - now) : sleep_ms());
}

// Would every pass find that it can do nothing, until md tells of a change? left: blocks
// are flagged that could not be written.
bool Bitmap::stuck(const kx_array &a, bool left) const
{
	if (!(a.flags & KX_ARRAY_RDWR) || broken_.load_relaxed())
		return true;
	kx_slots slots;
	kx_slots_get(host_, &slots);
	return !left && !whole(slots, false);
}

// W3: every slot has an in-sync member, and this flush reached all of them.
bool Bitmap::whole(const kx_slots &s, bool flushed) const
{
	return s.degraded == 0 && s.in_sync == s.slots && (!flushed || s.flushed == s.slots);
}

// A chunk belongs to one lane, or to several after a resize made chunks larger.
bool Bitmap::cell_lanes_have(const Table *t, u64 chunk, u32 flag) const
{
	u64 sector = chunk << t->geo.chunk_shift;
	u64 end = sector + t->geo.chunk_sectors();
	for (; sector < end; sector = ((sector >> lane_shift_) + 1) << lane_shift_) {
		if (!(lane_[lane_of(sector)].flags & flag))
			return false;
	}
	return true;
}

void Bitmap::cell_lanes_set(const Table *t, u64 chunk, u32 flag)
{
	u64 sector = chunk << t->geo.chunk_shift;
	u64 end = sector + t->geo.chunk_sectors();
	for (; sector < end; sector = ((sector >> lane_shift_) + 1) << lane_shift_)
		lane_[lane_of(sector)].flags |= flag;
}

// Clear 1: lanes that were quiet at an instant after the grace period of their
// latest mark. now: do not wait for barrier_idle. That is counted from the lane's
// first mark: where daemon_sleep is shorter, a chunk that was marked later is cleared
// with the others, so that W4's bound holds for it too.
bool Bitmap::find_quiet(bool now)
{
	u32 time = u32(kx_now_ms());
	bool any = false;

	for (u32 l = 0; l < lanes_; l++) {
		LaneInfo &lane = lane_[l];
		if (l % kRelaxLanes == 0)
			kx_relax(); // each lane is two loads from every possible CPU
		lane.flags &= ~kLaneQuiet;
		u32 rested_ms = (time - lane.first_mark_ms) & kLaneTimeMask;
		if (!(lane.flags & kLaneMarked) || (!now && rested_ms < idle_ms()))
			continue;
		// all ends, then all starts: a write that is not in the ends is in the
		// starts, whichever CPU it ends on. Pairs with (c) in end().
		u32 ends = kx_counter_sum(counters_, l * 2 + 1);
		base::fence_full();
		u32 starts = kx_counter_sum(counters_, l * 2);
		if (ends == starts) {
			lane.flags |= kLaneQuiet;
			any = true;
		}
	}
	// After that instant: a write-behind that began before the mark may not have
	// counted itself until then. Pairs with start_behind() and end_behind().
	return any && behind_.load_seq_cst() == 0;
}

void Bitmap::clear_marked(Table *t, bool now, Hold hold)
{
	bool left = flagged_from(t, 0) > 0; // could not be written before
	kx_slots slots;

	kx_slots_get(host_, &slots);
	if (!whole(slots, false)) { // 3, before any disk is woken for a flush
		unmark_cells(t);
	} else if (find_quiet(now)) {
		if (kx_flush(host_, hold.held, &slots)) // 2
			return;
		if (!whole(slots, true)) { // 3
			unmark_cells(t);
			return;
		}
		if (!raise_events_cleared(hold)) // 4
			return;
		// A batch at a time: a first touch waits for one write of the daemon's, as
		// for another writer's, and never for the pass.
		for (u32 b = 0; b < t->geo.blocks; b += kBatch) {
			u32 end = base::min(b + kBatch, t->geo.blocks);
			if (!anything_to_clear(t, b, end))
				continue;
			if (!clear_blocks(t, b, end, hold))
				return;
			left = false; // a round writes all that is flagged
		}
		for (u32 l = 0; l < lanes_; l++) {
			if (lane_[l].flags & kLaneQuiet)
				lane_[l].flags &= ~kLaneMarked;
		}
	}
	if (left) {
		lead_take();
		(void)round(hold).failed(); // stays flagged if it still cannot
		lead_give();
	}
}

// Clear 4: W5. Durable before the first byte that it stands for.
bool Bitmap::raise_events_cleared(Hold hold)
{
	lead_take();
	u64 events = kx_events(host_);
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
	lead_give();
	return ok;
}

// Relaxed: what only looks so is decided by the cas in clear_cells().
bool Bitmap::clearable(const Table *t, u64 chunk) const
{
	return (t->cell(chunk).load_relaxed() & kCleaning) && cell_lanes_have(t, chunk, kLaneQuiet);
}

// Without LEAD: only the daemon marks, so none comes meanwhile.
bool Bitmap::anything_to_clear(const Table *t, u32 from, u32 to) const
{
	u64 end = t->block_end(to - 1);

	kx_relax();
	for (u64 c = t->block_first(from); c < end; c++) {
		if (clearable(t, c))
			return true;
	}
	return false;
}

// Clear 5 and 6, of these blocks. False: not written now; it stays flagged. A last look at
// the slots: raid5 ends a write some microseconds before it fails the member that could
// not take it.
bool Bitmap::clear_blocks(Table *t, u32 from, u32 to, Hold hold)
{
	kx_slots slots;

	lead_take();
	kx_slots_get(host_, &slots);
	bool ok = whole(slots, false) && (!clear_cells(t, from, to) || !round(hold).failed());
	lead_give();
	return ok;
}

// 5. The caller holds LEAD, so no round is between its copy and its confirm.
bool Bitmap::clear_cells(Table *t, u32 from, u32 to)
{
	bool any = false;

	for (u32 b = from; b < to; b++) {
		bool changed = false;
		for (u64 c = t->block_first(b); c < t->block_end(b); c++) {
			if (!clearable(t, c))
				continue;
			Cell &cell = t->cell(c);
			u8 raw = cell.load_relaxed();
			while (raw & kCleaning) {
				State s = state_of(raw);
				State to = s;
				if (s == State::Dirty)
					to = next(s, raw & kTrim ? Event::Discard : Event::Daemon, {});
				else if (s == State::SyncingUnwritten && (raw & kEnded))
					to = next(s, Event::EndSync, {});
				// full: pairs with (a): a write either took CLEANING
				// off, or finds the cell without COVERED
				if (cell.cas_full(raw, static_cast<u8>(to))) {
					changed = true;
					if (to == State::Unwritten) // a later reshape looks again
						written_marked_.exchange_full(0);
					break;
				}
			}
		}
		if (changed) {
			blocks_[b].flagged.exchange_full(1); // after the cells: pairs with gather()
			any = true;
		}
	}
	return any;
}

// The array is not whole: nothing is clean now. Parity that was built but not
// flushed is forgotten.
void Bitmap::unmark_cells(Table *t)
{
	for (u64 c = 0; c < t->geo.chunks; c++) {
		Cell &cell = t->cell(c);
		u8 raw = cell.load_relaxed();
		while (raw & (kCleaning | kEnded)) {
			u8 want = raw & ~kCleaning;
			if (raw & kEnded)
				want = u8(with_state(want, next(state_of(raw), Event::ClearUnwritten, {})) &
					  ~kEnded);
			if (cell.cas_full(raw, want)) // pairs with (a)
				break;
		}
		if (c % kRelaxEvery == 0)
			kx_relax();
	}
	for (u32 l = 0; l < lanes_; l++)
		lane_[l].flags &= ~kLaneMarked;
}

// Mark, then a grace period: a section that loaded a cell before its mark has left
// by then, so its count is in the sums that are read later.
bool Bitmap::mark_cells(Table *t)
{
	bool any = false;

	for (u64 c = 0; c < t->geo.chunks; c++) {
		if (c % kRelaxEvery == 0)
			kx_relax();
		Cell &cell = t->cell(c);
		u8 raw = cell.load_relaxed();
		if (!cleanable(raw))
			continue;
		// One try: who changed it meanwhile is at work here. Full: pairs with (a).
		if (!(raw & kCleaning) && !cell.cas_full(raw, raw | kCleaning))
			continue;
		cell_lanes_set(t, c, kLaneMarking);
		any = true;
	}
	if (!any)
		return false;
	kx_grace_period();
	u32 now = u32(kx_now_ms());
	for (u32 l = 0; l < lanes_; l++) {
		LaneInfo &lane = lane_[l];
		if (!(lane.flags & kLaneMarking))
			continue;
		if (!(lane.flags & kLaneMarked))
			lane.first_mark_ms = now & kLaneTimeMask;
		lane.flags = (lane.flags & ~kLaneMarking) | kLaneMarked;
	}
	return true;
}

// An orderly stop: what was written is clean and durable when this returns, where
// the array is whole and nothing is under way.
void Bitmap::flush()
{
	const Hold held{true};
	kx_array a;

	kx_array_get(host_, &a);
	if (!(a.flags & KX_ARRAY_RDWR) || broken_.load_relaxed())
		return;
	if (a.flags & KX_ARRAY_SNAPSHOT) { // the power-off that ends a hibernation
		settle(requested_.load_acquire(), held);
		return;
	}
	settle(requested_.load_acquire(), held);
	daemon_take();
	Table *t = table();
	mark_cells(t);
	clear_marked(t, true, held);
	daemon_give();
}

Result Bitmap::tune(u32 what, u64 seconds)
{
	u64 most = what == LLB_TUNE_DAEMON_SLEEP ? kDaemonSleepMax_s : kBarrierIdleMax_s;
	if (seconds == 0)
		return Result::error(LLB_EINVAL);
	if (seconds > most)
		return Result::error(LLB_ERANGE);
	if (what == LLB_TUNE_BARRIER_IDLE) {
		barrier_idle_s_.store_relaxed(u32(seconds));
		next_request_ms_.store_relaxed(0); // the old time between two requests is over
		if (sync_wanted_.load_relaxed())
			arm_for_sync();
		return Result::ok();
	}
	daemon_sleep_s_.store_relaxed(u32(seconds));
	lead_take();
	sb_.daemon_sleep_s = u32(seconds); // on disk with the next header
	lead_give();
	daemon_take();
	next_pass_ms_ = 0; // the new period begins now
	daemon_give();
	kx_daemon_arm(host_, sleep_ms());
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
	for (u64 c = 0; c < t->geo.chunks; c++) {
		u8 raw = t->cell(c).load_relaxed();
		if (wants_sync(state_of(raw)) && !(raw & kEnded))
			return true;
	}
	return false;
}

// The only place where a sync may be asked for: no sync starts behind its back.
void Bitmap::daemon_work()
{
	kx_array a;

	if (asleep_.load_relaxed()) { // relaxed: md wakes its thread after each change
		kx_array_get(host_, &a);
		if (!stuck(a, false)) {
			asleep_.exchange_full(0);
			arm(sleep_ms());
		}
	}
	if (!sync_wanted_.load_relaxed())
		return;
	kx_array_get(host_, &a);
	if (!(a.flags & KX_ARRAY_RDWR) || !(a.flags & KX_ARRAY_LIVE) ||
	    (a.flags & (KX_ARRAY_RUNNING | KX_ARRAY_FROZEN | KX_ARRAY_RESHAPE_PENDING | KX_ARRAY_BROKEN)))
		return;
	convert_level(a.level);
	kx_slots slots;
	kx_slots_get(host_, &slots);
	if (!whole(slots, false))
		return; // a recovery comes first
	u64 now = kx_now_ms();
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
	kx_resync_request(host_);
}

} // namespace core
