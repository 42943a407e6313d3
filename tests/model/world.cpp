// SPDX-License-Identifier: GPL-2.0
// The machine of world.hpp.
#include "world.hpp"

#include <cstdarg>
#include <cstdlib>

World w;
core::Bitmap *bm;
bool g_setup = true, g_weak = false, g_trace = false;
int g_cur = -1, g_variant = 0;
u32 g_span = kCh;
u32 g_last = 3;
const char *g_violation;
char g_detail[512];
bool g_restart;

// ---- memory of the core ----

namespace {

constexpr u32 kFar = 3072; // the first chunk of the second block
constexpr u32 kArena = 32768, kPages = 24, kPage = 4096;
alignas(4096) u8 g_arena[kArena];
alignas(4096) u8 g_page[kPages][kPage];
// The second zone: where the reload check builds its bitmap.
alignas(4096) u8 g_arena2[4 * kArena];
alignas(4096) u8 g_page2[kPages][kPage];
bool g_zone2;
u32 g_arena2_used, g_pages2_used;
u32 g_first_cells; // page with the first cells

constexpr u32 kStack = 64 * 1024;
alignas(4096) char g_stack[kTasks][kStack];
void *g_sched_sp;

// Which tasks read and which write a location: what only one task uses, or nobody
// writes, needs no scheduling point. Learned; a new fact starts the search again.
u8 g_readers[kLocs], g_writers[kLocs];
u64 g_shared; // bit per location
bool g_learn = true;

u8 g_loc_arena[kArena], g_loc_page[kPages][64];
u8 g_locs = 9; // 1..8: counters of lane 0

} // namespace

extern "C" void switch_stack(void **save, void *to);
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

static void to_scheduler()
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

// ---- memory model ----
//
// Views, as in RC11 without load buffering: each location keeps its last kHist values
// in the order of the stores; a load may return any that is not older than what its
// task knows of. Release and acquire pass that knowledge on, read-modify-writes read
// the newest value, full ones and full fences also meet in one common view (sc).
// Store buffers (x86-TSO) are a special case: the load that passes an own store reads
// an old value.

namespace {

u64 peek(const void *at, u32 size)
{
	u64 v = 0;
	memcpy(&v, at, size);
	return v;
}

// 0: not followed (a cell that no task works on, or set-up)
u32 loc_of(const void *at)
{
	const u8 *p = static_cast<const u8 *>(at);
	u8 *id;
	if (p >= g_arena && p < g_arena + kArena)
		id = &g_loc_arena[p - g_arena];
	else if (p >= g_page[0] && p < g_page[kPages - 1] + kPage) {
		u32 off = u32(p - g_page[0]) % kPage, page = u32(p - g_page[0]) / kPage;
		bool second = g_last == kFar && page == g_first_cells + 1;
		u32 cell = off - LLB_CELLS_OFFSET;
		if (second)
			cell = off == 0 ? 3 : kCh;
		else if (cell == g_last)
			cell = 3;
		else if (cell == 3 && g_last != 3)
			cell = kCh;
		if (cell >= kCh)
			return 0;
		id = &g_loc_page[page][cell];
	} else if (p >= reinterpret_cast<u8 *>(w.counter) &&
		   p < reinterpret_cast<u8 *>(w.counter) + sizeof(w.counter)) {
		u32 n = u32(p - reinterpret_cast<u8 *>(w.counter)) / 4;
		u32 cpu = n / 48, index = n % 48;
		return index < 4 ? 1 + cpu * 4 + index : 0;
	} else {
		return 0;
	}
	if (!*id) {
		if (g_locs >= kLocs) {
			fprintf(stderr, "model: more than %d atomic locations\n", kLocs);
			exit(2);
		}
		*id = g_locs++;
	}
	return *id;
}

void join(View &a, const View &b)
{
	for (int i = 0; i < kLocs; i++)
		a.t[i] = a.t[i] < b.t[i] ? b.t[i] : a.t[i];
}

void sc_fence(Task &t)
{
	join(t.cur, t.acq);
	join(t.cur, w.sc);
	w.sc = t.cur;
	t.rel = t.cur;
}

// A new newest value.
void append(Task &t, u32 x, const void *at, u32 size, u64 v, const View &carries)
{
	Loc &l = w.loc[x];
	if (l.last == 0)
		l.ring[0].val = peek(at, size);
	if (l.last == 255) {
		violation("model", "too many stores to one location");
		return;
	}
	l.last++;
	Msg &m = l.ring[l.last % kHist];
	m.val = v;
	m.view = carries;
	m.view.t[x] = l.last;
	t.cur.t[x] = l.last;
}

void learn(u32 x, bool is_load)
{
	if (!g_learn)
		return;
	u8 me = u8(1u << g_cur);
	(is_load ? g_readers : g_writers)[x] |= me;
	u8 both = g_readers[x] | g_writers[x];
	bool shared = g_writers[x] && (both & (both - 1));
	if (shared && !(g_shared >> x & 1)) {
		g_shared |= u64{1} << x;
		g_restart = true;
	}
}

void access(const char *what, const void *at, u32 size, bool is_load)
{
	Task &t = w.t[g_cur];
	u32 x = loc_of(at);
	learn(x, is_load);
	if (!(g_shared >> x & 1)) {
		g_variant = 0;
		if (g_trace) {
			char buf[64];
			printf("      %s %s", what, loc_name(at, buf));
		}
		return;
	}
	t.loc = at;
	t.size = u8(size);
	t.is_load = is_load;
	point(what);
}

bool plain(const void *at)
{
	return g_setup || !loc_of(at);
}

// What tasks read of the core's plain memory under LEAD or daemon_busy is part of
// their history: mixed in when they take it.
void observe_plain()
{
	if (!bm)
		return;
	const u64 *p = reinterpret_cast<const u64 *>(&bm->sb_);
	for (u32 i = 0; i < sizeof(bm->sb_) / 8; i++)
		observe(p[i]);
	observe(bm->header_dirty_ | u64(bm->io_align_) << 8);
	observe(bm->blocks_[0].cover | u64(bm->blocks_[0].touched_ms) << 16);
	for (u32 l = 0; l < bm->lanes_; l++) {
		observe(bm->lane_[l].marked | bm->lane_[l].marking << 1 | bm->lane_[l].quiet << 2 |
			u64(bm->lane_[l].first_mark_ms) << 8);
	}
	observe(bm->next_pass_ms_);
}

} // namespace

// Which older values may task t read in the load that it is about to do?
int task_variants(int n, bool stale, u8 *out)
{
	Task &t = w.t[n];
	int k = 0;
	if (!t.is_load) {
		for (int i = 0; i < t.nvar; i++)
			out[k++] = u8(i);
		return k;
	}
	out[k++] = 0;
	if (!g_weak || !stale)
		return k;
	u32 x = loc_of(t.loc);
	Loc &l = w.loc[x];
	u64 now = peek(t.loc, t.size);
	for (u32 back = 1; back < kHist && back <= l.last; back++) {
		u32 ts = l.last - back;
		if (ts < t.cur.t[x])
			break;
		if (l.ring[ts % kHist].val != now)
			out[k++] = u8(back);
	}
	return k;
}

