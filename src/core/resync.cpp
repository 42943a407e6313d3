// SPDX-License-Identifier: GPL-2.0
// What the sync thread asks (may I skip, must I sync) and tells (done, aborted).
// Chunks are ended only whole: one is begun at its first sector, and ended when
// the sync thread has waited for all it issued, without being told to stop.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

namespace {

constexpr u64 kSkipChunksMax = 65536; // in one call, so that the caller can be stopped
constexpr u32 kSuspendedPoll_ms = 20;

enum class Action { Resync, Check, Repair, Recover, Reshape };

Action action_of(const plat_array_info &a)
{
	if (a.flags & PLAT_ARRAY_RESHAPE)
		return Action::Reshape;
	if (!(a.flags & PLAT_ARRAY_SYNC))
		return Action::Recover;
	if (a.flags & PLAT_ARRAY_CHECK)
		return Action::Check;
	return a.flags & PLAT_ARRAY_REQUESTED ? Action::Repair : Action::Resync;
}

// raid10 recovers in member sectors, which are not the bitmap's.
bool other_address_space(const plat_array_info &a)
{
	return a.level == 10 && action_of(a) == Action::Recover;
}

bool parity_recovery(const plat_array_info &a)
{
	return is_parity(a.level) && action_of(a) == Action::Recover;
}

bool skippable(u8 raw, Action action)
{
	State s = state_of(raw);
	if (action == Action::Resync)
		return !wants_sync(s) || (raw & kEnded);
	// what is built but not yet flushed has to be on a new member too
	return never_written(s) && !(raw & kEnded);
}

} // namespace

u64 Resync::skip_sync(u64 sector)
{
	plat_array_info a;
	plat_array_get(host_, &a);
	Action action = action_of(a);

	if (action == Action::Reshape) { // update_sb() has prepared the members
		if (is_parity(a.level) && !written_marked())
			mark_everything_written();
		return 0;
	}
	convert_level(a.level);
	// Before it reads a chunk: what load() made of the bytes, for a cut in the
	// middle of that commit leaves members with different ones.
	commit_upto_in_sync_thread(init_pending() ? requested() : sync_floor_seq_.load_acquire());
	if (stripes_stale_ && !is_parity(a.level))
		stripes_stale_ = false; // another level came, and with it no cache
	if (stripes_stale_) // reads went on until md called the new member in sync
		forget_stripes();
	if (other_address_space(a))
		return 0;
	Table *t = table();
	if (parity_recovery(a) && recovered_to() == kNoLimit) {
		recovery_began_ = sector;
		plat_recovery_begin(host_);
		recovered_to_.store_release(sector); // pairs with recovered_to()
	}
	u64 first = sector >> t->geo.chunk_shift;
	u64 c = first;
	for (; c < t->geo.chunks && c - first < kSkipChunksMax; c++) {
		if (!skippable(t->cell(c).load_relaxed(), action))
			break;
	}
	plat_relax();
	return c == first ? 0 : (c << t->geo.chunk_shift) - sector;
}

// Another level came over the same cells: what a mirror calls clean has no parity.
void Resync::convert_level(s32 level)
{
	bool now = is_parity(level);
	if (now == (parity()))
		return;
	if (!now) {
		set_parity(false);
		return;
	}
	Table *t = table();
	for (u64 c = 0; c < t->geo.chunks; c++)
		apply(t->cell(c), Event::Stale, Context{true, false});
	set_parity(true); // pairs with blocks_synced()
	flag_all(t);
	request();
	want_sync();
	plat_leader_queue(host_);
}

// Before the sync thread moves, and before a new member counts as in sync, what was
// asked for is durable; unless it is told to stop, perhaps by who holds members still.
void Resync::commit_upto_in_sync_thread(u64 target)
{
	plat_array_info a;

	while (!commit_upto(target, Hold{false}) && !broken()) {
		plat_array_get(host_, &a);
		if (a.flags & PLAT_ARRAY_INTR)
			return;
		plat_sleep_ms(kSuspendedPoll_ms);
	}
}

