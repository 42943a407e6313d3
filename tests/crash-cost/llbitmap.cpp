// SPDX-License-Identifier: GPL-2.0
// The core, unchanged: a raid1 of two members, made by mdadm with --assume-clean, and the
// kernel's services over virtual time. What a crash costs is read from a member's bytes, as
// the next assembly would read them.
#include "trackers.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/mman.h>
#include <utility>

#include "llbitmap/abi.h"
#include "llbitmap/format.h"

namespace {

constexpr u32 kMembers = 2;
constexpr u64 kSuperblock = 8; // sector
constexpr u64 kBitmapOffset = 8; // sectors behind it
constexpr u64 kSpaceSectors = 256; // what mdadm writes
constexpr u64 kDataOffset = 264192; // sectors: mdadm's headroom on large members
constexpr u64 kBadLogOffset = kBitmapOffset + kSpaceSectors;
constexpr u64 kAreaBytes = (kDataOffset - kSuperblock - kBitmapOffset) * 512;
constexpr u32 kGrace_us = 10000;

// For the plat_ functions that name no host: of the one whose call runs.
u64 the_time_us;
Engine *the_engine;

void enter(Engine &engine)
{
	the_engine = &engine;
	the_time_us = engine.now_us();
}

u64 get(const u8 *p, u32 at, u32 n)
{
	u64 v = 0;
	for (u32 i = 0; i < n; i++)
		v |= u64{p[at + i]} << (8 * i);
	return v;
}

void put(u8 *p, u32 at, u64 v, u32 n)
{
	for (u32 i = 0; i < n; i++)
		p[at + i] = u8(v >> (8 * i));
}

// What begins in front of a member's data. Only what is written costs memory.
struct Area {
	u8 *bytes;
	Area()
		: bytes{static_cast<u8 *>(mmap(nullptr, kAreaBytes, PROT_READ | PROT_WRITE,
					       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))}
	{
		if (bytes == MAP_FAILED)
			abort();
	}
	~Area() { munmap(bytes, kAreaBytes); }
	Area(const Area &) = delete;
	Area &operator=(const Area &) = delete;
};

// Does an assembly resynchronise a chunk with this byte? What was being built where nothing
// was ever written is forgotten; what no byte should be is not believed.
bool is_resynced(u8 byte)
{
	return byte == LLB_DIRTY || byte == LLB_NEED_SYNC || byte == LLB_SYNCING || byte >= LLB_STATES;
}

} // namespace

struct plat_array {
	Engine &engine;
	const Times &times;
	Counts &counts;
	u64 device_bytes;
	Area area[kMembers];
	bool bbl[kMembers] = {true, true};
	llb_bitmap *bitmap = nullptr;
	u64 events = 10;
	bool counting = false;
	bool asked_resync = false;
	std::string log;
	u64 reads = 0, read_bytes = 0; // from one member

	struct Piece {
		u64 offset;
		const u8 *from;
		u32 bytes;
	};
	std::vector<Piece> batch;
	bool io_runs = false;

	struct Waiter {
		Engine::Fiber *fiber;
		u32 kind;
		u64 arg;
	};
	std::vector<Waiter> waiters;

	// Work that runs in one place at a time, as a workqueue's does.
	struct Work {
		bool wanted = false, runs = false;
	};
	Work daemon, lead, md;
	u64 daemon_due_us = ~u64{0};

	plat_array(Engine &e, const Times &t, Counts &c, u64 device)
		: engine{e}
		, times{t}
		, counts{c}
		, device_bytes{device}
	{}
	void run(Work &work, void (*what)(llb_bitmap *))
	{
		work.wanted = true;
		if (work.runs || !bitmap)
			return;
		work.runs = true;
		while (work.wanted) {
			work.wanted = false;
			what(bitmap);
		}
		work.runs = false;
	}
};