u64 mm::load(const void *at, u32 size, Order o)
{
	if (plain(at))
		return peek(at, size);
	Task &t = w.t[g_cur];
	access("load", at, size, true);
	int back = g_variant;
	u64 v = peek(at, size);
	if (g_weak) {
		if (o == Full)
			sc_fence(t);
		u32 x = loc_of(at);
		Loc &l = w.loc[x];
		if (l.last) {
			u8 ts = u8(l.last - back);
			const Msg &m = l.ring[ts % kHist];
			v = m.val;
			if (t.cur.t[x] < ts)
				t.cur.t[x] = ts;
			if (ts) {
				join(t.acq, m.view);
				if (o != Relaxed)
					join(t.cur, m.view);
			}
		}
	}
	trace(" = %llu%s\n", (unsigned long long)v, back ? " (an older value)" : "");
	observe(v);
	return v;
}

void mm::store(void *at, u32 size, u64 v, Order o)
{
	if (plain(at)) {
		memcpy(at, &v, size);
		return;
	}
	access("store", at, size, false);
	trace(" := %llu\n", (unsigned long long)v);
	Task &t = w.t[g_cur];
	if (g_weak)
		append(t, loc_of(at), at, size, v, o == Release ? t.cur : t.rel);
	memcpy(at, &v, size);
}

static void rmw_views(Task &t, u32 x, void *at, u32 size, u64 v, mm::Order o, bool full_after)
{
	Loc &l = w.loc[x];
	if (o == mm::Full)
		sc_fence(t);
	View carries = o == mm::Relaxed ? t.rel : t.cur;
	if (l.last) {
		const Msg &m = l.ring[l.last % kHist];
		join(t.acq, m.view);
		if (o == mm::Full) {
			join(t.cur, m.view);
			carries = t.cur;
		} else {
			join(carries, m.view); // release sequence
		}
	}
	append(t, x, at, size, v, carries);
	if (full_after)
		sc_fence(t);
}

u64 mm::rmw(void *at, u32 size, Rmw op, u64 v, Order o)
{
	u64 old;
	bool direct = plain(at);
	if (!direct)
		access("rmw", at, size, false);
	old = peek(at, size);
	u64 to = op == Exchange ? v : op == Add ? old + v : op == Sub ? old - v : old | v;
	if (!direct) {
		trace(" %llu -> %llu\n", (unsigned long long)old, (unsigned long long)to);
		if (g_weak)
			rmw_views(w.t[g_cur], loc_of(at), at, size, to, o, o == Full);
		observe(old);
		if (bm && old == 0 && (at == &bm->lead_ || at == &bm->daemon_busy_))
			observe_plain();
	}
	memcpy(at, &to, size);
	return old;
}

bool mm::cas(void *at, u32 size, u64 *expected, u64 desired, Order o)
{
	bool direct = plain(at);
	if (!direct)
		access("cas", at, size, false);
	u64 old = peek(at, size);
	bool ok = old == *expected;
	if (!direct) {
		Task &t = w.t[g_cur];
		trace(" %llu, expected %llu, to %llu%s\n", (unsigned long long)old,
		      (unsigned long long)*expected, (unsigned long long)desired, ok ? "" : ": failed");
		u32 x = loc_of(at);
		if (g_weak && ok) {
			rmw_views(t, x, at, size, desired, o, o == Full);
		} else if (g_weak) {
			Loc &l = w.loc[x];
			t.cur.t[x] = l.last;
			if (l.last)
				join(t.acq, l.ring[l.last % kHist].view);
		}
		observe(old);
	}
	if (ok)
		memcpy(at, &desired, size);
	else
		*expected = old;
	return ok;
}

void mm::fence(Order o)
{
	if (g_setup || g_cur < 0 || !g_weak)
		return; // each access takes effect where it is: nothing to order
	Task &t = w.t[g_cur];
	if (o == Full) {
		sc_fence(t);
	} else if (o == Release) {
		t.rel = t.cur;
	} else {
		join(t.cur, t.acq);
	}
}

const char *loc_name(const void *at, char *buf)
{
	const u8 *p = static_cast<const u8 *>(at);
	struct {
		const void *at;
		const char *name;
	} names[] = {
		{&bm->table_, "table"},
		{&bm->requested_, "requested"},
		{&bm->durable_, "durable"},
		{&bm->broken_, "broken"},
		{&bm->lead_, "LEAD"},
		{&bm->daemon_busy_, "daemon_busy"},
		{&bm->armed_, "armed"},
		{&bm->sync_wanted_, "sync_wanted"},
		{&bm->spare_seq_, "spare_seq"},
		{&bm->behind_, "behind"},
		{&bm->behind_waiters_, "behind_waiters"},
		{&bm->bio_waiters_, "bio_waiters"},
		{&bm->init_pending_, "init_pending"},
		{&bm->parity_, "parity"},
		{&bm->daemon_sleep_s_, "daemon_sleep"},
		{&bm->barrier_idle_s_, "barrier_idle"},
		{&bm->next_request_ms_, "next_request"},
		{&bm->written_marked_, "written_marked"},
		{&bm->blocks_[0].flagged, "flag[block 0]"},
		{&bm->blocks_[1].flagged, "flag[block 1]"},
	};
	for (auto &n : names) {
		if (n.at == at)
			return n.name;
	}
	if (p >= g_page[0] && p < g_page[kPages - 1] + kPage) {
		if (u32(p - g_page[0]) % kPage == 0)
			return "cell[3072]";
		sprintf(buf, "cell[%d]%s", int(u32(p - g_page[0]) % kPage - LLB_CELLS_OFFSET),
			u32(p - g_page[0]) / kPage == g_first_cells ? "" : " of the new table");
	} else if (p >= reinterpret_cast<u8 *>(w.counter) && p < reinterpret_cast<u8 *>(w.counter + kCpus)) {
		u32 n = u32(p - reinterpret_cast<u8 *>(w.counter)) / 4;
		sprintf(buf, "lane %d %s, CPU %d", n % 48 / 2, n % 2 ? "ends" : "starts", n / 48);
	} else {
		sprintf(buf, "arena+%d", int(p - g_arena));
	}
	return buf;
}

// ---- tasks ----

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

u64 shared_get()
{
	return g_shared;
}

void shared_set(u64 v, bool learn)
{
	g_shared = v;
	g_learn = learn;
	memset(g_readers, 0, sizeof(g_readers));
	memset(g_writers, 0, sizeof(g_writers));
}

void set_cpu(int cpu)
{
	w.t[g_cur].cpu = u8(cpu);
}

// ---- kx_*: memory ----

void *kx_alloc(u64 bytes)
{
	if (bytes >= 2048)
		return kx_page_alloc();
	bytes = (bytes + 63) & ~u64{63};
	if (g_zone2) {
		void *p = g_arena2 + g_arena2_used;
		g_arena2_used += u32(bytes);
		memset(p, 0, bytes);
		return g_arena2_used <= sizeof(g_arena2) ? p : nullptr;
	}
	if (w.arena_used + bytes > kArena) {
		fprintf(stderr, "model: arena full\n");
		exit(2);
	}
	void *p = g_arena + w.arena_used;
	w.arena_used += u32(bytes);
	memset(p, 0, bytes);
	return p;
}

void kx_free(void *) {}

void *kx_page_alloc(void)
{
	u32 &used = g_zone2 ? g_pages2_used : w.pages_used;
	if (used >= kPages) {
		fprintf(stderr, "model: pages full\n");
		exit(2);
	}
	void *p = g_zone2 ? g_page2[used] : g_page[used];
	used++;
	memset(p, 0, kPage);
	return p;
}

