// SPDX-License-Identifier: GPL-2.0
/* The kernel services of the core that are not I/O. */
#include <linux/delay.h>
#include <linux/notifier.h>
#include <linux/raid/md_p.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/suspend.h>

#include "llb_trace.h"
#include "platform.h"

/* ---- memory: never write back to the array that is being set up ---- */

void *plat_alloc(u64 bytes)
{
	unsigned int noio = memalloc_noio_save();
	void *p = kvzalloc(bytes, GFP_KERNEL);

	memalloc_noio_restore(noio);
	return p;
}

void plat_free(void *p)
{
	kvfree(p);
}

void *plat_page_alloc(u32 may_wait)
{
	return (void *)get_zeroed_page(may_wait ? GFP_NOIO : GFP_NOWAIT | __GFP_NOWARN);
}

void plat_page_free(void *p)
{
	free_page((unsigned long)p);
}

/* ---- time, work, waiting ---- */

u64 plat_now_ms(void)
{
	return ktime_to_ms(ktime_get());
}

void plat_daemon_arm(struct plat_array *h, u32 delay_ms)
{
	unsigned long delay = msecs_to_jiffies(delay_ms);

	if (READ_ONCE(h->stopping))
		return;
	if (!queue_delayed_work(h->daemon_wq, &h->daemon, delay) &&
	    time_before(jiffies + delay, READ_ONCE(h->daemon.timer.expires)))
		mod_delayed_work(h->daemon_wq, &h->daemon, delay);
}

void plat_leader_queue(struct plat_array *h)
{
	queue_work(h->leader_wq, &h->leader);
}

void plat_md_wake(struct plat_array *h)
{
	md_wakeup_thread(h->mddev->thread);
}

void plat_relax(void)
{
	cond_resched();
}

void plat_sleep_ms(u32 ms)
{
	msleep(ms);
}

void plat_wait(struct plat_array *h, struct llb_bitmap *b, u32 kind, u64 arg)
{
	u64 ns;

	if (llb_wait_done(b, kind, arg))
		return;
	ns = ktime_get_ns();
	wait_event(h->wait, llb_wait_done(b, kind, arg));
	if (kind != PLAT_WAIT_DURABLE && (kind != PLAT_WAIT_LEADER || arg == U64_MAX))
		return; /* not for a commit */
	if (current_work() == &h->leader)
		return; /* for a writer that is counted */
	ns = ktime_get_ns() - ns;
	atomic64_inc(&h->seen.waits);
	atomic64_add(ns, &h->seen.wait_ns);
	trace_llbitmap_wait(mdname(h->mddev), ns);
}

void plat_wake(struct plat_array *h)
{
	wake_up_all(&h->wait);
}

/* ---- the array ---- */

static u32 array_flags(struct mddev *mddev)
{
	unsigned long r = READ_ONCE(mddev->recovery);
	u32 f = 0;

	if (READ_ONCE(mddev->ro) == MD_RDWR)
		f |= PLAT_ARRAY_RDWR;
	if (r & BIT(MD_RECOVERY_FROZEN))
		f |= PLAT_ARRAY_FROZEN;
	if (r & BIT(MD_RECOVERY_RUNNING))
		f |= PLAT_ARRAY_RUNNING;
	if (r & BIT(MD_RECOVERY_SYNC))
		f |= PLAT_ARRAY_SYNC;
	if (r & BIT(MD_RECOVERY_REQUESTED))
		f |= PLAT_ARRAY_REQUESTED;
	if (r & BIT(MD_RECOVERY_CHECK))
		f |= PLAT_ARRAY_CHECK;
	if (r & BIT(MD_RECOVERY_RESHAPE))
		f |= PLAT_ARRAY_RESHAPE;
	if (r & BIT(MD_RECOVERY_INTR))
		f |= PLAT_ARRAY_INTR;
	if (READ_ONCE(mddev->reshape_position) != MaxSector)
		f |= PLAT_ARRAY_RESHAPE_PENDING;
	if (test_bit(MD_BROKEN, &mddev->flags))
		f |= PLAT_ARRAY_BROKEN;
	if (READ_ONCE(mddev->pers))
		f |= PLAT_ARRAY_LIVE;
	if (READ_ONCE(mddev->pers) && !READ_ONCE(mddev->bitmap))
		f |= PLAT_ARRAY_BARE;
	if (mddev->bitmap_info.nodes)
		f |= PLAT_ARRAY_CLUSTERED;
	if (mddev_is_dm(mddev))
		f |= PLAT_ARRAY_DM;
	if (mddev->external || mddev->major_version != 1 || mddev->minor_version != 2)
		f |= PLAT_ARRAY_OTHER_META;
	if (mddev->bitmap_info.file)
		f |= PLAT_ARRAY_BITMAP_FILE;
	if (READ_ONCE(mddev->resync_offset) != MaxSector)
		f |= PLAT_ARRAY_RESYNC_DUE;
	if (READ_ONCE(mddev->suspended))
		f |= PLAT_ARRAY_SUSPENDED;
	if (READ_ONCE(plat_snapshot))
		f |= PLAT_ARRAY_SNAPSHOT;
	return f;
}

