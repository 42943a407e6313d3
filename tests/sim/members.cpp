// SPDX-License-Identifier: GPL-2.0
// The kernel services of the core, over simulated members. See README.md.
#include "members.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct kx_counters {
	std::vector<uint32_t> count;
};

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

bool kx_host::working(uint32_t i) const
{
	return members[i].active && !members[i].faulty;
}

bool kx_host::in_sync(uint32_t i) const
{
	return working(i) && members[i].in_sync;
}

uint32_t kx_host::in_sync_members() const
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < slots(); i++)
		n += in_sync(i);
	return n;
}

uint32_t kx_host::degraded() const
{
	return slots() - in_sync_members();
}

// Those that a reshape adds do not have all of it yet.
bool kx_host::can_lose(uint32_t index) const
{
	for (uint32_t i = 0; i < shape.now.slots; i++) {
		if (i != index && in_sync(i))
			return true;
	}
	return false;
}

bool kx_host::holds(uint32_t index, uint32_t half) const
{
	return index < shape.now.slots || shape.moved(half, halves);
}

uint32_t kx_host::place(uint32_t half) const
{
	return half + (shape.moved(half, halves) ? shape.next : shape.now).gap;
}

void kx_host::fail(uint32_t index)
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
	flags |= KX_ARRAY_INTR; // a sync that runs is told to stop
	superblock_pending = true;
}

void kx_host::maybe_cut()
{
	if (cut_in && --cut_in == 0)
		throw Cut{};
}

void kx_host::write_superblocks()
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

// ---- kx_*: memory ----

extern "C" {

void *kx_alloc(llb_u64 bytes)
{
	return calloc(1, bytes);
}

void kx_free(void *p)
{
	free(p);
}

void *kx_page_alloc(llb_u32)
{
	void *p = aligned_alloc(4096, 4096);
	memset(p, 0, 4096);
	return p;
}

void kx_page_free(void *p)
{
	free(p);
}

// ---- counters, time, work: one thread ----

kx_counters *kx_counters_alloc(llb_u32 count)
{
	return new kx_counters{std::vector<uint32_t>(count)};
}

void kx_counters_free(kx_counters *c)
{
	delete c;
}

void kx_section_enter(kx_counters *c, llb_u32 index)
{
	c->count[index]++;
}

void kx_section_leave(void) {}

void kx_counter_inc(kx_counters *c, llb_u32 index)
{
	c->count[index]++;
}

llb_u32 kx_counter_sum(kx_counters *c, llb_u32 index)
{
	return c->count[index];
}

void kx_grace_period(void) {}

static uint64_t the_time_ms;

llb_u64 kx_now_ms(void)
{
	return the_time_ms;
}

void sim_time_set(uint64_t ms)
{
	the_time_ms = ms;
}

void kx_daemon_arm(kx_host *h, llb_u32 delay_ms)
{
	uint64_t due = h->now_ms + delay_ms;
	if (!h->daemon_armed || due < h->daemon_due_ms)
		h->daemon_due_ms = due;
	h->daemon_armed = true;
}

void kx_lead_queue(kx_host *h)
{
	h->lead_queued = true;
}

void kx_md_wake(kx_host *) {}

void kx_relax(void) {}

static uint32_t sleeps;

void kx_sleep_ms(llb_u32)
{
	if (++sleeps < 100000000)
		return; // somebody lets md's mutex go
	fprintf(stderr, "sim: sleeps that nothing would end\n");
	abort();
}

void kx_wait(kx_host *h, llb_bitmap *b, llb_u32 kind, llb_u64 arg)
{
	if (h->lead_queued) {
		h->lead_queued = false;
		llb_lead_work(b);
	}
	if (!llb_wait_done(b, kind, arg)) {
		fprintf(stderr, "sim: a wait (%u) that nothing would end\n", kind);
		abort();
	}
}

void kx_wake(kx_host *) {}

// ---- the array ----

void kx_array_get(kx_host *h, kx_array *out)
{
	memset(out, 0, sizeof(*out));
	out->events = h->events;
	out->sync_size = h->sync_size;
	out->resync_offset = h->resync_offset;
	out->bitmap_offset = kBitmapOffset;
	out->bitmap_space = kSpaceSectors;
	out->level = h->level;
	out->raid_disks = int32_t(h->slots());
	out->degraded = int32_t(h->degraded());
	out->flags = h->flags | KX_ARRAY_RDWR | KX_ARRAY_LIVE | (h->broken ? KX_ARRAY_BROKEN : 0) |
		     (h->shape.pending ? KX_ARRAY_RESHAPE_PENDING : 0);
	memset(out->uuid, 7, sizeof(out->uuid));
}

void kx_slots_get(kx_host *h, kx_slots *out)
{
	*out = {h->slots(), h->in_sync_members(), 0, h->degraded()};
}

llb_u64 kx_events(kx_host *h)
{
	return h->events;
}

int kx_member_get(kx_host *h, llb_u32 index, kx_member *out)
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
	out->flags = (m.in_sync && m.active ? KX_MEMBER_IN_SYNC : 0) | (m.faulty ? KX_MEMBER_FAULTY : 0) |
		     (m.old ? KX_MEMBER_OLD : 0);
	return 0;
}