void kx_page_free(void *) {}

struct kx_counters *kx_counters_alloc(u32 count)
{
	(void)count; // lanes far from chunk 0 share: see slot_of()
	if (!g_zone2)
		memset(w.counter, 0, sizeof(w.counter));
	return reinterpret_cast<kx_counters *>(w.counter);
}

void kx_counters_free(struct kx_counters *) {}

// ---- kx_*: counters and grace periods ----

// Lane 0 is what is looked at; lanes that hold one followed chunk at most share.
static u32 slot_of(u32 index)
{
	return index < 40 ? index : 40 + (index & 7);
}

static void counter_inc(u32 index, bool now)
{
	index = slot_of(index);
	u32 cpu = g_cur < 0 || w.t[g_cur].cpu == 255 ? 0 : w.t[g_cur].cpu;
	u32 *at = &w.counter[cpu][index];
	u32 v = *at + 1;
	if (!plain(at)) {
		if (now)
			learn(loc_of(at), false);
		else
			access("counter", at, 4, false);
		if (now)
			trace("      lane %u, starts -> %u\n", index / 2, *at + 1);
		else
			trace(" -> %u\n", *at + 1);
		v = *at + 1;
		if (g_weak) {
			// one CPU's increments follow each other in its program order
			const Loc &l = w.loc[loc_of(at)];
			View carries = w.t[g_cur].rel;
			if (l.last)
				join(carries, l.ring[l.last % kHist].view);
			append(w.t[g_cur], loc_of(at), at, 4, v, carries);
		}
	}
	*at = v;
}

void kx_section_enter(struct kx_counters *, u32 index)
{
	if (!g_setup) {
		Task &t = w.t[g_cur];
		point("section enter");
		t.in_section = 1;
		if (g_weak) {
			// a section that begins after a grace period began knows what was
			// before that; one that began earlier is waited for
			join(t.cur, w.gp);
		}
	}
	counter_inc(index, true); // in one step with the entry: who waits for it sees no difference
}

void kx_section_leave(void)
{
	if (g_setup)
		return;
	Task &t = w.t[g_cur]; // no step of its own: to wait longer for it shows nothing new
	t.in_section = 0;
	for (Task &o : w.t)
		o.gp_wait &= u8(~(1u << g_cur));
	if (g_weak)
		join(w.left, t.cur);
}

void kx_counter_inc(struct kx_counters *, u32 index)
{
	counter_inc(index, false);
}

u32 kx_counter_sum(struct kx_counters *, u32 index)
{
	u32 sum = 0;
	for (int cpu = 0; cpu < kCpus; cpu++)
		sum += u32(mm::load(&w.counter[cpu][slot_of(index)], 4, mm::Relaxed));
	return sum;
}

static bool sections_left(u64 n)
{
	return w.t[n].gp_wait == 0;
}

void kx_grace_period(void)
{
	if (g_setup)
		return;
	Task &t = w.t[g_cur];
	point("grace period begins");
	if (g_weak) {
		sc_fence(t);
		join(w.gp, t.cur);
	}
	t.gp_wait = 0;
	for (int i = 0; i < kTasks; i++) {
		if (w.t[i].used && w.t[i].in_section)
			t.gp_wait |= u8(1u << i);
	}
	point("grace period ends", true, sections_left, u64(g_cur));
	if (g_weak) {
		join(t.cur, w.left);
		sc_fence(t);
	}
}

// ---- kx_*: time, work, waiting ----

u64 kx_now_ms(void)
{
	observe(w.now_ms);
	return w.now_ms;
}

void kx_daemon_arm(struct kx_host *, u32 delay_ms)
{
	if (g_zone2)
		return;
	if (!g_setup) {
		point("arm the daemon");
		if (g_weak) {
			sc_fence(w.t[g_cur]);
			join(w.timer, w.t[g_cur].cur);
		}
	}
	if (w.now_ms + delay_ms < w.due_ms)
		w.due_ms = w.now_ms + delay_ms;
}

void kx_lead_queue(struct kx_host *)
{
	if (!g_setup) {
		point("queue the lead worker");
		if (g_weak) {
			sc_fence(w.t[g_cur]);
			join(w.work, w.t[g_cur].cur);
		}
	}
	w.lead_pending = 1;
}

void kx_md_wake(struct kx_host *)
{
	if (!g_setup)
		point("wake mdX");
	w.md_pending = 1;
}

void kx_relax(void) {}

static bool not_suspended(u64)
{
	return !w.suspended;
}

// Who sleeps polls for the array's suspension to end: no sooner does it look again.
void kx_sleep_ms(u32 ms)
{
	point("sleep a while", true, not_suspended);
	w.now_ms += ms;
}

static bool woken(u64 n)
{
	return w.t[n].woken;
}

void kx_wait(struct kx_host *, struct llb_bitmap *b, u32 kind, u64 arg)
{
	if (g_setup) {
		if (llb_wait_done(b, kind, arg))
			return;
		violation("deadlock", "kx_wait(%u) is not woken by anybody", kind);
		if (g_cur < 0) {
			fprintf(stderr, "set-up: %s\n", g_detail);
			exit(2);
		}
		to_scheduler();
	}
	Task &t = w.t[g_cur];
	for (;;) {
		if (g_weak)
			sc_fence(t); // set_current_state()
		t.waiting = 1;
		t.woken = 0;
		bool done = llb_wait_done(b, kind, arg);
		if (!done)
			point("wait: sleep", true, woken, u64(g_cur));
		t.waiting = 0;
		t.woken = 0;
		if (done)
			return;
	}
}

// No barrier of its own: it may find the queue empty with a store before it pending.
void kx_wake(struct kx_host *)
{
	if (g_setup)
		return;
	point("wake all");
	for (Task &o : w.t) {
		if (!o.used || !o.waiting || o.woken)
			continue;
		o.woken = 1;
		if (g_weak)
			join(o.cur, w.t[g_cur].cur);
	}
}

// ---- kx_*: the array ----

static bool is_second(const kx_host *h)
{
	return h == reinterpret_cast<const kx_host *>(2);
}

void kx_array_get(struct kx_host *h, struct kx_array *out)
{
	memset(out, 0, sizeof(*out));
	out->events = is_second(h) ? w.md_events : w.events;
	out->sync_size = w.array_size;
	out->resync_offset = w.resync_offset;
	out->bitmap_offset = 8;
	out->bitmap_space = 8;
	out->level = s32(w.level);
	out->raid_disks = kMembers;
	out->degraded = s32(w.degraded);
	out->flags = w.flags | (w.broken ? KX_ARRAY_BROKEN : 0);
	for (int i = 0; i < 16; i++)
		out->uuid[i] = u8(i + 1);
	observe(out->events ^ u64(out->flags) << 20 ^ u64(out->degraded) << 60);
}

u32 kx_reconfig_locked(struct kx_host *)
{
	observe(w.reconfig);
	return w.reconfig;
}

static void count_slots(struct kx_slots *out, bool flushed)
{
	memset(out, 0, sizeof(*out));
	out->slots = kMembers;
	out->degraded = w.degraded;
	for (Member &m : w.m) {
		bool ok = m.present && m.in_sync && !m.faulty;
		out->in_sync += ok;
		out->flushed += ok && (!flushed || (m.flush_target && m.fl_ok));
	}
	observe(out->in_sync | out->flushed << 4 | out->degraded << 8);
}

