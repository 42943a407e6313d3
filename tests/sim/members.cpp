// SPDX-License-Identifier: GPL-2.0
// The kernel services of the core, over simulated members. See README.md.
#include "members.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// ---- members ----

uint32_t Member::now(uint32_t place) const
{
	auto it = cache.find(place);
	return it == cache.end() ? data[place] : it->second.back();
}

void Member::write(uint32_t place, uint32_t version)
{
	cache[place].push_back(version);
}

void Member::flush()
{
	for (auto &[place, versions] : cache)
		data[place] = versions.back();
	cache.clear();
}

void Member::cut(Rng &rng)
{
	for (auto &[place, versions] : cache) {
		uint64_t pick = rng.below(versions.size() + 1);
		if (pick)
			data[place] = versions[pick - 1];
	}
	cache.clear();
}

// ---- the array ----

bool plat_array::working(uint32_t i) const
{
	return members[i].active && !members[i].faulty;
}

bool plat_array::in_sync(uint32_t i) const
{
	return working(i) && members[i].in_sync;
}

uint32_t plat_array::in_sync_members() const
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < slots(); i++)
		n += in_sync(i);
	return n;
}

uint32_t plat_array::degraded() const
{
	return slots() - in_sync_members();
}

// Those that a reshape adds do not have all of it yet.
bool plat_array::can_lose(uint32_t index) const
{
	for (uint32_t i = 0; i < shape.now.slots; i++) {
		if (i != index && in_sync(i))
			return true;
	}
	return false;
}

bool plat_array::holds(uint32_t index, uint32_t half) const
{
	return index < shape.now.slots || shape.moved(half, halves);
}

uint32_t plat_array::place(uint32_t half) const
{
	return half + (shape.moved(half, halves) ? shape.next : shape.now).gap;
}

void plat_array::fail(uint32_t index)
{
	Member &m = members[index];
	if (m.faulty || !m.active)
		return;
	if (m.in_sync && !can_lose(index)) {
		broken = true; // md keeps the last member, and fails writes
		return;
	}
	m.faulty = true;
	m.in_sync = false;
	flags |= PLAT_ARRAY_INTR; // a sync that runs is told to stop
	superblock_pending = true;
}

void plat_array::maybe_cut()
{
	if (cut_in && --cut_in == 0)
		throw Cut{};
}

void plat_array::write_superblocks()
{
	events++;
	llb_update_sb(bitmap);
	// What a reshape moved is on the medium before the first superblock says so.
	if (shape.done != recorded) {
		for (uint32_t i = 0; i < members.size(); i++) {
			maybe_cut();
			if (working(i))
				members[i].flush();
		}
	}
	for (Member &m : members) {
		if ((!m.active && !m.waiting) || m.faulty)
			continue;
		maybe_cut();
		m.flush(); // md writes its superblock with a preflush
		m.events = events;
		m.shape = shape;
		m.roles_recovering = !m.in_sync;
		m.roles_faulty.assign(members.size(), false);
		for (size_t i = 0; i < members.size(); i++)
			m.roles_faulty[i] = !members[i].active || members[i].faulty;
	}
	recorded = shape.done;
	superblock_pending = false;
}

// ---- plat_*; memory and counters are in one_thread.cpp ----

