// SPDX-License-Identifier: GPL-2.0
// What sleepers wait for, of all parts; what sysfs shows and sets.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

bool Bitmap::wait_done(u32 kind, u64 arg)
{
	switch (kind) {
	case PLAT_WAIT_DURABLE:
		return durable() >= arg || recorded();
	case PLAT_WAIT_LEADER:
		return leader_free() || durable() >= arg;
	case PLAT_WAIT_BEHIND:
		return behind() == 0;
	case PLAT_WAIT_DAEMON:
		return daemon_free();
	case PLAT_WAIT_THAW:
		// pairs with publish() and with the thaw in relayout()
		return reinterpret_cast<u64>(table()) != arg || !table()->frozen.load_acquire();
	}
	return true;
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
		set_idle_s(u32(value));
		request_soon();
		return Result::ok();
	}
	leader_lock();
	if (what == LLB_TUNE_DAEMON_SLEEP) {
		set_sleep_s(u32(value));
		sb_.daemon_sleep_s = u32(value);
	} else {
		sb_.resync_budget = value ? u32(value) : LLB_BUDGET_NONE;
		set_budget_mib(sb_.resync_budget);
	}
	watch_budget();
	plat_array_info a;
	plat_array_get(host_, &a);
	// On disk now, so that it is kept over a restart; or with the next header, if that cannot be.
	write_header_later();
	if ((a.flags & PLAT_ARRAY_RDWR) && !init_pending() && !broken())
		(void)write_header(Hold{false}).failed();
	leader_unlock();
	daemon_take();
	begin_anew();
	daemon_give();
	plat_daemon_arm(host_, pass_ms());
	return Result::ok();
}

void Bitmap::stats(llb_stats *out) const
{
	Table *t = table();

	out->events_cleared = events_cleared();
	out->sync_size = t->geo.sync_size;
	out->pages = t->geo.pages;
	out->behind_writes = behind();
	out->behind_wait = behind_waited_for();
	out->crash_bytes = crash_bytes();
	out->dirtied_chunks = dirtied();
	out->cleaned_chunks = cleaned();
	out->loaded_dirty_chunks = loaded_dirty();
}

// Of one table: a resize meanwhile shows in the next call.
u64 Bitmap::copy_cells(u64 first, u8 *out, u64 count) const
{
	Table *t = table();
	u64 n = first < t->geo.chunks ? base::min(count, t->geo.chunks - first) : 0;

	for (u64 i = 0; i < n; i++)
		out[i] = t->cell(first + i).load_relaxed() & kStateMask;
	return n;
}

void Bitmap::metadata(llb_metadata *out) const
{
	Table *t = table();

	out->chunk_sectors = t->geo.chunk_sectors();
	out->chunks = t->geo.chunks;
	out->chunk_shift = t->geo.chunk_shift;
	out->daemon_sleep_s = sleep_s();
	out->barrier_idle_s = idle_s();
	out->resync_budget_mib = budget_mib();
}

void Bitmap::count_bits(u64 counts[LLB_STATES]) const
{
	Table *t = table();

	for (u32 i = 0; i < LLB_STATES; i++)
		counts[i] = 0;
	for (u64 c = 0; c < t->geo.chunks; c++)
		counts[t->cell(c).load_relaxed() & kStateMask]++;
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

bool llb_pending(llb_bitmap *b)
{
	return of(b).pending();
}

void llb_unplug(llb_bitmap *b, u32 may_submit)
{
	of(b).unplug(may_submit);
}

void llb_leader_work(llb_bitmap *b)
{
	of(b).leader_work();
}

int llb_wait_done(llb_bitmap *b, u32 kind, u64 arg)
{
	return of(b).wait_done(kind, arg);
}

u32 llb_behind_idle(llb_bitmap *b)
{
	return of(b).wait_done(PLAT_WAIT_BEHIND, 0);
}

int llb_tune(llb_bitmap *b, u32 what, u64 value)
{
	return of(b).tune(what, value).value();
}

llb_u64 llb_cells_copy(llb_bitmap *b, llb_u64 first, llb_u8 *out, llb_u64 count)
{
	return of(b).copy_cells(first, out, count);
}

void llb_stats_get(llb_bitmap *b, llb_stats *out)
{
	of(b).stats(out);
}

void llb_metadata_get(llb_bitmap *b, llb_metadata *out)
{
	of(b).metadata(out);
}

void llb_bits_count(llb_bitmap *b, u64 counts[LLB_STATES])
{
	of(b).count_bits(counts);
}
}
