// SPDX-License-Identifier: GPL-2.0
/*
 * Raid4/5/6: the kernel services by which the core has md forget what it keeps of stripes, and
 * recover chunks once more. Why that is needed: forget_stripes() and recover_again() in the core.
 */
#include <linux/delay.h>
#include <linux/sched/mm.h>

#include "platform.h"

/*
 * md drops the least recently used stripes down to a size, which is 17 at least. So: down
 * to that, as many new ones that the next shrinking takes the old 17, and back to the size
 * that the user wants, perhaps since a moment ago; back to that also if a step fails, which
 * for want of memory or by a signal any may. Nothing is under way, so no stripe is held.
 */
static int drop_stripes(struct mddev *mddev, const struct md_sysfs_entry *size, char *page)
{
	static const char * const steps[] = { "17\n", "81\n", "17\n" };
	char wanted[16];
	ssize_t r = 0, back;
	int i;

	for (i = 0; i <= ARRAY_SIZE(steps) && r >= 0; i++) {
		r = size->show(mddev, page);
		if (r <= 0) {
			r = r ?: -EINVAL;
			break;
		}
		if (i == 0 || strcmp(page, steps[i - 1])) /* not ours: the user's */
			strscpy(wanted, page, sizeof(wanted));
		if (i < ARRAY_SIZE(steps))
			r = size->store(mddev, steps[i], strlen(steps[i]));
	}
	if (i == 0)
		return r;
	for (;;) {
		back = size->store(mddev, wanted, strlen(wanted));
		if (back != -EINTR && back != -ERESTARTSYS)
			break;
		msleep(20); /* a signal that stays; another task has the mutex */
	}
	return r < 0 ? r : back < 0 ? back : 0;
}

/*
 * Through md's own attribute: what raid456 exports for this would need that module to be
 * there before ours. The attribute takes reconfig_mutex, as the end of md_do_sync() does:
 * nobody waits for the sync thread with that held.
 */
int plat_stripes_forget(struct plat_array *h)
{
	struct mddev *mddev = h->mddev;
	struct kernfs_node *node = kernfs_find_and_get(mddev->kobj.sd, "stripe_cache_size");
	unsigned int noio = memalloc_noio_save(); /* no write-back to an array that stands still */
	char *page = plat_page_alloc(1);
	int err = page ? -ENOENT : -ENOMEM;

	if (node && page) {
		mddev->pers->quiesce(mddev, 1);
		err = drop_stripes(mddev, container_of(node->priv, struct md_sysfs_entry, attr), page);
		mddev->pers->quiesce(mddev, 0);
	}
	plat_page_free(page);
	memalloc_noio_restore(noio);
	kernfs_put(node);
	return err;
}

static bool is_recovering(struct md_rdev *rdev)
{
	return rdev->raid_disk >= 0 && !test_bit(In_sync, &rdev->flags) &&
	       !test_bit(Faulty, &rdev->flags) && !test_bit(Journal, &rdev->flags);
}

/* What an earlier recovery made of a member stays. */
void plat_recovery_begin(struct plat_array *h)
{
	struct md_rdev *rdev;
	unsigned int n = 0;

	rcu_read_lock();
	rdev_for_each_rcu(rdev, h->mddev)
		if (n < ARRAY_SIZE(h->recovered) && is_recovering(rdev)) {
			WRITE_ONCE(h->recovered[n].rdev, rdev);
			WRITE_ONCE(h->recovered[n].to, READ_ONCE(rdev->recovery_offset));
			n++;
		}
	rcu_read_unlock();
	for (; n < ARRAY_SIZE(h->recovered); n++)
		WRITE_ONCE(h->recovered[n].rdev, NULL);
}

/* Members that do not fit in lose what they had, until they are recovered. */
static sector_t recovered_before(struct plat_array *h, struct md_rdev *rdev)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(h->recovered); i++)
		if (READ_ONCE(h->recovered[i].rdev) == rdev)
			return READ_ONCE(h->recovered[i].to);
	return 0;
}

/*
 * md takes sectors below recovery_offset from the new member, what was skipped included, and
 * a recovery does nothing there. MaxSector: the member is done, and about to be in sync.
 */
static void take_back(struct plat_array *h, u64 sector, bool all)
{
	struct md_rdev *rdev;

	rcu_read_lock();
	rdev_for_each_rcu(rdev, h->mddev) {
		sector_t to = all ? sector : max_t(u64, sector, recovered_before(h, rdev));
		sector_t now = READ_ONCE(rdev->recovery_offset);

		if (is_recovering(rdev) && now != MaxSector && now > to)
			WRITE_ONCE(rdev->recovery_offset, to);
	}
	rcu_read_unlock();
}

void plat_recovery_back(struct plat_array *h, u64 sector)
{
	take_back(h, sector, false);
}

/* recovery_offset follows curr_resync_completed at each superblock that md writes. */
void plat_recovery_again(struct plat_array *h, u64 sector)
{
	h->mddev->curr_resync_completed = min_t(u64, h->mddev->curr_resync_completed, sector);
	take_back(h, sector, true);
}

/*
 * md_finish_sync() raises recovery_offset to curr_resync, also if a recovery was told to stop,
 * and each superblock to curr_resync_completed, until the thread is reaped.
 */
void plat_recovery_stopped(struct plat_array *h, u64 sector)
{
	struct mddev *mddev = h->mddev;

	mddev->curr_resync = min_t(u64, mddev->curr_resync, max_t(u64, sector, MD_RESYNC_ACTIVE));
	mddev->curr_resync_completed = min_t(u64, mddev->curr_resync_completed, sector);
	take_back(h, sector, false);
}

/* As a step of md_do_sync(), which counts what it asked for after asking, too. */
int plat_recover(struct plat_array *h, u64 sector, u64 sectors)
{
	struct mddev *mddev = h->mddev;
	u64 end = min_t(u64, sector + sectors, mddev->dev_sectors);

	while (sector < end) {
		int skipped = 0;
		sector_t done;

		if (test_bit(MD_RECOVERY_INTR, &mddev->recovery))
			return -EINTR;
		done = mddev->pers->sync_request(mddev, sector, mddev->dev_sectors, &skipped);
		if (!done)
			return -EIO;
		if (!skipped)
			atomic_add(done, &mddev->recovery_active);
		sector += done;
	}
	return 0;
}