/* md may change these meanwhile, its sync thread and its own each for itself. */
void plat_array_get(struct plat_array *h, struct plat_array_info *out)
{
	struct mddev *mddev = h->mddev;

	out->events = READ_ONCE(mddev->events);
	out->sync_size = READ_ONCE(mddev->resync_max_sectors);
	out->bitmap_offset = READ_ONCE(mddev->bitmap_info.offset);
	out->bitmap_space = READ_ONCE(mddev->bitmap_info.space);
	out->level = READ_ONCE(mddev->level);
	out->raid_disks = READ_ONCE(mddev->raid_disks);
	out->degraded = READ_ONCE(mddev->degraded);
	out->flags = array_flags(mddev);
	out->raid_chunk = READ_ONCE(mddev->chunk_sectors);
	memcpy(out->uuid, mddev->uuid, sizeof(out->uuid));
}

u64 plat_events(struct plat_array *h)
{
	return READ_ONCE(h->mddev->events);
}

static struct md_rdev *member_at(struct mddev *mddev, u32 index)
{
	struct md_rdev *rdev;

	rdev_for_each(rdev, mddev)
		if (index-- == 0)
			return rdev;
	return NULL;
}

/* The bad-block log's place, which md reads from the superblock only to write it. */
static void bbl(struct md_rdev *rdev, struct plat_member *out)
{
	struct mdp_superblock_1 *sb;

	if (rdev->mddev->major_version != 1 || !rdev->sb_page || rdev->badblocks.shift < 0)
		return;
	sb = page_address(rdev->sb_page);
	if (!sb->bblog_offset)
		return;
	out->bbl_offset = (s32)le32_to_cpu(sb->bblog_offset);
	out->bbl_sectors = le16_to_cpu(sb->bblog_size);
	out->bbl_entries = rdev->badblocks.count;
	out->flags |= PLAT_MEMBER_BBL;
}

static bool numbered(struct md_rdev *rdev)
{
	return rdev->desc_nr >= 0 && rdev->desc_nr < PLAT_NUMBERS;
}

/*
 * A new disk has seen nothing, either (one that has just failed has not left its slot, and
 * nothing is saved of it yet): if it fails half recovered, md takes it back through its
 * state file as if it had been in sync.
 */
static bool member_missed(struct plat_array *h, struct md_rdev *rdev)
{
	if (rdev->raid_disk >= 0 && test_bit(In_sync, &rdev->flags))
		clear_bit(rdev->desc_nr, h->missed);
	else if (rdev->raid_disk >= 0 && rdev->saved_raid_disk < 0 &&
		 !test_bit(Journal, &rdev->flags) && !test_bit(Faulty, &rdev->flags))
		set_bit(rdev->desc_nr, h->missed);
	return test_bit(rdev->desc_nr, h->missed);
}

