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

void Resync::recover_again(Table *t)
{
	bool found = true;

	recovering_again_ = true;
	for (u32 i = 0; i < kRecoverAgainMax && found && !disturbed(); i++) {
		found = false;
		plat_recovery_back(host_); // first: what is read from here on is computed again
		forget_stripes();
		for (u64 c = 0; c < t->geo.chunks; c++) {
			if (state_of(t->cell(c).load_relaxed()) != State::NeedSync)
				continue;
			found = true;
			if (plat_recover(host_, c << t->geo.chunk_shift, t->geo.chunk_sectors()))
				break; // told to stop
		}
		plat_recovery_wait(host_);
	}
	recovering_again_ = false;
	stripes_stale_ = true; // reads go on until md calls the member in sync
}

} // namespace core
