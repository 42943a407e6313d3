// SPDX-License-Identifier: GPL-2.0
// The platform's memory and counters where there is one thread and memory never fails: for
// tests/sim and tests/crash-cost.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/types.hpp"
#include "llbitmap/abi.h"

struct plat_counters {
	std::vector<u32> count;
};

extern "C" {

void *plat_alloc(llb_u64 bytes)
{
	void *p = nullptr;
	if (posix_memalign(&p, 64, bytes ? bytes : 64))
		abort();
	memset(p, 0, bytes);
	return p;
}

void plat_free(void *p)
{
	free(p);
}

void *plat_page_alloc(llb_u32)
{
	void *p = aligned_alloc(4096, 4096);
	memset(p, 0, 4096);
	return p;
}

void plat_page_free(void *p)
{
	free(p);
}

plat_counters *plat_counters_alloc(llb_u32 count)
{
	return new plat_counters{std::vector<u32>(count)};
}

void plat_counters_free(plat_counters *c)
{
	delete c;
}

void plat_section_enter(plat_counters *c, llb_u32 index)
{
	c->count[index]++;
}

void plat_section_leave(void) {}

void plat_counter_inc(plat_counters *c, llb_u32 index)
{
	c->count[index]++;
}

llb_u32 plat_counter_sum(plat_counters *c, llb_u32 index)
{
	return c->count[index];
}

} // extern "C"
