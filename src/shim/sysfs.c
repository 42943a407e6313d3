// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/block/mdX/md/llbitmap/: names and formats of the in-tree driver; resync_budget,
 * crash_bytes, stats and cells are ours alone. md calls these without a lock. It removes the files before it
 * destroys the bitmap, but not where "none" is written to its own bitmap/location: then we do.
 * And a file finds its bitmap in our list, for md may have another one by then.
 */
#include <linux/kernfs.h>
#include <linux/kstrtox.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/sysfs.h>

#include "platform.h"

static LIST_HEAD(hosts);
static DEFINE_SPINLOCK(hosts_lock); /* and files_users of each */

void files_show(struct plat_array *h)
{
	spin_lock(&hosts_lock);
	list_add(&h->files, &hosts);
	spin_unlock(&hosts_lock);
}

static bool files_unused(struct plat_array *h)
{
	bool unused;

	spin_lock(&hosts_lock);
	unused = !h->files_users;
	spin_unlock(&hosts_lock);
	return unused;
}

void files_hide(struct plat_array *h)
{
	struct kernfs_node *left = kernfs_find_and_get(h->mddev->kobj.sd, llb_group.name);

	if (left) /* the module may go, and they with it */
		sysfs_remove_group(&h->mddev->kobj, &llb_group);
	kernfs_put(left);
	spin_lock(&hosts_lock);
	list_del(&h->files);
	spin_unlock(&hosts_lock);
	wait_event(h->wait, files_unused(h));
}

void files_changed(struct plat_array *h)
{
	sysfs_notify(&h->mddev->kobj, llb_group.name, "bits");
}

static struct plat_array *files_get(struct mddev *mddev)
{
	struct plat_array *h, *found = NULL;

	spin_lock(&hosts_lock);
	list_for_each_entry(h, &hosts, files) {
		if (h->mddev != mddev)
			continue;
		h->files_users++;
		found = h;
	}
	spin_unlock(&hosts_lock);
	return found;
}

static void files_put(struct plat_array *h)
{
	spin_lock(&hosts_lock); /* until woken: then it may be freed */
	if (!--h->files_users)
		wake_up_all(&h->wait);
	spin_unlock(&hosts_lock);
}

static ssize_t show(struct mddev *mddev, char *page,
		    ssize_t (*print)(struct plat_array *h, char *page))
{
	struct plat_array *h = files_get(mddev);
	ssize_t len;

	if (!h)
		return sysfs_emit(page, "no bitmap\n");
	len = print(h, page);
	files_put(h);
	return len;
}

static ssize_t bits_print(struct plat_array *h, char *page)
{
	static const char *const names[LLB_STATES] = { LLB_STATE_LIST(LLB_STATE_TEXT) };
	u64 counts[LLB_STATES];
	ssize_t len = 0;
	int i;

	llb_bits_count(h->bitmap, counts);
	for (i = 0; i < LLB_STATES; i++)
		len += sysfs_emit_at(page, len, "%s %llu\n", names[i], counts[i]);
	return len;
}

static ssize_t metadata_print(struct plat_array *h, char *page)
{
	struct llb_metadata m;

	llb_metadata_get(h->bitmap, &m);
	return sysfs_emit(page,
			  "chunksize %llu\nchunkshift %u\nchunks %llu\noffset %llu\ndaemon_sleep %u\n",
			  m.chunk_sectors, m.chunk_shift, m.chunks,
			  (u64)h->mddev->bitmap_info.offset, m.daemon_sleep_s);
}

static ssize_t tune_store(struct mddev *mddev, const char *buf, size_t len, u32 what)
{
	struct plat_array *h;
	u64 value;
	int err = kstrtou64(buf, 10, &value);

	if (err)
		return err;
	h = files_get(mddev);
	if (!h)
		return -EINVAL;
	err = llb_tune(h->bitmap, what, value);
	files_put(h);
	return err ?: len;
}

static ssize_t daemon_sleep_print(struct plat_array *h, char *page)
{
	struct llb_metadata m;

	llb_metadata_get(h->bitmap, &m);
	return sysfs_emit(page, "%u\n", m.daemon_sleep_s);
}

static ssize_t daemon_sleep_store(struct mddev *mddev, const char *buf, size_t len)
{
	return tune_store(mddev, buf, len, LLB_TUNE_DAEMON_SLEEP);
}

static ssize_t barrier_idle_print(struct plat_array *h, char *page)
{
	struct llb_metadata m;

	llb_metadata_get(h->bitmap, &m);
	return sysfs_emit(page, "%u\n", m.barrier_idle_s);
}

static ssize_t barrier_idle_store(struct mddev *mddev, const char *buf, size_t len)
{
	return tune_store(mddev, buf, len, LLB_TUNE_BARRIER_IDLE);
}

/* MiB that a crash may cost; 0: no limit */
static ssize_t resync_budget_print(struct plat_array *h, char *page)
{
	struct llb_metadata m;

	llb_metadata_get(h->bitmap, &m);
	return sysfs_emit(page, "%llu\n", m.resync_budget_mib);
}

