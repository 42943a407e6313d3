// SPDX-License-Identifier: GPL-2.0
/*
 * A bitmap that does nothing, under llbitmap's ID: what md itself costs as soon as
 * an array has a bitmap (raid5 takes a pass more for it). For measurements only:
 * after a crash the array is out of sync and nobody knows.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include "compat.h"

#define SYNC_SECTORS 1024

extern int register_md_submodule(struct md_submodule_head *msh);
extern void unregister_md_submodule(struct md_submodule_head *msh);

static bool nothing_enabled(void *data, bool flush)
{
	return data && !flush;
}

static int nothing_create(struct mddev *mddev)
{
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	mddev->bitmap = THIS_MODULE; /* anything that is not NULL */
	return 0;
}

static void nothing_destroy(struct mddev *mddev)
{
	if (!mddev->bitmap)
		return;
	mddev->bitmap = NULL;
	module_put(THIS_MODULE);
}

static int nothing_load(struct mddev *mddev)
{
	return 0;
}

static int nothing_resize(struct mddev *mddev, sector_t sectors, int chunksize)
{
	return 0;
}

static void nothing(struct mddev *mddev)
{
}

static void nothing_dirty_bits(struct mddev *mddev, unsigned long s, unsigned long e)
{
}

static void nothing_unplug(struct mddev *mddev, bool sync)
{
}

#ifdef LLB_WAIT_BEHIND_BOOL_NOWAIT
static bool nothing_wait_behind(struct mddev *mddev, bool nowait)
{
	return true;
}
#else
static void nothing_wait_behind(struct mddev *mddev)
{
}
#endif

static void nothing_range(struct mddev *mddev, sector_t offset, unsigned long sectors)
{
}

#ifdef LLB_HAVE_PREPARE_RANGE
static void nothing_prepare_range(struct mddev *mddev, sector_t *offset, unsigned long *sectors,
				  bool discard)
{
	if (mddev->pers->bitmap_sector)
		mddev->pers->bitmap_sector(mddev, offset, sectors);
}
#endif

static bool nothing_start_sync(struct mddev *mddev, sector_t offset, sector_t *blocks,
			       bool degraded)
{
	*blocks = SYNC_SECTORS;
	return true;
}

static void nothing_end_sync(struct mddev *mddev, sector_t offset, sector_t *blocks)
{
	*blocks = SYNC_SECTORS;
}

static void nothing_cond_end_sync(struct mddev *mddev, sector_t sector, bool force)
{
}

static void nothing_update_sb(void *data)
{
}

static int nothing_get_stats(void *data, struct md_bitmap_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	return data ? 0 : -ENOENT;
}

static struct attribute *nothing_attributes[] = { NULL };
static const struct attribute_group nothing_group = {
	.name = "llbitmap",
	.attrs = nothing_attributes,
};
static const struct attribute_group *nothing_groups[] = { &nothing_group, NULL };

static struct bitmap_operations nothing_ops = {
	.head = {
		.type	= MD_BITMAP,
		.id	= ID_LLBITMAP,
		.name	= "llbitmap",
		.owner	= THIS_MODULE,
	},
	.enabled		= nothing_enabled,
	.create			= nothing_create,
	.resize			= nothing_resize,
	.load			= nothing_load,
	.destroy		= nothing_destroy,
	.flush			= nothing,
	.write_all		= nothing,
	.dirty_bits		= nothing_dirty_bits,
	.unplug			= nothing_unplug,
	.start_behind_write	= nothing,
	.end_behind_write	= nothing,
	.wait_behind_writes	= nothing_wait_behind,
#ifdef LLB_HAVE_PREPARE_RANGE
	.prepare_range		= nothing_prepare_range,
#endif
	.start_write		= nothing_range,
	.end_write		= nothing_range,
	.start_discard		= nothing_range,
	.end_discard		= nothing_range,
	.start_sync		= nothing_start_sync,
	.end_sync		= nothing_end_sync,
	.cond_end_sync		= nothing_cond_end_sync,
	.close_sync		= nothing,
	.update_sb		= nothing_update_sb,
	.get_stats		= nothing_get_stats,
	.groups			= nothing_groups,
};

static int __init nothing_init(void)
{
	return register_md_submodule(&nothing_ops.head);
}

static void __exit nothing_exit(void)
{
	unregister_md_submodule(&nothing_ops.head);
	synchronize_rcu_tasks();
}

module_init(nothing_init);
module_exit(nothing_exit);

MODULE_DESCRIPTION("A bitmap for md that does nothing, to measure against");
MODULE_LICENSE("GPL");
