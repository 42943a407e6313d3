// SPDX-License-Identifier: GPL-2.0
/* md's bitmap_operations, each handed to the core. Contexts: abi.h. */
#include "llb_trace.h"
#include "platform.h"

static struct llb_bitmap *bitmap_of(struct mddev *mddev)
{
	struct plat_array *h = mddev->bitmap;

	return h->bitmap;
}

static bool reconfig_locked(struct mddev *mddev)
{
#ifdef CONFIG_PREEMPT_RT
	return mutex_is_locked(&mddev->reconfig_mutex);
#else
	return atomic_long_read(&mddev->reconfig_mutex.owner); /* inline, what that would call */
#endif
}

/*
 * Is it in use? With flush md asks two things: writers, for each member, whether their data
 * has to wait; and, holding reconfig_mutex, those who would write the bitmap out.
 */
static LLB_HOT bool llb_op_enabled(void *data, bool flush)
{
	struct plat_array *h = data;

	if (!flush || !h)
		return h;
	return reconfig_locked(h->mddev) || llb_pending(h->bitmap);
}

static int llb_op_create(struct mddev *mddev)
{
	struct plat_array *h;
	int err;

	/* md takes no reference on a bitmap's module */
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	h = plat_host_make(mddev);
	if (!h) {
		module_put(THIS_MODULE);
		return -ENOMEM;
	}
	err = llb_create(h, &h->bitmap);
	if (err) {
		plat_host_free(h);
		module_put(THIS_MODULE);
		return err;
	}
	smp_store_release(&mddev->bitmap, h); /* pairs with who finds it without a lock */
	files_show(h);
	return 0;
}

static int llb_op_load(struct mddev *mddev)
{
	struct plat_array *h = mddev->bitmap;
	u64 ns = ktime_get_ns();
	int err = llb_load(h->bitmap);
	struct llb_metadata m = {};
	struct llb_stats s = {};

	h->loaded = !err;
	if (!err) {
		llb_metadata_get(h->bitmap, &m);
		llb_stats_get(h->bitmap, &s);
	}
	trace_llbitmap_load(mdname(mddev), err, m.chunks, s.loaded_dirty_chunks, ktime_get_ns() - ns);
	return err;
}

/*
 * Write-behinds have ended for md, and name the bitmap when they end on their member. One that
 * fails there is ended by raid1d only after md wrote its superblock, which waits for the mutex
 * that the caller holds; and nobody else wakes raid1d then.
 */
static void behind_drain(struct plat_array *h)
{
	struct mddev *mddev = h->mddev;

	while (!wait_event_timeout(h->wait, llb_behind_idle(h->bitmap), HZ / 10)) {
		if (test_bit(MD_SB_CHANGE_PENDING, &mddev->sb_flags)) {
			if (READ_ONCE(mddev->ro) == MD_RDWR)
				md_update_sb(mddev, 1);
			else /* as md_check_recovery() does: nothing is written there */
				clear_bit(MD_SB_CHANGE_PENDING, &mddev->sb_flags);
		}
		md_wakeup_thread(mddev->thread);
	}
}

static void behind_wait(struct plat_array *h)
{
	if (reconfig_is_ours(h->mddev)) /* a stop, and not one of raid1's readers */
		behind_drain(h);
	else
		llb_wait_behind(h->bitmap);
}

static void llb_op_destroy(struct mddev *mddev)
{
	struct plat_array *h = mddev->bitmap;

	if (!h)
		return;
	files_hide(h);
	behind_drain(h);
	mutex_lock(&mddev->bitmap_info.mutex); /* daemon_work: mdX may be running */
	spin_lock(&mddev->lock); /* get_stats for /proc/mdstat */
	mddev->bitmap = NULL;
	spin_unlock(&mddev->lock);
	mutex_unlock(&mddev->bitmap_info.mutex);
	plat_host_stop(h);
	/* the last write-behind may be about to wake whoever waits for it; daemon_work_due() */
	synchronize_rcu();
	/* mdX also lives after a load that failed, but then the array does not go on */
	if (h->loaded && rcu_access_pointer(mddev->thread)) {
		llb_remove_live(h->bitmap);
		mddev->bitmap_info.max_write_behind = 0;
	}
	llb_destroy(h->bitmap);
	plat_host_free(h);
	module_put(THIS_MODULE);
}

