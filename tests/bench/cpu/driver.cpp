// SPDX-License-Identifier: GPL-2.0
// The core in user space, over a platform that does as little as it can: one member in
// memory, counters that are plain words of each thread.
//
//   driver count GIB            under callgrind: a dump of its counts after each phase
//   driver time GIB THREADS     without: writes of that many threads, create and load
//   driver cover GIB KIND RATE  what covering neighbours saves and costs, on a clock of
//       its own: RATE random writes per second, KIND touch (2000 of them all over the
//       array, no daemon), dense (over a quarter) or sparse (all over), till a cut
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include <valgrind/callgrind.h>

#include "llbitmap/abi.h"
#include "llbitmap/format.h"

namespace {

constexpr unsigned kSpaceBytes = 128 * 1024;
constexpr unsigned kThreads = 64;
constexpr unsigned long long kGib = 1ull << 21; // sectors
constexpr unsigned kWrites = 20000, kTouches = 200;
constexpr double kRun_s = 1;

alignas(4096) unsigned char member[kSpaceBytes];
unsigned long long held, per_cpu, ios, clock_ms = 1000000;
std::atomic<unsigned> threads{0};
thread_local unsigned this_thread = threads++;

void put32(unsigned at, unsigned value)
{
	memcpy(member + at, &value, 4);
}

// Repeatable, and cheap against what is counted.
struct Random {
	unsigned long long x;
	unsigned long long next(unsigned long long below)
	{
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		return x % below;
	}
};

} // namespace

struct plat_array {
	unsigned long long sync_size;
	llb_bitmap *bitmap;
};

struct plat_counters {
	llb_u32 *of[kThreads];
};

extern "C" {

void *plat_alloc(llb_u64 bytes)
{
	auto *p = static_cast<llb_u64 *>(calloc(1, bytes + 64)) + 8;
	p[-1] = bytes;
	held += bytes;
	return p;
}

void plat_free(void *p)
{
	if (!p)
		return;
	auto *begin = static_cast<llb_u64 *>(p) - 8;
	held -= begin[7];
	free(begin);
}

void *plat_page_alloc(llb_u32)
{
	held += 4096;
	void *p = aligned_alloc(4096, 4096);
	memset(p, 0, 4096);
	return p;
}

void plat_page_free(void *p)
{
	held -= p ? 4096 : 0;
	free(p);
}

plat_counters *plat_counters_alloc(llb_u32 count)
{
	per_cpu += count * 4ull;
	auto *c = new plat_counters;
	for (auto &of : c->of)
		of = static_cast<llb_u32 *>(aligned_alloc(64, (count * 4 + 63) / 64 * 64));
	for (auto &of : c->of)
		memset(of, 0, count * 4);
	return c;
}

void plat_counters_free(plat_counters *c)
{
	for (auto &of : c->of)
		free(of);
	delete c;
}

void plat_section_enter(plat_counters *c, llb_u32 index)
{
	c->of[this_thread][index]++;
}

void plat_section_leave(void) {}

void plat_counter_inc(plat_counters *c, llb_u32 index)
{
	c->of[this_thread][index]++;
}

llb_u32 plat_counter_sum(plat_counters *c, llb_u32 index)
{
	llb_u32 sum = 0;
	for (auto &of : c->of)
		sum += of[index];
	return sum;
}

void plat_grace_period(void) {}

llb_u64 plat_now_ms(void)
{
	return clock_ms;
}

void plat_daemon_arm(plat_array *, llb_u32) {}
void plat_leader_queue(plat_array *) {}
void plat_md_wake(plat_array *) {}
void plat_relax(void) {}
void plat_sleep_ms(llb_u32) {}
void plat_wake(plat_array *) {}
void plat_bbl_disable(plat_array *, llb_u32) {}
void plat_chunk_bytes_set(plat_array *, llb_u64, llb_u32) {}
void plat_bitmap_place(plat_array *, llb_s64) {}
void plat_resync_request(plat_array *) {}
void plat_broken_set(plat_array *) {}
void plat_member_fail(plat_array *, llb_u32) {}
void plat_member_distrust(plat_array *, llb_u32) {}
void plat_absent_missed(plat_array *) {}
void plat_write_behind_set(plat_array *, llb_u32) {}
void plat_map_write(plat_array *, llb_u64 *, llb_u64 *) {}
int plat_superblock_write(plat_array *)
{
	return 0;
}

void plat_recovery_wait(plat_array *) {}
void plat_checkpoint(plat_array *, llb_u64) {}
int plat_stripes_forget(plat_array *)
{
	return 0;
}

void plat_recovery_begin(plat_array *) {}
void plat_recovery_back(plat_array *, llb_u64) {}
void plat_recovery_again(plat_array *, llb_u64) {}
void plat_recovery_stopped(plat_array *, llb_u64) {}

int plat_recover(plat_array *, llb_u64, llb_u64)
{
	return 0;
}
void plat_members_put(plat_array *, llb_u32) {}
void plat_io_begin(plat_array *) {}

void plat_wait(plat_array *, llb_bitmap *b, llb_u32 kind, llb_u64 arg)
{
	while (!llb_wait_done(b, kind, arg))
		std::this_thread::yield();
}

void plat_array_get(plat_array *h, plat_array_info *out)
{
	*out = {};
	out->events = 100;
	out->sync_size = h->sync_size;
	out->bitmap_offset = 8;
	out->bitmap_space = kSpaceBytes / 512;
	out->level = 1;
	out->raid_disks = 1;
	out->flags = PLAT_ARRAY_RDWR | PLAT_ARRAY_LIVE;
}

void plat_slots_get(plat_array *, plat_slots *out)
{
	*out = {1, 1, 0, 0};
}

llb_u64 plat_events(plat_array *)
{
	return 100;
}

int plat_member_get(plat_array *h, llb_u32 index, plat_member *out)
{
	if (index)
		return -LLB_ERANGE;
	*out = {};
	out->sb_start = 8;
	out->data_offset = out->new_data_offset = 4096;
	out->data_sectors = h->sync_size;
	out->logical_block = 512;
	out->flags = PLAT_MEMBER_IN_SYNC;
	return 0;
}

void plat_log(plat_array *, llb_u32, const char *fmt, ...)
{
	fprintf(stderr, "%s\n", fmt);
}

llb_u32 plat_members_get(plat_array *, llb_u32)
{
	return 1;
}

int plat_read(plat_array *, llb_u32, llb_u64 offset, void *page, llb_u32 bytes)
{
	memcpy(page, member + offset, bytes);
	return 0;
}

void plat_io_add(plat_array *, llb_u64 offset, const void *buf, llb_u32 bytes)
{
	memcpy(member + offset, buf, bytes);
}

void plat_io_wait(plat_array *, plat_io_result *out)
{
	ios++;
	*out = {1};
}

int plat_flush(plat_array *, llb_u32, plat_slots *out)
{
	*out = {1, 1, 1, 0};
	return 0;
}

} // extern "C"

