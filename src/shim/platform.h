/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LLB_PLAT_H
#define LLB_PLAT_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/module.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "llbitmap/abi.h"

/* A member that a batch of I/O was sent to; nr_pending is held. */
struct plat_target {
	struct md_rdev *rdev;
	struct plat_batch *batch;
	bool was_in_sync;
	bool failed;
	bool left_out;	/* its blocks are larger than the core knows yet */
};

/* One batch of bios to all members, and its end. */
struct plat_batch {
	struct plat_array *host;
	struct plat_target *targets;
	unsigned int count;
	unsigned int room;
	atomic_t inflight;
};

/* A part of a batch of bitmap writes. */
struct plat_piece {
	const void *buf;
	u32 offset;	/* bytes; a bitmap has 64 MiB at most */
	u32 bytes;
};

/*
 * What llbitmap/stats shows besides the core's. Of one writer each (the leader, the daemon), or
 * atomic; nothing here is on the way of a write that need not wait.
 */
struct plat_seen {
	u64 batches;		/* of bitmap writes: each goes to all members at once */
	u64 pages;
	u64 bytes;		/* to one member */
	u64 batch_ns;
	u64 batch_ns_max;
	u64 refused;		/* batches that no member in sync took */
	u64 flushes;
	u64 flush_ns;
	u64 passes;		/* times that the daemon came */
	u64 pass_ns;
	atomic64_t waits;
	atomic64_t wait_ns;
};

#define PLAT_NUMBERS ((4096 - 256) / 2)	/* of members, in metadata 1.x */

/* What mddev->bitmap points to. */
struct plat_array {
	struct mddev *mddev;
	struct llb_bitmap *bitmap;
	/*
	 * One queue each, so that a rescuer of one never stands before the other. The daemon
	 * sleeps while the system is frozen: what it clears on disk must not be older in an
	 * image of memory. The leader does not: the image may be written to swap on this array.
	 */
	struct workqueue_struct *daemon_wq;	/* freezable */
	struct workqueue_struct *leader_wq;
	struct delayed_work daemon;
	struct work_struct leader;
	wait_queue_head_t wait;		/* plat_wait: writers, who would lead */
	wait_queue_head_t io_wait;	/* the end of a batch: its one owner */
	struct bio_set bios;
	struct plat_batch writes;		/* the holder of the leader lock */
	struct plat_piece pieces[PLAT_IO_ADDS_MAX];	/* ... of it */
	unsigned int piece_count;
	struct plat_batch flushes;	/* the daemon */
	bool stopping;			/* no more work is queued */
	bool loaded;			/* the array runs with it */
	struct list_head files;		/* sysfs.c: those that a file may find */
	unsigned int files_users;	/* ... tasks that have found it */
	DECLARE_BITMAP(missed, PLAT_NUMBERS);	/* by member number, PLAT_MEMBER_MISSED */
	struct plat_seen seen;
	/* where a recovery of parity found its new members; also read by who writes superblocks */
	struct {
		struct md_rdev *rdev;
		sector_t to;
	} recovered[8];
	u64 batch_start_ns;		/* the leader's */
	u64 changes_told;		/* the daemon's: whoever polls bits knows of so many */
};

struct plat_array *plat_host_make(struct mddev *mddev);
void plat_host_stop(struct plat_array *h);	/* no work runs any more */
void plat_host_free(struct plat_array *h);
bool plat_batches_make(struct plat_array *h);	/* room for the members of today */
bool reconfig_is_ours(struct mddev *mddev);
int plat_pm_register(void);
void plat_pm_unregister(void);

/* From before memory becomes an image of hibernation until it is back, or failed. */
extern bool plat_snapshot;

/*
 * sysfs: the files of this array's bitmap find it from files_show() on. files_hide() waits until
 * nobody is in one of them (none takes reconfig_mutex), and removes them if md did not. [rm, sleep]
 */
extern const struct attribute_group llb_group;
void files_show(struct plat_array *h);
void files_hide(struct plat_array *h);
void files_changed(struct plat_array *h); /* wakes who polls bits [sleep] */
extern struct bitmap_operations llb_ops;

#endif