static int llb_op_resize(struct mddev *mddev, sector_t sectors, int chunksize)
{
	return llb_resize(bitmap_of(mddev), sectors);
}

static void llb_op_flush(struct mddev *mddev)
{
	llb_flush(bitmap_of(mddev));
}

static void llb_op_write_all(struct mddev *mddev)
{
	llb_write_all(bitmap_of(mddev));
}

static void llb_op_dirty_bits(struct mddev *mddev, unsigned long s, unsigned long e)
{
	llb_dirty_bits(bitmap_of(mddev), s, e);
}

static void llb_op_unplug(struct mddev *mddev, bool sync)
{
	struct plat_array *h = mddev->bitmap;

	/* raid1 and raid10 call it without asking enabled */
	if (h)
		llb_unplug(h->bitmap, sync && !current->bio_list);
}

/*
 * md holds nothing here: the bitmap may be on its way out, with all that it stands on. raid5's
 * thread comes at each of its turns, nearly always for nothing: no mutex for that.
 */
static bool daemon_work_due(struct mddev *mddev)
{
	struct plat_array *h;
	bool due;

	rcu_read_lock();
	h = READ_ONCE(mddev->bitmap); /* pairs with llb_op_create() and destroy's grace period */
	due = h && llb_daemon_work_due(h->bitmap);
	rcu_read_unlock();
	return due;
}

static void llb_op_daemon_work(struct mddev *mddev)
{
	struct plat_array *h;

	if (!daemon_work_due(mddev))
		return;
	mutex_lock(&mddev->bitmap_info.mutex);
	h = mddev->bitmap;
	if (h)
		llb_daemon_work(h->bitmap);
	mutex_unlock(&mddev->bitmap_info.mutex);
}

static void llb_op_start_behind_write(struct mddev *mddev)
{
	llb_start_behind(bitmap_of(mddev));
}

static void llb_op_end_behind_write(struct mddev *mddev)
{
	rcu_read_lock(); /* who waits for this one may free the bitmap */
	llb_end_behind(bitmap_of(mddev));
	rcu_read_unlock();
}

#ifdef LLB_WAIT_BEHIND_BOOL_NOWAIT
static bool llb_op_wait_behind_writes(struct mddev *mddev, bool nowait)
{
	struct plat_array *h = mddev->bitmap;

	if (!h)
		return true;
	if (nowait)
		return llb_behind_idle(h->bitmap);
	behind_wait(h);
	return true;
}
#else
static void llb_op_wait_behind_writes(struct mddev *mddev)
{
	struct plat_array *h = mddev->bitmap;

	if (h)
		behind_wait(h);
}
#endif

static LLB_HOT void llb_op_start_write(struct mddev *mddev, sector_t offset, unsigned long sectors)
{
	llb_start_write(bitmap_of(mddev), offset, sectors);
}

static LLB_HOT void llb_op_end_write(struct mddev *mddev, sector_t offset, unsigned long sectors)
{
	llb_end_write(bitmap_of(mddev), offset, sectors);
}

static void llb_op_start_discard(struct mddev *mddev, sector_t offset, unsigned long sectors)
{
	llb_start_discard(bitmap_of(mddev), offset, sectors);
}

static void llb_op_end_discard(struct mddev *mddev, sector_t offset, unsigned long sectors)
{
	llb_end_discard(bitmap_of(mddev), offset, sectors);
}

#ifdef LLB_HAVE_PREPARE_RANGE
/*
 * Kernels with this op leave the mapping to member sectors to the bitmap. What raid4/5/6 hands
 * for a discard is whole stripes of its own already; a write is widened to them by the
 * personality, which knows its geometry also while that changes.
 */
