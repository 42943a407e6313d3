// SPDX-License-Identifier: GPL-2.0
// What md does with the bitmap, and what else scenarios use.
#include "machine.hpp"

#include <cstdlib>

bool slot_risk(int c)
{
	return w.issued[c];
}

u8 cell_raw(u64 c)
{
	core::Table *t = reinterpret_cast<core::Table *>(peek(&Peek::table(bm), 8));
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

// md asks the shim, for which a held reconfig_mutex means yes.
static bool asked_to_unplug()
{
	observe(w.reconfig);
	return w.reconfig || llb_pending(bm);
}

static bool superblock_written(u64)
{
	return !w.sb_busy;
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
	observe(w.broken);
	if (w.broken)
		return; // md fails it
	md_acquire();
	if (g_trace)
		printf("      chunk %d%s\n", c, how & kTwo ? " and the next" : "");
	for (int i = c; i <= last; i++)
		w.writers[i]++;
	w.writers_all++;
	bool to[kMembers];
	for (int m = 0; m < kMembers; m++)
		to[m] = w.m[m].present && !w.m[m].faulty && holds(m, c);
	observe(u64(to[0] | to[1] << 1));
	if (discard)
		llb_start_discard(bm, sector, sectors);
	else
		llb_start_write(bm, sector, sectors);
	if (how & kBehind)
		llb_start_behind(bm);
	if ((how & kNoAsk) || asked_to_unplug())
		llb_unplug(bm, !(how & kBio));
	u8 id[2] = {};
	point("data write"); // md let it in: it is sent, though the array be broken
	for (int i = c; i <= last; i++) {
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
	w.flags |= PLAT_ARRAY_RUNNING | (recover ? 0 : PLAT_ARRAY_SYNC);
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
				for (Member &m : w.m) {
					m.cache[c] |= m.faulty ? 0 : w.issued[c];
					m.missed &= u8(m.faulty ? 0xff : ~(1u << c));
				}
			} else {
				w.parity_bad[c] = w.parity_bad[c] == 1 ? 2 : w.parity_bad[c];
			}
			w.sync_excl[c] = 0;
			if (failed || partly) {
				point("interrupt");
				w.flags |= PLAT_ARRAY_INTR;
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
	w.flags &= ~(PLAT_ARRAY_RUNNING | PLAT_ARRAY_SYNC | PLAT_ARRAY_INTR);
	w.sync_active = 0;
}

bool holds(int m, int c)
{
	return m == 0 || !w.added || (w.moved >> c & 1);
}

// md_update_sb: a failure, a step of a reshape, its end.
void md_superblock()
{
	point("events", true, superblock_written); // reconfig_mutex
	w.sb_busy = 1;
	md_acquire();
	w.events++;
	llb_update_sb(bm);
	point("md superblock");
	md_release();
	w.md_events = w.events;
	w.sb_busy = 0;
	w.md_reshape = !!(w.flags & PLAT_ARRAY_RESHAPE_PENDING);
	for (Member &m : w.m) {
		if (m.present && m.in_sync && !m.faulty) // else it calls itself a spare
			m.sb_events = w.events;
	}
}

// The reshape thread: it moves chunk after chunk, on every member that is in sync then. A
// member that fails stops it; when md has written that down it goes on without. md asks
// the bitmap nothing at the end.
void reshape_array()
{
	bool whole = w.degraded == 0;

	observe(whole);
	w.sync_active = 1;
	w.flags |= PLAT_ARRAY_RUNNING | PLAT_ARRAY_RESHAPE | PLAT_ARRAY_RESHAPE_PENDING;
	md_superblock();
	for (int c = 0; u64(c) * 128 < w.array_size; c++) {
		observe(w.degraded);
		if (whole && w.degraded) {
			md_superblock();
			whole = false;
		}
		if (llb_skip_sync(bm, u64(c) * 128)) {
			violation("reshape", "step %d is skipped, and nobody told it to stop", c);
			break;
		}
		point("raise barrier", true, no_writer, u64(c));
		md_acquire();
		w.sync_excl[c] = 1;
		point("move");
		trace("      chunk %d\n", c);
		for (int i = 0; i < kMembers; i++) {
			Member &m = w.m[i];
			if (!m.present || m.faulty || !m.in_sync) {
				m.missed |= u8(1u << c);
				continue;
			}
			// what is not durable everywhere yet is read, and written there
			m.cache[c] |= w.issued[c];
			u8 byte = m.d.cell[disk_of(c)];
			if (w.issued[c] && !core::dirty_like(core::State(byte)) && byte < LLB_STATES)
				violation("W1", "chunk %d, at risk, is moved to member %d, which has byte %d",
					  c, i, byte);
		}
		w.moved |= u8(1u << c);
		w.sync_excl[c] = 0;
		md_release();
	}
	point("reshape ends"); // a failure in the last step may be written down only now
	w.flags &= ~PLAT_ARRAY_RESHAPE_PENDING;
	md_superblock(); // md reaps the thread with its flags still up
	w.flags &= ~(PLAT_ARRAY_RUNNING | PLAT_ARRAY_RESHAPE);
	w.md_pending = 1;
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

static bool leader_queued(u64)
{
	return w.leader_pending;
}

void leader_worker(int n)
{
	for (int i = 0; i < n; i++) {
		op_begin("leader worker's turn", leader_queued);
		w.leader_pending = 0;
		if (g_weak && !g_setup)
			join(w.t[g_cur].cur, w.work);
		llb_leader_work(bm);
	}
}
