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

struct kx_counters {
	unsigned int segs;
	u32 __percpu *seg[];
};

struct kx_counters *kx_counters_alloc(u32 count)
{
	unsigned int segs = DIV_ROUND_UP(count, SEG_COUNT);
	struct kx_counters *c = kzalloc(struct_size(c, seg, segs), GFP_NOIO);
	unsigned int i;

	if (!c)
		return NULL;
	c->segs = segs;
	for (i = 0; i < segs; i++) {
		c->seg[i] = __alloc_percpu_gfp(min(count, SEG_COUNT) * sizeof(u32), sizeof(u32),
					       GFP_NOIO);
		if (!c->seg[i]) {
			kx_counters_free(c);
			return NULL;
		}
	}
	return c;
}

void kx_counters_free(struct kx_counters *c)
{
	unsigned int i;

	for (i = 0; i < c->segs; i++)
		free_percpu(c->seg[i]);
	kfree(c);
}

void kx_section_enter(struct kx_counters *c, u32 index)
{
	preempt_disable();
	this_cpu_inc(c->seg[index >> SEG_SHIFT][index & SEG_MASK]);
}

void kx_section_leave(void)
{
	preempt_enable();
}

void kx_counter_inc(struct kx_counters *c, u32 index)
{
	this_cpu_inc(c->seg[index >> SEG_SHIFT][index & SEG_MASK]);
}

u32 kx_counter_sum(struct kx_counters *c, u32 index)
{
	u32 __percpu *at = &c->seg[index >> SEG_SHIFT][index & SEG_MASK];
	u32 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(at, cpu));
	return sum;
}

/* Sections run with preemption off, which RCU counts as readers. */
void kx_grace_period(void)
{
	synchronize_rcu();
}
