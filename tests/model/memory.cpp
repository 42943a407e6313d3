// SPDX-License-Identifier: GPL-2.0
// The memory model: the atomics of the core (model_atomic.hpp).
//
// Views, as in RC11 without load buffering: each location keeps its last kHist values
// in the order of the stores; a load may return any that is not older than what its
// task knows of. Release and acquire pass that knowledge on, read-modify-writes read
// the newest value, full ones and full fences also meet in one common view (sc).
// Store buffers (x86-TSO) are a special case: the load that passes an own store reads
// an old value.
#include "machine.hpp"

#include <cstdlib>

namespace {

// Which tasks read and which write a location: what only one task uses, or nobody
// writes, needs no scheduling point. Learned; a new fact starts the search again.
u8 g_readers[kLocs], g_writers[kLocs];
u64 g_shared; // bit per location
bool g_learn = true;

u8 g_loc_arena[kArena], g_loc_page[kPages][64];

} // namespace

u8 g_locs = 17; // 1..16: counters of the followed chunks' groups

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
		return index < 2 * kCh ? 1 + cpu * 2 * kCh + index : 0;
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

void sc_fence(Task &t)
{
	join(t.cur, t.acq);
	join(t.cur, w.sc);
	w.sc = t.cur;
	t.rel = t.cur;
}

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

// What tasks read of the core's plain memory under the leader lock or daemon_busy is part of
// their history: mixed in when they take it.
static void observe_plain()
{
	if (!bm)
		return;
	const u64 *p = reinterpret_cast<const u64 *>(&Peek::sb(bm));
	for (u32 i = 0; i < sizeof(Peek::sb(bm)) / 8; i++)
		observe(p[i]);
	observe(Peek::header_dirty(bm) | u64(Peek::says(bm)) << 1 | u64(Peek::io_align(bm)) << 8);
	observe(peek(&Peek::due_of(bm)[0], 2)); // not as the core would: that is a step
	u64 quiet = 0;
	for (u32 g = 0; g < Peek::groups(bm); g++)
		quiet = quiet << 1 | Peek::quiet(bm)[g];
	observe(quiet);
	observe(Peek::first_mark(bm));
	observe(Peek::next_hurry(bm) ^ Peek::seen(bm) << 1 ^ Peek::seen_bytes(bm) << 2 ^
		u64(Peek::hand(bm)) << 48);
	observe(Peek::next_pass(bm) ^ Peek::space_sectors(bm) << 48 ^ u64(Peek::moving(bm)) << 62);
}

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
		if (bm && old == 0 && (at == &Peek::leader(bm) || at == &Peek::daemon_busy(bm)))
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
		{&Peek::table(bm), "table"},
		{&Peek::requested(bm), "requested"},
		{&Peek::durable(bm), "durable"},
		{&Peek::broken(bm), "broken"},
		{&Peek::leader(bm), "leader"},
		{&Peek::daemon_busy(bm), "daemon_busy"},
		{&Peek::armed(bm), "armed"},
		{&Peek::sync_wanted(bm), "sync_wanted"},
		{&Peek::sync_floor_seq(bm), "spare_seq"},
		{&Peek::behind(bm), "behind"},
		{&Peek::behind_waiters(bm), "behind_waiters"},
		{&Peek::bio_target(bm), "bio_target"},
		{&Peek::recorded(bm), "recorded"},
		{&Peek::asleep(bm), "asleep"},
		{&Peek::init_pending(bm), "init_pending"},
		{&Peek::parity(bm), "parity"},
		{&Peek::daemon_sleep_s(bm), "daemon_sleep"},
		{&Peek::barrier_idle_s(bm), "barrier_idle"},
		{&Peek::next_request_ms(bm), "next_request"},
		{&Peek::written_marked(bm), "written_marked"},
		{&Peek::flags(bm)[0], "flag[page 0]"},
		{&Peek::due_of(bm)[0], "due[page 0]"},
		{&Peek::due(bm), "due"},
		{&Peek::dirty_on_disk(bm), "dirty_on_disk"},
		{&Peek::hurried(bm), "hurried"},
		{&Peek::budget_mib(bm), "budget"},
		{&Peek::flags(bm)[1], "flag[page 1]"},
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
		sprintf(buf, "group %d %s, CPU %d", n % 48 / 2, n % 2 ? "ends" : "starts", n / 48);
	} else {
		sprintf(buf, "arena+%d", int(p - g_arena));
	}
	return buf;
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

void locs_reset()
{
	memset(g_loc_arena, 0, sizeof(g_loc_arena));
	memset(g_loc_page, 0, sizeof(g_loc_page));
	g_locs = 17;
}