namespace {

void format()
{
	memset(member, 0, sizeof(member));
	put32(LLB_SB_MAGIC, LLB_MAGIC);
	put32(LLB_SB_VERSION, LLB_VERSION);
	put32(LLB_SB_EVENTS, 100);
	put32(LLB_SB_STATE, LLB_SB_FIRST_USE | LLB_SB_CLEAN);
	put32(LLB_SB_DAEMON_SLEEP, 30);
	put32(LLB_SB_SECTORS_RESERVED, kSpaceBytes / 512);
}

void make(plat_array *h)
{
	if (llb_create(h, &h->bitmap) || llb_load(h->bitmap))
		exit(2);
	llb_update_sb(h->bitmap);
}

void write_once(plat_array *h, llb_u64 sector)
{
	llb_start_write(h->bitmap, sector, 8);
	if (llb_pending(h->bitmap))
		llb_unplug(h->bitmap, 1);
	llb_end_write(h->bitmap, sector, 8);
}

llb_u64 random_sector(const plat_array *h, Random *random)
{
	return random->next(h->sync_size / 8) * 8;
}

void touch_all(plat_array *h)
{
	llb_metadata m;
	llb_metadata_get(h->bitmap, &m);
	for (llb_u64 sector = 0; sector < h->sync_size; sector += m.chunk_sectors)
		write_once(h, sector);
}

template <typename Work>
void phase(const char *name, Work work)
{
	CALLGRIND_ZERO_STATS;
	CALLGRIND_TOGGLE_COLLECT;
	work();
	CALLGRIND_TOGGLE_COLLECT;
	CALLGRIND_DUMP_STATS_AT(name);
}

void count(plat_array *h)
{
	Random random = {88172645463325252ull};
	phase("create and load", [&] { make(h); });
	phase("first touch", [&] {
		for (unsigned i = 0; i < kTouches; i++) {
			clock_ms += 2000; // so that each covers few neighbours
			write_once(h, random_sector(h, &random));
		}
	});
	touch_all(h);
	phase("write", [&] {
		for (unsigned i = 0; i < kWrites; i++)
			write_once(h, random_sector(h, &random));
	});
	clock_ms += 30000;
	llb_daemon(h->bitmap); // marks
	phase("daemon pass", [&] {
		clock_ms += 30000;
		llb_daemon(h->bitmap); // finds all quiet and cleans it
	});
}

double seconds_since(std::chrono::steady_clock::time_point start)
{
	return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Nanoseconds of each thread for one turn.
template <typename Work>
double loop_ns(plat_array *h, unsigned count, Work work)
{
	std::vector<std::thread> workers;
	std::vector<unsigned long long> done(count * 16); // a line for each
	auto start = std::chrono::steady_clock::now();
	for (unsigned i = 0; i < count; i++)
		workers.emplace_back([&, i] {
			Random random = {88172645463325252ull + i};
			unsigned long long n = 0;
			while (seconds_since(start) < kRun_s)
				for (unsigned k = 0; k < 1000; k++, n++)
					work(random_sector(h, &random));
			done[i * 16] = n;
		});
	for (auto &thread : workers)
		thread.join();
	double took_s = seconds_since(start);
	unsigned long long all = 0;
	for (unsigned i = 0; i < count; i++)
		all += done[i * 16];
	return took_s * 1e9 * count / double(all);
}

void time_writes(plat_array *h, unsigned count)
{
	auto start = std::chrono::steady_clock::now();
	make(h);
	double make_s = seconds_since(start);
	touch_all(h);

	llb_metadata m;
	llb_metadata_get(h->bitmap, &m);
	unsigned long long resting = held;
	double write_ns = loop_ns(h, count, [&](llb_u64 sector) { write_once(h, sector); });
	// The same without a bitmap: what the machine itself does to that many threads.
	double empty_ns = loop_ns(h, count, [](llb_u64 sector) { asm volatile("" : : "r"(sector)); });
	printf("%llu %llu %llu %f %f %f\n", static_cast<unsigned long long>(m.chunks), resting, per_cpu,
	       make_s, write_ns, empty_ns);
}

// Prints: bitmap writes for first touches, chunks not clean, chunks touched in the last
// barrier_idle + 2 * daemon_sleep.
void cover(plat_array *h, const char *kind, double rate)
{
	constexpr unsigned kSleep_s = 1, kIdle_s = 1, kRun_s = 12, kTouched = 2000;
	const bool touch = !strcmp(kind, "touch"), dense = !strcmp(kind, "dense");
	make(h);
	llb_tune(h->bitmap, LLB_TUNE_DAEMON_SLEEP, kSleep_s);
	llb_tune(h->bitmap, LLB_TUNE_BARRIER_IDLE, kIdle_s);
	llb_metadata m;
	llb_metadata_get(h->bitmap, &m);
	const llb_u64 first = dense ? m.chunks * 3 / 8 : 0, count = dense ? m.chunks / 4 : m.chunks;
	const llb_u64 begin_ms = clock_ms, writes = llb_u64(touch ? kTouched : kRun_s * rate);
	llb_u64 pass_ms = begin_ms + kSleep_s * 1000;
	llb_u64 used = 0;
	Random random = {88172645463325252ull};
	std::map<llb_u64, llb_u64> last_ms;

	for (llb_u64 i = 0; i < writes; i++) {
		clock_ms = begin_ms + llb_u64(double(i) * 1000 / rate);
		for (; !touch && clock_ms >= pass_ms; pass_ms += kSleep_s * 1000)
			llb_daemon(h->bitmap);
		llb_u64 chunk = first + random.next(count), before = ios;
		write_once(h, chunk * m.chunk_sectors);
		used += ios - before;
		last_ms[chunk] = clock_ms;
	}
	unsigned dirty = 0, touched = 0;
	for (llb_u64 chunk = 0; chunk < m.chunks; chunk++)
		dirty += member[LLB_CELLS_OFFSET + chunk] == LLB_DIRTY;
	for (const auto &one : last_ms)
		touched += one.second + (kIdle_s + 2 * kSleep_s) * 1000 > clock_ms;
	printf("%llu %u %u\n", static_cast<unsigned long long>(used), dirty, touched);
}

} // namespace

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	plat_array h = {strtoull(argv[2], nullptr, 0) * kGib, nullptr};
	format();
	if (!strcmp(argv[1], "count"))
		count(&h);
	else if (!strcmp(argv[1], "cover") && argc > 4)
		cover(&h, argv[3], atof(argv[4]));
	else
		time_writes(&h, argc > 3 ? unsigned(atoi(argv[3])) : 1);
	llb_destroy(h.bitmap);
	return 0;
}
