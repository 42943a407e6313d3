// SPDX-License-Identifier: GPL-2.0
// Real threads on one bitmap: writers, discards, write-behind, a worker, the daemon, a
// sync thread, members that fail and return. The members keep a model of their data:
//
//   W1  when data is issued, and until it is complete, the chunk's byte on every
//       in-sync member reloads to NeedSync
//   W2  when a byte stops saying so, no data of the chunk is under way, and every
//       member was flushed since the last was complete
//   W3  and a flush since the last write was one at which every slot was filled
//   W4  at the end, after the idle time, nothing is left dirty on any member
//   W6  a buffer does not change under I/O (the platform)
//   D1  at the end, members that were away have all data
//
//   hammer [--seconds N] [--seed N]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <unistd.h>

#include "platform.hpp"

#define RELAXED std::memory_order_relaxed

namespace {

constexpr u64 kChunk = 128; // sectors
constexpr u32 kMembers = 3;
constexpr u64 kChunks = 3500; // two pages of the bitmap
constexpr u64 kSpareChunks = 500; // the array grows and shrinks by these: not written
constexpr u64 kAll = kChunks + kSpareChunks;
constexpr u32 kHot = 96; // chunks that are written most
constexpr u32 kWriters = 3;
constexpr u64 kTick_ms = 100; // of the clock, in 1 ms

using Rng = std::mt19937_64;

bool dirty_byte(u8 byte)
{
	return byte >= LLB_DIRTY && byte <= LLB_SYNCING;
}

// Whole-chunk discards only here: what was discarded may differ afterwards.
bool discard_chunk(u64 c)
{
	return c % 8 == 7;
}

struct Io {
	u64 sector, sectors;
	bool discard, behind;
	u32 targets; // members that it was issued to
};

struct Hammer {
	explicit Hammer(u64 seed);
	~Hammer() { llb_destroy(h.bitmap); }
	bool run(int seconds);

	// threads
	void writer(u64 seed);
	void completer(u64 seed);
	void daemon();
	void worker();
	void ticker();
	void syncer(u64 seed);
	void manager(u64 seed);

	void issue(const Io &io, Rng &rng);
	void complete(const Io &io);
	void check_dirty(u64 c, const char *when);
	void on_byte(u32 m, u32 c, u8 before, u8 after);
	bool sync_once(Rng &rng, bool may_abort);
	bool sync_needed();
	void copy_chunk(u64 c, bool recover);
	void readd(u32 m);
	void suspend();
	void resume();
	void finish();

	u64 seed_;
	plat_array h;
	bool data_model;
	std::atomic<bool> stop{false}, writers_done{false}, all_done{false};

	// the members' data, as the sum of what reached it
	std::atomic<u64> data[kMembers][kAll] = {};
	std::atomic<u64> last_done[kMembers][kAll] = {}; // when, on the clock of epochs
	std::atomic<u64> epoch{1};
	std::atomic<u64> flush_began[kMembers] = {}, flushed[kMembers] = {};
	std::atomic<u64> whole_flush_began{0}, whole_flush{0};
	std::atomic<u64> last_write[kChunks] = {};
	std::atomic<int> in_flight[kChunks] = {};
	// md's barrier of resync against writes
	std::atomic<int> pending[kAll] = {};
	std::atomic<bool> barrier[kAll] = {};
	std::atomic<int> active{0}; // active_io
	std::atomic<u64> size{kChunks * kChunk}; // sectors
	std::atomic<u64> focus{0}; // a chunk that several write
	std::atomic<bool> full_recovery[kMembers] = {};
	std::atomic<u64> failed_at[kMembers] = {}; // events
	std::mutex mdx; // the mdX thread: starts syncs, runs daemon_work

	std::mutex queue_mutex;
	std::vector<Io> queue;