int plat_member_get(struct plat_array *h, u32 index, struct plat_member *out)
{
	struct md_rdev *rdev = member_at(h->mddev, index);
	struct block_device *meta;

	if (!rdev)
		return -LLB_ERANGE;
	meta = rdev->meta_bdev ?: rdev->bdev;
	memset(out, 0, sizeof(*out));
	out->sb_start = rdev->sb_start;
	out->data_offset = rdev->data_offset;
	out->new_data_offset = rdev->new_data_offset;
	out->data_sectors = h->mddev->dev_sectors ?: rdev->sectors;
	out->ppl_start = rdev->ppl.sector;
	out->ppl_sectors = rdev->ppl.size;
	out->logical_block = bdev_logical_block_size(meta);
	out->separate_meta = rdev->meta_bdev != NULL;
	out->slot = rdev->raid_disk;
	if (test_bit(In_sync, &rdev->flags))
		out->flags |= PLAT_MEMBER_IN_SYNC;
	if (test_bit(Faulty, &rdev->flags))
		out->flags |= PLAT_MEMBER_FAULTY;
	if (test_bit(Journal, &rdev->flags))
		out->flags |= PLAT_MEMBER_JOURNAL;
	if (test_bit(Bitmap_sync, &rdev->flags))
		out->flags |= PLAT_MEMBER_OLD;
	if (numbered(rdev) && member_missed(h, rdev))
		out->flags |= PLAT_MEMBER_MISSED;
	bbl(rdev, out);
	return 0;
}

void plat_bbl_disable(struct plat_array *h, u32 index)
{
	struct md_rdev *rdev = member_at(h->mddev, index);

	if (!rdev)
		return;
	write_seqlock_irq(&rdev->badblocks.lock);
	rdev->badblocks.shift = -1; /* md then fails the member instead */
	write_sequnlock_irq(&rdev->badblocks.lock);
}

void plat_member_fail(struct plat_array *h, u32 index)
{
	struct md_rdev *rdev = member_at(h->mddev, index);

	if (rdev)
		md_error(h->mddev, rdev);
}

/*
 * saved_raid_disk makes md give a member its slot back, to be recovered through the bitmap; md
 * indexes by it, so it changes only under reconfig_mutex. The daemon, which holds none, marks:
 * write_all() then distrusts who gets a slot (K22). Under the leader lock: one at a time.
 */
void plat_absent_missed(struct plat_array *h)
{
	bool ours = reconfig_is_ours(h->mddev);
	struct md_rdev *rdev;

	rcu_read_lock();
	rdev_for_each_rcu(rdev, h->mddev) {
		bool has_all = READ_ONCE(rdev->raid_disk) >= 0 &&
			       test_bit(In_sync, &rdev->flags) && !test_bit(Faulty, &rdev->flags);

		if (test_bit(Journal, &rdev->flags))
			continue;
		if (!has_all && ours && !test_bit(Faulty, &rdev->flags))
			rdev->saved_raid_disk = -1;
		if (numbered(rdev)) /* a faulty one has its slot still, and saves it when it leaves */
			assign_bit(rdev->desc_nr, h->missed, !has_all);
	}
	rcu_read_unlock();
}

void plat_member_distrust(struct plat_array *h, u32 index)
{
	struct md_rdev *rdev = member_at(h->mddev, index);

	if (!rdev || rdev->saved_raid_disk < 0)
		return;
	rdev->saved_raid_disk = -1; /* its superblock then says that the bitmap is no help */
	set_bit(MD_SB_CHANGE_DEVS, &h->mddev->sb_flags); /* ... soon: it may have said the opposite */
}

/* A member's state file, as if its line were written there. Holding reconfig_mutex, as md does. */
static void member_state(struct md_rdev *rdev, const char *line)
{
	struct kernfs_node *node = rdev->kobj.sd ? kernfs_find_and_get(rdev->kobj.sd, "state") : NULL;
	const struct rdev_sysfs_entry *state;

	if (!node)
		return;
	state = container_of(node->priv, struct rdev_sysfs_entry, attr);
	state->store(rdev, line, strlen(line));
	kernfs_put(node);
}

/*
 * md makes what orders overlapping writes on a write-mostly member (its serial pool, needed by
 * devices of several queues) when that flag is set while write-behind is on, and does not
 * export it; md_run() makes only half of it where max_write_behind is set too early. So: after
 * md_run(), set it again; md then writes its superblock, and says so where the array is still
 * read-only. md frees it at a stop, or with the member.
 */
void plat_write_behind_set(struct plat_array *h, u32 writes)
{
	struct mddev *mddev = h->mddev;
	struct md_rdev *rdev;

	mddev->bitmap_info.max_write_behind = writes;
	rdev_for_each(rdev, mddev)
		if (test_bit(WriteMostly, &rdev->flags) &&
		    rdev->bdev->bd_disk->queue->nr_hw_queues != 1)
			member_state(rdev, "writemostly");
}