namespace {

class Llbitmap : public Tracker {
    public:
	Llbitmap(Engine &e, const Times &t, u64 device_bytes, s64 budget_mib)
		: Tracker{e, t}
		, host_{e, times_, counts_, device_bytes}
		, budget_mib_{budget_mib}
	{
		for (Area &a : host_.area)
			fresh_header(a.bytes);
	}
	~Llbitmap() override
	{
		enter(engine_);
		if (host_.bitmap && engine_.parked() == 0)
			llb_destroy(host_.bitmap);
	}
	void start() override
	{
		auto begin = [](void *object, u64) { static_cast<Llbitmap *>(object)->begin(); };
		engine_.at(engine_.now_us(), begin, this, 0);
		while (!host_.counting)
			engine_.run(engine_.now_us() + 100000, nullptr);
	}
	void arrive(const Arrival &a) override
	{
		const u64 before = engine_.now_us();

		counts_.writes++;
		enter(engine_);
		llb_start_write(host_.bitmap, a.sector, a.sectors);
		if (llb_pending(host_.bitmap))
			llb_unplug(host_.bitmap, 1);
		if (engine_.now_us() != before)
			counts_.waited++;
		unmarked_ += !is_marked(a);
		counts_.waited_us += engine_.now_us() - before;
		auto over = [](void *object, u64 which) { static_cast<Llbitmap *>(object)->end(which); };
		engine_.at(engine_.now_us() + times_.data_us, over, this, under_way_.put(a));
	}
	u64 chunk_bytes() const override
	{
		llb_metadata m;
		llb_metadata_get(host_.bitmap, &m);
		return m.chunk_sectors * 512;
	}
	u64 budget_bytes() override { return budget_told(static_cast<llb_metadata *>(nullptr)); }
	u64 resync_bytes() override
	{
		const u64 bytes = on_members();
		check_told(bytes, static_cast<llb_stats *>(nullptr));
		return bytes;
	}
	// The same, as the core itself finds it when it is assembled anew.
	u64 reloaded_bytes() const
	{
		Counts counts;
		plat_array again{engine_, times_, counts, host_.device_bytes};
		for (u32 i = 0; i < kMembers; i++)
			memcpy(again.area[i].bytes, host_.area[i].bytes, used_bytes());
		llb_bitmap *b = nullptr;
		if (llb_create(&again, &b))
			return ~u64{0};
		u64 n[LLB_STATES];
		llb_bits_count(b, n);
		llb_metadata m;
		llb_metadata_get(b, &m);
		llb_destroy(b);
		return n[LLB_NEED_SYNC] * m.chunk_sectors * 512;
	}
	std::string complaint() override
	{
		std::string all;
		if (unmarked_)
			all += " " + std::to_string(unmarked_) + " writes went out that no member knew of;";
		const u64 bytes = on_members(), again = reloaded_bytes();
		if (again < bytes || again - bytes >= chunk_bytes()) // the last chunk may be shorter
			all += " an assembly resynchronises " + std::to_string(again) + " bytes, not " +
			       std::to_string(bytes) + ";";
		if (host_.asked_resync)
			all += " asked for a resync;";
		if (told_ && told_wrong_)
			all += " crash_bytes differed at " + std::to_string(told_wrong_) + " of " +
			       std::to_string(told_) + " instants, once by " + std::to_string(told_worst_) +
			       " bytes;";
		return all;
	}

	// What has been done since the last call, one bio to a member after the other.
	Start since()
	{
		u64 n[LLB_STATES];
		llb_bits_count(host_.bitmap, n);
		Start s{};
		s.chunks = chunks();
		s.writes = counts_.bitmap_writes;
		s.write_bytes = counts_.bitmap_bytes;
		s.flushes = counts_.flushes;
		s.reads = host_.reads;
		s.read_bytes = host_.read_bytes;
		s.io_us = (s.writes + s.flushes) * times_.bitmap_us;
		s.asks_resync = host_.asked_resync || n[LLB_NEED_SYNC];
		counts_ = {};
		host_.reads = host_.read_bytes = 0;
		return s;
	}
	// Created as `begin` does, then stopped and assembled, then passes over what is all clean.
	void start_twice(std::vector<Start> *out)
	{
		for (int again = 0; again < 2; again++) {
			clock_t cpu = clock();
			if (again)
				llb_destroy(std::exchange(host_.bitmap, nullptr));
			begin();
			counts_ = at_start_;
			clock_t end = clock();
			out->push_back(since());
			out->back().cpu_us = u64(end - cpu) * 1000000 / CLOCKS_PER_SEC;
		}
		constexpr u32 kPasses = 20;
		clock_t cpu = 0;
		for (u32 i = 0; i < kPasses; i++) {
			engine_.sleep(60000000); // each is due
			enter(engine_);
			cpu -= clock();
			llb_daemon(host_.bitmap);
			cpu += clock();
		}
		out->push_back(since());
		out->back().cpu_us = u64(cpu) * 1000000 / CLOCKS_PER_SEC / kPasses;
		host_.counting = true;
	}

