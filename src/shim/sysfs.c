// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/block/mdX/md/llbitmap/: names and formats of the in-tree driver; resync_budget and
 * crash_bytes are ours alone. md calls these without a lock, and removes the files before
 * it destroys the bitmap.
 */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "platform.h"

static struct llb_bitmap *bitmap_of(struct mddev *mddev)
{
	struct plat_array *h = READ_ONCE(mddev->bitmap);

	return h ? h->bitmap : NULL;
}

static ssize_t bits_show(struct mddev *mddev, char *page)
{
	static const char *const names[8] = {
		"unwritten", "clean", "dirty", "need sync", "syncing",
		"need sync unwritten", "syncing unwritten", "clean unwritten",
	};
	struct llb_bitmap *b = bitmap_of(mddev);
	u64 counts[8];
	ssize_t len = 0;
	int i;

	if (!b)
		return sysfs_emit(page, "no bitmap\n");
	llb_bits_count(b, counts);
	for (i = 0; i < 8; i++)
		len += sysfs_emit_at(page, len, "%s %llu\n", names[i], counts[i]);
	return len;
}

static ssize_t metadata_show(struct mddev *mddev, char *page)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	struct llb_metadata m;

	if (!b)
		return sysfs_emit(page, "no bitmap\n");
	llb_metadata_get(b, &m);
	return sysfs_emit(page,
			  "chunksize %llu\nchunkshift %u\nchunks %llu\noffset %llu\ndaemon_sleep %u\n",
			  m.chunk_sectors, m.chunk_shift, m.chunks,
			  (u64)mddev->bitmap_info.offset, m.daemon_sleep_s);
}

static ssize_t tune_store(struct mddev *mddev, const char *buf, size_t len, u32 what)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	u64 value;
	int err = kstrtou64(buf, 10, &value);

	if (err)
		return err;
	if (!b)
		return -EINVAL;
	err = llb_tune(b, what, value);
	return err ?: len;
}

static ssize_t daemon_sleep_show(struct mddev *mddev, char *page)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	struct llb_metadata m;

	if (!b)
		return sysfs_emit(page, "no bitmap\n");
	llb_metadata_get(b, &m);
	return sysfs_emit(page, "%u\n", m.daemon_sleep_s);
}

static ssize_t daemon_sleep_store(struct mddev *mddev, const char *buf, size_t len)
{
	return tune_store(mddev, buf, len, LLB_TUNE_DAEMON_SLEEP);
}

static ssize_t barrier_idle_show(struct mddev *mddev, char *page)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	struct llb_metadata m;

	if (!b)
		return sysfs_emit(page, "no bitmap\n");
	llb_metadata_get(b, &m);
	return sysfs_emit(page, "%u\n", m.barrier_idle_s);
}

static ssize_t barrier_idle_store(struct mddev *mddev, const char *buf, size_t len)
{
	return tune_store(mddev, buf, len, LLB_TUNE_BARRIER_IDLE);
}

/* MiB that a crash may cost; 0: no limit */
static ssize_t resync_budget_show(struct mddev *mddev, char *page)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	struct llb_metadata m;

	if (!b)
		return sysfs_emit(page, "no bitmap\n");
	llb_metadata_get(b, &m);
	return sysfs_emit(page, "%llu\n", m.resync_budget_mib);
}

static ssize_t resync_budget_store(struct mddev *mddev, const char *buf, size_t len)
{
	return tune_store(mddev, buf, len, LLB_TUNE_RESYNC_BUDGET);
}

/* bytes that a crash now would cost */
static ssize_t crash_bytes_show(struct mddev *mddev, char *page)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	struct llb_stats s;

	if (!b)
		return sysfs_emit(page, "no bitmap\n");
	llb_stats_get(b, &s);
	return sysfs_emit(page, "%llu\n", s.crash_bytes);
}

static ssize_t proactive_sync_store(struct mddev *mddev, const char *buf, size_t len)
{
	struct llb_bitmap *b = bitmap_of(mddev);
	unsigned int on;
	int err = kstrtouint(buf, 10, &on); /* not kstrtobool: it takes "text" for true */

	if (err)
		return err;
	if (!b || on != 1)
		return -EINVAL;
	err = llb_proactive_sync(b);
	return err ?: len;
}

static struct md_sysfs_entry llb_bits = __ATTR_RO(bits);
static struct md_sysfs_entry llb_metadata_attr = __ATTR_RO(metadata);
static struct md_sysfs_entry llb_daemon_sleep = __ATTR_RW(daemon_sleep);
static struct md_sysfs_entry llb_barrier_idle = __ATTR_RW(barrier_idle);
static struct md_sysfs_entry llb_resync_budget = __ATTR_RW(resync_budget);
static struct md_sysfs_entry llb_crash_bytes = __ATTR_RO(crash_bytes);
static struct md_sysfs_entry llb_proactive_sync_attr = __ATTR_WO(proactive_sync);

static struct attribute *llb_attrs[] = {
	&llb_bits.attr,
	&llb_metadata_attr.attr,
	&llb_daemon_sleep.attr,
	&llb_barrier_idle.attr,
	&llb_resync_budget.attr,
	&llb_crash_bytes.attr,
	&llb_proactive_sync_attr.attr,
	NULL,
};

const struct attribute_group llb_group = {
	.name = "llbitmap",
	.attrs = llb_attrs,
};
