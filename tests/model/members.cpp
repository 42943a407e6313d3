// SPDX-License-Identifier: GPL-2.0
// The kernel services of abi.h that touch the members.
#include "machine.hpp"

u32 plat_members_get(struct plat_array *, u32 hold)
{
	observe(w.suspended);
	return hold || !w.suspended;
}

void plat_members_put(struct plat_array *, u32) {}

u8 g_image_hdr[kMembers][LLB_SB_BYTES], g_image_cell[kMembers][kSpan];

int plat_read(struct plat_array *h, u32 index, u64 offset, void *page, u32 bytes)
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

u64 disk_of(int c)
{
	return c == 3 && g_last == kFar ? 3 : chunk_of(c);
}

void plat_io_begin(struct plat_array *)
{
	if (w.io_open) {
		violation("leader", "two batches of bitmap writes at once");
		return;
	}
	w.io_open = 1;
	w.io_buf[0] = w.io_buf[1] = nullptr;
	for (Member &m : w.m) {
		m.target = m.present && !m.faulty ? (m.in_sync ? 2 : 1) : 0;
		m.io_failed = 0;
	}
}

void plat_io_add(struct plat_array *, u64 offset, const void *buf, u32 bytes)
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
			printf(" page 1: %d", b[0]);
		printf("\n");
	}
}

void plat_io_wait(struct plat_array *, struct plat_io_result *out)
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
		out->in_sync_ok += m.target == 2 && !m.io_failed && m.in_sync;
		m.target = 0;
	}
	w.io_open = w.hdr_io = w.cells_io = 0;
	w.io_buf[0] = w.io_buf[1] = nullptr;
	w.io_at[0] = w.io_at[1] = 0;
	observe(out->in_sync_ok);
}

static void normalize(int c)
{
	u8 done = w.issued[c];
	for (int i = 0; i < kMembers; i++)
		done &= holds(i, c) ? w.m[i].durable[c] : 0xff;
	w.issued[c] &= u8(~done);
	for (Member &m : w.m) {
		m.durable[c] &= u8(~done);
		m.cache[c] &= u8(~done);
		m.fl_cache[c] &= u8(~done);
	}
}

int plat_flush(struct plat_array *, u32 hold, struct plat_slots *out)
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
	// Only such a flush makes anything clean. What became clean by an earlier one may reach
	// the disk later, with the events_cleared of its own time.
	if (out->degraded == 0 && out->in_sync == out->slots && out->flushed == out->slots)
		w.w3_events = w.events;
	w.flush_open = 0;
	for (Member &m : w.m)
		m.flush_target = m.fl_ok = 0;
	return 0;
}