bool Resync::blocks_synced(u64 sector)
{
	Table *t = table();
	u64 c = sector >> (t->geo.chunk_shift & 63);

	if (!parity()) { // the level changed; pairs with convert_level()
		want_sync();
		return false;
	}
	return c < t->geo.chunks && parity_valid(state_of(t->cell(c).load_relaxed()));
}

bool Resync::start_sync(u64 sector, u64 *sectors, bool degraded)
{
	Table *t = table();
	u64 c = sector >> t->geo.chunk_shift;
	plat_array_info a;

	if (c >= t->geo.chunks) {
		*sectors = LLB_CHUNK_SECTORS_MIN;
		return true; // nothing is known there
	}
	*sectors = ((c + 1) << t->geo.chunk_shift) - sector;
	plat_array_get(host_, &a);
	if (degraded && a.level == 10 && a.degraded < 0) { // md's count, too small (K23); no query
		plat_slots slots;
		plat_slots_get(host_, &slots);
		degraded = !whole(slots, false);
	}
	Action action = action_of(a);
	Cell &cell = t->cell(c);
	u8 raw = cell.load_relaxed();
	State s = state_of(raw);
	bool recover = action == Action::Recover;
	// Parity that is built but not flushed may be lost with its member's cache: the member
	// gets it again if it comes back.
	bool must = (wants_sync(s) && (recover || !(raw & kEnded))) || (recover && s == State::Dirty);
	if (recover && recover_all_.load_acquire()) // pairs with distrust_members()
		must = !never_written(s) || (raw & kEnded);

	if (parity_recovery(a)) {
		if (s == State::NeedSync) // been there: for recover_again()
			apply(cell, Event::StartSync, Context{true, true});
		return must;
	}
	// A query, or a sync that leaves a slot empty, or one that changes nothing, or
	// one that covers only part of the chunk: no cell changes.
	bool whole_chunk = (sector & (t->geo.chunk_sectors() - 1)) == 0;
	// A recovery makes two mirrors agree only if there is no third one.
	bool agrees = !recover || u32(a.raid_disks) - u32(a.degraded) == 1;
	if (!must || degraded || !agrees || action == Action::Check || action == Action::Reshape ||
	    other_address_space(a) || !whole_chunk)
		return must;
	apply(cell, Event::StartSync, Context{is_parity(a.level), recover});
	return true;
}

void Resync::end_sync(u64 sector, u64 *sectors)
{
	Table *t = table();
	u64 c = sector >> t->geo.chunk_shift;

	if (c >= t->geo.chunks) {
		*sectors = LLB_CHUNK_SECTORS_MIN;
		return;
	}
	*sectors = ((c + 1) << t->geo.chunk_shift) - sector;
	Cell &cell = t->cell(c);
	if (cell.load_relaxed() & kEnded)
		return;
	if (apply(cell, Event::AbortSync, Context{}) == State::NeedSync)
		want_sync();
}

// Was this run told to stop, or did a member fail of which md has not told it yet? What
// raid5 had read of that one is not compared any more. After plat_recovery_wait(): a
// stripe that met the failure ended after the member was called faulty. Or may parity fit a
// replacement that is not ready? md reads from that what it holds already, and it holds
// something else where the recovery skipped what was never written.
bool Resync::disturbed() const
{
	plat_slots slots;
	plat_array_info a;

	plat_slots_get(host_, &slots);
	plat_array_get(host_, &a);
	return (a.flags & PLAT_ARRAY_INTR) ||
	       ((a.flags & PLAT_ARRAY_SYNC) &&
		(!whole(slots, false) || (is_parity(a.level) && slots.replacing)));
}