    private:
	u64 chunks() const
	{
		llb_metadata m;
		llb_metadata_get(host_.bitmap, &m);
		return m.chunks;
	}
	void fresh_header(u8 *p)
	{
		put(p, LLB_SB_MAGIC, LLB_MAGIC, 4);
		put(p, LLB_SB_VERSION, LLB_VERSION, 4);
		memset(p + LLB_SB_UUID, 7, 16);
		put(p, LLB_SB_SYNC_SIZE, host_.device_bytes / 512, 8);
		put(p, LLB_SB_STATE, LLB_SB_FIRST_USE | LLB_SB_CLEAN, 4);
		put(p, LLB_SB_CHUNKSIZE, 65536, 4);
		put(p, LLB_SB_DAEMON_SLEEP, 5, 4);
		put(p, LLB_SB_SECTORS_RESERVED, kSpaceSectors, 4);
	}
	void begin()
	{
		enter(engine_);
		int error = llb_create(&host_, &host_.bitmap);
		if (!error)
			error = llb_load(host_.bitmap);
		if (error) {
			fprintf(stderr, "crash-cost: the core says %d\n%s", error, host_.log.c_str());
			exit(1);
		}
#ifdef LLB_TUNE_RESYNC_BUDGET
		if (budget_mib_ >= 0 &&
		    llb_tune(host_.bitmap, LLB_TUNE_RESYNC_BUDGET, u64(budget_mib_)) != 0) {
			fprintf(stderr, "crash-cost: a budget of %lld MiB is refused\n",
				static_cast<long long>(budget_mib_));
			exit(1);
		}
#endif
		host_.run(host_.md, llb_daemon_work);
		at_start_ = counts_;
		counts_ = {};
		host_.counting = true;
	}
	void end(u64 slot)
	{
		const Arrival a = under_way_.take(u32(slot));
		enter(engine_);
		llb_end_write(host_.bitmap, a.sector, a.sectors);
	}

	// Before its data go out, both members know of a write.
	bool is_marked(const Arrival &a) const
	{
		const u64 chunk = get(host_.area[0].bytes, LLB_SB_CHUNKSIZE, 4);
		for (u64 c = a.sector / chunk; c <= (a.sector + a.sectors - 1) / chunk; c++) {
			for (const Area &area : host_.area) {
				if (!is_resynced(area.bytes[LLB_CELLS_OFFSET + c]))
					return false;
			}
		}
		return true;
	}
	u64 used_bytes() const
	{
		return get(host_.area[0].bytes, LLB_SB_SECTORS_RESERVED, 4) * 512;
	}

	// The two members are merged as a load does: where they differ, the worse.
	u64 on_members() const
	{
		const u8 *first = host_.area[0].bytes, *second = host_.area[1].bytes;
		const u64 chunk = get(first, LLB_SB_CHUNKSIZE, 4) * 512;
		const u64 size = get(first, LLB_SB_SYNC_SIZE, 8) * 512;
		const u64 chunks = (size + chunk - 1) / chunk;
		constexpr u64 kClean = 0x0101010101010101 * LLB_CLEAN;
		u64 bytes = 0;
		for (u64 c = 0; c < chunks; c++) {
			const u8 *a = first + LLB_CELLS_OFFSET + c, *b = second + LLB_CELLS_OFFSET + c;
			u64 eight[2];
			memcpy(&eight[0], a, 8);
			memcpy(&eight[1], b, 8);
			if (c % 8 == 0 && eight[0] == kClean && eight[1] == kClean)
				c += 7; // as nearly all are
			else if (is_resynced(*a) || is_resynced(*b))
				bytes += std::min(chunk, size - c * chunk);
		}
		return bytes;
	}

	template <class Metadata>
	u64 budget_told(Metadata *) const
	{
		if constexpr (requires(Metadata m) { m.resync_budget_mib; }) {
			Metadata m;
			llb_metadata_get(host_.bitmap, &m);
			return m.resync_budget_mib << 20;
		}
		return 0;
	}

