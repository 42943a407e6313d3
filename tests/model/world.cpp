// SPDX-License-Identifier: GPL-2.0
// The machine of world.hpp: its state, and how it is set up.
#include "machine.hpp"

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
	w.flags = PLAT_ARRAY_RDWR | PLAT_ARRAY_LIVE;
	for (Member &m : w.m) {
		m.in_sync = m.present = 1;
		m.sb_events = w.events;
	}
}

void world_image(u64 chunks, u8 byte, u64 events)
{
	w.array_size = chunks * 128;
	for (Member &m : w.m) {
		core::BitmapSuper sb = {};
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
	int err = llb_create(reinterpret_cast<plat_array *>(1), &b);
	if (err) {
		fprintf(stderr, "set-up: llb_create: %d\n", err);
		exit(2);
	}
	bm = static_cast<core::Bitmap *>(b);
	core::Table *t = bm->table();
	// the numbers of the locations, in an order of their own
	locs_reset();
	const void *fixed[] = {&bm->table_,
			       &bm->requested_,
			       &bm->durable_,
			       &bm->broken_,
			       &bm->leader_,
			       &bm->daemon_busy_,
			       &bm->armed_,
			       &bm->sync_wanted_,
			       &bm->sync_floor_seq_,
			       &bm->behind_,
			       &bm->behind_waiters_,
			       &bm->bio_target_,
			       &bm->recorded_,
			       &bm->asleep_,
			       &bm->init_pending_,
			       &bm->parity_,
			       &bm->daemon_sleep_s_,
			       &bm->barrier_idle_s_,
			       &bm->next_request_ms_,
			       &bm->written_marked_,
			       &bm->page_info_[0].flagged,
			       &t->frozen,
			       &bm->page_info_[bm->page_capacity_ - 1].flagged};
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