void kx_slots_get(struct kx_host *, struct kx_slots *out)
{
	count_slots(out, false);
	out->flushed = 0;
}

u64 kx_events(struct kx_host *)
{
	if (!g_setup)
		point("read events");
	observe(w.events);
	return w.events;
}

int kx_member_get(struct kx_host *h, u32 index, struct kx_member *out)
{
	if (index >= kMembers)
		return -LLB_ERANGE;
	const Member &m = w.m[index];
	memset(out, 0, sizeof(*out));
	out->sb_start = 0;
	out->data_offset = 2048;
	out->data_sectors = 1 << 20;
	out->logical_block = 512;
	out->slot = m.present ? s32(index) : -1;
	out->flags = (m.in_sync ? KX_MEMBER_IN_SYNC : 0) | (m.faulty ? KX_MEMBER_FAULTY : 0);
	(void)h;
	return 0;
}

void kx_bad_log_disable(struct kx_host *, u32) {}

void kx_chunk_bytes_set(struct kx_host *, u64, u32) {}

void kx_resync_request(struct kx_host *h)
{
	if (is_second(h))
		return;
	w.resync_wanted = 1;
	w.resync_offset = 0;
}

void kx_broken_set(struct kx_host *)
{
	w.broken = 1;
}

void kx_recovery_wait(struct kx_host *) {}

void kx_checkpoint(struct kx_host *, u64) {}

int kx_stripes_forget(struct kx_host *)
{
	return 0;
}

void kx_log(struct kx_host *h, u32, const char *fmt, ...)
{
	if (!g_trace)
		return;
	va_list a;
	va_start(a, fmt);
	printf(is_second(h) ? "      (reload) " : "      log: ");
	vprintf(fmt, a);
	printf("\n");
	va_end(a);
}

// ---- kx_*: I/O ----

u32 kx_members_get(struct kx_host *, u32 hold)
{
	observe(w.suspended);
	return hold || !w.suspended;
}

void kx_members_put(struct kx_host *, u32) {}

static u8 g_image_hdr[kMembers][LLB_SB_BYTES], g_image_cell[kMembers][kSpan];

int kx_read(struct kx_host *h, u32 index, u64 offset, void *page, u32 bytes)
{
	u8 whole[kPage] = {};
	memcpy(whole, is_second(h) ? g_image_hdr[index] : w.m[index].d.hdr, LLB_SB_BYTES);
	memcpy(whole + LLB_CELLS_OFFSET, is_second(h) ? g_image_cell[index] : w.m[index].d.cell, kSpan);
	if (offset >= kPage) {
		memset(page, LLB_CLEAN, bytes);
		if (g_last == kFar && offset == kPage)
			*static_cast<u8 *>(page) = whole[LLB_CELLS_OFFSET + 3];
	} else {
		memcpy(page, whole + offset, bytes);
	}
	return 0;
}

static void fail_member(int i)
{
	Member &m = w.m[i], &o = w.m[1 - i];
	if (m.faulty || !m.present)
		return;
	if (m.in_sync && !(o.present && o.in_sync && !o.faulty))
		return; // md keeps the last one
	if (m.in_sync)
		w.degraded++;
	m.in_sync = 0;
	m.faulty = 1;
}

u64 chunk_of(int c)
{
	return c == 3 ? g_last : u64(c);
}

// Its byte in Disk::cell
static u64 disk_of(int c)
{
	return c == 3 && g_last == kFar ? 3 : chunk_of(c);
}

void kx_io_begin(struct kx_host *)
{
	if (w.io_open) {
		violation("LEAD", "two batches of bitmap writes at once");
		return;
	}
	w.io_open = 1;
	w.io_buf[0] = w.io_buf[1] = nullptr;
	for (Member &m : w.m) {
		m.target = m.present && !m.faulty ? (m.in_sync ? 2 : 1) : 0;
		m.io_failed = 0;
	}
}

void kx_io_add(struct kx_host *, u64 offset, const void *buf, u32 bytes)
{
	point("bitmap write");
	const u8 *b = static_cast<const u8 *>(buf);
	bool second = offset >= kPage;
	w.io_buf[second] = b;
	w.io_at[second] = u32(offset);
	w.hdr_io |= offset == 0;
	w.cells_io |= second || (offset <= LLB_CELLS_OFFSET && offset + bytes > LLB_CELLS_OFFSET);
	bool cells = second || (offset <= LLB_CELLS_OFFSET && offset + bytes > LLB_CELLS_OFFSET);
	u32 n = second || !cells ? 0 : u32(offset) + bytes - LLB_CELLS_OFFSET;
	if (n > g_span)
		n = g_span;
	if (g_last == kFar && n > 3)
		n = 3;
	for (int i = 0; i < kMembers; i++) {
		Member &m = w.m[i];
		if (!m.target)
			continue;
		if (!m.hdr_pending && !m.cells_pending)
			m.p = m.d;
		if (offset == 0) {
			u64 had, has;
			u32 state;
			memcpy(&had, m.d.hdr + LLB_SB_EVENTS, 8);
			memcpy(&has, b + LLB_SB_EVENTS, 8);
			memcpy(&state, b + LLB_SB_STATE, 4);
			if (w.broken && (has > had || !(state & LLB_SB_STALE)))
				violation("W7",
					  "a header with events %llu (was %llu), state 0x%x, though broken",
					  (unsigned long long)has, (unsigned long long)had, state);
			memcpy(m.p.hdr, b, LLB_SB_BYTES);
			m.hdr_pending = 1;
		}
		if (cells && !(second && g_last != kFar)) {
			if (second)
				m.p.cell[3] = offset == kPage ? b[0] : m.p.cell[3];
			else
				memcpy(m.p.cell, b + LLB_CELLS_OFFSET - offset, n);
			m.cells_pending = 1;
			for (int c = 0; c < kCh; c++) {
				u8 byte = m.p.cell[disk_of(c)];
				bool clean = byte < 2 || (byte > 4 && byte < 8);
				u64 cleared;
				memcpy(&cleared, m.d.hdr + LLB_SB_EVENTS_CLEARED, 8);
				if (clean && w.dirtied[c] && m.in_sync && cleared < w.w3_events)
					violation(
						"W5",
						"chunk %d cleared on member %d, events_cleared %llu there, events %llu",
						c, i, (unsigned long long)cleared,
						(unsigned long long)w.w3_events);
				if (clean && i == kMembers - 1)
					w.dirtied[c] = 0;
			}
		}
	}
	if (g_trace) {
		printf("      %s%s to members %s%s: ", w.hdr_io ? "header " : "", w.cells_io ? "cells" : "",
		       w.m[0].target ? "0" : "", w.m[1].target ? "1" : "");
		for (int c = 0; cells && !second && c < (g_last == kFar ? 3 : kCh); c++)
			printf(" %d", b[LLB_CELLS_OFFSET - offset + chunk_of(c)]);
		if (second)
			printf(" block 1: %d", b[0]);
		printf("\n");
	}
}

