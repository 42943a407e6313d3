// SPDX-License-Identifier: GPL-2.0
/* The kernel services of the core that touch the members. */
#include <linux/blk-cgroup.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "llb_trace.h"
#include "platform.h"

u32 plat_members_get(struct plat_array *h, u32 hold)
{
	return hold || percpu_ref_tryget_live(&h->mddev->active_io);
}

void plat_members_put(struct plat_array *h, u32 hold)
{
	if (!hold)
		percpu_ref_put(&h->mddev->active_io);
}

int plat_read(struct plat_array *h, u32 index, u64 offset, void *page, u32 bytes)
{
	struct md_rdev *rdev;

	rdev_for_each(rdev, h->mddev) {
		if (index--)
			continue;
		if (sync_page_io(rdev, h->mddev->bitmap_info.offset + (offset >> 9), bytes,
				 virt_to_page(page), REQ_OP_READ, true))
			return 0;
		return -LLB_EIO;
	}
	return -LLB_ERANGE;
}

static bool takes_bitmap(struct md_rdev *rdev)
{
	return READ_ONCE(rdev->raid_disk) >= 0 && !test_bit(Faulty, &rdev->flags) &&
	       !test_bit(Journal, &rdev->flags);
}

static unsigned int count_members(struct mddev *mddev)
{
	struct md_rdev *rdev;
	unsigned int n = 0;

	rcu_read_lock();
	rdev_for_each_rcu(rdev, mddev)
		n++;
	rcu_read_unlock();
	return n;
}

static void batch_end(struct plat_batch *b)
{
	unsigned int i;

	for (i = 0; i < b->count; i++)
		rdev_dec_pending(b->targets[i].rdev, b->host->mddev);
}

static bool batch_room(struct plat_batch *b, unsigned int n, gfp_t nofail)
{
	unsigned int noio = memalloc_noio_save();

	kvfree(b->targets);
	b->targets = kvmalloc_array(n, sizeof(*b->targets), GFP_KERNEL | nofail);
	b->room = b->targets ? n : 0;
	memalloc_noio_restore(noio);
	return b->targets;
}

/*
 * For all members of today and as many again, so that a batch need not allocate while
 * memory may be waiting for what it writes.
 */
bool plat_batches_make(struct plat_array *h)
{
	unsigned int n = 2 * max_t(unsigned int, count_members(h->mddev), h->mddev->raid_disks) + 8;

	return batch_room(&h->writes, n, 0) && batch_room(&h->flushes, n, 0);
}

/* Pick the members of a batch and hold them. False: there are more than there is room for. */
static bool batch_pick(struct plat_batch *b)
{
	struct mddev *mddev = b->host->mddev;
	struct md_rdev *rdev;
	bool fit = true;

	rcu_read_lock();
	rdev_for_each_rcu(rdev, mddev) {
		struct plat_target *t = &b->targets[b->count];

		if (!takes_bitmap(rdev))
			continue;
		fit = b->count < b->room;
		if (!fit)
			break;
		atomic_inc(&rdev->nr_pending);
		t->rdev = rdev;
		t->batch = b;
		t->was_in_sync = test_bit(In_sync, &rdev->flags);
		t->failed = false;
		t->left_out = false;
		b->count++;
	}
	rcu_read_unlock();
	return fit;
}

/* The caller has a members reference. Nobody misses a batch because another one came. */
static void batch_begin(struct plat_batch *b)
{
	b->count = 0;
	atomic_set(&b->inflight, 1); /* ours, until batch_wait */
	while (!batch_pick(b)) {
		batch_end(b);
		b->count = 0;
		batch_room(b, count_members(b->host->mddev) + 8, __GFP_NOFAIL);
	}
}

/* Under RCU: a waiter may see zero before it is woken, and free the host. */
static void batch_put(struct plat_batch *b)
{
	rcu_read_lock();
	if (atomic_dec_and_test(&b->inflight)) /* full: pairs with batch_wait() */
		wake_up(&b->host->io_wait);
	rcu_read_unlock();
}

