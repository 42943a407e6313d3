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
	core::Table *t = Peek::table_now(bm);
	// the numbers of the locations, in an order of their own
	locs_reset();
	const void *fixed[] = {&Peek::table(bm),
			       &Peek::requested(bm),
			       &Peek::durable(bm),
			       &Peek::broken(bm),
			       &Peek::leader(bm),
			       &Peek::daemon_busy(bm),
			       &Peek::armed(bm),
			       &Peek::sync_wanted(bm),
			       &Peek::sync_floor_seq(bm),
			       &Peek::behind(bm),
			       &Peek::behind_waiters(bm),
			       &Peek::bio_target(bm),
			       &Peek::recorded(bm),
			       &Peek::asleep(bm),
			       &Peek::init_pending(bm),
			       &Peek::parity(bm),
			       &Peek::daemon_sleep_s(bm),
			       &Peek::barrier_idle_s(bm),
			       &Peek::next_request_ms(bm),
			       &Peek::written_marked(bm),
			       &Peek::flags(bm)[0],
			       &t->frozen,
			       &Peek::flags(bm)[Peek::page_capacity(bm) - 1]};
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