	// What it tells must be what a cut would cost, but for a write under way.
	template <class Stats>
	void check_told(u64 bytes, Stats *)
	{
		if constexpr (requires(Stats s) { s.crash_bytes; }) {
			Stats s;
			llb_stats_get(host_.bitmap, &s);
			u64 off = s.crash_bytes > bytes ? s.crash_bytes - bytes : bytes - s.crash_bytes;
			told_++;
			if (off && !host_.io_runs) {
				told_wrong_++;
				told_worst_ = std::max(told_worst_, off);
			}
		}
	}
	plat_array host_;
	const s64 budget_mib_;
	Counts at_start_;
	UnderWay under_way_;
	u64 unmarked_ = 0;
	u64 told_ = 0, told_wrong_ = 0, told_worst_ = 0;
};

} // namespace

std::unique_ptr<Tracker> make_llbitmap(Engine &e, const Times &t, u64 device_bytes, s64 budget_mib)
{
	return std::make_unique<Llbitmap>(e, t, device_bytes, budget_mib);
}

std::vector<Start> start_costs(const Times &t, u64 device_bytes)
{
	struct Run {
		Llbitmap *tracker;
		std::vector<Start> found;
		bool done = false;
	};
	Engine engine;
	Llbitmap tracker{engine, t, device_bytes, -1};
	Run run{&tracker, {}};
	auto all = [](void *object, u64) {
		auto *r = static_cast<Run *>(object);
		r->tracker->start_twice(&r->found);
		r->done = true;
	};
	engine.at(engine.now_us(), all, &run, 0);
	while (!run.done)
		engine.run(engine.now_us() + 100000, nullptr);
	return run.found;
}

