// SPDX-License-Identifier: GPL-2.0
// The kernel services of abi.h that are not I/O.
#include "machine.hpp"

#include <cstdarg>
#include <cstdlib>

alignas(4096) u8 g_arena[kArena];
alignas(4096) u8 g_page[kPages][kPage];
bool g_zone2;
u32 g_arena2_used, g_pages2_used;
u32 g_first_cells;

alignas(4096) static u8 g_arena2[4 * kArena];
alignas(4096) static u8 g_page2[kPages][kPage];

// ---- memory ----

void *plat_alloc(u64 bytes)
{
	if (bytes >= 2048)
		return plat_page_alloc(1);
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

void plat_free(void *) {}

void *plat_page_alloc(u32)
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

// The latest only: what is freed at the end of a commit, or of load.
void plat_page_free(void *p)
{
	u32 &used = g_zone2 ? g_pages2_used : w.pages_used;
	if (used && p == (g_zone2 ? g_page2 : g_page)[used - 1])
		used--;
}

struct plat_counters *plat_counters_alloc(u32 count)
{
	(void)count; // groups far from chunk 0 share: see slot_of()
	if (!g_zone2)
		memset(w.counter, 0, sizeof(w.counter));
	return reinterpret_cast<plat_counters *>(w.counter);
}

void plat_counters_free(struct plat_counters *) {}

// ---- counters and grace periods ----

// Group 0 is what is looked at; groups that hold one followed chunk at most share.
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
			trace("      group %u, starts -> %u\n", index / 2, *at + 1);
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

void plat_section_enter(struct plat_counters *, u32 index)
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

void plat_section_leave(void)
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

void plat_counter_inc(struct plat_counters *, u32 index)
{
	counter_inc(index, false);
}

u32 plat_counter_sum(struct plat_counters *, u32 index)
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

void plat_grace_period(void)
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

// ---- time, work, waiting ----

u64 plat_now_ms(void)
{
	observe(w.now_ms);
	return w.now_ms;
}

void plat_daemon_arm(struct plat_array *, u32 delay_ms)
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

void plat_leader_queue(struct plat_array *)
{
	if (!g_setup) {
		point("queue the leader worker");
		if (g_weak) {
			sc_fence(w.t[g_cur]);
			join(w.work, w.t[g_cur].cur);
		}
	}
	w.leader_pending = 1;
}

void plat_md_wake(struct plat_array *)
{
	if (!g_setup)
		point("wake mdX");
	w.md_pending = 1;
}

void plat_relax(void) {}

static bool not_suspended(u64)
{
	return !w.suspended;
}

// Who sleeps polls for the array's suspension to end: no sooner does it look again.
void plat_sleep_ms(u32 ms)
{
	point("sleep a while", true, not_suspended);
	w.now_ms += ms;
}

static bool woken(u64 n)
{
	return w.t[n].woken;
}

void plat_wait(struct plat_array *, struct llb_bitmap *b, u32 kind, u64 arg)
{
	if (g_setup) {
		if (llb_wait_done(b, kind, arg))
			return;
		violation("deadlock", "plat_wait(%u) is not woken by anybody", kind);
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
void plat_wake(struct plat_array *)
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

// ---- the array ----

bool is_second(const plat_array *h)
{
	return h == reinterpret_cast<const plat_array *>(2);
}

void plat_array_get(struct plat_array *h, struct plat_array_info *out)
{
	memset(out, 0, sizeof(*out));
	out->events = is_second(h) ? w.md_events : w.events;
	out->sync_size = w.array_size;
	out->bitmap_offset = 8;
	out->bitmap_space = 8;
	out->level = s32(w.level);
	out->raid_chunk = w.raid_chunk;
	out->raid_disks = kMembers;
	out->degraded = s32(w.degraded);
	out->flags = w.flags | (w.broken ? PLAT_ARRAY_BROKEN : 0);
	for (int i = 0; i < 16; i++)
		out->uuid[i] = u8(i + 1);
	observe(out->events ^ u64(out->flags) << 20 ^ u64(out->degraded) << 60);
}

void count_slots(struct plat_slots *out, bool flushed)
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

void plat_slots_get(struct plat_array *, struct plat_slots *out)
{
	count_slots(out, false);
	out->flushed = 0;
}

u64 plat_events(struct plat_array *)
{
	if (!g_setup)
		point("read events");
	observe(w.events);
	return w.events;
}

int plat_member_get(struct plat_array *h, u32 index, struct plat_member *out)
{
	if (index >= kMembers)
		return -LLB_ERANGE;
	const Member &m = w.m[index];
	memset(out, 0, sizeof(*out));
	out->sb_start = 0;
	out->data_offset = out->new_data_offset = 2048;
	out->data_sectors = 1 << 20;
	out->logical_block = 512;
	out->slot = m.present ? s32(index) : -1;
	out->flags = (m.in_sync ? PLAT_MEMBER_IN_SYNC : 0) | (m.faulty ? PLAT_MEMBER_FAULTY : 0);
	(void)h;
	return 0;
}

void plat_bbl_disable(struct plat_array *, u32) {}

void plat_chunk_bytes_set(struct plat_array *, u64, u32) {}
void plat_bitmap_place(struct plat_array *, s64) {}

void plat_resync_request(struct plat_array *h)
{
	if (is_second(h))
		return;
	w.resync_wanted = 1;
	w.resync_offset = 0;
}

void plat_broken_set(struct plat_array *)
{
	w.broken = 1;
}

void plat_member_fail(struct plat_array *, u32)
{
	violation("room", "a member has no room for the bitmap");
}

int plat_superblock_write(struct plat_array *)
{
	point("ask for a superblock");
	observe(w.reconfig);
	if (w.reconfig)
		return -LLB_EBUSY;
	md_superblock();
	return 0;
}

void plat_write_behind_set(struct plat_array *, u32) {}

void plat_map_write(struct plat_array *, u64 *, u64 *) {}

// Here md asks for events_cleared whenever a member returns.
void plat_absent_missed(struct plat_array *) {}

void plat_member_distrust(struct plat_array *, u32) {}

void plat_recovery_wait(struct plat_array *) {}

void plat_checkpoint(struct plat_array *, u64) {}

int plat_stripes_forget(struct plat_array *)
{
	return 0;
}

void plat_recovery_begin(struct plat_array *) {}

void plat_recovery_back(struct plat_array *, u64) {}

void plat_recovery_again(struct plat_array *, u64) {}

void plat_recovery_stopped(struct plat_array *, u64) {}

int plat_recover(struct plat_array *, u64, u64)
{
	return 0;
}

void plat_log(struct plat_array *h, u32, const char *fmt, ...)
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