// End the begun chunks of [from, to).
void Resync::end_chunks(Table *t, u64 from, u64 to)
{
	for (u64 c = from; c < to; c++) {
		Cell &cell = t->cell(c);
		u8 raw = cell.load_relaxed();
		if (state_of(raw) == State::Syncing) {
			apply(cell, Event::EndSync, Context{});
		} else if (state_of(raw) == State::SyncingUnwritten && !(raw & kEnded)) {
			// CleanUnwritten only after the daemon's flush: a mark that a neighbour's
			// cover left here says nothing of this parity. Full: pairs with (a); if a
			// write came meanwhile the next look finds Syncing.
			if (!cell.cas_full(raw, u8((raw | kEnded) & ~kCleaning)))
				c--;
		}
	}
	if (from < to)
		arm_for_pass();
}

void Resync::cond_end_sync(u64 sector, bool force)
{
	plat_array_info a;
	plat_array_get(host_, &a);
	Action action = action_of(a);
	u64 now = plat_now_ms();

	if (action == Action::Reshape || action == Action::Check || other_address_space(a) ||
	    recovering_again_)
		return;
	if (sector == 0 || last_end_ms_ == 0)
		last_end_ms_ = now;
	if (!force && now - last_end_ms_ < sleep_ms())
		return;
	last_end_ms_ = now;
	plat_recovery_wait(host_);
	if (disturbed())
		return;
	Table *t = table();
	u64 to = base::min(sector >> t->geo.chunk_shift, t->geo.chunks);
	if (parity_recovery(a)) {
		recovered(t, sector);
	} else {
		end_chunks(t, base::min(ended_to_, to), to);
		ended_to_ = to;
	}
	plat_checkpoint(host_, sector);
}

void Resync::close_sync()
{
	plat_array_info a;
	plat_array_get(host_, &a);
	Table *t = table();
	bool left = false;

	if (parity_recovery(a) && !disturbed())
		recover_again(t);
	bool stopped = disturbed();
	bool ends = !stopped && !parity_recovery(a);
	if (parity_recovery(a)) {
		if (stopped)
			stop_recovery(t); // before cells are taken back
		stripes_stale_ = true; // reads go on until md calls the member in sync
		recovered_to_.store_release(kNoLimit); // pairs with recovered_to()
		recovery_began_ = 0;
	}
	if (ends)
		end_chunks(t, 0, t->geo.chunks);
	for (u32 b = 0; b < t->geo.pages; b++) {
		t->each_cell(b, eight::wants_sync, [&](u64, Cell &cell) {
			u8 raw = cell.load_relaxed();
			State s = state_of(raw);
			if (!ends && !(raw & kEnded) && (stopped ? wants_sync(s) : s == State::Syncing))
				apply(cell, Event::AbortSync, Context{});
			raw = cell.load_relaxed();
			left |= wants_sync(state_of(raw)) && !(raw & kEnded);
			return false;
		});
		plat_relax();
	}
	if (!stopped && action_of(a) == Action::Recover)
		recover_all_.store_relaxed(0);
	ended_to_ = 0;
	last_end_ms_ = 0;
	if (left) // daemon_work() asks again when the array is whole
		want_sync();
	commit_upto_in_sync_thread(sync_floor_seq_.load_acquire()); // pairs with write_all()
}

// ---- asking md for a sync ----

// Where md synchronises parity beside a replacement that is not ready, it warns at every stripe
// whose parity lies on the member to be replaced (K24): we ask for none then, and the recovery
// comes first. What md resynchronises by itself, after a crash, is not held up: until parity is
// right, a member that fails takes old data with it.
bool Resync::put_off_by_replacement(s32 level, const plat_slots &slots) const
{
	return is_parity(level) && slots.replacing;
}

bool Resync::anything_to_sync(const Table *t) const
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

// Relaxed: what comes later wakes md's thread again. What that thread has changed comes before
// the fence, which pairs with the exchange in daemon().
bool Resync::daemon_work_due() const
{
	base::fence_full();
	return asleep() || sync_wanted();
}