static void llb_op_prepare_range(struct mddev *mddev, sector_t *offset, unsigned long *sectors,
				 bool discard)
{
	if (mddev->pers->bitmap_sector)
		mddev->pers->bitmap_sector(mddev, offset, sectors);
}
#endif

static sector_t llb_op_skip_sync_blocks(struct mddev *mddev, sector_t offset)
{
	struct plat_array *h = mddev->bitmap;

	return h ? llb_skip_sync(h->bitmap, offset) : 0;
}

static LLB_HOT bool llb_op_blocks_synced(struct mddev *mddev, sector_t offset)
{
	struct plat_array *h = mddev->bitmap;

	/* without a bitmap parity is md's own business */
	return !h || llb_blocks_synced(h->bitmap, offset);
}

static bool llb_op_start_sync(struct mddev *mddev, sector_t offset, sector_t *blocks, bool degraded)
{
	u64 n;
	bool must = llb_start_sync(bitmap_of(mddev), offset, &n, degraded);

	*blocks = n;
	return must;
}

static void llb_op_end_sync(struct mddev *mddev, sector_t offset, sector_t *blocks)
{
	u64 n;

	llb_end_sync(bitmap_of(mddev), offset, &n);
	*blocks = n;
}

static void llb_op_cond_end_sync(struct mddev *mddev, sector_t sector, bool force)
{
	llb_cond_end_sync(bitmap_of(mddev), sector, force);
}

static void llb_op_close_sync(struct mddev *mddev)
{
	llb_close_sync(bitmap_of(mddev));
	files_changed(mddev->bitmap);
}

static void llb_op_update_sb(void *data)
{
	struct plat_array *h = data;

	if (h)
		llb_update_sb(h->bitmap);
}

static int llb_op_get_stats(void *data, struct md_bitmap_stats *stats)
{
	struct plat_array *h = data;
	struct llb_stats s;

	if (!h)
		return -ENOENT;
	llb_stats_get(h->bitmap, &s);
	memset(stats, 0, sizeof(*stats));
	stats->events_cleared = s.events_cleared;
	stats->behind_writes = s.behind_writes;
	stats->behind_wait = s.behind_wait;
	stats->pages = DIV_ROUND_UP(s.pages * LLB_PAGE_BYTES, PAGE_SIZE); /* md counts in its own */
	stats->file_pages = stats->pages;
	stats->sync_size = s.sync_size;
	return 0;
}

static const struct attribute_group *llb_groups[] = { &llb_group, NULL };

struct bitmap_operations llb_ops = {
	.head = {
		.type	= MD_BITMAP,
		.id	= ID_LLBITMAP,
		.name	= "llbitmap",
		.owner	= THIS_MODULE,
	},
	.enabled		= llb_op_enabled,
	.create			= llb_op_create,
	.resize			= llb_op_resize,
	.load			= llb_op_load,
	.destroy		= llb_op_destroy,
	.flush			= llb_op_flush,
	.write_all		= llb_op_write_all,
	.dirty_bits		= llb_op_dirty_bits,
	.unplug			= llb_op_unplug,
	.daemon_work		= llb_op_daemon_work,
	.start_behind_write	= llb_op_start_behind_write,
	.end_behind_write	= llb_op_end_behind_write,
	.wait_behind_writes	= llb_op_wait_behind_writes,
#ifdef LLB_HAVE_PREPARE_RANGE
	.prepare_range		= llb_op_prepare_range,
#endif
	.start_write		= llb_op_start_write,
	.end_write		= llb_op_end_write,
	.start_discard		= llb_op_start_discard,
	.end_discard		= llb_op_end_discard,
	.skip_sync_blocks	= llb_op_skip_sync_blocks,
	.blocks_synced		= llb_op_blocks_synced,
	.start_sync		= llb_op_start_sync,
	.end_sync		= llb_op_end_sync,
	.cond_end_sync		= llb_op_cond_end_sync,
	.close_sync		= llb_op_close_sync,
	.update_sb		= llb_op_update_sb,
	.get_stats		= llb_op_get_stats,
	.groups			= llb_groups,
};