void kx_io_wait(struct kx_host *, struct kx_io_result *out)
{
	int nvar = w.write_errors ? 7 : 1;
	int v = point("bitmap write done", true, nullptr, 0, nvar);
	u32 fails = v == 0 ? 0 : v <= 3 ? u32(v) : u32(v - 3); // bit per member
	bool lost = v <= 3;
	for (int i = 0; i < kMembers; i++) {
		Member &m = w.m[i];
		if (!m.target || !(w.hdr_io || w.cells_io))
			continue;
		bool fail = (fails >> i & 1) || m.write_fails;
		if (fail && w.write_errors && !m.write_fails)
			w.write_errors--;
		if (!fail || (!lost && !m.write_fails)) {
			if (m.hdr_pending)
				memcpy(m.d.hdr, m.p.hdr, sizeof(m.d.hdr));
			if (m.cells_pending)
				memcpy(m.d.cell, m.p.cell, sizeof(m.d.cell));
		}
		m.hdr_pending = m.cells_pending = 0;
		memset(&m.p, 0, sizeof(m.p));
		m.io_failed = fail;
	}
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < kMembers; i++) {
		if (w.m[i].io_failed)
			fail_member(i);
	}
	for (Member &m : w.m) {
		out->tried += m.target != 0;
		out->in_sync_tried += m.target == 2;
		out->in_sync_ok += m.target == 2 && !m.io_failed && m.in_sync;
		m.target = 0;
	}
	w.io_open = w.hdr_io = w.cells_io = 0;
	w.io_buf[0] = w.io_buf[1] = nullptr;
	w.io_at[0] = w.io_at[1] = 0;
	observe(out->in_sync_ok | out->in_sync_tried << 4 | out->tried << 8);
}

static void normalize(int c)
{
	u8 done = w.issued[c];
	for (Member &m : w.m)
		done &= m.durable[c];
	w.issued[c] &= u8(~done);
	for (Member &m : w.m) {
		m.durable[c] &= u8(~done);
		m.cache[c] &= u8(~done);
		m.fl_cache[c] &= u8(~done);
	}
}

int kx_flush(struct kx_host *, u32 hold, struct kx_slots *out)
{
	point("flush");
	if (!hold && w.suspended) {
		observe(1);
		return -LLB_EBUSY;
	}
	if (w.flush_open)
		violation("flush", "two batches of flushes at once");
	w.flush_open = 1;
	for (Member &m : w.m) {
		m.flush_target = m.present && !m.faulty;
		m.fl_ok = 0;
		memcpy(m.fl_cache, m.cache, sizeof(m.cache));
	}
	for (u8 &p : w.parity_bad)
		p = p == 2 ? 3 : p;
	point("flush done", true);
	for (int i = 0; i < kMembers; i++) {
		Member &m = w.m[i];
		m.fl_ok = m.flush_target && !m.flush_fails && !m.faulty;
		for (int c = 0; c < kCh; c++) {
			if (m.fl_ok)
				m.durable[c] |= m.fl_cache[c] & m.cache[c];
			m.fl_cache[c] = 0;
		}
		if (m.flush_target && m.flush_fails == 1)
			fail_member(i); // 2: md_error is ignored
	}
	for (int c = 0; c < kCh; c++) {
		normalize(c);
		if (w.parity_bad[c] == 3)
			w.parity_bad[c] = w.m[0].fl_ok && w.m[1].fl_ok ? 0 : 2;
	}
	point("count slots");
	count_slots(out, true);
	w.w3_events = w.events;
	w.flush_open = 0;
	for (Member &m : w.m)
		m.flush_target = m.fl_ok = 0;
	return 0;
}

// ---- what scenarios use ----

bool slot_risk(int c)
{
	return w.issued[c];
}

u8 cell_raw(u64 c)
{
	core::Table *t = reinterpret_cast<core::Table *>(peek(&bm->table_, 8));
	return u8(peek(&t->cell(c), 1));
}

void md_release()
{
	if (g_weak && !g_setup)
		join(w.md, w.t[g_cur].cur);
}

void md_acquire()
{
	if (g_weak && !g_setup)
		join(w.t[g_cur].cur, w.md);
}

static bool barrier_open(u64 c)
{
	return !w.sync_excl[c] && !w.suspended;
}

static int issue_to(int c, int m, u8 id, bool discard)
{
	// what holds no data may differ
	if (discard && !w.alive[c] && w.in_flight[c] == 0 && !w.issued[c])
		return 0;
	if (!(w.issued[c] & id)) {
		if (discard) {
			if (w.in_flight[c] == 0)
				w.alive[c] = 0;
		} else {
			w.alive[c] = 1;
		}
		w.in_flight[c]++;
		w.issued[c] |= id;
		w.dirtied[c] = 1;
	}
	if (!w.m[m].faulty)
		w.m[m].flight[c] |= id;
	return 0;
}

static void complete_at(int c, int m, u8 id)
{
	Member &mm_ = w.m[m];
	if (!(mm_.flight[c] & id))
		return;
	mm_.flight[c] &= u8(~id);
	if (!mm_.faulty)
		mm_.cache[c] |= id;
}

static u8 new_id(int c)
{
	u8 used = w.issued[c];
	for (Member &m : w.m)
		used |= m.flight[c] | m.cache[c] | m.durable[c];
	for (int i = 0; i < 8; i++) {
		if (!(used >> i & 1))
			return u8(1u << i);
	}
	fprintf(stderr, "model: more than 8 writes of a chunk pending\n");
	exit(2);
}

// What raid1 does for one write (03, raid1_write_request): pick members, start_write,
// [behind], ask enabled, unplug, issue to each, wait, end_write.
void write_chunk(int c, unsigned how)
{
	const bool discard = how & kDiscard;
	const u64 sector = chunk_of(c) * 128 + (discard ? 0 : 8), sectors = discard	 ? 128
									    : how & kTwo ? 128
											 : 8;
	const int last = how & kTwo ? c + 1 : c;

	op_begin(discard ? "discard" : "write", barrier_open, u64(c));
	md_acquire();
	if (g_trace)
		printf("      chunk %d%s\n", c, how & kTwo ? " and the next" : "");
	for (int i = c; i <= last; i++)
		w.writers[i]++;
	w.writers_all++;
	bool to[kMembers];
	for (int m = 0; m < kMembers; m++)
		to[m] = w.m[m].present && !w.m[m].faulty;
	observe(u64(to[0] | to[1] << 1));
	if (discard)
		llb_start_discard(bm, sector, sectors);
	else
		llb_start_write(bm, sector, sectors);
	if (how & kBehind)
		llb_start_behind(bm);
	if (!w.broken && ((how & kNoAsk) || llb_enabled(bm, 1)))
		llb_unplug(bm, !(how & kBio));
	u8 id[2] = {};
	point("data write");
	observe(w.broken);
	for (int i = c; i <= last && !w.broken; i++) { // else md fails it
		if (!to[0] && !to[1])
			break;
		id[i - c] = new_id(i);
		observe(id[i - c]);
		for (int m = 0; m < kMembers; m++) {
			if (to[m])
				issue_to(i, m, id[i - c], discard);
		}
	}
	if (how & kMigrate)
		set_cpu(1 - w.t[g_cur].cpu);
	for (int m = 0; m < kMembers; m++) {
		if (!to[m] || ((how & kBehind) && m == 1))
			continue;
		for (int i = c; i <= last; i++) {
			if (!id[i - c])
				continue;
			point("data write done", true);
			trace("      chunk %d, member %d\n", i, m);
			complete_at(i, m, id[i - c]);
			if (w.in_flight[i] && (m == kMembers - 1 || (to[0] && !to[1])))
				w.in_flight[i]--;
		}
	}
	w.t[g_cur].irq = !!(how & kIrq);
	if (discard)
		llb_end_discard(bm, sector, sectors);
	else
		llb_end_write(bm, sector, sectors);
	if (how & kBehind) {
		if (id[0]) {
			point("behind write done", true);
			complete_at(c, 1, id[0]);
			w.in_flight[c]--;
		}
		llb_end_behind(bm);
	}
	w.t[g_cur].irq = 0;
	for (int i = c; i <= last; i++)
		w.writers[i]--;
	w.writers_all--;
	md_release();
}