static ssize_t resync_budget_store(struct mddev *mddev, const char *buf, size_t len)
{
	return tune_store(mddev, buf, len, LLB_TUNE_RESYNC_BUDGET);
}

/* bytes that a crash now would cost */
static ssize_t crash_bytes_print(struct plat_array *h, char *page)
{
	struct llb_stats s;

	llb_stats_get(h->bitmap, &s);
	return sysfs_emit(page, "%llu\n", s.crash_bytes);
}

#define LLB_STAT(name, value) (len += sysfs_emit_at(page, len, name " %llu\n", (u64)(value)))

/* Counts since the load. Names are only ever added; times are nanoseconds. */
static ssize_t stats_print(struct plat_array *h, char *page)
{
	const struct plat_seen *seen = &h->seen;
	struct llb_stats s;
	ssize_t len = 0;

	llb_stats_get(h->bitmap, &s);
	LLB_STAT("dirtied_chunks", s.dirtied_chunks);
	LLB_STAT("cleaned_chunks", s.cleaned_chunks);
	LLB_STAT("loaded_dirty_chunks", s.loaded_dirty_chunks);
	LLB_STAT("events_cleared", s.events_cleared);
	LLB_STAT("batches", READ_ONCE(seen->batches));
	LLB_STAT("batch_pages", READ_ONCE(seen->pages));
	LLB_STAT("batch_bytes", READ_ONCE(seen->bytes));
	LLB_STAT("batch_ns_total", READ_ONCE(seen->batch_ns));
	LLB_STAT("batch_ns_max", READ_ONCE(seen->batch_ns_max));
	LLB_STAT("batches_refused", READ_ONCE(seen->refused));
	LLB_STAT("flushes", READ_ONCE(seen->flushes));
	LLB_STAT("flush_ns_total", READ_ONCE(seen->flush_ns));
	LLB_STAT("waits", atomic64_read(&seen->waits));
	LLB_STAT("wait_ns_total", atomic64_read(&seen->wait_ns));
	LLB_STAT("passes", READ_ONCE(seen->passes));
	LLB_STAT("pass_ns_total", READ_ONCE(seen->pass_ns));
	return len;
}

static ssize_t proactive_sync_store(struct mddev *mddev, const char *buf, size_t len)
{
	struct plat_array *h;
	unsigned int on;
	int err = kstrtouint(buf, 10, &on); /* not kstrtobool: it takes "text" for true */

	if (err)
		return err;
	if (on != 1)
		return -EINVAL;
	h = files_get(mddev);
	if (!h)
		return -EINVAL;
	err = llb_proactive_sync(h->bitmap);
	files_put(h);
	return err ?: len;
}

#define LLB_SHOW(name)							\
	static ssize_t name##_show(struct mddev *mddev, char *page)	\
	{								\
		return show(mddev, page, name##_print);			\
	}
LLB_SHOW(bits)
LLB_SHOW(metadata)
LLB_SHOW(daemon_sleep)
LLB_SHOW(barrier_idle)
LLB_SHOW(resync_budget)
LLB_SHOW(crash_bytes)
LLB_SHOW(stats)

static struct md_sysfs_entry llb_bits = __ATTR_RO(bits);
static struct md_sysfs_entry llb_metadata_attr = __ATTR_RO(metadata);
static struct md_sysfs_entry llb_daemon_sleep = __ATTR_RW(daemon_sleep);
static struct md_sysfs_entry llb_barrier_idle = __ATTR_RW(barrier_idle);
static struct md_sysfs_entry llb_resync_budget = __ATTR_RW(resync_budget);
static struct md_sysfs_entry llb_crash_bytes = __ATTR_RO(crash_bytes);
static struct md_sysfs_entry llb_stats_attr = __ATTR_RO(stats);
static struct md_sysfs_entry llb_proactive_sync_attr = __ATTR_WO(proactive_sync);

static struct attribute *llb_attrs[] = {
	&llb_bits.attr,
	&llb_metadata_attr.attr,
	&llb_daemon_sleep.attr,
	&llb_barrier_idle.attr,
	&llb_resync_budget.attr,
	&llb_crash_bytes.attr,
	&llb_stats_attr.attr,
	&llb_proactive_sync_attr.attr,
	NULL,
};

/* A byte for each chunk, its state as memory has it. */
static ssize_t cells_read(struct file *file, struct kobject *kobj, const struct bin_attribute *attr,
			  char *buf, loff_t from, size_t bytes)
{
	struct plat_array *h = files_get(container_of(kobj, struct mddev, kobj));
	ssize_t len;

	if (!h)
		return -ENODEV;
	len = llb_cells_copy(h->bitmap, from, buf, bytes);
	files_put(h);
	return len;
}

static const struct bin_attribute llb_cells = {
	.attr = { .name = "cells", .mode = 0400 },
	.read = cells_read,
};

static const struct bin_attribute *const llb_bin_attrs[] = { &llb_cells, NULL };

const struct attribute_group llb_group = {
	.name = "llbitmap",
	.attrs = llb_attrs,
	.bin_attrs = llb_bin_attrs,
};
