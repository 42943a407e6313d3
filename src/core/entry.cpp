// SPDX-License-Identifier: GPL-2.0
// The extern "C" face of the core: see include/llbitmap/abi.h for the contracts.
#include "core/bitmap.hpp"

namespace {

core::Bitmap &of(llb_bitmap *b)
{
	return static_cast<core::Bitmap &>(*b);
}

} // namespace

extern "C" {

int llb_create(plat_array *h, llb_bitmap **out)
{
	core::Bitmap *b = nullptr;
	int err = core::Bitmap::create(h, &b).value();
	*out = b;
	return err;
}

int llb_load(llb_bitmap *b)
{
	return of(b).load().value();
}

void llb_destroy(llb_bitmap *b)
{
	if (b)
		of(b).destroy();
}

void llb_remove_live(llb_bitmap *b)
{
	of(b).remove_live();
}

int llb_resize(llb_bitmap *b, u64 sync_size)
{
	return of(b).resize(sync_size).value();
}

void llb_flush(llb_bitmap *b)
{
	of(b).flush();
}

void llb_write_all(llb_bitmap *b)
{
	of(b).write_all();
}

void llb_dirty_bits(llb_bitmap *b, u64 first, u64 last)
{
	of(b).dirty_bits(first, last);
}

void llb_unplug(llb_bitmap *b, u32 may_submit)
{
	of(b).unplug(may_submit);
}

void llb_daemon_work(llb_bitmap *b)
{
	of(b).daemon_work();
}

void llb_daemon(llb_bitmap *b)
{
	of(b).daemon();
}

void llb_leader_work(llb_bitmap *b)
{
	of(b).leader_work();
}

int llb_wait_done(llb_bitmap *b, u32 kind, u64 arg)
{
	return of(b).wait_done(kind, arg);
}

void llb_start_write(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).start(sector, sectors);
}

void llb_end_write(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).end(sector, sectors);
}

void llb_start_discard(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).start_discard(sector, sectors);
}

void llb_end_discard(llb_bitmap *b, u64 sector, u64 sectors)
{
	of(b).end(sector, sectors);
}

void llb_start_behind(llb_bitmap *b)
{
	of(b).start_behind();
}

void llb_end_behind(llb_bitmap *b)
{
	of(b).end_behind();
}

void llb_wait_behind(llb_bitmap *b)
{
	of(b).wait_behind();
}

u32 llb_behind_idle(llb_bitmap *b)
{
	return of(b).wait_done(PLAT_WAIT_BEHIND, 0);
}

u64 llb_skip_sync(llb_bitmap *b, u64 sector)
{
	return of(b).skip_sync(sector);
}

bool llb_blocks_synced(llb_bitmap *b, u64 sector)
{
	return of(b).blocks_synced(sector);
}

u32 llb_start_sync(llb_bitmap *b, u64 sector, llb_u64 *sectors, u32 degraded)
{
	u64 n = 0;
	bool must = of(b).start_sync(sector, &n, degraded);
	*sectors = n;
	return must;
}

void llb_end_sync(llb_bitmap *b, u64 sector, llb_u64 *sectors)
{
	u64 n = 0;
	of(b).end_sync(sector, &n);
	*sectors = n;
}

void llb_cond_end_sync(llb_bitmap *b, u64 sector, u32 force)
{
	of(b).cond_end_sync(sector, force);
}

void llb_close_sync(llb_bitmap *b)
{
	of(b).close_sync();
}

void llb_update_sb(llb_bitmap *b)
{
	of(b).update_sb();
}

bool llb_pending(llb_bitmap *b)
{
	return of(b).pending();
}

void llb_stats_get(llb_bitmap *b, llb_stats *out)
{
	of(b).stats(out);
}

void llb_metadata_get(llb_bitmap *b, llb_metadata *out)
{
	of(b).metadata(out);
}

void llb_bits_count(llb_bitmap *b, llb_u64 counts[8])
{
	u64 n[LLB_STATES];
	of(b).count_bits(n);
	for (u32 i = 0; i < LLB_STATES; i++)
		counts[i] = n[i];
}

int llb_tune(llb_bitmap *b, u32 what, u64 value)
{
	return of(b).tune(what, value).value();
}

int llb_proactive_sync(llb_bitmap *b)
{
	return of(b).proactive_sync().value();
}
}