// The only place where a sync may be asked for: no sync starts behind its back.
void Resync::daemon_work()
{
	plat_array_info a;

	wake_if_it_helps();
	if (!sync_wanted())
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
	// raid5's thread comes at each of its turns: no scan for what has been said. md's own resync
	// does not wait, and is none of ours.
	bool put_off = put_off_by_replacement(a.level, slots);
	if (put_off && (put_off_said_ || (a.flags & PLAT_ARRAY_RESYNC_DUE)))
		return;
	if (!anything_to_sync(table())) {
		// full, then look again: pairs with want_sync(), which follows its cell
		stop_wanting_sync();
		if (anything_to_sync(table()))
			want_sync();
		return;
	}
	put_off_said_ = put_off;
	if (put_off) {
		plat_log(host_, PLAT_LOG_WARN, "a resync waits until the replacement of a member is done");
		return;
	}
	// It stays wanted, and the daemon armed, until a scan finds nothing.
	next_request_ms_.store_relaxed(now + idle_ms());
	arm_for_sync();
	plat_resync_request(host_);
}

// sysfs bitmap_set_bits: the user says that these chunks may differ.
void Resync::dirty_bits(u64 first, u64 last)
{
	Table *t = table();

	if (first > last || last >= t->geo.chunks) {
		plat_log(host_, PLAT_LOG_WARN,
			 "bitmap_set_bits: chunks %llu-%llu are not all in 0-%llu; nothing is set",
			 static_cast<unsigned long long>(first), static_cast<unsigned long long>(last),
			 static_cast<unsigned long long>(t->geo.chunks - 1));
		return;
	}
	for (u64 c = first; c <= last; c++) {
		Cell &cell = t->cell(c);
		u8 raw = cell.load_relaxed();
		while (!wants_sync(state_of(raw)) || never_written(state_of(raw))) {
			if (cell.cas_full(raw, u8((raw & kDirtyOnDisk) | static_cast<u8>(State::NeedSync)))) {
				if (!(raw & kDirtyOnDisk))
					flag(t->page_of(c), kFlagWrite); // no touch
				break; // pairs with (a)
			}
		}
	}
	request();
	want_sync();
}

// Build parity for what was never written, so that it is there before it is needed.
Result Resync::proactive_sync()
{
	plat_array_info a;
	plat_array_get(host_, &a);
	if (!is_parity(a.level))
		return Result::error(LLB_EOPNOTSUPP);
	if (!(a.flags & PLAT_ARRAY_RDWR))
		return Result::error(LLB_EROFS);
	plat_slots slots;
	plat_slots_get(host_, &slots);
	if (!whole(slots, false))
		return Result::error(LLB_EBUSY);
	Table *t = table();
	for (u64 c = 0; c < t->geo.chunks; c++)
		apply(t->cell(c), Event::ProactiveSync, Context{true, false});
	want_sync();
	plat_md_wake(host_);
	return Result::ok();
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

u64 llb_skip_sync(llb_bitmap *b, u64 sector)
{
	return of(b).skip_sync(sector);
}

bool llb_blocks_synced(llb_bitmap *b, u64 sector)
{
	return of(b).blocks_synced(sector);
}

u32 llb_start_sync(llb_bitmap *b, u64 sector, u64 *sectors, u32 degraded)
{
	return of(b).start_sync(sector, sectors, degraded);
}

void llb_end_sync(llb_bitmap *b, u64 sector, u64 *sectors)
{
	of(b).end_sync(sector, sectors);
}

void llb_cond_end_sync(llb_bitmap *b, u64 sector, u32 force)
{
	of(b).cond_end_sync(sector, force);
}

void llb_close_sync(llb_bitmap *b)
{
	of(b).close_sync();
}

void llb_daemon_work(llb_bitmap *b)
{
	of(b).daemon_work();
}

int llb_daemon_work_due(llb_bitmap *b)
{
	return of(b).daemon_work_due();
}

void llb_dirty_bits(llb_bitmap *b, u64 first, u64 last)
{
	of(b).dirty_bits(first, last);
}

int llb_proactive_sync(llb_bitmap *b)
{
	return of(b).proactive_sync().value();
}
}
