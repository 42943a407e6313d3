// SPDX-License-Identifier: GPL-2.0
// What must hold at each step, after a cut, and at the end of a run.
#include "machine.hpp"

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

// A member that a reshape left behind is not taken back after it: md's superblocks do
// not tell that it missed something, once they call the reshape finished.
void check_left_behind(int i)
{
	Member &m = w.m[i];
	if (!m.missed || w.md_reshape || (m.present && !m.faulty))
		return;
	for (int o = 0; o < kMembers; o++) {
		Member &other = w.m[o];
		if (!other.in_sync || other.faulty || !other.present)
			continue;
		for (int h = 0; h <= other.hdr_pending; h++) {
			const u8 *hdr = h ? other.p.hdr : other.d.hdr;
			if (get64(hdr + LLB_SB_EVENTS) >= w.md_events &&
			    get64(hdr + LLB_SB_EVENTS_CLEARED) <= m.sb_events)
				violation(
					"D6",
					"the reshape is over, and after a cut member %d, of events %llu, may be taken back by events_cleared %llu",
					i, (unsigned long long)m.sb_events,
					(unsigned long long)get64(hdr + LLB_SB_EVENTS_CLEARED));
		}
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
	for (int i = 0; i < kMembers; i++)
		check_left_behind(i);
	for (int c = 0; c < kCh; c++) {
		if (!w.issued[c] && !w.alive[c] && !w.parity_bad[c])
			continue;
		for (int i = 0; i < kMembers; i++) {
			Member &m = w.m[i];
			if (!m.in_sync || m.faulty || !m.present || !holds(i, c))
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
	int err = llb_create(reinterpret_cast<plat_array *>(2), &b);
	if (err) {
		violation("reload", "the bitmap that a cut leaves cannot be read: error %d", err);
	} else {
		core::Bitmap *n2 = static_cast<core::Bitmap *>(b);
		core::Table *t = Peek::table_now(n2);
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
	const u64 until = w.now_ms + Peek::passes_ms(bm);
	for (int turn = 0; w.due_ms != kNever || w.leader_pending || w.md_pending; turn++) {
		if (w.leader_pending) {
			w.leader_pending = 0;
			llb_leader_work(bm);
		}
		bool whole = w.degraded == 0 && !w.broken && (w.flags & PLAT_ARRAY_RDWR);
		if (w.md_pending) {
			w.md_pending = 0;
			if (llb_daemon_work_due(bm))
				llb_daemon_work(bm);
		}
		if (w.due_ms == kNever)
			continue;
		if (w.due_ms > until || turn > 200) {
			if (whole && g_want_clean && !Peek::sync_wanted(bm).load_relaxed())
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
	if (w.degraded == 0 && !w.broken && (w.flags & PLAT_ARRAY_RDWR) && !w.resync_wanted &&
	    !w.sync_active) {
		for (u64 c = 0; c < kCh && c < Peek::table_now(bm)->geo.chunks; c++) {
			u8 raw = cell_raw(c);
			if (core::wants_sync(core::state_of(raw)) && !(raw & core::kEnded)) {
				violation("D10", "chunk %d (cell 0x%x) waits for a sync that nobody starts",
					  int(c), raw);
				return;
			}
		}
	}
	if (!g_want_clean || w.degraded || w.broken || !(w.flags & PLAT_ARRAY_RDWR))
		return;
	core::Table *t = Peek::table_now(bm);
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