void plat_map_write(struct plat_array *h, u64 *sector, u64 *sectors)
{
	struct mddev *mddev = h->mddev;
	sector_t at = *sector;
	unsigned long n = *sectors;

	if (mddev->pers && mddev->pers->bitmap_sector)
		mddev->pers->bitmap_sector(mddev, &at, &n);
	*sector = at;
	*sectors = n;
}

/*
 * md writes it into its own superblock. It knows no room there, as after an assembly; and what a
 * classic bitmap before allowed to write behind is not taken away with it.
 */
void plat_bitmap_place(struct plat_array *h, s64 offset)
{
	h->mddev->bitmap_info.max_write_behind = 0;
	h->mddev->bitmap_info.offset = offset;
	h->mddev->bitmap_info.space = 0;
}

void plat_chunk_bytes_set(struct plat_array *h, u64 bytes, u32 daemon_sleep_s)
{
	h->mddev->bitmap_info.chunksize = bytes;
	h->mddev->bitmap_info.daemon_sleep = daemon_sleep_s * HZ;
}

void plat_resync_request(struct plat_array *h)
{
	h->mddev->resync_offset = 0;
	set_bit(MD_RECOVERY_NEEDED, &h->mddev->recovery);
}

void plat_broken_set(struct plat_array *h)
{
	struct mddev *mddev = h->mddev;

	set_bit(MD_BROKEN, &mddev->flags);
	set_mask_bits(&mddev->sb_flags, 0, BIT(MD_SB_CHANGE_DEVS) | BIT(MD_SB_CHANGE_PENDING));
	md_wakeup_thread(mddev->thread);
}

/* Does this task hold reconfig_mutex itself? md may be freezing the array, and its own
 * task then sends what was parked.
 */
bool reconfig_is_ours(struct mddev *mddev)
{
#ifdef CONFIG_PREEMPT_RT
	return ((unsigned long)READ_ONCE(mddev->reconfig_mutex.rtmutex.owner) & ~1UL) ==
	       (unsigned long)current;
#else
	return (atomic_long_read(&mddev->reconfig_mutex.owner) & ~7L) == (long)current;
#endif
}

/* plat_broken_set() asked for it; md takes that back when it has written. */
static int written(struct mddev *mddev)
{
	return test_bit(MD_SB_CHANGE_PENDING, &mddev->sb_flags) ? -LLB_EBUSY : 0;
}

int plat_superblock_write(struct plat_array *h)
{
	struct mddev *mddev = h->mddev;

	if (reconfig_is_ours(mddev)) {
		md_update_sb(mddev, 1);
		return written(mddev);
	}
	if (!mutex_trylock(&mddev->reconfig_mutex))
		return -LLB_EBUSY;
	md_update_sb(mddev, 1);
	mddev_unlock(mddev);
	return written(mddev);
}

void plat_recovery_wait(struct plat_array *h)
{
	wait_event(h->mddev->recovery_wait, !atomic_read(&h->mddev->recovery_active));
}

void plat_checkpoint(struct plat_array *h, u64 sector)
{
	h->mddev->curr_resync_completed = sector;
	set_bit(MD_SB_CHANGE_CLEAN, &h->mddev->sb_flags);
	if (h->mddev->sysfs_completed)
		sysfs_notify_dirent(h->mddev->sysfs_completed);
}

void plat_log(struct plat_array *h, u32 level, const char *fmt, ...)
{
	struct va_format vaf;
	va_list args;
	const char *prefix = level <= PLAT_LOG_ERR ? KERN_ERR :
			     level == PLAT_LOG_WARN ? KERN_WARNING : KERN_NOTICE;

	va_start(args, fmt);
	vaf.fmt = fmt;
	vaf.va = &args;
	printk("%sllbitmap: %s: %pV\n", prefix, mdname(h->mddev), &vaf);
	va_end(args);
}

/* ---- hibernation ---- */

bool plat_snapshot;

