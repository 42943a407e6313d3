// SPDX-License-Identifier: GPL-2.0
/*
 * Per-CPU counters, in segments of a page: one percpu allocation may not exceed
 * PCPU_MIN_UNIT_SIZE (32 KiB), and small ones are easier to find.
 */
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "llbitmap/abi.h"

#define SEG_SHIFT 10
#define SEG_COUNT (1u << SEG_SHIFT)
#define SEG_MASK (SEG_COUNT - 1)

struct plat_counters {
	unsigned int segs;
	u32 __percpu *seg[];
};

struct plat_counters *plat_counters_alloc(u32 count)
{
	unsigned int segs = DIV_ROUND_UP(count, SEG_COUNT);
	struct plat_counters *c = kzalloc(struct_size(c, seg, segs), GFP_NOIO);
	unsigned int i;

	if (!c)
		return NULL;
	c->segs = segs;
	for (i = 0; i < segs; i++) {
		c->seg[i] = __alloc_percpu_gfp(min(count, SEG_COUNT) * sizeof(u32), sizeof(u32),
					       GFP_NOIO);
		if (!c->seg[i]) {
			plat_counters_free(c);
			return NULL;
		}
	}
	return c;
}

void plat_counters_free(struct plat_counters *c)
{
	unsigned int i;

	for (i = 0; i < c->segs; i++)
		free_percpu(c->seg[i]);
	kfree(c);
}

void plat_section_enter(struct plat_counters *c, u32 index)
{
	preempt_disable();
	this_cpu_inc(c->seg[index >> SEG_SHIFT][index & SEG_MASK]);
}

void plat_section_leave(void)
{
	preempt_enable();
}

void plat_counter_inc(struct plat_counters *c, u32 index)
{
	this_cpu_inc(c->seg[index >> SEG_SHIFT][index & SEG_MASK]);
}

u32 plat_counter_sum(struct plat_counters *c, u32 index)
{
	u32 __percpu *at = &c->seg[index >> SEG_SHIFT][index & SEG_MASK];
	u32 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(at, cpu));
	return sum;
}

/* Sections run with preemption off, which RCU counts as readers. */
void plat_grace_period(void)
{
	synchronize_rcu();
}
