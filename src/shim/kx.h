/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LLB_KX_H
#define LLB_KX_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/module.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "llbitmap/abi.h"

/* A member that a batch of I/O was sent to; nr_pending is held. */
struct kx_target {
	struct md_rdev *rdev;
	struct kx_batch *batch;
	bool was_in_sync;
	bool failed;
	bool left_out;	/* its blocks are larger than the core knows yet */
};

/* One batch of bios to all members, and its end. */
struct kx_batch {
	struct kx_host *host;
	struct kx_target *targets;
	unsigned int count;
	unsigned int room;
	atomic_t inflight;
};

/* A part of a batch of bitmap writes. */
struct kx_piece {
	const void *buf;
	u32 offset;	/* bytes; a bitmap has 64 MiB at most */
	u32 bytes;
};

#define KX_NUMBERS ((4096 - 256) / 2)	/* of members, in metadata 1.x */

/* What mddev->bitmap points to. */
struct kx_host {
	struct mddev *mddev;
	struct llb_bitmap *bitmap;
	/*
	 * One queue each, so that a rescuer of one never stands before the other. The daemon
	 * sleeps while the system is frozen: what it clears on disk must not be older in an
	 * image of memory. The leader does not: the image may be written to swap on this array.
	 */
	struct workqueue_struct *daemon_wq;	/* freezable */
	struct workqueue_struct *lead_wq;
	struct delayed_work daemon;
	struct work_struct lead;
	wait_queue_head_t wait;		/* kx_wait: writers, who would lead */
	wait_queue_head_t io_wait;	/* the end of a batch: its one owner */
	struct bio_set bios;
	struct kx_batch writes;		/* the holder of LEAD */
	struct kx_piece pieces[KX_IO_ADDS_MAX];	/* ... of it */
	unsigned int piece_count;
	struct kx_batch flushes;	/* the daemon */
	bool stopping;			/* no more work is queued */
	bool loaded;			/* the array runs with it */
	DECLARE_BITMAP(missed, KX_NUMBERS);	/* rm: by member number, KX_MEMBER_MISSED */
};

struct kx_host *kx_host_make(struct mddev *mddev);
void kx_host_stop(struct kx_host *h);	/* no work runs any more */
void kx_host_free(struct kx_host *h);
bool kx_batches_make(struct kx_host *h);	/* room for the members of today */
bool reconfig_is_ours(struct mddev *mddev);
int kx_pm_register(void);
void kx_pm_unregister(void);

/* From before memory becomes an image of hibernation until it is back, or failed. */
extern bool kx_snapshot;

extern const struct attribute_group llb_group;
extern struct bitmap_operations llb_ops;

#endif
