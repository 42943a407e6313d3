// SPDX-License-Identifier: GPL-2.0
// What is explored. A scenario makes a bitmap in set-up, without interleaving, and
// then adds tasks; each runs to its end in every order that the bounds allow.
#include "scenarios.hpp"

namespace {

void fresh(u64 chunks = 2, u8 byte = LLB_CLEAN)
{
	world_image(chunks, byte, 10);
	for (u64 c = 0; c < chunks && c < kCh; c++)
		w.alive[c] = byte == LLB_CLEAN;
	world_create(true);
}

// In set-up: time goes on, and the daemon has its pass if one is due.
void pass()
{
	if (w.due_ms == kNever)
		return;
	w.now_ms = w.now_ms < w.due_ms ? w.due_ms : w.now_ms;
	w.due_ms = kNever;
	llb_daemon(bm);
}

// In set-up: a whole write.
void written(int c)
{
	llb_start_write(bm, chunk_of(c) * 128, 8);
	llb_unplug(bm, 1);
	llb_end_write(bm, chunk_of(c) * 128, 8);
	w.alive[c] = 1;
	w.dirtied[c] = 1;
}

// In set-up: a discard of the whole chunk.
void discarded(int c)
{
	llb_start_discard(bm, u64(c) * 128, 128);
	llb_unplug(bm, 1);
	llb_end_discard(bm, u64(c) * 128, 128);
	w.alive[c] = 0;
	w.dirtied[c] = 1;
}

template <int C, unsigned How>
void write()
{
	write_chunk(C, How);
}

template <int N>
void daemon()
{
	daemon_passes(N);
}

template <int N>
void leader()
{
	leader_worker(N);
}

void mdx()
{
	for (int i = 0; i < 2; i++) {
		op_begin("mdX's turn", [](u64) -> bool { return w.md_pending; });
		w.md_pending = 0;
		if (llb_daemon_work_due(bm))
			llb_daemon_work(bm);
	}
}

// ---- writers ----

void two_writers()
{
	fresh();
	task_add("write", write<0, 0>, 0);
	task_add("write", write<0, 0>, 1);
}

void two_writers_unasked()
{
	fresh();
	task_add("write", write<0, kNoAsk>, 0);
	task_add("write", write<0, 0>, 1);
	task_add("write-2", write<0, kTwo>, 1);
}

void two_writers_daemon()
{
	fresh();
	task_add("write", write<0, 0>, 0);
	task_add("write", write<0, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void one_cpu()
{
	fresh();
	task_add("write", write<0, 0>, 0);
	task_add("write", write<1, kIrq>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void writers_unplug_daemon()
{
	fresh();
	task_add("write", write<0, 0>, 0);
	task_add("write-bio", write<0, kBio>, 1);
	task_add("daemon", daemon<1>, 255, true);
	task_add("leader", leader<2>, 255, true);
}

void two_bio_writers()
{
	fresh();
	task_add("write-bio", write<0, kBio>, 0);
	task_add("write-bio", write<1, kBio>, 1);
	task_add("leader", leader<3>, 255, true);
}

// Cells in two pages of the bitmap.
void far_setup()
{
	g_last = 3072;
	world_image(3080, LLB_CLEAN, 10);
	w.alive[0] = w.alive[3] = 1;
	world_create(true);
}

void two_pages()
{
	far_setup();
	task_add("write", write<0, 0>, 0);
	task_add("far", write<3, 0>, 1);
}

void two_pages_three()
{
	far_setup();
	task_add("write", write<0, 0>, 0);
	task_add("far", write<3, 0>, 1);
	task_add("write", write<1, 0>, 1);
}

// Chunk 16 shares chunk 0's group, page and window: a first touch of one covers the other only
// if that is dirty by then.
void apart(u8 byte = LLB_CLEAN)
{
	g_last = 16;
	g_span = 32;
	world_image(32, byte, 10);
	for (u8 &a : w.alive)
		a = byte == LLB_CLEAN;
	world_create(true);
}

void apart_writers()
{
	apart();
	task_add("write", write<0, 0>, 0);
	task_add("apart", write<3, 0>, 1);
}

void apart_three()
{
	apart();
	task_add("write", write<0, 0>, 0);
	task_add("apart", write<3, 0>, 1);
	task_add("write", write<0, kNoAsk>, 0);
}

void apart_unwritten()
{
	apart(LLB_UNWRITTEN);
	task_add("write", write<0, 0>, 0);
	task_add("apart", write<3, kBio>, 1);
	task_add("leader", leader<2>, 255, true);
}

void apart_daemon()
{
	apart();
	task_add("write", write<0, 0>, 0);
	task_add("apart", write<3, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void group_apart()
{
	apart();
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("apart", write<3, kMigrate | kIrq>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void group_apart_marked()
{
	apart();
	written(0);
	pass();
	task_add("write", write<0, 0>, 0);
	task_add("apart", write<3, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

// Chunk 0 is marked; chunk 16 gets dirty, and is marked in the next pass only.
void group_apart_later()
{
	apart();
	written(0);
	pass();
	written(3);
	task_add("apart", write<3, 0>, 1);
	task_add("daemon", daemon<3>, 255, true);
}

void group_apart_later_two()
{
	apart();
	written(0);
	pass();
	written(3);
	task_add("apart", write<3, 0>, 1);
	task_add("write", write<0, kMigrate>, 0);
	task_add("daemon", daemon<3>, 255, true);
}

// A write of chunk 0 is under way since before its mark; one of a dirty, unmarked chunk
// of the group, on the fast path, begins on one CPU and ends on the other.
void finish()
{
	op_begin("the write ends");
	for (Member &m : w.m) {
		point("data write done", true);
		m.flight[0] = 0;
		m.cache[0] |= 1;
	}
	w.in_flight[0]--;
	llb_end_write(bm, 0, 8);
}

void group_fast_path()
{
	apart();
	written(0);
	llb_start_write(bm, 0, 8);
	w.issued[0] = w.in_flight[0] = 1;
	w.dirtied[0] = 1;
	for (Member &m : w.m)
		m.flight[0] = 1;
	pass();
	written(3);
	task_add("apart", write<3, kMigrate | kIrq>, 1);
	task_add("finish", finish, 0);
	task_add("daemon", daemon<2>, 255, true);
}

// Two groups, and a daemon that comes more often than a chunk must be idle: group 1 is
// found quiet while group 0, which was quiet once, has a mark that is too young.
void two_groups()
{
	g_last = 41;
	g_span = 64;
	world_image(64, LLB_CLEAN, 10);
	for (u8 &a : w.alive)
		a = 1;
	for (Member &m : w.m)
		m.d.hdr[LLB_SB_DAEMON_SLEEP] = 1;
	world_create(true);
	written(0);
	for (int i = 0; i < 8; i++)
		pass();
	written(3);
	for (int i = 0; i < 4; i++)
		pass();
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<3>, 255, true);
}

void apart_stop()
{
	apart();
	written(0);
	pass();
	written(3);
	task_add("apart", write<3, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
	task_add(
		"update",
		[] {
			op_begin("tune");
			(void)!llb_tune(bm, LLB_TUNE_DAEMON_SLEEP, 20);
		},
		255);
}

void writer_unwritten()
{
	fresh(2, LLB_UNWRITTEN);
	task_add("write", write<0, 0>, 0);
	task_add("write", write<1, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

// ---- groups: chunks 0 and 2 share one, 1 and 3 the other ----

void writer_daemon()
{
	fresh();
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<3>, 255, true);
}

void group()
{
	fresh(4);
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("neighbour", write<2, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void group_marked()
{
	fresh(4);
	written(0);
	pass();
	task_add("write", write<0, 0>, 0);
	task_add("neighbour", write<2, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void group_migrate()
{
	fresh(4);
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("neighbour", write<2, kMigrate | kIrq>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void group_migrate_own()
{
	fresh(4);
	written(0);
	task_add("write", write<0, kMigrate | kIrq>, 0);
	task_add("neighbour", write<2, 0>, 0);
	task_add("neighbour", write<2, kMigrate>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

// raid4/5/6: chunks that are announced together are one group.
void group_raid_chunk()
{
	world_image(4, LLB_CLEAN, 10);
	w.level = 5;
	w.raid_chunk = 2 * 128;
	for (u8 &a : w.alive)
		a = 1;
	world_create(true);
	written(0);
	task_add("write-2", write<0, kTwo | kMigrate>, 0);
	task_add("neighbour", write<1, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

// Chunk 0 is marked; chunk 2 is dirty and will be in the next pass.
void group_later_mark()
{
	fresh(4);
	written(0);
	pass();
	written(2);
	task_add("write", write<2, 0>, 1);
	task_add("daemon", daemon<3>, 255, true);
}

void group_first_touch()
{
	fresh(4);
	task_add("write", write<0, 0>, 0);
	task_add("neighbour", write<2, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

// A write of chunk 1 never ends: chunk 0, in the other group, becomes clean on disk in three
// passes, as W4 says. Then it is written once more, and the other one ends.
void hot_neighbour()
{
	fresh();
	written(0);
	llb_start_write(bm, chunk_of(1) * 128, 8);
	llb_unplug(bm, 1);
	w.issued[1] = w.in_flight[1] = 1;
	w.dirtied[1] = 1;
	for (Member &m : w.m)
		m.flight[1] = 1;
	for (int i = 0; i < 3; i++)
		pass();
	for (Member &m : w.m) {
		if (m.d.cell[0] != LLB_CLEAN)
			violation("W4", "chunk 0 is byte %d beside a busy one", m.d.cell[0]);
	}
	task_add("write", write<0, 0>, 0);
	task_add(
		"finish",
		[] {
			op_begin("the write ends");
			for (Member &m : w.m) {
				point("data write done", true);
				m.flight[1] = 0;
				m.cache[1] |= 1;
			}
			w.in_flight[1]--;
			llb_end_write(bm, chunk_of(1) * 128, 8);
		},
		1);
	task_add("daemon", daemon<2>, 255, true);
}

// A budget of 1 MiB, 16 chunks, of which 24 are dirty and marked; chunk 0 was written since.
// The next pass hurries: it writes what it clears, and marks chunk 0, which the one after it
// clears.
void budget()
{
	g_last = 20;
	g_span = 32;
	world_image(32, LLB_CLEAN, 10);
	for (u8 &a : w.alive)
		a = 1;
	for (Member &m : w.m)
		m.d.hdr[LLB_SB_RESYNC_BUDGET] = 1;
	world_create(true);
	llb_start_write(bm, 0, 24 * 128);
	llb_unplug(bm, 1);
	llb_end_write(bm, 0, 24 * 128);
	for (u8 &d : w.dirtied)
		d = 1;
	pass();
	written(0);
	if (Peek::crash_bytes(bm) <= Peek::budget_bytes(bm))
		violation("budget", "nothing is in a hurry");
}

void fail_short();

void budget_writer()
{
	budget();
	task_add("write", write<0, kMigrate>, 0);
	task_add("apart", write<3, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void budget_fail()
{
	budget();
	task_add("write", write<0, 0>, 0);
	task_add("fail", fail_short, 255);
	task_add("daemon", daemon<2>, 255, true);
}

// ---- members ----

void member_out()
{
	Member &m = w.m[1];
	point("member 1 fails");
	w.degraded++;
	m.in_sync = 0;
	point("member 1 is faulty");
	m.faulty = 1;
	for (int c = 0; c < kCh; c++)
		m.flight[c] = 0;
}

void fail()
{
	op_begin("failure");
	member_out();
	md_superblock();
}

void fail_short()
{
	op_begin("failure");
	member_out();
}

// md suspends the array to add a member, and resumes it before the recovery. Whether the
// bitmap is believed is decided when it is added.
void member_back()
{
	op_begin("return", [](u64) -> bool { return w.writers_all == 0 && !w.sync_active; });
	w.suspended = 1;
	md_acquire();
	llb_stats st;
	llb_stats_get(bm, &st);
	bool full = w.m[1].sb_events < st.events_cleared;
	trace("      events %llu, cleared %llu\n", (unsigned long long)w.m[1].sb_events,
	      (unsigned long long)st.events_cleared);
	w.m[1].faulty = 0;
	w.m[1].in_sync = 0;
	w.m[1].present = 1;
	llb_write_all(bm);
	point("resume");
	w.suspended = 0;
	w.user[7] = full;
	op_begin("recovery");
	sync_array(w.user[7] ? kRecover | kFull : kRecover);
	op_begin("in sync");
	if (w.m[1].missed)
		violation("D6", "member 1 is in sync, and lacks what a reshape moved without it (%x)",
			  w.m[1].missed);
	for (int c = 0; c < kCh && u64(c) * 128 < w.array_size; c++) {
		u8 there = w.m[1].cache[c] | w.m[1].durable[c] | w.m[1].flight[c];
		if ((w.issued[c] & ~there) && !w.in_flight[c] &&
		    !core::dirty_like(core::state_of(cell_raw(c))))
			violation("D1", "member 1 is in sync without chunk %d, cell 0x%x", c, cell_raw(c));
		// what the recovery left out on purpose is copied by no one
		if ((w.issued[c] & ~there) && !w.in_flight[c])
			violation("D2", "the recovery left out chunk %d, cell 0x%x", c, cell_raw(c));
	}
	w.m[1].in_sync = 1;
	w.degraded = 0;
	w.md_pending = 1; // mddev_unlock() after the reap wakes mdX once more
}

void back()
{
	member_back();
}

void fail_back()
{
	op_begin("failure");
	member_out();
	member_back();
}

void fail_daemon()
{
	fresh();
	written(0);
	pass();
	task_add("write", write<0, 0>, 0);
	task_add("fail", fail_short, 255);
	task_add("daemon", daemon<2>, 255, true);
}

void fail_marks()
{
	fresh();
	written(0);
	pass();
	task_add("write", write<1, 0>, 0);
	task_add("fail", fail, 255);
	task_add("daemon", daemon<2>, 255, true);
}

void fail_return()
{
	fresh();
	written(0);
	pass();
	task_add("write", write<0, 0>, 0);
	task_add("fail", fail_back, 255);
	task_add("daemon", daemon<2>, 255, true);
}

// Member 1 is out, and was when chunk 0 was written; it returns.
void return_setup(u8 byte)
{
	fresh(2, byte);
	w.m[1].in_sync = 0;
	w.m[1].faulty = 1;
	w.degraded = 1;
	written(0);
	w.issued[0] = 1;
	w.m[0].durable[0] = 1;
}

void return_writer()
{
	return_setup(LLB_CLEAN);
	task_add("write", write<1, 0>, 0);
	task_add("return", back, 255);
	task_add("leader", leader<2>, 255, true);
}

void return_daemon()
{
	return_setup(LLB_UNWRITTEN);
	task_add("return", back, 255);
	task_add("daemon", daemon<2>, 255, true);
	task_add("leader", leader<2>, 255, true);
}

// The daemon goes asleep, since nothing can be cleaned, as the member returns.
void asleep_return()
{
	return_setup(LLB_CLEAN);
	task_add("return", back, 255);
	task_add("daemon", daemon<2>, 255, true);
	task_add("mdX", mdx, 255, true);
}

void degraded_daemon()
{
	return_setup(LLB_CLEAN);
	task_add("write", write<1, 0>, 0);
	task_add("write", write<0, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void flush_fails_setup(int how)
{
	fresh();
	written(0);
	pass();
	w.issued[0] = 1; // written, in both caches
	w.m[0].cache[0] = w.m[1].cache[0] = 1;
	w.m[1].flush_fails = u8(how);
	task_add("write", write<1, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void flush_fails()
{
	flush_fails_setup(1);
}

void flush_fails_last()
{
	flush_fails_setup(2);
}

// ---- reshape ----

void reshape()
{
	op_begin("reshape");
	reshape_array();
}

// Written before, and clean.
void reshape_setup()
{
	fresh();
	written(0);
	for (int i = 0; i < 4; i++)
		pass();
}

void reshape_writer()
{
	reshape_setup();
	task_add("reshape", reshape, 255);
	task_add("write", write<1, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void reshape_fail()
{
	reshape_setup();
	task_add("reshape", reshape, 255);
	task_add("fail", fail_short, 255);
	task_add("daemon", daemon<1>, 255, true);
}

void back_after_reshape()
{
	op_begin("failure");
	member_out();
	op_begin("after the reshape", [](u64) -> bool { return !w.sync_active && (w.moved & 1); });
	member_back();
}

void reshape_fail_return()
{
	reshape_setup();
	task_add("reshape", reshape, 255);
	task_add("fail", back_after_reshape, 255);
	task_add("leader", leader<2>, 255, true);
}

void reshape_fail_return_writer()
{
	reshape_setup();
	task_add("reshape", reshape, 255);
	task_add("fail", back_after_reshape, 255);
	task_add("write", write<0, 0>, 0);
	task_add("leader", leader<2>, 255, true);
}

// Away from before.
void back_later()
{
	op_begin("after the reshape", [](u64) -> bool { return !w.sync_active && (w.moved & 1); });
	member_back();
}

void reshape_away()
{
	fresh();
	w.m[1].in_sync = 0;
	w.m[1].faulty = 1;
	w.degraded = 1;
	w.events++; // md wrote that down, on the other
	w.md_events = w.m[0].sb_events = w.events;
	llb_update_sb(bm);
	task_add("reshape", reshape, 255);
	task_add("return", back_later, 255);
	task_add("write", write<0, 0>, 0);
	task_add("leader", leader<2>, 255, true);
}

// Member 1 is new: md calls it in sync at once, its bitmap is somebody else's.
void reshape_adds()
{
	fresh();
	for (u64 c = 0; c < kSpan; c++)
		w.m[1].d.cell[c] = LLB_CLEAN;
	memset(w.m[1].d.hdr, 0, sizeof(w.m[1].d.hdr));
	w.added = 1;
	written(0); // covered: a write of it asks for no bitmap I/O
	for (u64 c = 0; c < kSpan; c++)
		w.m[1].d.cell[c] = LLB_CLEAN;
	memset(w.m[1].d.hdr, 0, sizeof(w.m[1].d.hdr));
	task_add("reshape", reshape, 255);
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<1>, 255, true);
}

// ---- discard ----

void discard_write()
{
	fresh();
	task_add("discard", write<0, kDiscard>, 0);
	task_add("write", write<0, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void discard_marked()
{
	fresh();
	discarded(0);
	pass();
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void discard_after_write()
{
	fresh();
	written(0);
	task_add("discard", write<0, kDiscard>, 0);
	task_add("write", write<0, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void discard_unwritten()
{
	fresh(2, LLB_UNWRITTEN);
	task_add("discard", write<0, kDiscard>, 0);
	task_add("write", write<0, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

// ---- write-behind ----

void behind_daemon()
{
	fresh();
	written(0);
	task_add("behind", write<0, kBehind>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void behind_group()
{
	fresh();
	written(0);
	task_add("behind", write<0, kBehind>, 0);
	task_add("write", write<1, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void wait_behind()
{
	op_begin("wait for write-behind");
	llb_wait_behind(bm);
	llb_stats s;
	llb_stats_get(bm, &s);
}

void behind_wait()
{
	fresh();
	task_add("behind", write<0, kBehind>, 0);
	task_add("behind", write<1, kBehind>, 1);
	task_add("wait", wait_behind, 255);
}

// ---- sync ----

// The copies of chunk 0 differ after a cut in the middle of a write, whose bytes were
// on both members; of chunk 1 only member 0's byte was.
void cut_image()
{
	world_image(2, LLB_CLEAN, 10);
	w.m[0].d.cell[0] = w.m[1].d.cell[0] = LLB_DIRTY;
	w.m[0].d.cell[1] = LLB_DIRTY;
	w.alive[0] = w.alive[1] = 1;
	w.issued[0] = 1;
	w.m[0].durable[0] = 1;
	w.dirtied[0] = 1;
}

template <unsigned How>
void sync_when_asked()
{
	op_begin("sync", [](u64) -> bool { return w.resync_wanted && !w.sync_active; });
	sync_array(How);
}

template <unsigned How1, unsigned How2>
void sync_twice()
{
	sync_when_asked<How1>();
	sync_when_asked<How2>();
}

void sync_writer()
{
	cut_image();
	world_create(true);
	task_add("sync", sync_when_asked<0>, 255);
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<1>, 255, true);
}

void sync_force_end()
{
	cut_image();
	world_create(true);
	task_add("sync", sync_when_asked<kForceEnd>, 255);
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void sync_abort()
{
	cut_image();
	world_create(true);
	task_add("sync", sync_twice<kSyncFails, 0>, 255, true);
	task_add("write", write<0, 0>, 0);
	task_add("mdX", mdx, 255, true);
	task_add("daemon", daemon<2>, 255, true);
}

void sync_interrupt()
{
	cut_image();
	world_create(true);
	task_add("sync", sync_when_asked<kInterrupt>, 255);
	task_add("write", write<1, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

void proactive()
{
	op_begin("proactive sync");
	if (llb_proactive_sync(bm))
		violation("proactive", "refused");
}

void parity_sync()
{
	op_begin("sync", [](u64) -> bool { return w.resync_wanted && !w.sync_active; });
	sync_array(kForceEnd);
}

void parity_reads()
{
	op_begin("stripe");
	bool ok = llb_blocks_synced(bm, 0);
	observe(ok);
	if (ok && w.parity_bad[0] == 1)
		violation("D7", "parity of chunk 0 is trusted, and was never built");
}

void parity_setup(u8 byte)
{
	world_image(2, byte, 10);
	w.level = 5;
	w.parity_bad[0] = w.parity_bad[1] = byte == LLB_UNWRITTEN;
	world_create(true);
}

void parity()
{
	parity_setup(LLB_UNWRITTEN);
	llb_proactive_sync(bm);
	llb_daemon_work(bm);
	task_add("sync", parity_sync, 255);
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
	task_add("stripe", parity_reads, 255);
}

void parity_proactive()
{
	parity_setup(LLB_UNWRITTEN);
	task_add("proactive", proactive, 255);
	task_add("write", write<0, 0>, 0);
	task_add("mdX", mdx, 255, true);
	task_add("daemon", daemon<1>, 255, true);
}

void parity_flush_fails()
{
	parity_setup(LLB_UNWRITTEN);
	llb_proactive_sync(bm);
	llb_daemon_work(bm);
	w.m[1].flush_fails = 2;
	task_add("sync", parity_sync, 255);
	task_add("daemon", daemon<2>, 255, true);
}

// ---- metadata ----

void update()
{
	op_begin("update_sb");
	md_superblock();
}

void update_commits()
{
	fresh();
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("write", write<1, 0>, 1);
	task_add("update", update, 255);
}

void update_daemon()
{
	fresh();
	written(0);
	pass();
	task_add("update", update, 255);
	task_add("write", write<1, 0>, 1);
	task_add("daemon", daemon<2>, 255, true);
}

void errors()
{
	fresh();
	w.write_errors = 2;
	task_add("write", write<0, 0>, 0);
	task_add("write", write<0, 0>, 1);
}

void errors_all()
{
	fresh();
	w.m[0].write_fails = w.m[1].write_fails = 1;
	task_add("write", write<0, 0>, 0);
	task_add("write-bio", write<1, kBio>, 1);
	task_add("update", update, 255);
	task_add("leader", leader<2>, 255, true);
}

// The superblock must not get newer than a bitmap that cannot be written.
void errors_all_end()
{
	u64 events;
	for (Member &m : w.m) {
		memcpy(&events, m.d.hdr + LLB_SB_EVENTS, 8);
		if (events > 10)
			violation("W7", "a newer events on a member, whose bytes could not be written");
	}
	if (!w.broken)
		violation("W7", "no member takes the bitmap, and the array is not broken");
}

void errors_daemon()
{
	fresh();
	written(0);
	pass();
	w.write_errors = 1;
	task_add("write", write<0, 0>, 0);
	task_add("daemon", daemon<2>, 255, true);
}

// ---- stop ----

void stop()
{
	op_begin("stop", [](u64) -> bool { return w.writers_all == 0; });
	w.reconfig = 1;
	w.suspended = 1; // no write comes any more
	md_acquire();
	llb_flush(bm);
	for (int c = 0; c < 2; c++) {
		for (int i = 0; i < kMembers; i++) {
			if (w.m[i].d.cell[c] != LLB_CLEAN)
				violation("D9", "after a stop chunk %d is byte %d on member %d", c,
					  w.m[i].d.cell[c], i);
		}
	}
	w.suspended = 0;
}

void stop_flush()
{
	fresh();
	written(0);
	task_add("write", write<1, 0>, 0);
	task_add("stop", stop, 255);
	task_add("daemon", daemon<2>, 255, true);
}

void stop_flush_marked()
{
	fresh();
	written(0);
	pass();
	task_add("write", write<0, kIrq>, 0);
	task_add("stop", stop, 255);
	task_add("daemon", daemon<2>, 255, true);
}

// ---- suspended ----

void suspend()
{
	op_begin("suspend");
	w.suspended = 1;
	point("drain", true, [](u64) -> bool { return w.writers_all == 0; });
	point("resume");
	w.suspended = 0;
}

void suspended()
{
	fresh();
	written(0);
	pass();
	task_add("write", write<0, kBio>, 0);
	task_add("suspend", suspend, 255);
	task_add("daemon", daemon<2>, 255, true);
	task_add("leader", leader<2>, 255, true);
}

// ---- resize ----

void grow()
{
	op_begin("grow");
	w.reconfig = 1;
	u64 to = w.array_size == 2 * 128 ? 4 * 128 : 520 * 128;
	if (llb_resize(bm, to))
		violation("resize", "refused");
	point("size");
	w.array_size = to;
	md_release();
	w.reconfig = 0;
}

void write_beyond()
{
	op_begin("wait for the new size", [](u64) -> bool { return w.array_size > 2 * 128; });
	write_chunk(3, 0);
}

void resize_extend()
{
	fresh(2);
	w.alive[2] = w.alive[3] = 0;
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("write", write<1, 0>, 1);
	task_add("grow", grow, 255);
}

void resize_extend_beyond()
{
	fresh(2);
	w.alive[2] = w.alive[3] = 0;
	task_add("write", write_beyond, 0);
	task_add("grow", grow, 255);
	task_add("daemon", daemon<2>, 255, true);
}

void resize_relayout()
{
	g_span = 520;
	fresh(512);
	written(0);
	task_add("write", write<0, 0>, 0);
	task_add("grow", grow, 255);
	task_add("daemon", daemon<1>, 255, true);
}

void resize_relayout_fresh()
{
	g_span = 520;
	fresh(512);
	task_add("write", write<1, 0>, 0);
	task_add("write", write<2, 0>, 1);
	task_add("grow", grow, 255);
}

// Two chunks in one section, of raid5, become one while they are asked.
void resize_relayout_raid_chunk()
{
	g_span = 520;
	w.level = 5;
	w.raid_chunk = 2 * 128;
	fresh(512);
	task_add("write-2", write<0, kTwo>, 0);
	task_add("grow", grow, 255);
	task_add("daemon", daemon<1>, 255, true);
}

// Chunk 40 becomes 20, which no first touch of 40 has covered.
void resize_relayout_apart()
{
	g_last = 40;
	g_span = 520;
	fresh(512);
	task_add("write", write<3, 0>, 0);
	task_add("grow", grow, 255);
}

// ---- load ----

void load_then_write()
{
	op_begin("load");
	if (llb_load(bm))
		violation("load", "failed");
	w.user[0] = 1;
	md_release();
	write_chunk(1, 0);
}

void sync_after_load()
{
	op_begin("sync", [](u64) -> bool { return w.user[0] && w.resync_wanted; });
	md_acquire();
	sync_array(0);
}

void load_cut()
{
	cut_image();
	world_create(false);
	task_add("load", load_then_write, 0);
	task_add("sync", sync_after_load, 255);
	task_add("update", update, 255);
}

// The bitmap is older than the array: chunk 0 was written without it, and differs.
void load_stale()
{
	world_image(2, LLB_CLEAN, 5);
	w.m[0].d.cell[1] = w.m[1].d.cell[1] = LLB_UNWRITTEN;
	w.alive[0] = w.alive[1] = 1;
	w.issued[0] = w.issued[1] = 1;
	w.m[0].durable[0] = w.m[0].durable[1] = 1;
	world_create(false);
	task_add("load", load_then_write, 0);
	task_add("update", update, 255);
	task_add("sync", sync_after_load, 255);
}

void load_first_use()
{
	world_image(2, LLB_DIRTY, 10); // rubbish
	for (Member &m : w.m)
		m.d.hdr[LLB_SB_STATE] = LLB_SB_FIRST_USE;
	world_create(false);
	task_add("load", load_then_write, 0);
	task_add("update", update, 255);
	task_add("daemon", daemon<1>, 255, true);
}

// Read-only at first: what load() made of the bytes is durable before the first write.
void rdwr_then_write()
{
	op_begin("read-write");
	w.flags |= PLAT_ARRAY_RDWR;
	write_chunk(1, 0);
}

void load_readonly()
{
	cut_image();
	w.flags &= ~PLAT_ARRAY_RDWR;
	world_create(true);
	task_add("write", rdwr_then_write, 0);
	task_add("update", update, 255);
	task_add("daemon", daemon<1>, 255, true);
}

} // namespace

const Scenario kScenarios[] = {
	{"two-writers", "two writers of the same fresh chunk", two_writers, true, nullptr},
	{"two-writers-unasked", "one of them does not ask enabled; a third writes two chunks",
	 two_writers_unasked, true, nullptr},
	{"two-writers-daemon", "two writers of a fresh chunk, and two daemon passes", two_writers_daemon,
	 true, nullptr},
	{"one-cpu", "two writers on one CPU, one ends in an interrupt, and the daemon", one_cpu, true,
	 nullptr},
	{"unplug-in-bio", "a writer inside submit_bio, another writer, the worker that leads, the daemon",
	 writers_unplug_daemon, true, nullptr},
	{"unplug-in-bio-twice", "two writers inside submit_bio", two_bio_writers, true, nullptr},
	{"apart", "first writes of two chunks, each alone in its window or not", apart_writers, true,
	 nullptr},
	{"apart-three", "the same, and a second writer of the first", apart_three, true, nullptr},
	{"apart-in-bio", "the same, one inside submit_bio, both unwritten", apart_unwritten, true, nullptr},
	{"apart-daemon", "first writes of two chunks apart, and the daemon", apart_daemon, true, nullptr},
	{"two-pages", "first writes of chunks in two pages, which never cover each other", two_pages, true,
	 nullptr},
	{"two-pages-three", "the same, and a third of the first page", two_pages_three, true, nullptr},
	{"writers-unwritten", "first writes of two unwritten chunks, and the daemon", writer_unwritten, true,
	 nullptr},
	{"writer-daemon", "a writer of a dirty chunk, and three daemon passes", writer_daemon, true, nullptr},
	{"group", "a writer of a dirty chunk, a first write of its neighbour in the group, the daemon", group,
	 true, nullptr},
	{"group-marked", "the same, the chunk already marked", group_marked, true, nullptr},
	{"group-migrate", "the neighbour's write ends on the other CPU", group_migrate, true, nullptr},
	{"group-migrate-own", "three writers of a group that end on other CPUs", group_migrate_own, true,
	 nullptr},
	{"group-raid-chunk", "raid5: a raid chunk of two chunks is one group, two writers, the daemon",
	 group_raid_chunk, true, nullptr},
	{"group-later-mark", "a chunk is marked later than its neighbour, and written", group_later_mark,
	 true, nullptr},
	{"group-apart", "a writer of a dirty chunk, one of a clean, uncovered one in its group, the daemon",
	 group_apart, true, nullptr},
	{"group-apart-marked", "the same, the chunk already marked", group_apart_marked, true, nullptr},
	{"group-apart-later", "a dirty chunk of the group is marked in the next pass only", group_apart_later,
	 true, nullptr},
	{"group-apart-later-two", "the same, and a writer of the marked one", group_apart_later_two, true,
	 nullptr},
	{"group-fast-path", "a write since before the mark, another on the fast path over two CPUs",
	 group_fast_path, true, nullptr},
	{"two-groups", "one group is found quiet, the mark in another is too young", two_groups, true,
	 nullptr},
	{"tune", "a new daemon_sleep while the daemon and a writer work", apart_stop, true, nullptr},
	{"hot-neighbour", "a write that never ends in another group: what rests becomes clean", hot_neighbour,
	 true, nullptr},
	{"group-first-touch", "first writes of two chunks of a group, which cover each other",
	 group_first_touch, true, nullptr},
	{"budget", "above the budget: a pass that hurries, two writers", budget_writer, true, nullptr},
	{"budget-fail", "the same, a writer, a member fails", budget_fail, true, nullptr},
	{"fail-daemon", "a member fails while the daemon clears", fail_daemon, true, nullptr},
	{"fail-marks", "the same with md's metadata, and a neighbour's write", fail_marks, true, nullptr},
	{"fail-return", "a member fails and returns", fail_return, true, nullptr},
	{"return-writer", "a member returns, is recovered, and a writer", return_writer, true, nullptr},
	{"return-daemon", "a member returns, and the daemon", return_daemon, true, nullptr},
	{"asleep-return", "the daemon goes asleep while a member returns, mdX", asleep_return, true, nullptr},
	{"degraded-daemon", "two writers and the daemon, one member missing", degraded_daemon, false,
	 nullptr},
	{"flush-fails", "a flush fails, and the member with it", flush_fails, false, nullptr},
	{"flush-fails-stays", "a flush fails on a member that md keeps", flush_fails_last, false, nullptr},
	{"reshape-writer", "a reshape, a writer, the daemon", reshape_writer, true, nullptr},
	{"reshape-fail", "a member fails in a reshape, the daemon", reshape_fail, false, nullptr},
	{"reshape-fail-return", "a member fails in a reshape, and returns after it", reshape_fail_return,
	 true, nullptr},
	{"reshape-fail-return-writer", "the same, and a writer", reshape_fail_return_writer, true, nullptr},
	{"reshape-away", "a member that was away during a reshape returns, a writer", reshape_away, true,
	 nullptr},
	{"reshape-adds", "a reshape adds a member, a writer of a covered chunk, the daemon", reshape_adds,
	 true, nullptr},
	{"discard-write", "a discard of a clean chunk, a racing write, the daemon", discard_write, true,
	 nullptr},
	{"discard-marked", "a write to a discarded chunk that is about to become unwritten", discard_marked,
	 true, nullptr},
	{"discard-dirty", "a discard of a dirty chunk, a racing write, the daemon", discard_after_write, true,
	 nullptr},
	{"discard-unwritten", "a discard of an unwritten chunk, a racing write, the daemon",
	 discard_unwritten, true, nullptr},
	{"behind-daemon", "a write-behind, and the daemon", behind_daemon, true, nullptr},
	{"behind-group", "a write-behind, its neighbour, and the daemon", behind_group, true, nullptr},
	{"behind-wait", "two write-behinds, and one who waits for them", behind_wait, true, nullptr},
	{"sync-writer", "a resync after a cut, a writer, the daemon", sync_writer, true, nullptr},
	{"sync-force-end", "the same, chunks are ended while it runs", sync_force_end, true, nullptr},
	{"sync-abort", "a resync that fails and is asked for again", sync_abort, false, nullptr},
	{"sync-interrupt", "a resync that is interrupted", sync_interrupt, false, nullptr},
	{"parity", "raid5: parity of unwritten chunks is built, a writer, the daemon", parity, false,
	 nullptr},
	{"parity-proactive", "raid5: it is asked for while a write comes", parity_proactive, false, nullptr},
	{"parity-flush-fails", "raid5: the flush after it fails", parity_flush_fails, false, nullptr},
	{"update-commits", "md's metadata, and commits of two writers", update_commits, true, nullptr},
	{"update-daemon", "md's metadata, a writer, and the daemon clears", update_daemon, true, nullptr},
	{"errors", "up to two bitmap writes fail", errors, false, nullptr},
	{"errors-daemon", "one bitmap write fails while the daemon works", errors_daemon, false, nullptr},
	{"errors-all", "no member takes the bitmap", errors_all, false, errors_all_end},
	{"stop", "an orderly stop after a write, the daemon at work", stop_flush, true, nullptr},
	{"stop-marked", "the same, the chunk already marked", stop_flush_marked, true, nullptr},
	{"suspended", "the array is suspended while a writer, the daemon and the worker go on", suspended,
	 true, nullptr},
	{"resize-extend", "the array grows, two writers", resize_extend, true, nullptr},
	{"resize-extend-beyond", "the array grows, a write behind the old end", resize_extend_beyond, true,
	 nullptr},
	{"resize-relayout", "the chunk size doubles, a writer, the daemon", resize_relayout, true, nullptr},
	{"resize-relayout-fresh", "the chunk size doubles, two first writes", resize_relayout_fresh, true,
	 nullptr},
	{"resize-relayout-raid-chunk", "the chunk size doubles, a first write of two chunks in one section",
	 resize_relayout_raid_chunk, true, nullptr},
	{"resize-relayout-apart", "the chunk size doubles, a first write far from where its chunk goes",
	 resize_relayout_apart, true, nullptr},
	{"load-cut", "load after a cut, a write, a resync, md's metadata", load_cut, true, nullptr},
	{"load-stale", "load of a bitmap older than the array, md's metadata", load_stale, true, nullptr},
	{"load-first-use", "first use, a write, md's metadata", load_first_use, true, nullptr},
	{"load-readonly", "load read-only, then a first write, md's metadata", load_readonly, true, nullptr},
};
const int kScenarioCount = sizeof(kScenarios) / sizeof(kScenarios[0]);