	std::atomic<u64> n_writes{0}, n_discards{0}, n_unplugs{0}, n_cleaned{0}, n_failures{0}, n_syncs{0},
		n_recoveries{0}, n_resizes{0};
};

Hammer::Hammer(u64 seed)
	: seed_(seed)
	, h(kMembers, 256)
{
	h.array.level = seed % 3 == 2 ? 5 : 1;
	h.array.raid_chunk = h.array.level == 5 ? 4 * kChunk : 0;
	data_model = true;
	h.array.sync_size = kChunks * kChunk;
	h.inline_work = false;
	h.keep_log = false;
	for (u32 i = 0; i < kMembers; i++) {
		auto &m = *h.members[i];
		auto put32 = [&](u32 at, u32 v) {
			for (u32 k = 0; k < 4; k++)
				m.put(at + k, u8(v >> (8 * k)));
		};
		m.m.logical_block = seed % 4 == 1 && i == 0 ? 4096 : 512;
		put32(LLB_SB_MAGIC, LLB_MAGIC);
		put32(LLB_SB_VERSION, LLB_VERSION);
		for (u32 k = 0; k < 16; k++)
			m.put(LLB_SB_UUID + k, h.array.uuid[k]);
		put32(LLB_SB_EVENTS, 100);
		put32(LLB_SB_STATE, LLB_SB_FIRST_USE);
		put32(LLB_SB_DAEMON_SLEEP, 1);
		put32(LLB_SB_SECTORS_RESERVED, 256);
	}
	if (llb_create(&h, &h.bitmap) || llb_load(h.bitmap)) {
		fprintf(stderr, "%s", h.log_text().c_str());
		exit(2);
	}
	llb_tune(h.bitmap, LLB_TUNE_BARRIER_IDLE, 1);
	h.on_byte = [this](u32 m, u32 c, u8 before, u8 after) { on_byte(m, c, before, after); };
	h.on_member_flush_begin = [this](u32 m) { flush_began[m].store(epoch.load(RELAXED), RELAXED); };
	h.on_member_flush_end = [this](u32 m) { flushed[m].store(flush_began[m].load(RELAXED), RELAXED); };
	h.on_flush = [this] {
		whole_flush_began.store(epoch.load(RELAXED), RELAXED);
		std::this_thread::sleep_for(std::chrono::microseconds(epoch.load(RELAXED) % 1500));
	};
	h.on_flushed = [this] {
		std::this_thread::sleep_for(std::chrono::microseconds(epoch.load(RELAXED) % 700));
	};
	h.on_slots = [this](const plat_slots &slots) {
		if (slots.degraded == 0 && slots.in_sync == kMembers && slots.flushed == kMembers)
			whole_flush.store(whole_flush_began.load(RELAXED), RELAXED);
	};
	h.on_member_fail = [this](u32 m) {
		n_failures.fetch_add(1, RELAXED);
		failed_at[m].store(h.events.load(RELAXED), RELAXED);
		if (h.flags.load(RELAXED) & PLAT_ARRAY_RUNNING)
			h.flags.fetch_or(PLAT_ARRAY_INTR);
	};
	h.on_io_wait = [] {
		static thread_local u32 n;
		if (++n % 4 == 0)
			std::this_thread::sleep_for(std::chrono::microseconds(n % 300));
	};
}

// ---- what the disks check ----

void Hammer::check_dirty(u64 c, const char *when)
{
	for (u32 m = 0; m < kMembers; m++) {
		auto &member = *h.members[m];
		u8 byte = member.at(LLB_CELLS_OFFSET + c);
		if (!dirty_byte(byte) && member.in_sync() && !(h.flags.load(RELAXED) & PLAT_ARRAY_BROKEN))
			h.violation("W1: %s, chunk %llu is %u on member %u", when,
				    static_cast<unsigned long long>(c), byte, m);
	}
}

void Hammer::on_byte(u32 m, u32 c, u8 before, u8 after)
{
	if (c >= kChunks || !dirty_byte(before) || dirty_byte(after))
		return;
	if (!h.members[m]->in_sync())
		return; // its old bytes mean nothing
	n_cleaned.fetch_add(1, RELAXED);
	if (in_flight[c].load(RELAXED))
		h.violation("W2: chunk %u becomes %u on member %u, data is under way", c, after, m);
	for (u32 i = 0; i < kMembers; i++) {
		// what the sync thread wrote counts where the byte says that it did
		bool synced = after == LLB_CLEAN || after == LLB_CLEAN_UNWRITTEN;
		u64 done = synced ? last_done[i][c].load(RELAXED) : last_write[c].load(RELAXED);
		if (h.members[i]->in_sync() && done > flushed[i].load(RELAXED))
			h.violation("W2: chunk %u becomes %u, member %u was not flushed since", c, after, i);
	}
	// What was cleared then may be written later, when a commit can be made.
	if (last_write[c].load(RELAXED) > whole_flush.load(RELAXED))
		h.violation("W3: chunk %u becomes %u, a slot was not filled", c, after);
}

// ---- writers ----

void Hammer::issue(const Io &io, Rng &rng)
{
	if (h.reconfig.load(RELAXED) || llb_pending(h.bitmap)) { // as the shim answers
		n_unplugs.fetch_add(1, RELAXED);
		llb_unplug(h.bitmap, rng() % 3 != 0);
	}
	for (u64 c = io.sector / kChunk; c * kChunk < io.sector + io.sectors; c++) {
		if (io.discard)
			continue; // of what was never written, it loses nothing
		in_flight[c].fetch_add(1, RELAXED);
		check_dirty(c, "data is issued");
	}
}

void Hammer::complete(const Io &io)
{
	u64 first = io.sector / kChunk, last = (io.sector + io.sectors - 1) / kChunk;
	auto done = [&](u32 members) {
		for (u64 c = first; c <= last; c++) {
			for (u32 m = 0; m < kMembers; m++) {
				if (!(members & 1u << m) || h.members[m]->has(PLAT_MEMBER_FAULTY))
					continue;
				data[m][c].fetch_add(1, RELAXED);
				if (io.discard)
					continue;
				u64 now = epoch.fetch_add(1, RELAXED) + 1;
				last_done[m][c].store(now, RELAXED);
				last_write[c].store(now, RELAXED);
			}
		}
	};
	auto end = [&] {
		if (io.discard)
			llb_end_discard(h.bitmap, io.sector, io.sectors);
		else
			llb_end_write(h.bitmap, io.sector, io.sectors);
	};
	// write-behind: all but the first member are late
	done(io.behind ? io.targets & 1u : io.targets);
	if (io.behind) {
		end();
		if (epoch.load(RELAXED) % 16 == 0)
			std::this_thread::sleep_for(std::chrono::milliseconds(15));
		done(io.targets & ~1u);
	}
	for (u64 c = first; c <= last; c++) {
		if (io.discard)
			continue;
		check_dirty(c, "data is complete");
		in_flight[c].fetch_sub(1, RELAXED);
	}
	if (io.behind)
		llb_end_behind(h.bitmap);
	else
		end();
	for (u64 c = first; c <= last; c++)
		pending[c].fetch_sub(1, std::memory_order_release);
	active.fetch_sub(1, std::memory_order_release);
}

void Hammer::writer(u64 seed)
{
	Rng rng(seed);
	while (!stop.load(RELAXED)) {
		active.fetch_add(1);
		if (h.suspended.load()) {
			active.fetch_sub(1);
			std::this_thread::sleep_for(std::chrono::microseconds(200));
			continue;
		}
		u64 c = rng() % 8 ? rng() % kHot * (seed % 2 ? 1 : 7) : rng() % kChunks;
		c %= kChunks;
		if (rng() % 2) // where the other writers are, too
			c = focus.load(RELAXED);
		if (rng() % 24 == 0)
			focus.store(rng() % kChunks, RELAXED);
		Io io = {c * kChunk + rng() % 120, 8, false, h.array.level == 1 && rng() % 8 == 0, 0};
		if (rng() % 16 == 0)
			io.sectors = std::min<u64>(rng() % (20 * kChunk) + 1, kChunks * kChunk - io.sector);
		if (discard_chunk(c) && rng() % 2) {
			io = {c * kChunk, kChunk, true, false, 0};
		}
		u64 last = (io.sector + io.sectors - 1) / kChunk;
		for (u64 p = c; p <= last; p++) { // wait_barrier
			for (;;) {
				pending[p].fetch_add(1);
				if (!barrier[p].load())
					break;
				pending[p].fetch_sub(1);
				std::this_thread::yield();
			}
		}
		if (io.discard)
			llb_start_discard(h.bitmap, io.sector, io.sectors);
		else
			llb_start_write(h.bitmap, io.sector, io.sectors);
		if (io.behind)
			llb_start_behind(h.bitmap);
		issue(io, rng);
		for (u32 m = 0; m < kMembers; m++)
			io.targets |= u32(h.members[m]->working()) << m;
		(io.discard ? n_discards : n_writes).fetch_add(1, RELAXED);
		if (rng() % 2) { // completes on another CPU, later
			std::lock_guard<std::mutex> hold(queue_mutex);
			queue.push_back(io);
		} else {
			complete(io);
		}
		if (rng() % 32 == 0) // an idle moment, so that something gets clean
			std::this_thread::sleep_for(std::chrono::milliseconds(rng() % 25));
	}
}

void Hammer::completer(u64 seed)
{
	Rng rng(seed);
	for (;;) {
		std::vector<Io> batch;
		bool last = writers_done.load();
		{
			std::lock_guard<std::mutex> hold(queue_mutex);
			batch.swap(queue);
		}
		std::shuffle(batch.begin(), batch.end(), rng);
		for (const Io &io : batch)
			complete(io);
		if (batch.empty() && last)
			return;
		std::this_thread::sleep_for(std::chrono::microseconds(rng() % 64 ? rng() % 500 : 30000));
	}
}

// ---- the kernel's threads ----

void Hammer::daemon()
{
	while (!all_done.load(RELAXED)) {
		h.run_daemon_if_due();
		if (h.md_wakes.exchange(0, RELAXED)) {
			std::lock_guard<std::mutex> hold(mdx);
			if (llb_daemon_work_due(h.bitmap))
				llb_daemon_work(h.bitmap);
		}
		std::this_thread::sleep_for(std::chrono::microseconds(300));
	}
}

void Hammer::worker()
{
	while (!all_done.load(RELAXED)) {
		if (!h.run_lead())
			std::this_thread::sleep_for(std::chrono::microseconds(50));
	}
}

void Hammer::ticker()
{
	while (!all_done.load(RELAXED)) {
		h.clock_ms.fetch_add(kTick_ms, RELAXED);
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
	}
}

bool Hammer::sync_needed()
{
	for (auto &m : h.members) {
		if (m->working() && !m->in_sync())
			return true;
	}
	return h.resync_offset.load(RELAXED) == 0;
}

void Hammer::copy_chunk(u64 c, bool recover)
{
	int source = -1;
	for (u32 m = 0; m < kMembers && source < 0; m++) {
		if (h.members[m]->in_sync())
			source = int(m);
	}
	for (u32 m = 0; m < kMembers && source >= 0; m++) {
		auto &member = *h.members[m];
		if (int(m) == source || !member.working() || (recover && member.in_sync()))
			continue;
		data[m][c].store(data[source][c].load(RELAXED), RELAXED);
		last_done[m][c].store(epoch.fetch_add(1, RELAXED) + 1, RELAXED);
	}
}

// One run of md's sync thread. False: there is nothing to do.
bool Hammer::sync_once(Rng &rng, bool may_abort)
{
	bool recover = false, full = false;
	u32 targets = 0;
	{
		std::lock_guard<std::mutex> hold(mdx);
		if (!sync_needed())
			return false;
		for (u32 m = 0; m < kMembers; m++) {
			if (h.members[m]->working() && !h.members[m]->in_sync()) {
				targets |= 1u << m;
				full |= full_recovery[m].load();
			}
		}
		recover = targets != 0;
		h.flags.fetch_or(PLAT_ARRAY_RUNNING | (recover ? 0 : PLAT_ARRAY_SYNC));
	}
	(recover ? n_recoveries : n_syncs).fetch_add(1, RELAXED);
	u64 end = size.load();
	u64 abort_at = may_abort && rng() % 3 == 0 ? rng() % end : ~0ull;
	for (u64 s = 0; s < end;) {
		if (h.flags.load(RELAXED) & PLAT_ARRAY_INTR)
			break;
		if (s >= abort_at) {
			h.flags.fetch_or(PLAT_ARRAY_INTR);
			break;
		}
		u64 blocks = full ? 0 : llb_skip_sync(h.bitmap, s);
		if (blocks) {
			s += blocks;
			continue;
		}
		u64 n;
		if (!llb_start_sync(h.bitmap, s, &n, 1) && !full) { // the query
			s += n;
			continue;
		}
		llb_cond_end_sync(h.bitmap, s, rng() % 32 == 0);
		u64 c = s / kChunk;
		barrier[c].store(true);
		while (pending[c].load())
			std::this_thread::yield();
		bool missing = false;
		for (auto &m : h.members)
			missing |= !m->working();
		bool must = llb_start_sync(h.bitmap, s, &n, missing) || full;
		if (must) {
			if (may_abort && rng() % 400 == 0) { // an error
				u64 ignored;
				llb_end_sync(h.bitmap, s, &ignored);
				h.flags.fetch_or(PLAT_ARRAY_INTR);
			} else {
				copy_chunk(c, recover);
			}
		}
		barrier[c].store(false);
		s += n;
		if (rng() % 64 == 0)
			std::this_thread::yield();
	}
	bool aborted = h.flags.load() & PLAT_ARRAY_INTR;
	llb_close_sync(h.bitmap);
	std::lock_guard<std::mutex> hold(mdx);
	aborted |= bool(h.flags.load() & PLAT_ARRAY_INTR);
	if (!aborted && recover) {
		for (u32 m = 0; m < kMembers; m++) {
			std::lock_guard<std::mutex> error(h.error_mutex);
			if (!(targets & 1u << m) || !h.members[m]->working())
				continue;
			full_recovery[m].store(false);
			// md's superblock, which says that the member is in sync, is written
			// behind a flush of it
			flushed[m].store(epoch.load(RELAXED), RELAXED);
			h.members[m]->flags.fetch_or(PLAT_MEMBER_IN_SYNC);
			h.degraded.fetch_sub(1);
		}
	} else if (!aborted) {
		h.resync_offset.store(~0ull);
	}
	h.flags.fetch_and(~(PLAT_ARRAY_RUNNING | PLAT_ARRAY_SYNC | PLAT_ARRAY_INTR));
	return true;
}

void Hammer::syncer(u64 seed)
{
	Rng rng(seed);
	while (!stop.load(RELAXED)) {
		if (!sync_once(rng, true) || rng() % 2)
			std::this_thread::sleep_for(std::chrono::milliseconds(2));
	}
}

void Hammer::suspend()
{
	h.suspended.store(true);
	while (active.load() || h.refs.load())
		std::this_thread::yield();
}

void Hammer::resume()
{
	h.suspended.store(false);
}

// reconfig_mutex is held.
void Hammer::readd(u32 m)
{
	auto &member = *h.members[m];
	if (!member.has(PLAT_MEMBER_FAULTY))
		return;
	llb_stats stats;
	llb_stats_get(h.bitmap, &stats);
	suspend();
	full_recovery[m].store(failed_at[m].load() < stats.events_cleared);
	member.flags.store(0);
	llb_write_all(h.bitmap);
	resume();
}

void Hammer::manager(u64 seed)
{
	Rng rng(seed);
	while (!stop.load(RELAXED)) {
		u32 m = u32(rng() % kMembers);
		h.reconfig.store(true, RELAXED);
		switch (rng() % 12) {
		case 0:
		case 1:
			h.events.fetch_add(1, RELAXED);
			llb_update_sb(h.bitmap);
			break;
		case 2:
			llb_write_all(h.bitmap);
			break;
		case 3: // a member fails; md writes its superblocks. Half of the time none does
			if (h.clock_ms.load(RELAXED) / 20000 % 2)
				break;
			if (rng() % 3 == 0)
				h.members[m]->fail_writes.store(1, RELAXED);
			else if (rng() % 2)
				h.members[m]->fail_flushes.store(1, RELAXED);
			else
				h.fail_member(m);
			if (h.members[m]->has(PLAT_MEMBER_FAULTY)) {
				h.events.fetch_add(1, RELAXED);
				llb_update_sb(h.bitmap);
			}
			break;
		case 4:
		case 5:
		case 6:
			readd(m);
			break;
		case 7:
			llb_flush(h.bitmap);
			break;
		case 8:
			if (h.array.level == 5)
				(void)llb_proactive_sync(h.bitmap);
			else
				llb_dirty_bits(h.bitmap, m * 50, m * 50 + 3);
			break;
		case 9: {
			llb_stats stats;
			llb_stats_get(h.bitmap, &stats);
			llb_u64 counts[8];
			llb_bits_count(h.bitmap, counts);
			llb_metadata metadata;
			llb_metadata_get(h.bitmap, &metadata);
			(void)llb_behind_idle(h.bitmap);
			break;
		}
		case 10:
			suspend();
			std::this_thread::sleep_for(std::chrono::microseconds(rng() % 3000));
			resume();
			break;
		case 11: { // no sync runs while md resizes
			std::lock_guard<std::mutex> hold(mdx);
			if (h.flags.load() & PLAT_ARRAY_RUNNING)
				break;
			n_resizes.fetch_add(1, RELAXED);
			u64 to = (kChunks + rng() % kSpareChunks) * kChunk;
			if (llb_resize(h.bitmap, to))
				h.violation("a resize failed");
			size.store(to);
			break;
		}
		}
		h.reconfig.store(false, RELAXED);
		std::this_thread::sleep_for(std::chrono::microseconds(rng() % 4000));
	}
}

// Everything comes back, and to rest: in this thread alone, on the virtual clock.
void Hammer::finish()
{
	// barrier_idle + 2 * daemon_sleep is 3 s; a sync is asked for in less than 2 s more
	constexpr u64 kRest_ms = 6000, kLimit_ms = 200000;
	Rng rng(seed_);

	fake::set_jitter(0);
	h.inline_work = true;
	h.reconfig.store(true);
	for (auto &m : h.members) {
		m->fail_writes.store(0);
		m->fail_flushes.store(0);
	}
	for (u32 m = 0; m < kMembers; m++)
		readd(m);
	h.reconfig.store(false);
	u64 begin = h.clock_ms, since = begin;
	while (h.clock_ms - since < kRest_ms && h.clock_ms - begin < kLimit_ms) {
		if (sync_once(rng, false))
			since = h.clock_ms;
		h.run_for(kTick_ms);
	}
	if (h.clock_ms - since < kRest_ms)
		h.violation("D10: it never comes to rest");
}

bool Hammer::run(int seconds)
{
	std::vector<std::thread> front, back;

	fake::set_jitter(64);
	for (u32 i = 0; i < kWriters; i++)
		front.emplace_back([this, i] { writer(seed_ * 100 + i); });
	front.emplace_back([this] { syncer(seed_ * 100 + 50); });
	front.emplace_back([this] { manager(seed_ * 100 + 51); });
	std::thread completes([this] { completer(seed_ * 100 + 52); });
	back.emplace_back([this] { daemon(); });
	back.emplace_back([this] { worker(); });
	back.emplace_back([this] { ticker(); });

	auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
	while (std::chrono::steady_clock::now() < end) {
		std::this_thread::sleep_for(std::chrono::milliseconds(50));
		std::lock_guard<std::mutex> hold(h.log_mutex);
		if (!h.violations.empty())
			break;
	}
	stop.store(true);
	for (auto &t : front)
		t.join();
	writers_done.store(true);
	completes.join();
	all_done.store(true);
	for (auto &t : back)
		t.join();
	finish();

	for (u64 c = 0; c < kChunks; c++) {
		for (u32 m = 0; m < kMembers; m++) {
			u8 byte = h.members[m]->at(LLB_CELLS_OFFSET + c);
			u64 mine = data[m][c].load(), first = data[0][c].load();
			if (byte != LLB_CLEAN && byte != LLB_UNWRITTEN && byte != LLB_CLEAN_UNWRITTEN)
				h.violation("W4: chunk %llu is %u on member %u after the idle time",
					    static_cast<unsigned long long>(c), byte, m);
			if (byte != h.members[0]->at(LLB_CELLS_OFFSET + c))
				h.violation("chunk %llu is %u on member %u, but not on member 0",
					    static_cast<unsigned long long>(c), byte, m);
			if (!discard_chunk(c) && mine != first)
				h.violation("D1: member %u has %llu of the %llu writes of chunk %llu", m,
					    static_cast<unsigned long long>(mine),
					    static_cast<unsigned long long>(first),
					    static_cast<unsigned long long>(c));
			if (!discard_chunk(c) && first && byte != LLB_CLEAN)
				h.violation("chunk %llu was written and is %u on member %u",
					    static_cast<unsigned long long>(c), byte, m);
		}
	}
	if (h.flags.load() & PLAT_ARRAY_BROKEN)
		h.violation("the array is broken");
	for (const auto &v : h.violations)
		fprintf(stderr, "hammer: seed %llu: %s\n", static_cast<unsigned long long>(seed_), v.c_str());
	printf("hammer: seed %llu level %d: %llu writes, %llu discards, %llu unplugs, %d batches, %llu bytes cleaned, %llu failures, %llu recoveries, %llu resyncs, %llu resizes: %s\n",
	       static_cast<unsigned long long>(seed_), h.array.level,
	       static_cast<unsigned long long>(n_writes), static_cast<unsigned long long>(n_discards),
	       static_cast<unsigned long long>(n_unplugs), h.io_batches.load(),
	       static_cast<unsigned long long>(n_cleaned), static_cast<unsigned long long>(n_failures),
	       static_cast<unsigned long long>(n_recoveries), static_cast<unsigned long long>(n_syncs),
	       static_cast<unsigned long long>(n_resizes), h.violations.empty() ? "ok" : "FAILED");
	if (!h.violations.empty()) {
		fprintf(stderr, "degraded %d, flags 0x%x, resync_offset %llu, members", h.degraded.load(),
			h.flags.load(), static_cast<unsigned long long>(h.resync_offset.load()));
		for (auto &m : h.members)
			fprintf(stderr, " 0x%x", m->flags.load());
		llb_u64 counts[8];
		llb_bits_count(h.bitmap, counts);
		fprintf(stderr, ", counts");
		for (u64 n : counts)
			fprintf(stderr, " %llu", static_cast<unsigned long long>(n));
		fprintf(stderr, ", clock %llu, daemon due %llu, enabled %u\n%s",
			static_cast<unsigned long long>(h.clock_ms),
			static_cast<unsigned long long>(h.daemon_due), llb_pending(h.bitmap),
			h.log_text().c_str());
	}
	fflush(stdout);
	return h.violations.empty();
}

} // namespace

int main(int argc, char **argv)
{
	int seconds = 10;
	u64 seed = 1, seeds = 3;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seconds"))
			seconds = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], nullptr, 0), seeds = 1;
		else
			return fprintf(stderr, "hammer [--seconds N] [--seed N]\n"), 2;
	}
	for (u64 s = seed; s < seed + seeds; s++) {
		auto hammer = std::make_unique<Hammer>(s);
		if (!hammer->run(int(std::max<u64>(1, u64(seconds) / seeds))))
			return 1;
	}
	if (fake::live_allocations()) {
		fprintf(stderr, "hammer: memory is left\n");
		return 1;
	}
	return 0;
}
