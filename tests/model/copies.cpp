// SPDX-License-Identifier: GPL-2.0
// The explorer's copies of the machine, and their hashes.
#include "machine.hpp"

namespace {

// Pages of the core that are in use: 0 for I/O, cells, and in a commit of two pages one more.
template <class F>
void each_page_part(F f)
{
	for (u32 p = 0; p < w.pages_used; p++) {
		if (g_last == kFar) {
			f(g_page[p], kPage);
			continue;
		}
		if (p == 0)
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