// The sync thread, as md_do_sync and raid1_sync_request: ask, keep writers off, copy,
// tell. recover: to a member that is not in sync yet.
static bool no_writer(u64 c)
{
	return !w.writers[c];
}

void sync_array(unsigned how)
{
	const bool recover = how & kRecover;
	u64 n;

	w.sync_active = 1;
	w.resync_wanted = 0;
	w.flags |= KX_ARRAY_RUNNING | (recover ? KX_ARRAY_RECOVER : KX_ARRAY_SYNC);
	u64 c = 0;
	while (c * 128 < w.array_size) {
		u64 skip = llb_skip_sync(bm, c * 128);
		observe(skip);
		trace("      chunk %d: skip %d sectors\n", int(c), int(skip));
		if (skip) {
			c += skip / 128;
			continue;
		}
		bool query = llb_start_sync(bm, c * 128, &n, 1);
		llb_cond_end_sync(bm, c * 128, how & kForceEnd);
		if (!query && !(how & kFull)) {
			c++;
			continue;
		}
		point("raise barrier", true, no_writer, c);
		md_acquire();
		w.sync_excl[c] = 1;
		bool must = llb_start_sync(bm, c * 128, &n, 0);
		if (must || (how & kFull)) {
			point("sync write");
			trace("      chunk %d\n", int(c));
			for (int i = 0; i < kMembers; i++) {
				Member &m = w.m[i];
				if (m.in_sync && !m.faulty && w.degraded == 0 && c < kCh &&
				    m.d.cell[c] < LLB_STATES && !core::dirty_like(core::State(m.d.cell[c])) &&
				    w.level == 1)
					violation("W1", "sync write of chunk %d with byte %d on member %d",
						  int(c), m.d.cell[c], i);
			}
			bool failed = (how & kSyncFails) && c == 0;
			bool partly = (how & kInterrupt) && c == 0; // it ends in mid-chunk
			point("sync write done", true);
			if (failed) {
				trace("      failed\n");
				llb_end_sync(bm, c * 128, &n); // the error path of raid1 tells so
			} else if (partly) {
				trace("      only a part of it\n");
			} else if (w.level == 1) {
				for (Member &m : w.m)
					m.cache[c] |= m.faulty ? 0 : w.issued[c];
			} else {
				w.parity_bad[c] = w.parity_bad[c] == 1 ? 2 : w.parity_bad[c];
			}
			w.sync_excl[c] = 0;
			if (failed || partly) {
				point("interrupt");
				w.flags |= KX_ARRAY_INTR;
				break;
			}
		}
		w.sync_excl[c] = 0;
		md_release();
		c++;
	}
	llb_close_sync(bm);
	point("sync ends");
	md_release();
	w.md_pending = 1; // mdX reaps it, and asks daemon_work
	w.flags &= ~(KX_ARRAY_RUNNING | KX_ARRAY_RECOVER | KX_ARRAY_SYNC | KX_ARRAY_INTR);
	w.sync_active = 0;
}

static bool timer_due(u64)
{
	return w.due_ms != kNever;
}

void daemon_passes(int n)
{
	for (int i = 0; i < n; i++) {
		op_begin("daemon's turn", timer_due);
		if (w.now_ms < w.due_ms)
			w.now_ms = w.due_ms;
		w.due_ms = kNever;
		if (g_weak && !g_setup)
			join(w.t[g_cur].cur, w.timer);
		trace("      at %llu ms\n", (unsigned long long)w.now_ms);
		llb_daemon(bm);
	}
}

static bool lead_queued(u64)
{
	return w.lead_pending;
}

void lead_worker(int n)
{
	for (int i = 0; i < n; i++) {
		op_begin("lead worker's turn", lead_queued);
		w.lead_pending = 0;
		if (g_weak && !g_setup)
			join(w.t[g_cur].cur, w.work);
		llb_lead_work(bm);
	}
}

// ---- invariants ----

namespace {

u64 get64(const u8 *p)
{
	u64 v;
	memcpy(&v, p, 8);
	return v;
}
u32 get32(const u8 *p)
{
	u32 v;
	memcpy(&v, p, 4);
	return v;
}

bool reads_need_sync(u8 byte)
{
	return (byte >= LLB_DIRTY && byte <= LLB_SYNCING) || byte >= LLB_STATES;
}

bool reads_unwritten(u8 byte)
{
	return byte == LLB_UNWRITTEN || (byte >= LLB_NEED_SYNC_UNWRITTEN && byte < LLB_STATES);
}

void check_byte(int i, const u8 *hdr, const Disk &cells, int c)
{
	u32 state = get32(hdr + LLB_SB_STATE);
	if (!(state & LLB_SB_FIRST_USE) &&
	    ((state & LLB_SB_STALE) || get64(hdr + LLB_SB_EVENTS) < w.md_events))
		return; // read as stale: everything is resynchronised
	u32 chunk = get32(hdr + LLB_SB_CHUNKSIZE);
	u64 size = get64(hdr + LLB_SB_SYNC_SIZE);
	u64 sector = chunk_of(c) * 128;
	if (!(state & LLB_SB_FIRST_USE) && size < w.array_size && sector + 128 > size - size % chunk)
		return; // nothing is known there: resynchronised
	u8 byte = cells.cell[g_last == kFar && c == 3 ? 3 : sector / chunk];
	if (state & LLB_SB_FIRST_USE)
		byte = state & LLB_SB_CLEAN ? LLB_CLEAN : LLB_UNWRITTEN;
	const char *when = w.t[g_cur < 0 ? 0 : g_cur].what;
	if (w.issued[c] && !reads_need_sync(byte)) {
		bool w2 = true, in_sync_risk = false;
		for (Member &m : w.m) {
			if (m.in_sync && !m.faulty)
				in_sync_risk |= (w.issued[c] & ~m.durable[c]) != 0;
		}
		w2 = in_sync_risk;
		violation(
			w.cells_io ? (w2 ? "W2" : "W3") : "W1",
			"a cut may leave byte %d of chunk %d on member %d, with writes %x not durable everywhere (%s)",
			byte, c, i, w.issued[c], when);
	} else if (w.alive[c] && reads_unwritten(byte)) {
		violation("D3",
			  "a cut may leave byte %d (unwritten) of chunk %d, which holds data, on member %d",
			  byte, c, i);
	} else if (w.parity_bad[c] && (byte == LLB_CLEAN || byte == LLB_CLEAN_UNWRITTEN)) {
		violation("D7", "byte %d of chunk %d on member %d, whose parity was not built and flushed",
			  byte, c, i);
	}
}

} // namespace