static void batch_wait(struct plat_batch *b)
{
	batch_put(b);
	/* acquire: whose write failed is seen. Pairs with batch_put() */
	wait_event(b->host->io_wait, !atomic_read_acquire(&b->inflight));
}

static void batch_end_io(struct bio *bio)
{
	struct plat_target *t = bio->bi_private;
	struct plat_batch *b = t->batch;

	if (bio->bi_status) {
		WRITE_ONCE(t->failed, true);
		pr_err_ratelimited("llbitmap: %s: bitmap I/O to %pg failed\n",
				   mdname(b->host->mddev), t->rdev->bdev);
		md_error(b->host->mddev, t->rdev);
	}
	bio_put(bio);
	batch_put(b);
}

static void batch_submit(struct plat_target *t, struct bio *bio)
{
	bio->bi_private = t;
	bio->bi_end_io = batch_end_io;
	/* Every writer waits for it: not at the pace that its submitter's group may have. */
	bio_associate_blkg_from_css(bio, blkcg_root_css);
	atomic_inc(&t->batch->inflight);
	submit_bio(bio);
}

void plat_io_begin(struct plat_array *h)
{
	/* our bios would wait for the caller to return */
	WARN_ON_ONCE(current->bio_list);
	h->piece_count = 0;
	h->batch_start_ns = ktime_get_ns();
	batch_begin(&h->writes);
}

void plat_io_add(struct plat_array *h, u64 offset, const void *buf, u32 bytes)
{
	if (h->piece_count < PLAT_IO_ADDS_MAX)
		h->pieces[h->piece_count] = (struct plat_piece){ buf, offset, bytes };
	h->piece_count++;
}

/* How many pieces from here on lie one behind the other. */
static unsigned int run_of(struct plat_array *h, unsigned int from)
{
	unsigned int i = from;

	while (i + 1 < h->piece_count &&
	       h->pieces[i].offset + h->pieces[i].bytes == h->pieces[i + 1].offset)
		i++;
	return i + 1 - from;
}

/*
 * Neighbours are one bio. Each is submitted before the next is allocated: the pool gives
 * way only to those that are under way.
 */
static void write_pieces(struct plat_array *h, struct plat_target *t)
{
	struct block_device *bdev = t->rdev->meta_bdev ?: t->rdev->bdev;
	sector_t start = t->rdev->sb_start + h->mddev->bitmap_info.offset;
	unsigned int i = 0, n;

	for (; i < h->piece_count && !READ_ONCE(t->failed); i += n) {
		struct plat_piece *p = &h->pieces[i], *last;
		struct bio *bio;

		n = run_of(h, i);
		last = p + n - 1;
		/* raid5 lets a reshape add such a disk before it tells the bitmap, which then
		 * writes it all. Until then it must not fail for that.
		 */
		if ((p->offset | (last->offset + last->bytes)) & (bdev_logical_block_size(bdev) - 1)) {
			t->left_out = true;
			continue;
		}
		bio = bio_alloc_bioset(bdev, n, REQ_OP_WRITE | REQ_SYNC | REQ_META | REQ_FUA,
				       GFP_NOIO, &h->bios);
		bio->bi_iter.bi_sector = start + (p->offset >> 9);
		for (; p <= last; p++)
			__bio_add_page(bio, virt_to_page(p->buf), p->bytes, offset_in_page(p->buf));
		batch_submit(t, bio);
	}
}

/* One at a time: relaxed, for who reads the files. */
static void add(u64 *count, u64 more)
{
	WRITE_ONCE(*count, *count + more);
}

