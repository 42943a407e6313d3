/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LLB_COMPAT_H
#define LLB_COMPAT_H

/*
 * md's private types and the few macros and helpers of md.h that BTF cannot
 * carry. What moved between kernels is in the LLB_* macros of md_types.h.
 */
#include "md_types.h"

#ifdef LLB_MD_FROM_SOURCE

/* A file of a member in sysfs: in md.c, not in its headers. */
struct rdev_sysfs_entry {
	struct attribute attr;
	ssize_t (*show)(struct md_rdev *rdev, char *page);
	ssize_t (*store)(struct md_rdev *rdev, const char *page, size_t length);
};

#else

#include <linux/rculist.h>

#define MaxSector	(~(sector_t)0)

/* Holding reconfig_mutex. */
#define rdev_for_each(rdev, mddev) \
	list_for_each_entry(rdev, &(mddev)->disks, same_set)

/* Under rcu_read_lock. */
#define rdev_for_each_rcu(rdev, mddev) \
	list_for_each_entry_rcu(rdev, &(mddev)->disks, same_set)

#define md_wakeup_thread(thread) do {		\
	rcu_read_lock();			\
	__md_wakeup_thread(thread);		\
	rcu_read_unlock();			\
} while (0)

static inline const char *mdname(struct mddev *mddev)
{
	return mddev->gendisk ? mddev->gendisk->disk_name : "mdX";
}

/* dm-raid drives md without a disk of md's own. */
static inline bool mddev_is_dm(struct mddev *mddev)
{
	return !mddev->gendisk;
}

/* Gives back a reference on a member; md removes a faulty one at the last. */
static inline void rdev_dec_pending(struct md_rdev *rdev, struct mddev *mddev)
{
	bool faulty = test_bit(Faulty, &rdev->flags);

	if (atomic_dec_and_test(&rdev->nr_pending) && faulty) {
		set_bit(MD_RECOVERY_NEEDED, &mddev->recovery);
		md_wakeup_thread(mddev->thread);
	}
}

#endif /* !LLB_MD_FROM_SOURCE */

#endif
