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
// are recovered at the end, before md calls the member in sync, from what is on the members:
// recover_again(), until a run finds none, for writes go on. Parity is not compared by that; all
// of them are resynchronised when the array is whole.
//
// Until then md must not read from the new member what lies in a chunk that was skipped, for it may
// be written, or have been written, with computed parity: nothing counts as in sync behind the first
// of them (recovered_to_). md raises recovery_offset whenever it writes its superblock, to where the
// recovery is, and is corrected in update_sb(), which it calls then; and where a recovery is told to
// stop: stop_recovery(). What a crash leaves on disk is too high. md's own resync makes parity from
// what is on the members then, and comes first; where it does not, a recovery that begins in the
// middle recovers at its end whatever waits.
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

// Of the chunks [from, to) the first that a recovery skipped, or that was first written behind it, or
// is still ahead of it; to: none.
u64 Resync::first_unsure(const Table *t, u64 from, u64 to) const
{
	for (u64 c = from; c < to; c++) {
		u8 raw = t->cell(c).load_relaxed();
		State s = state_of(raw);
		if (s == State::NeedSync || (never_written(s) && !(raw & kEnded)))
			return c;
		if (c % kPageBytes == 0)
			plat_relax();
	}
	return to;
}

// Up to this member sector the recovery of parity has come.
void Resync::recovered(const Table *t, u64 sector)
{
	u64 from = recovered_to_.load_relaxed();
	u64 to = base::min(base::div_up(sector, t->geo.chunk_sectors()), t->geo.chunks);
	u64 c = first_unsure(t, from >> t->geo.chunk_shift, to);

	// release: with what plat_recovery_begin() kept; pairs with recovered_to()
	recovered_to_.store_release(c < to ? base::max(from, c << t->geo.chunk_shift) : sector);
}

void Resync::recover_again(Table *t)
{
	const u64 to = recovery_began_ ? 0 : recovered_to_.load_relaxed();
	bool found = true;

	recovering_again_ = true;
	for (u32 i = 0; i < kRecoverAgainMax && found && !disturbed(); i++) {
		u64 first = t->geo.chunks;
		plat_recovery_again(host_, to); // first: what is read from here on is computed again
		forget_stripes();
		for (u64 c = to >> t->geo.chunk_shift; c < t->geo.chunks; c++) {
			if (state_of(t->cell(c).load_relaxed()) != State::NeedSync)
				continue;
			first = base::min(first, c);
			if (plat_recover(host_, c << t->geo.chunk_shift, t->geo.chunk_sectors()))
				break; // told to stop
		}
		plat_recovery_wait(host_);
		found = first < t->geo.chunks;
		if (found && disturbed()) { // for stop_recovery(): any of these may not be recovered
			apply(t->cell(first), Event::AbortSync, Context{});
			recovered_to_.store_release( // pairs with recovered_to()
				base::min(recovered_to_.load_relaxed(), first << t->geo.chunk_shift));
		}
	}
	recovering_again_ = false;
}

// The next recovery begins at what this one skipped, or did not reach.
void Resync::stop_recovery(const Table *t)
{
	u64 from = recovered_to_.load_relaxed();
	u64 c = first_unsure(t, from >> t->geo.chunk_shift, t->geo.chunks);

	if (from != kNoLimit && c < t->geo.chunks)
		plat_recovery_stopped(host_, base::max(c << t->geo.chunk_shift, from));
}

} // namespace core