extern "C" {

// Memory and counters are in tests/sim/one_thread.cpp.

// ---- time, work, waiting ----

llb_u64 plat_now_ms(void)
{
	return the_time_us / 1000;
}

// Time passes here, and others come in between.
static void pass(Engine &engine, u64 us)
{
	engine.sleep(us);
	enter(engine);
}

void plat_grace_period(void)
{
	pass(*the_engine, kGrace_us);
}

void plat_sleep_ms(llb_u32 ms)
{
	pass(*the_engine, u64{ms} * 1000);
}

void plat_relax(void) {}

static void daemon_due(void *object, u64)
{
	auto *h = static_cast<plat_array *>(object);
	if (h->engine.now_us() < h->daemon_due_us)
		return; // put forward meanwhile
	h->daemon_due_us = ~u64{0};
	enter(h->engine);
	h->run(h->daemon, llb_daemon);
}

void plat_daemon_arm(plat_array *h, llb_u32 delay_ms)
{
	u64 due = h->engine.now_us() + u64{delay_ms} * 1000;
	if (due >= h->daemon_due_us)
		return;
	h->daemon_due_us = due;
	h->engine.at(due, daemon_due, h, 0);
}

void plat_leader_queue(plat_array *h)
{
	auto run = [](void *object, u64) {
		auto *host = static_cast<plat_array *>(object);
		enter(host->engine);
		host->run(host->lead, llb_leader_work);
	};
	h->engine.at(h->engine.now_us(), run, h, 0);
}

void plat_md_wake(plat_array *h)
{
	auto run = [](void *object, u64) {
		auto *host = static_cast<plat_array *>(object);
		enter(host->engine);
		host->run(host->md, llb_daemon_work);
	};
	h->engine.at(h->engine.now_us(), run, h, 0);
}

void plat_wait(plat_array *h, llb_bitmap *b, llb_u32 kind, llb_u64 arg)
{
	while (!llb_wait_done(b, kind, arg)) {
		h->waiters.push_back({h->engine.current(), kind, arg});
		h->engine.park();
		enter(h->engine);
	}
}

void plat_wake(plat_array *h)
{
	// those for whom it is over, and each looks again when it runs
	auto keep = h->waiters.begin();
	for (plat_array::Waiter &w : h->waiters) {
		if (h->bitmap && llb_wait_done(h->bitmap, w.kind, w.arg))
			h->engine.wake(w.fiber);
		else
			*keep++ = w;
	}
	h->waiters.erase(keep, h->waiters.end());
}

// ---- the array ----

void plat_array_get(plat_array *h, plat_array_info *out)
{
	*out = {};
	out->events = h->events;
	out->sync_size = h->device_bytes / 512;
	out->bitmap_offset = kBitmapOffset;
	out->level = 1;
	out->raid_disks = kMembers;
	out->flags = PLAT_ARRAY_RDWR | PLAT_ARRAY_LIVE;
	memset(out->uuid, 7, sizeof(out->uuid));
}

void plat_slots_get(plat_array *, plat_slots *out)
{
	*out = {kMembers, kMembers, 0, 0, 0};
}

llb_u64 plat_events(plat_array *h)
{
	return h->events;
}

int plat_member_get(plat_array *h, llb_u32 index, plat_member *out)
{
	if (index >= kMembers)
		return -LLB_ERANGE;
	*out = {};
	out->sb_start = kSuperblock;
	out->data_offset = out->new_data_offset = kDataOffset;
	out->data_sectors = h->device_bytes / 512;
	out->bbl_offset = kBadLogOffset;
	out->bbl_sectors = 8;
	out->logical_block = 512;
	out->slot = int(index);
	out->flags = PLAT_MEMBER_IN_SYNC | (h->bbl[index] ? PLAT_MEMBER_BBL : 0);
	return 0;
}

void plat_bbl_disable(plat_array *h, llb_u32 index)
{
	h->bbl[index] = false;
}

void plat_resync_request(plat_array *h)
{
	h->asked_resync = true;
}

int plat_superblock_write(plat_array *h)
{
	h->events++;
	llb_update_sb(h->bitmap);
	return 0;
}

int plat_stripes_forget(plat_array *)
{
	return 0;
}

int plat_recover(plat_array *, llb_u64, llb_u64)
{
	return 0;
}

void plat_broken_set(plat_array *) {}
void plat_member_fail(plat_array *, llb_u32) {}
void plat_absent_missed(plat_array *) {}
void plat_member_distrust(plat_array *, llb_u32) {}
void plat_write_behind_set(plat_array *, llb_u32) {}
void plat_map_write(plat_array *, llb_u64 *, llb_u64 *) {}
void plat_chunk_bytes_set(plat_array *, llb_u64, llb_u32) {}
void plat_bitmap_place(plat_array *, llb_s64) {}
void plat_recovery_wait(plat_array *) {}
void plat_checkpoint(plat_array *, llb_u64) {}
void plat_recovery_back(plat_array *, llb_u64) {}
void plat_recovery_again(plat_array *, llb_u64) {}
void plat_recovery_begin(plat_array *) {}
void plat_recovery_stopped(plat_array *, llb_u64) {}

void plat_log(plat_array *h, llb_u32, const char *fmt, ...)
{
	char line[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	h->log += std::string(line) + "\n";
}

// ---- member I/O ----

llb_u32 plat_members_get(plat_array *, llb_u32)
{
	return 1;
}

void plat_members_put(plat_array *, llb_u32) {}

int plat_read(plat_array *h, llb_u32 index, llb_u64 offset, void *page, llb_u32 bytes)
{
	if (offset + bytes > kAreaBytes)
		return -LLB_EIO;
	memcpy(page, h->area[index].bytes + offset, bytes);
	if (index == 0)
		h->reads++, h->read_bytes += bytes;
	return 0;
}

void plat_io_begin(plat_array *h)
{
	h->batch.clear();
}

void plat_io_add(plat_array *h, llb_u64 offset, const void *buf, llb_u32 bytes)
{
	if (offset + bytes > kAreaBytes) {
		fprintf(stderr, "crash-cost: a bitmap write over the data\n");
		abort();
	}
	h->batch.push_back({offset, static_cast<const u8 *>(buf), bytes});
}

// The members have it when the time is over: a cut before finds what was there.
void plat_io_wait(plat_array *h, plat_io_result *out)
{
	h->counts.batches++;
	for (size_t i = 0; i < h->batch.size(); i++) {
		const plat_array::Piece *last = i ? &h->batch[i - 1] : nullptr;
		// neighbours are one write
		h->counts.bitmap_writes += !last || last->offset + last->bytes != h->batch[i].offset;
	}
	h->io_runs = true;
	pass(h->engine, h->times.bitmap_us);
	h->io_runs = false;
	for (const plat_array::Piece &p : h->batch) {
		h->counts.bitmap_bytes += p.bytes;
		for (Area &a : h->area)
			memcpy(a.bytes + p.offset, p.from, p.bytes);
	}
	*out = {kMembers};
}

int plat_flush(plat_array *h, llb_u32, plat_slots *out)
{
	h->counts.flushes++;
	pass(h->engine, h->times.bitmap_us);
	*out = {kMembers, kMembers, kMembers, 0, 0};
	return 0;
}
}