void check_invariants()
{
	if (g_violation)
		return;
	// W6
	for (int k = 0; k < 2; k++) {
		const u8 *b = w.io_buf[k];
		for (Member &m : w.m) {
			if (!b || !m.target)
				continue;
			bool same = true;
			if (k)
				same = g_last != kFar || m.p.cell[3] == b[0];
			else if (w.io_at[0] == 0)
				same = !memcmp(m.p.hdr, b, LLB_SB_BYTES);
			if (!k && m.cells_pending && w.cells_io && w.io_at[0] <= LLB_CELLS_OFFSET &&
			    !w.hdr_io)
				same &= !memcmp(m.p.cell, b + LLB_CELLS_OFFSET - w.io_at[0], 3);
			if (!same)
				violation("W6", "a buffer under I/O changed");
		}
	}
	for (int c = 0; c < kCh; c++) {
		if (!w.issued[c] && !w.alive[c] && !w.parity_bad[c])
			continue;
		for (int i = 0; i < kMembers; i++) {
			Member &m = w.m[i];
			if (!m.in_sync || m.faulty || !m.present)
				continue;
			for (int h = 0; h <= m.hdr_pending; h++) {
				for (int b = 0; b <= m.cells_pending; b++)
					check_byte(i, h ? m.p.hdr : m.d.hdr, b ? m.p : m.d, c);
			}
		}
	}
}

// Build a bitmap from what a cut leaves now; seed picks which of the writes under way
// each member has.
bool reload_check(u32 seed)
{
	u32 n = 0;
	for (int i = 0; i < kMembers; i++) {
		Member &m = w.m[i];
		bool h = m.hdr_pending && (seed >> n++ & 1), b = m.cells_pending && (seed >> n++ & 1);
		memcpy(g_image_hdr[i], h ? m.p.hdr : m.d.hdr, LLB_SB_BYTES);
		memcpy(g_image_cell[i], b ? m.p.cell : m.d.cell, kSpan);
	}
	int cur = g_cur;
	bool setup = g_setup;
	core::Bitmap *old = bm;
	g_cur = -1;
	g_setup = true;
	g_zone2 = true;
	g_arena2_used = g_pages2_used = 0;
	llb_bitmap *b = nullptr;
	bm = nullptr;
	int err = llb_create(reinterpret_cast<kx_host *>(2), &b);
	if (err) {
		violation("reload", "the bitmap that a cut leaves cannot be read: error %d", err);
	} else {
		core::Bitmap *n2 = static_cast<core::Bitmap *>(b);
		core::Table *t = n2->table();
		for (int c = 0; c < kCh; c++) {
			u64 at = (chunk_of(c) * 128) >> t->geo.chunk_shift;
			if (at >= t->geo.chunks)
				continue;
			u8 s = u8(peek(&t->cell(at), 1) & core::kStateMask);
			if (w.issued[c] && s != LLB_NEED_SYNC)
				violation("reload", "chunk %d, at risk, is loaded as %d", c, s);
			else if (w.alive[c] && reads_unwritten(s))
				violation("reload", "chunk %d, which holds data, is loaded as unwritten", c);
		}
	}
	bm = old;
	g_zone2 = false;
	g_setup = setup;
	g_cur = cur;
	return !g_violation;
}

// ---- the run without interleaving ----

static bool g_want_clean;

static void epilogue_body()
{
	// two passes and the idle time bound W4; then one that finds nothing to do
	const u64 until = w.now_ms + 4 * u64(bm->sleep_ms()) + bm->idle_ms();
	for (int turn = 0; w.due_ms != kNever || w.lead_pending || w.md_pending; turn++) {
		if (w.lead_pending) {
			w.lead_pending = 0;
			llb_lead_work(bm);
		}
		bool whole = w.degraded == 0 && !w.broken && (w.flags & KX_ARRAY_RDWR);
		if (w.md_pending) {
			w.md_pending = 0;
			llb_daemon_work(bm);
		}
		if (w.due_ms == kNever)
			continue;
		if (w.due_ms > until || turn > 200) {
			if (whole && g_want_clean && !bm->sync_wanted_.load_relaxed())
				violation("W4", "the daemon still runs after %d idle turns", turn);
			break;
		}
		if (w.now_ms < w.due_ms)
			w.now_ms = w.due_ms;
		w.due_ms = kNever;
		llb_daemon(bm);
		check_invariants();
	}
	// D10: what waits for a sync has one coming
	if (w.degraded == 0 && !w.broken && (w.flags & KX_ARRAY_RDWR) && !w.resync_wanted && !w.sync_active) {
		for (u64 c = 0; c < kCh && c < bm->table()->geo.chunks; c++) {
			u8 raw = cell_raw(c);
			if (core::wants_sync(core::state_of(raw)) && !(raw & core::kEnded)) {
				violation("D10", "chunk %d (cell 0x%x) waits for a sync that nobody starts",
					  int(c), raw);
				return;
			}
		}
	}
	if (!g_want_clean || w.degraded || w.broken || !(w.flags & KX_ARRAY_RDWR))
		return;
	core::Table *t = bm->table();
	for (int c = 0; c < kCh && chunk_of(c) < t->geo.chunks; c++) {
		u8 raw = cell_raw(chunk_of(c));
		for (int i = 0; i < kMembers; i++) {
			u8 byte = w.m[i].d.cell[disk_of(c)];
			if (reads_need_sync(byte) && core::wants_sync(core::state_of(raw)))
				continue; // waits for a resync
			if (reads_need_sync(byte) || byte != (raw & core::kStateMask))
				violation("W4",
					  "chunk %d is byte %d on member %d, cell 0x%x, when all is idle",
					  int(c), byte, i, raw);
		}
	}
}

static void epilogue_main()
{
	epilogue_body();
	to_scheduler();
	__builtin_trap();
}

int epilogue(bool want_clean)
{
	int n = kTasks - 1;
	static char stack[kStack];
	void **sp = reinterpret_cast<void **>(stack + kStack);
	*--sp = nullptr;
	*--sp = reinterpret_cast<void *>(epilogue_main);
	for (int r = 0; r < 6; r++)
		*--sp = nullptr;
	g_want_clean = want_clean;
	w.t[n].sp = sp;
	g_cur = n;
	g_setup = true;
	trace("  -- all tasks are done; the rest without interleaving\n");
	switch_stack(&g_sched_sp, sp);
	g_cur = -1;
	g_setup = false;
	if (!g_violation)
		check_invariants();
	return g_violation != nullptr;
}

// ---- set-up ----

void world_reset()
{
	memset(&w, 0, sizeof(w));
	g_violation = nullptr;
	g_setup = true;
	g_cur = -1;
	bm = nullptr;
	w.now_ms = 1000000;
	w.due_ms = kNever;
	w.events = w.md_events = 10;
	w.resync_offset = kNever;
	w.level = 1;
	w.flags = KX_ARRAY_RDWR | KX_ARRAY_LIVE;
	for (Member &m : w.m)
		m.in_sync = m.present = 1;
}

void world_image(u64 chunks, u8 byte, u64 events)
{
	w.array_size = chunks * 128;
	for (Member &m : w.m) {
		core::Super sb = {};
		sb.magic = LLB_MAGIC;
		sb.version = LLB_VERSION;
		for (int i = 0; i < 16; i++)
			sb.uuid[i] = u8(i + 1);
		sb.events = events;
		sb.sync_size = w.array_size;
		sb.chunksize = 128;
		sb.daemon_sleep_s = 30;
		sb.sectors_reserved = g_last == kFar ? 16 : chunks > 256 ? 3 : 8;
		core::super_encode(sb, m.d.hdr);
		for (u64 c = 0; c < chunks && c < kSpan; c++)
			m.d.cell[c] = byte;
	}
}

