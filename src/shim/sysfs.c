// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/block/mdX/md/llbitmap/: names and formats of the in-tree driver; resync_budget and
 * crash_bytes are ours alone. md calls these without a lock. It removes the files before it
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
