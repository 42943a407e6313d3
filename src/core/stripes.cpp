// SPDX-License-Identifier: GPL-2.0
// Raid4/5/6: what md keeps of a member that is no longer there, and why a recovery is not all.
//
// A recovery skips what was never written. Of that raid5 may have blocks in its stripe cache: read
// from the member that was there before, or computed from parity that was never built. They are
// not what the new member holds; but a first write would make parity from them, and a resync
// would compare with them. So the cache is emptied when the next sync starts, for reads go on
// until md calls the new member in sync: forget_stripes(). md has no call for that; its
// own attribute does it (plat_stripes_forget()), and may fail, so each step of a sync tries again.
//
// A first write during the recovery, to a chunk that this had skipped, made parity from what raid5
// computed for the new member, which holds something else: a second member could fail
// now, and that write would be lost with it. So these chunks (NeedSync: the others are Syncing)
// are recovered before md calls the member in sync, from what is on the members, until a run finds
// none, for writes go on: at the end (recover_again()), and before each checkpoint, since md reads
// from the new member what lies below (recover_behind(); follow_checkpoint(), for md's own). A
// recovery that is told to stop goes no farther than to the first of them (stop_recovery()). Parity
// is not compared by that; all of them are resynchronised when the array is whole.
#include "core/bitmap.hpp"

namespace core {

namespace {

constexpr u32 kRecoverAgainMax = 16; // runs over what was written during the one before

} // namespace

void Resync::forget_stripes()
{
	int error = plat_stripes_forget(host_);

	stripes_stale_ = error != 0;
	if (error && !forget_failed_) // once: every step of a sync tries again
		plat_log(host_, PLAT_LOG_WARN,
			 "md's stripe cache could not be emptied (error %d); trying again", error);
	forget_failed_ = stripes_stale_;
}

// Of the chunks [from, to) the first that was first written behind the recovery; to: none.
u64 Resync::first_behind(const Table *t, u64 from, u64 to) const
{
	u64 first = to;

	for (u32 b = t->page_of(base::min(from, t->geo.chunks - 1)); b < t->geo.pages && first == to; b++) {
		if (t->page_first(b) >= to)
			break;
		t->each_cell(b, eight::wants_sync, [&](u64 c, Cell &cell) {
			if (c < from || c >= to || state_of(cell.load_relaxed()) != State::NeedSync)
				return false;
			first = c;
			return true;
		});
	}
	return first;
}

// Recovers those, once; md asks start_sync() of each, which makes it Syncing. False: told to stop.
bool Resync::recover_run(Table *t, u64 from, u64 to)
{
	bool stopped = false;

	for (u64 c = first_behind(t, from, to); c < to && !stopped; c = first_behind(t, c + 1, to))
		stopped = plat_recover(host_, c << t->geo.chunk_shift, t->geo.chunk_sectors()) != 0;
	plat_recovery_wait(host_);
	return !stopped;
}

void Resync::recover_again(Table *t)
{
	const u64 from = recovered_to_ >> t->geo.chunk_shift;
	bool found = true;

	recovering_again_ = true;
	for (u32 i = 0; i < kRecoverAgainMax && found && !disturbed(); i++) {
		plat_recovery_back(host_,
				   recovered_to_); // first: what is read from here on is computed again
		forget_stripes();
		found = first_behind(t, from, t->geo.chunks) < t->geo.chunks;
		recover_run(t, from, t->geo.chunks);
	}
	recovering_again_ = false;
	stripes_stale_ = true; // reads go on until md calls the member in sync
}

// Before what lies below a sector counts as in sync. False: it must not, now.
bool Resync::recover_behind(Table *t, u64 to_sector)
{
	const u64 from = recovered_to_ >> t->geo.chunk_shift;
	const u64 to = base::min(base::div_up(to_sector, t->geo.chunk_sectors()), t->geo.chunks);
	bool found = first_behind(t, from, to) < to;

	recovering_again_ = true;
	for (u32 i = 0; i < kRecoverAgainMax && found && recover_run(t, from, to); i++)
		found = first_behind(t, from, to) < to;
	recovering_again_ = false;
	return !found && !disturbed();
}

// In each step of a recovery. md makes checkpoints of its own, each five minutes and 16th part.
void Resync::follow_checkpoint(Table *t)
{
	u64 now = plat_checkpoint_get(host_);

	if (!recovering_) {
		recovering_ = true;
		recovered_to_ = now; // where it begins
	}
	if (now <= recovered_to_)
		return;
	u64 to = base::min(base::div_up(now, t->geo.chunk_sectors()), t->geo.chunks);
	if (first_behind(t, recovered_to_ >> t->geo.chunk_shift, to) < to) {
		plat_recovery_back(host_, recovered_to_);
		forget_stripes();
		if (!recover_behind(t, now))
			return;
		plat_checkpoint(host_, now);
	}
	recovered_to_ = now;
}

// The next recovery begins at what is not recovered.
void Resync::stop_recovery(const Table *t)
{
	u64 c = first_behind(t, recovered_to_ >> t->geo.chunk_shift, t->geo.chunks);

	if (c < t->geo.chunks)
		plat_recovery_stopped(host_, base::max(c << t->geo.chunk_shift, recovered_to_));
}

} // namespace core