void world_create(bool load)
{
	llb_bitmap *b = nullptr;
	int err = llb_create(reinterpret_cast<kx_host *>(1), &b);
	if (err) {
		fprintf(stderr, "set-up: llb_create: %d\n", err);
		exit(2);
	}
	bm = static_cast<core::Bitmap *>(b);
	core::Table *t = bm->table();
	// the numbers of the locations, in an order of their own
	memset(g_loc_arena, 0, sizeof(g_loc_arena));
	memset(g_loc_page, 0, sizeof(g_loc_page));
	g_locs = 9;
	const void *fixed[] = {&bm->table_,
			       &bm->requested_,
			       &bm->durable_,
			       &bm->broken_,
			       &bm->lead_,
			       &bm->daemon_busy_,
			       &bm->armed_,
			       &bm->sync_wanted_,
			       &bm->spare_seq_,
			       &bm->behind_,
			       &bm->behind_waiters_,
			       &bm->bio_waiters_,
			       &bm->init_pending_,
			       &bm->parity_,
			       &bm->daemon_sleep_s_,
			       &bm->barrier_idle_s_,
			       &bm->next_request_ms_,
			       &bm->written_marked_,
			       &bm->blocks_[0].flagged,
			       &t->frozen,
			       &bm->blocks_[bm->block_capacity_ - 1].flagged};
	for (const void *p : fixed)
		loc_of(p);
	g_first_cells = u32(reinterpret_cast<u8 *>(t->pages[0]) - g_page[0]) / kPage;
	for (int c = 0; c < kCh && chunk_of(c) < t->geo.chunks; c++)
		loc_of(&t->cell(chunk_of(c)));
	if (load && llb_load(b)) {
		fprintf(stderr, "set-up: llb_load failed\n");
		exit(2);
	}
}

// ---- copies and hash ----

namespace {

// Pages of the core that are in use: 0 header, 1 the first of a batch, and cells.
template <class F>
void each_page_part(F f)
{
	for (u32 p = 0; p < w.pages_used; p++) {
		if (p >= (g_last == kFar ? 3 : 2) && p < g_first_cells)
			continue;
		if (g_last == kFar && p >= g_first_cells) {
			f(g_page[p], kPage);
			continue;
		}
		if (p < 3)
			f(g_page[p], u32(LLB_SB_BYTES));
		f(g_page[p] + LLB_CELLS_OFFSET, (g_span + 15) & ~15u);
	}
}

inline u64 mix(u64 h, const void *p, size_t n)
{
	const u8 *b = static_cast<const u8 *>(p);
	u64 g = h + 0x1234567;
	while (n >= 32) {
		u64 v[4];
		memcpy(v, b, 32);
		__uint128_t m = (__uint128_t)(h ^ v[0]) * (0xD6E8FEB86659FD93ull ^ v[1]);
		__uint128_t k = (__uint128_t)(g ^ v[2]) * (0xA24BAED4963EE407ull ^ v[3]);
		h = u64(m) ^ u64(m >> 64) ^ (v[1] << 1 | v[1] >> 63);
		g = u64(k) ^ u64(k >> 64) ^ (v[3] << 1 | v[3] >> 63);
		b += 32;
		n -= 32;
	}
	h ^= g * 0x9E3779B97F4A7C15ull;
	while (n >= 8) {
		u64 v;
		memcpy(&v, b, 8);
		__uint128_t m = (__uint128_t)(h ^ v) * 0xD6E8FEB86659FD93ull;
		h = u64(m) ^ u64(m >> 64) ^ v;
		b += 8;
		n -= 8;
	}
	u64 v = 0;
	memcpy(&v, b, n);
	__uint128_t m = (__uint128_t)(h ^ v ^ 0x5bull) * 0xA24BAED4963EE407ull;
	return u64(m) ^ u64(m >> 64);
}

size_t world_bytes()
{
	return g_weak ? sizeof(World) : offsetof(World, sc);
}

} // namespace

u64 image_hash()
{
	u64 h = 1;
	for (Member &m : w.m) {
		h = mix(h, &m.d, sizeof(m.d.hdr) + g_span);
		h = mix(h, &m.p, sizeof(m.p.hdr) + g_span);
		h = mix(h, &m.in_sync, offsetof(Member, d));
	}
	h = mix(h, w.issued, sizeof(w.issued));
	h = mix(h, w.alive, sizeof(w.alive));
	return mix(h, &w.md_events, 8);
}

u64 hash_state(bool weak)
{
	u64 h = mix(1, &w, offsetof(World, m));
	for (Member &m : w.m) {
		h = mix(h, &m.in_sync, offsetof(Member, d));
		h = mix(h, m.d.hdr, sizeof(m.d.hdr));
		h = mix(h, m.d.cell, g_span);
		if (m.hdr_pending)
			h = mix(h, m.p.hdr, sizeof(m.p.hdr));
		if (m.cells_pending)
			h = mix(h, m.p.cell, g_span);
		h = mix(h, m.flight, 4 * kCh);
	}
	h = mix(h, w.counter, offsetof(World, hash_end) - offsetof(World, counter));
	for (Task &t : w.t) {
		if (!t.used)
			continue;
		u8 s[8] = {t.done, t.idle, t.cpu, t.irq, t.in_section, t.woken, t.waiting, t.gp_wait};
		h = mix(h, s, 8);
		h = mix(h, &t.script, sizeof(t.script));
		h = mix(h, &t.hist, sizeof(t.hist));
	}
	h = mix(h, g_arena, w.arena_used);
	each_page_part([&](u8 *p, u32 n) { h = mix(h, p, n); });
	if (weak) {
		for (Task &t : w.t) {
			if (t.used)
				h = mix(h, &t.cur, 3 * sizeof(View));
		}
		h = mix(h, &w.sc, 6 * sizeof(View));
		for (u32 x = 1; x < g_locs; x++) {
			if (w.loc[x].last)
				h = mix(h, &w.loc[x], sizeof(Loc));
		}
	}
	return h ? h : 1;
}

size_t snap_bound()
{
	return sizeof(World) + kArena + 64 * 1024 + kTasks * 16384;
}

void snap_save(char *&to)
{
	auto put = [&](const void *p, size_t n) {
		memcpy(to, p, n);
		to += n;
	};
	put(&w, world_bytes());
	put(g_arena, w.arena_used);
	each_page_part([&](u8 *p, u32 n) { put(p, n); });
	for (int i = 0; i < kTasks; i++) {
		if (w.t[i].used && !w.t[i].done)
			put(w.t[i].sp, size_t(g_stack[i] + kStack - static_cast<char *>(w.t[i].sp)));
	}
}

void snap_load(const char *&from)
{
	auto get = [&](void *p, size_t n) {
		memcpy(p, from, n);
		from += n;
	};
	get(&w, world_bytes());
	get(g_arena, w.arena_used);
	each_page_part([&](u8 *p, u32 n) { get(p, n); });
	for (int i = 0; i < kTasks; i++) {
		if (w.t[i].used && !w.t[i].done)
			get(w.t[i].sp, size_t(g_stack[i] + kStack - static_cast<char *>(w.t[i].sp)));
	}
}