static void batch_seen(struct plat_array *h, u32 in_sync)
{
	u64 ns = ktime_get_ns() - h->batch_start_ns, bytes = 0;
	struct plat_seen *s = &h->seen;
	unsigned int i;

	for (i = 0; i < h->piece_count; i++)
		bytes += h->pieces[i].bytes;
	add(&s->batches, 1);
	add(&s->pages, h->piece_count);
	add(&s->bytes, bytes);
	add(&s->batch_ns, ns);
	if (ns > s->batch_ns_max)
		WRITE_ONCE(s->batch_ns_max, ns);
	add(&s->refused, !in_sync);
	trace_llbitmap_write(mdname(h->mddev), h->piece_count, bytes, h->writes.count, in_sync, ns);
}

void plat_io_wait(struct plat_array *h, struct plat_io_result *out)
{
	struct plat_batch *b = &h->writes;
	unsigned int i;

	out->in_sync_ok = 0;
	if (WARN_ON_ONCE(h->piece_count > PLAT_IO_ADDS_MAX))
		h->piece_count = 0; /* nothing was written, and nobody took it */
	for (i = 0; i < b->count; i++)
		write_pieces(h, &b->targets[i]);
	batch_wait(b);
	for (i = 0; i < b->count; i++) {
		struct plat_target *t = &b->targets[i];

		out->in_sync_ok += h->piece_count && t->was_in_sync && !t->failed && !t->left_out &&
				   test_bit(In_sync, &t->rdev->flags);
	}
	batch_seen(h, out->in_sync_ok);
	batch_end(b);
}

static bool was_flushed(struct plat_batch *b, struct md_rdev *rdev)
{
	unsigned int i;

	for (i = 0; b && i < b->count; i++)
		if (b->targets[i].rdev == rdev)
			return !b->targets[i].failed;
	return false;
}

/* Count slots; b: the flushes that came before, or NULL. */
static void count_slots(struct plat_array *h, struct plat_batch *b, struct plat_slots *out)
{
	struct mddev *mddev = h->mddev;
	int slots = READ_ONCE(mddev->raid_disks); /* a reshape's end may change it meanwhile */
	int slot;

	memset(out, 0, sizeof(*out));
	out->slots = slots;
	out->degraded = READ_ONCE(mddev->degraded);
	rcu_read_lock();
	for (slot = 0; slot < slots; slot++) {
		bool in_sync = false, flushed = true, other = false;
		struct md_rdev *rdev;

		rdev_for_each_rcu(rdev, mddev) {
			if (READ_ONCE(rdev->raid_disk) != slot || test_bit(Faulty, &rdev->flags) ||
			    test_bit(Journal, &rdev->flags))
				continue;
			if (!test_bit(In_sync, &rdev->flags)) {
				other = true;
				continue;
			}
			in_sync = true;
			flushed &= was_flushed(b, rdev);
		}
		out->in_sync += in_sync;
		out->flushed += in_sync && flushed;
		out->replacing += in_sync && other;
	}
	rcu_read_unlock();
}

void plat_slots_get(struct plat_array *h, struct plat_slots *out)
{
	count_slots(h, NULL, out);
}

int plat_flush(struct plat_array *h, u32 hold, struct plat_slots *out)
{
	struct plat_batch *b = &h->flushes;
	u64 ns = ktime_get_ns();
	unsigned int i;

	if (!plat_members_get(h, hold))
		return -LLB_EBUSY;
	batch_begin(b);
	for (i = 0; i < b->count; i++)
		batch_submit(&b->targets[i],
			     bio_alloc_bioset(b->targets[i].rdev->bdev, 0,
					      REQ_OP_WRITE | REQ_SYNC | REQ_PREFLUSH,
					      GFP_NOIO, &h->bios));
	plat_members_put(h, hold); /* members stay by nr_pending: no drain holds it */
	batch_wait(b);
	count_slots(h, b, out);
	batch_end(b);
	ns = ktime_get_ns() - ns;
	add(&h->seen.flushes, 1);
	add(&h->seen.flush_ns, ns);
	trace_llbitmap_flush(mdname(h->mddev), out->slots, out->flushed, ns);
	return 0;
}
