// SPDX-License-Identifier: GPL-2.0
/* Load: refuse in one line, or register with md. Unload: only when unused. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/rcupdate.h>

#include "platform.h"
#include "layout.h"
#define CREATE_TRACE_POINTS
#include "llb_trace.h"
#include "llbitmap/release.h"

extern int register_md_submodule(struct md_submodule_head *msh);
extern void unregister_md_submodule(struct md_submodule_head *msh);

static bool layout_unchecked;
module_param(layout_unchecked, bool, 0444);
MODULE_PARM_DESC(layout_unchecked,
		 "load even if the kernel has no BTF to compare md's layout with (default: N)");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace,
		 "take the place of the kernel's own lockless bitmap (CONFIG_MD_LLBITMAP=y); not unloaded then (default: N)");

/* md takes operations off its list by their number alone. Arrays that have a bitmap keep the
 * operations that made it, so what runs goes on with the kernel's own; an array that is made or
 * assembled between the two calls is refused by md, which finds none. The kernel's own cannot be
 * given back (only md knows where they are), so this module stays.
 */
static int __init take_place(void)
{
	int err;

	unregister_md_submodule(&llb_ops.head);
	err = register_md_submodule(&llb_ops.head);
	if (err) {
		pr_err("md refused the registration (%d); this kernel's own lockless bitmap is not there until the next boot\n", err);
		return err;
	}
	__module_get(THIS_MODULE);
	pr_notice("takes the place of this kernel's own lockless bitmap until the next boot; arrays that run keep theirs\n");
	return 0;
}

static int __init llbitmap_init(void)
{
	int err = llb_layout_check(layout_unchecked);

	if (err)
		return err;
	err = plat_pm_register();
	if (err)
		return err;
	err = register_md_submodule(&llb_ops.head);
	if (err == -EBUSY && replace)
		err = take_place();
	else if (err == -EBUSY)
		pr_err("this kernel has a lockless bitmap of its own (CONFIG_MD_LLBITMAP=y): use that one, or load this module with replace=1\n");
	else if (err)
		pr_err("md refused the registration (%d)\n", err);
	if (err)
		plat_pm_unregister();
	return err;
}

static void __exit llbitmap_exit(void)
{
	unregister_md_submodule(&llb_ops.head);
	/* md may just have looked us up; create then finds the module going */
	synchronize_rcu_tasks();
	plat_pm_unregister();
}

module_init(llbitmap_init);
module_exit(llbitmap_exit);

MODULE_DESCRIPTION("Lockless write-intent bitmap for Linux software RAID (md)");
MODULE_AUTHOR("The llbitmap developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(LLB_RELEASE);
MODULE_SOFTDEP("pre: md_mod");