void kx_bad_log_disable(kx_host *, llb_u32) {}

void kx_chunk_bytes_set(kx_host *h, llb_u64 bytes, llb_u32)
{
	h->chunk_sectors = uint32_t(bytes / 512);
}

void kx_resync_request(kx_host *h)
{
	h->resync_offset = 0;
}

void kx_broken_set(kx_host *h)
{
	h->broken = true;
}

void kx_member_fail(kx_host *h, llb_u32 index)
{
	h->fail(index);
}

int kx_superblock_write(kx_host *h)
{
	if (h->rng->one_in(4))
		return -LLB_EBUSY; // somebody has md's mutex
	h->write_superblocks();
	return 0;
}

// Here md asks for events_cleared whenever a member returns.
void kx_absent_missed(kx_host *) {}

void kx_member_distrust(kx_host *, llb_u32) {}

void kx_write_behind_set(kx_host *, llb_u32) {}

void kx_map_write(kx_host *, llb_u64 *, llb_u64 *) {}

void kx_recovery_wait(kx_host *) {}

void kx_checkpoint(kx_host *, llb_u64) {}

int kx_stripes_forget(kx_host *)
{
	return 0;
}

void kx_recovery_back(kx_host *) {}

int kx_recover(kx_host *, llb_u64, llb_u64)
{
	return 0;
}

void kx_log(kx_host *h, llb_u32, const char *fmt, ...)
{
	char line[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	h->log += std::string(line) + "\n";
}

// ---- I/O ----

llb_u32 kx_members_get(kx_host *h, llb_u32 hold)
{
	return hold || !h->suspended;
}

void kx_members_put(kx_host *, llb_u32) {}

int kx_read(kx_host *h, llb_u32 index, llb_u64 offset, void *page, llb_u32 bytes)
{
	const Member &m = h->members[index];
	if (m.faulty || offset + bytes > m.bitmap.size())
		return -LLB_EIO;
	memcpy(page, m.bitmap.data() + offset, bytes);
	return 0;
}

void kx_io_begin(kx_host *h)
{
	h->batch.clear();
}

void kx_io_add(kx_host *h, llb_u64 offset, const void *buf, llb_u32 bytes)
{
	h->batch.push_back({offset, static_cast<const uint8_t *>(buf), bytes});
}

void kx_io_wait(kx_host *h, kx_io_result *out)
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
		out->tried++;
		out->in_sync_tried += was_in_sync;
		for (const kx_host::Write &w : h->batch) {
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

int kx_flush(kx_host *h, llb_u32 hold, kx_slots *out)
{
	if (!kx_members_get(h, hold))
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