static int pm_event(struct notifier_block *nb, unsigned long event, void *unused)
{
	switch (event) {
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE: /* an image is about to come, which knows nothing of us */
		WRITE_ONCE(plat_snapshot, true);
		break;
	case PM_POST_HIBERNATION: /* by the image that came back, or after a failure */
	case PM_POST_RESTORE: /* it did not come */
		WRITE_ONCE(plat_snapshot, false);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block pm_block = { .notifier_call = pm_event };

int plat_pm_register(void)
{
	return register_pm_notifier(&pm_block);
}

void plat_pm_unregister(void)
{
	unregister_pm_notifier(&pm_block);
}

/* ---- life of the host ---- */

static void daemon_fn(struct work_struct *work)
{
	struct plat_array *h = container_of(to_delayed_work(work), struct plat_array, daemon);
	unsigned int noio = memalloc_noio_save();
	u64 ns = ktime_get_ns();
	struct llb_stats s;

	llb_daemon(h->bitmap);
	ns = ktime_get_ns() - ns;
	llb_stats_get(h->bitmap, &s);
	WRITE_ONCE(h->seen.passes, h->seen.passes + 1);
	WRITE_ONCE(h->seen.pass_ns, h->seen.pass_ns + ns);
	trace_llbitmap_daemon(mdname(h->mddev), s.dirtied_chunks, s.cleaned_chunks, s.crash_bytes, ns);
	if (s.dirtied_chunks + s.cleaned_chunks != h->changes_told) {
		h->changes_told = s.dirtied_chunks + s.cleaned_chunks;
		files_changed(h);
	}
	memalloc_noio_restore(noio);
}

static void leader_fn(struct work_struct *work)
{
	struct plat_array *h = container_of(work, struct plat_array, leader);
	unsigned int noio = memalloc_noio_save();

	llb_leader_work(h->bitmap);
	memalloc_noio_restore(noio);
}

/* Bound from before this bitmap: md compares no events when it stops an array that stays bound. */
static void faulty_missed(struct plat_array *h)
{
	struct md_rdev *rdev;

	rdev_for_each(rdev, h->mddev)
		if (test_bit(Faulty, &rdev->flags) && numbered(rdev))
			set_bit(rdev->desc_nr, h->missed);
}

struct plat_array *plat_host_make(struct mddev *mddev)
{
	unsigned int noio = memalloc_noio_save();
	struct plat_array *h = kzalloc(sizeof(*h), GFP_KERNEL);

	if (!h)
		goto out;
	h->mddev = mddev;
	faulty_missed(h);
	h->writes.host = h;
	h->flushes.host = h;
	init_waitqueue_head(&h->wait);
	init_waitqueue_head(&h->io_wait);
	INIT_DELAYED_WORK(&h->daemon, daemon_fn);
	INIT_WORK(&h->leader, leader_fn);
	/*
	 * Of each array: a slow one blocks nobody, a rescuer serves only itself. A name may
	 * have 31 characters; an array's may have as many.
	 */
	h->daemon_wq = alloc_workqueue("llb_%.24s", WQ_UNBOUND | WQ_MEM_RECLAIM | WQ_FREEZABLE, 0,
				       mdname(mddev));
	h->leader_wq = alloc_workqueue("llb_%.24s_w", WQ_UNBOUND | WQ_MEM_RECLAIM, 0, mdname(mddev));
	if (!h->daemon_wq || !h->leader_wq || !plat_batches_make(h) ||
	    bioset_init(&h->bios, BIO_POOL_SIZE, 0, BIOSET_NEED_BVECS)) {
		plat_host_free(h);
		h = NULL;
	}
out:
	memalloc_noio_restore(noio);
	return h;
}

void plat_host_stop(struct plat_array *h)
{
	WRITE_ONCE(h->stopping, true);
	cancel_delayed_work_sync(&h->daemon);
	cancel_work_sync(&h->leader);
	/* one that was queued while the first was cancelled */
	cancel_delayed_work_sync(&h->daemon);
}

void plat_host_free(struct plat_array *h)
{
	if (h->daemon_wq)
		destroy_workqueue(h->daemon_wq);
	if (h->leader_wq)
		destroy_workqueue(h->leader_wq);
	bioset_exit(&h->bios);
	/* who made the last wait end may still be about to wake: see batch_put() */
	synchronize_rcu();
	kvfree(h->writes.targets);
	kvfree(h->flushes.targets);
	kfree(h);
}
