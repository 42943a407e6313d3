// SPDX-License-Identifier: GPL-2.0
// Tasks are fibers in one thread; each gives way at its scheduling points.
#include "machine.hpp"

#include <cstdarg>
#include <cstdlib>

alignas(4096) char g_stack[kTasks][kStack];
void *g_sched_sp;

asm(R"(
.text
.globl switch_stack
switch_stack:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
)");

void trace(const char *fmt, ...)
{
	if (!g_trace)
		return;
	va_list a;
	va_start(a, fmt);
	vprintf(fmt, a);
	va_end(a);
}

void to_scheduler()
{
	switch_stack(&w.t[g_cur].sp, g_sched_sp);
}

void violation(const char *name, const char *fmt, ...)
{
	if (g_violation)
		return;
	g_violation = name;
	va_list a;
	va_start(a, fmt);
	vsnprintf(g_detail, sizeof(g_detail), fmt, a);
	va_end(a);
}

void observe(u64 v)
{
	if (g_cur < 0)
		return;
	u64 &h = w.t[g_cur].hist;
	h = (h ^ v) * 0x9E3779B97F4A7C15ull;
	h ^= h >> 29;
}

int point(const char *what, bool free, Pred pred, u64 arg, int nvar)
{
	if (g_setup) {
		if (pred && !pred(arg)) {
			violation("deadlock", "%s would never return in the run without interleaving", what);
			if (g_cur < 0) {
				fprintf(stderr, "set-up: %s\n", g_detail);
				exit(2);
			}
			to_scheduler();
		}
		return 0;
	}
	Task &t = w.t[g_cur];
	t.what = what;
	t.free_switch = free;
	t.pred = pred;
	t.arg = arg;
	t.nvar = u8(nvar);
	to_scheduler();
	if (nvar > 1)
		observe(u64(g_variant) + 77);
	int v = g_variant;
	t.is_load = 0;
	t.loc = nullptr;
	return v;
}

void op_begin(const char *what, Pred pred, u64 arg)
{
	Task &t = w.t[g_cur];
	t.script++;
	t.hist = 0;
	t.idle = 1;
	point(what, true, pred, arg);
	t.idle = 0;
}

static void fiber_main()
{
	w.t[g_cur].fn();
	w.t[g_cur].done = 1;
	to_scheduler();
	__builtin_trap();
}

void task_add(const char *name, void (*fn)(), int cpu, bool server)
{
	for (int i = 0; i < kTasks; i++) {
		Task &t = w.t[i];
		if (t.used)
			continue;
		t.used = 1;
		t.name = name;
		t.fn = fn;
		t.cpu = u8(cpu);
		t.server = server;
		t.nvar = 1;
		void **sp = reinterpret_cast<void **>(g_stack[i] + kStack);
		*--sp = nullptr; // alignment: as after a call
		*--sp = reinterpret_cast<void *>(fiber_main);
		for (int r = 0; r < 6; r++)
			*--sp = nullptr;
		t.sp = sp;
		return;
	}
	abort();
}

void task_run(int n, int variant)
{
	g_cur = n;
	g_variant = variant;
	if (g_trace) {
		char buf[64];
		Task &t = w.t[n];
		printf("  %c %-8s cpu%d  %s%s%s", 'A' + n, t.name, t.cpu == 255 ? -1 : t.cpu,
		       t.what ? t.what : "start", t.loc ? " " : "", t.loc ? loc_name(t.loc, buf) : "");
		if (!t.loc && variant)
			printf(" (variant %d)", variant);
		if (!t.loc)
			printf("\n");
	}
	switch_stack(&g_sched_sp, w.t[n].sp);
	g_cur = -1;
}

bool task_enabled(int n)
{
	Task &t = w.t[n];
	if (!t.used || t.done)
		return false;
	if (!t.irq && t.cpu != 255) {
		for (int i = 0; i < kTasks; i++) {
			if (i != n && w.t[i].used && w.t[i].in_section && w.t[i].cpu == t.cpu)
				return false;
		}
	}
	return !t.pred || t.pred(t.arg);
}

void set_cpu(int cpu)
{
	w.t[g_cur].cpu = u8(cpu);
}