extern "C" {

void plat_grace_period(void) {}

static uint64_t the_time_ms;

llb_u64 plat_now_ms(void)
{
	return the_time_ms;
}

void sim_time_set(uint64_t ms)
{
	the_time_ms = ms;
}

void plat_daemon_arm(plat_array *h, llb_u32 delay_ms)
{
	uint64_t due = h->now_ms + delay_ms;
	if (!h->daemon_armed || due < h->daemon_due_ms)
		h->daemon_due_ms = due;
	h->daemon_armed = true;
}

void plat_leader_queue(plat_array *h)
{
	h->lead_queued = true;
}

void plat_md_wake(plat_array *) {}

void plat_relax(void) {}

static uint32_t sleeps;

void plat_sleep_ms(llb_u32)
{
	if (++sleeps < 100000000)
		return; // somebody lets md's mutex go
	fprintf(stderr, "sim: sleeps that nothing would end\n");
	abort();
}

void plat_wait(plat_array *h, llb_bitmap *b, llb_u32 kind, llb_u64 arg)
{
	if (h->lead_queued) {
		h->lead_queued = false;
		llb_leader_work(b);
	}
	if (!llb_wait_done(b, kind, arg)) {
		fprintf(stderr, "sim: a wait (%u) that nothing would end\n", kind);
		abort();
	}
}

void plat_wake(plat_array *) {}

// ---- the array ----

void plat_array_get(plat_array *h, plat_array_info *out)
{
	memset(out, 0, sizeof(*out));
	out->events = h->events;
	out->sync_size = h->sync_size;
	out->bitmap_offset = kBitmapOffset;
	out->bitmap_space = kSpaceSectors;
	out->level = h->level;
	out->raid_disks = int32_t(h->slots());
	out->degraded = int32_t(h->degraded());
	out->flags = h->flags | PLAT_ARRAY_RDWR | PLAT_ARRAY_LIVE | (h->broken ? PLAT_ARRAY_BROKEN : 0) |
		     (h->shape.pending ? PLAT_ARRAY_RESHAPE_PENDING : 0);
	memset(out->uuid, 7, sizeof(out->uuid));
}

void plat_slots_get(plat_array *h, plat_slots *out)
{
	*out = {h->slots(), h->in_sync_members(), 0, int32_t(h->degraded()), 0};
}

llb_u64 plat_events(plat_array *h)
{
	return h->events;
}

int plat_member_get(plat_array *h, llb_u32 index, plat_member *out)
{
	if (index >= h->members.size())
		return -LLB_ERANGE;
	const Member &m = h->members[index];
	memset(out, 0, sizeof(*out));
	out->sb_start = 8;
	out->data_offset = out->new_data_offset = 8 + kBitmapOffset + h->room_sectors;
	out->data_sectors = h->sync_size;
	out->logical_block = m.logical_block;
	out->slot = m.active ? int32_t(index) : -1;
	out->flags = (m.in_sync && m.active ? PLAT_MEMBER_IN_SYNC : 0) | (m.faulty ? PLAT_MEMBER_FAULTY : 0) |
		     (m.old ? PLAT_MEMBER_OLD : 0);
	return 0;
}

void plat_bbl_disable(plat_array *, llb_u32) {}

void plat_bitmap_place(plat_array *, llb_s64) {}

void plat_chunk_bytes_set(plat_array *h, llb_u64 bytes, llb_u32)
{
	h->chunk_sectors = uint32_t(bytes / 512);
}

void plat_resync_request(plat_array *h)
{
	h->resync_offset = 0;
}

void plat_broken_set(plat_array *h)
{
	h->broken = true;
}

void plat_member_fail(plat_array *h, llb_u32 index)
{
	h->fail(index);
}

int plat_superblock_write(plat_array *h)
{
	if (h->rng->one_in(4))
		return -LLB_EBUSY; // somebody has md's mutex
	h->write_superblocks();
	return 0;
}

// Here md asks for events_cleared whenever a member returns.
void plat_absent_missed(plat_array *) {}

void plat_member_distrust(plat_array *, llb_u32) {}

void plat_write_behind_set(plat_array *, llb_u32) {}

void plat_map_write(plat_array *, llb_u64 *, llb_u64 *) {}

void plat_recovery_wait(plat_array *) {}

void plat_checkpoint(plat_array *, llb_u64) {}

void plat_recovery_stopped(plat_array *, llb_u64) {}

int plat_stripes_forget(plat_array *)
{
	return 0;
}

void plat_recovery_begin(plat_array *) {}

void plat_recovery_back(plat_array *, llb_u64) {}

void plat_recovery_again(plat_array *, llb_u64) {}

int plat_recover(plat_array *, llb_u64, llb_u64)
{
	return 0;
}

void plat_log(plat_array *h, llb_u32, const char *fmt, ...)
{
	char line[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	h->log += std::string(line) + "\n";
}

// ---- I/O ----

llb_u32 plat_members_get(plat_array *h, llb_u32 hold)
{
	return hold || !h->suspended;
}

void plat_members_put(plat_array *, llb_u32) {}

int plat_read(plat_array *h, llb_u32 index, llb_u64 offset, void *page, llb_u32 bytes)
{
	const Member &m = h->members[index];
	if (m.faulty || offset + bytes > m.bitmap.size())
		return -LLB_EIO;
	memcpy(page, m.bitmap.data() + offset, bytes);
	return 0;
}

void plat_io_begin(plat_array *h)
{
	h->batch.clear();
}

void plat_io_add(plat_array *h, llb_u64 offset, const void *buf, llb_u32 bytes)
{
	h->batch.push_back({offset, static_cast<const uint8_t *>(buf), bytes});
}

void plat_io_wait(plat_array *h, plat_io_result *out)
{
	*out = {};
	h->bitmap_writes++;
	bool cut = h->cut_in == 1;
	for (uint32_t i = 0; i < h->members.size(); i++) {
		Member &m = h->members[i];
		if (!m.active || m.faulty)
			continue;
		bool was_in_sync = m.in_sync;
		bool error = m.bitmap_fails || (h->io_error_one_in && h->rng->one_in(h->io_error_one_in));
		for (const plat_array::Write &w : h->batch) {
			for (uint32_t at = 0; at < w.bytes; at += 512) {
				// cut or failed: each sector is the old or the new one
				if ((cut || error) && h->rng->one_in(2))
					continue;
				memcpy(m.bitmap.data() + w.offset + at, w.buf + at, 512);
			}
		}
		if (error)
			h->fail(i);
		else if (was_in_sync)
			out->in_sync_ok++;
	}
	h->maybe_cut();
}

int plat_flush(plat_array *h, llb_u32 hold, plat_slots *out)
{
	if (!plat_members_get(h, hold))
		return -LLB_EBUSY;
	*out = {};
	out->slots = h->slots();
	for (uint32_t i = 0; i < h->members.size(); i++) {
		Member &m = h->members[i];
		if (!m.active || m.faulty)
			continue;
		if (h->io_error_one_in && h->rng->one_in(h->io_error_one_in)) {
			h->fail(i);
			continue;
		}
		h->maybe_cut();
		m.flush();
		out->flushed += m.in_sync;
	}
	out->in_sync = h->in_sync_members();
	out->degraded = h->degraded();
	return 0;
}
}
