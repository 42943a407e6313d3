// SPDX-License-Identifier: GPL-2.0
#include "platform.hpp"

#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <linux/membarrier.h>
#include <map>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#define RELAXED std::memory_order_relaxed

namespace fake {

u32 thread_slot();

namespace {

constexpr int kWaitLimit_s = 20; // a wait that long is a lost wake-up

// ---- calls ----

std::atomic<bool> calls_watched{false};
thread_local std::vector<std::string> calls;

void called(const char *name)
{
	if (calls_watched.load(RELAXED))
		calls.push_back(name);
}

// ---- memory ----

std::mutex memory_mutex;
struct Block {
	size_t bytes;
	bool counters;
};
std::map<void *, Block> live;
int allocation_count, allocation_fails;

void *allocate(size_t bytes, size_t align, bool counters = false)
{
	std::lock_guard<std::mutex> hold(memory_mutex);
	if (++allocation_count == allocation_fails)
		return nullptr;
	size_t size = (bytes + align - 1) / align * align;
	void *p = aligned_alloc(align, size ? size : align);
	memset(p, 0, size ? size : align);
	live[p] = {size, counters};
	return p;
}

void release(void *p)
{
	if (!p)
		return;
	std::lock_guard<std::mutex> hold(memory_mutex);
	if (!live.erase(p)) {
		fprintf(stderr, "platform: free of what was not allocated\n");
		abort();
	}
	free(p);
}

// ---- threads as CPUs ----

struct alignas(64) Cpu {
	std::atomic<u32> taken{0};
	std::atomic<u32> depth{0}; // in a section
	std::atomic<u32> sections{0};
};
Cpu cpus[kThreads];

struct Slot {
	u32 index = 0;
	Slot()
	{
		for (;; index = (index + 1) % kThreads) {
			u32 none = 0;
			if (cpus[index].taken.compare_exchange_strong(none, 1))
				return;
		}
	}
	~Slot() { cpus[index].taken.store(0); }
};

std::atomic<u32> jitter_every{0};
thread_local u64 jitter_seed = 0;

// Widens the windows between threads: sometimes a thread stops for a moment here.
void jitter()
{
	u32 every = jitter_every.load(RELAXED);
	if (!every)
		return;
	if (!jitter_seed)
		jitter_seed = 0x9e3779b97f4a7c15ull * (thread_slot() + 1);
	jitter_seed ^= jitter_seed << 13, jitter_seed ^= jitter_seed >> 7, jitter_seed ^= jitter_seed << 17;
	if (jitter_seed % every)
		return;
	if (jitter_seed / every % 8 == 0)
		std::this_thread::sleep_for(std::chrono::microseconds(jitter_seed >> 40 & 511));
	else if (jitter_seed / every % 8 < 4)
		std::this_thread::yield();
	else
		for (u32 i = 0; i < (jitter_seed >> 40 & 4095); i++)
			std::atomic_signal_fence(std::memory_order_seq_cst);
}

thread_local plat_counters *late_counters;
thread_local u32 late_index, late_turn;

bool have_membarrier()
{
	static const bool have =
		syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	return have;
}

// A full barrier on every running thread, so that a section needs none itself.
void barrier_everywhere()
{
	if (have_membarrier())
		syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

} // namespace

u32 thread_slot()
{
	thread_local Slot slot;
	return slot.index;
}

void set_jitter(u32 every)
{
	jitter_every.store(every, RELAXED);
}

std::atomic<bool> no_pages_at_once{false};

void fail_allocation(int n)
{
	std::lock_guard<std::mutex> hold(memory_mutex);
	allocation_count = 0;
	allocation_fails = n;
}

int allocations()
{
	std::lock_guard<std::mutex> hold(memory_mutex);
	return allocation_count;
}

int live_allocations()
{
	std::lock_guard<std::mutex> hold(memory_mutex);
	return int(live.size());
}

std::vector<u8> memory()
{
	std::lock_guard<std::mutex> hold(memory_mutex);
	std::vector<u8> all;
	for (auto &[p, block] : live) {
		if (!block.counters)
			all.insert(all.end(), static_cast<u8 *>(p), static_cast<u8 *>(p) + block.bytes);
	}
	return all;
}

void watch_calls(bool on)
{
	calls_watched.store(on, RELAXED);
	calls.clear();
}

std::vector<std::string> take_calls()
{
	return std::move(calls);
}

} // namespace fake

using fake::called;
using fake::Member;

static std::atomic<plat_array *> current_host; // for plat_now_ms, which names none

// ---- the host ----

plat_array::plat_array(u32 count, u32 space_sectors, u32 guard_bytes)
	: space_bytes(space_sectors * 512)
{
	fake::have_membarrier();
	current_host.store(this);
	array.sync_size = 1 << 20;
	array.bitmap_offset = 8;
	array.bitmap_space = space_sectors;
	array.level = 1;
	array.raid_disks = s32(count);
	for (u32 i = 0; i < 16; i++)
		array.uuid[i] = u8(0x10 + i);
	for (u32 i = 0; i < count; i++) {
		auto m = std::make_unique<Member>(space_bytes + guard_bytes);
		m->m.sb_start = 8;
		m->m.data_offset = 8 + 8 + space_sectors;
		m->m.data_sectors = 1 << 20;
		m->m.logical_block = 512;
		m->slot = s32(i);
		for (u32 at = space_bytes; at < m->bytes.size(); at++)
			m->put(at, 0xda);
		members.push_back(std::move(m));
	}
}

plat_array::~plat_array()
{
	current_host.store(nullptr);
}

void plat_array::violation(const char *fmt, ...)
{
	char text[500];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	std::lock_guard<std::mutex> hold(log_mutex);
	if (violations.size() < 20)
		violations.push_back(text);
}

int plat_array::count_log(u32 level, const char *part) const
{
	std::lock_guard<std::mutex> hold(log_mutex);
	int n = 0;
	for (const auto &line : log)
		n += line.level == level && line.text.find(part) != std::string::npos;
	return n;
}

std::string plat_array::log_text() const
{
	std::lock_guard<std::mutex> hold(log_mutex);
	std::string all;
	for (const auto &line : log)
		all += std::to_string(line.level) + " " + line.text + "\n";
	return all;
}

void plat_array::fail_member(u32 i, bool at_last)
{
	Member &m = *members[i];
	std::lock_guard<std::mutex> hold(error_mutex); // as the personality's lock
	if (!md_error_works.load(RELAXED) || m.has(PLAT_MEMBER_FAULTY))
		return;
	u32 others = 0;
	for (auto &o : members)
		others += o.get() != &m && o->in_sync();
	if (keep_last.load(RELAXED) && others == 0 && m.in_sync() && !at_last)
		return; // md_error does not fail raid1's last member
	if (on_member_fail)
		on_member_fail(i);
	u32 before = m.flags.fetch_or(PLAT_MEMBER_FAULTY, std::memory_order_seq_cst);
	m.flags.fetch_and(~PLAT_MEMBER_IN_SYNC, std::memory_order_seq_cst);
	if ((before & PLAT_MEMBER_IN_SYNC) && !(before & (PLAT_MEMBER_FAULTY | fake::kReplacement)) &&
	    m.slot.load(RELAXED) >= 0)
		degraded.fetch_add(1, std::memory_order_seq_cst);
}

bool plat_array::run_lead()
{
	if (!lead_queued.exchange(false, std::memory_order_acq_rel) || !bitmap)
		return false;
	llb_leader_work(bitmap);
	return true;
}

bool plat_array::run_daemon_if_due()
{
	u64 due = daemon_due.load();
	if (due > plat_now_ms())
		return false;
	daemon_due.store(~0ull);
	llb_daemon(bitmap);
	return true;
}

void plat_array::run_for(u64 ms)
{
	u64 end = clock_ms + ms;
	auto mdx = [&] {
		if (llb_daemon_work_due(bitmap))
			llb_daemon_work(bitmap);
	};
	mdx(); // it runs after each change of the array
	for (;;) {
		run_lead();
		u64 due = daemon_due.load();
		if (due > end)
			break;
		if (due > clock_ms)
			clock_ms = due;
		run_daemon_if_due();
		if (md_wakes.exchange(0))
			mdx();
	}
	run_lead();
	clock_ms = end;
}

extern "C" {

// ---- memory ----

void *plat_alloc(llb_u64 bytes)
{
	called("plat_alloc");
	return fake::allocate(bytes, 64);
}

void plat_free(void *p)
{
	called("plat_free");
	fake::release(p);
}

void *plat_page_alloc(llb_u32 may_wait)
{
	called("plat_page_alloc");
	if (!may_wait && fake::no_pages_at_once.load(RELAXED))
		return nullptr;
	return fake::allocate(4096, 4096);
}

void plat_page_free(void *p)
{
	called("plat_page_free");
	fake::release(p);
}

// ---- this-CPU counters ----

struct plat_counters {
	u32 count;
	std::atomic<u32> *values; // [thread][count]
};

struct plat_counters *plat_counters_alloc(llb_u32 count)
{
	called("plat_counters_alloc");
	u64 n = u64{count} * fake::kThreads;
	void *p = fake::allocate(sizeof(plat_counters) + n * sizeof(u32), 64, true);
	if (!p)
		return nullptr;
	auto *c = static_cast<plat_counters *>(p);
	c->count = count;
	c->values = reinterpret_cast<std::atomic<u32> *>(c + 1);
	return c;
}

void plat_counters_free(struct plat_counters *c)
{
	called("plat_counters_free");
	fake::release(c);
}

static void add_one(struct plat_counters *c, u32 index)
{
	// a plain increment, as this_cpu_inc: only this thread writes it
	auto &v = c->values[u64{fake::thread_slot()} * c->count + index];
	v.store(v.load(RELAXED) + 1, RELAXED);
}

void plat_section_enter(struct plat_counters *c, llb_u32 index)
{
	called("plat_section_enter");
	auto &cpu = fake::cpus[fake::thread_slot()];
	if (cpu.depth.load(RELAXED))
		abort(); // no section in a section
	cpu.depth.store(1, RELAXED);
	if (!fake::have_membarrier())
		cpu.depth.exchange(1, std::memory_order_seq_cst);
	std::atomic_signal_fence(std::memory_order_seq_cst);
	// A store may be seen late, by all but its own CPU; a grace period ends that.
	plat_array *h = current_host.load(RELAXED);
	bool late =
		(h && h->on_section) || (fake::jitter_every.load(RELAXED) && (++fake::late_turn & 3) == 0);
	if (late) {
		fake::late_counters = c;
		fake::late_index = index;
	} else {
		add_one(c, index);
	}
	fake::jitter();
}

void plat_section_leave(void)
{
	called("plat_section_leave");
	fake::jitter();
	plat_array *h = current_host.load(RELAXED);
	if (h && h->on_section)
		h->on_section();
	if (fake::late_counters) {
		add_one(fake::late_counters, fake::late_index);
		fake::late_counters = nullptr;
	}
	auto &cpu = fake::cpus[fake::thread_slot()];
	cpu.sections.store(cpu.sections.load(RELAXED) + 1, std::memory_order_release);
	cpu.depth.store(0, std::memory_order_release);
	if (h && h->on_section_leave)
		h->on_section_leave();
}

void plat_counter_inc(struct plat_counters *c, llb_u32 index)
{
	called("plat_counter_inc");
	add_one(c, index);
}

llb_u32 plat_counter_sum(struct plat_counters *c, llb_u32 index)
{
	called("plat_counter_sum");
	u32 sum = 0;
	for (u32 t = 0; t < fake::kThreads; t++)
		sum += c->values[u64{t} * c->count + index].load(RELAXED);
	fake::jitter();
	plat_array *h = current_host.load(RELAXED);
	if (h && h->on_sum)
		h->on_sum();
	return sum;
}

void plat_grace_period(void)
{
	called("plat_grace_period");
	plat_array *h = current_host.load(RELAXED);
	if (h && h->on_grace)
		h->on_grace();
	fake::barrier_everywhere();
	for (auto &cpu : fake::cpus) {
		u32 seen = cpu.sections.load(std::memory_order_acquire);
		while (cpu.depth.load(std::memory_order_acquire) &&
		       cpu.sections.load(std::memory_order_acquire) == seen)
			std::this_thread::yield();
	}
	fake::barrier_everywhere();
}

// ---- time, work, waiting ----

llb_u64 plat_now_ms(void)
{
	called("plat_now_ms");
	fake::jitter();
	plat_array *h = current_host.load(RELAXED);
	if (h && !h->real_time.load(RELAXED))
		return h->clock_ms.load(RELAXED);
	auto t = std::chrono::steady_clock::now().time_since_epoch();
	return u64(std::chrono::duration_cast<std::chrono::milliseconds>(t).count());
}

void plat_daemon_arm(struct plat_array *h, llb_u32 delay_ms)
{
	called("plat_daemon_arm");
	u64 due = plat_now_ms() + delay_ms;
	u64 old = h->daemon_due.load(RELAXED);
	while (due < old && !h->daemon_due.compare_exchange_weak(old, due, RELAXED))
		;
}

void plat_leader_queue(struct plat_array *h)
{
	called("plat_leader_queue");
	h->lead_queued.store(true, std::memory_order_release); // queue_work orders
	if (!h->inline_work) {
		std::lock_guard<std::mutex> hold(h->wait_mutex);
		h->wait_cv.notify_all();
	}
}

void plat_md_wake(struct plat_array *h)
{
	called("plat_md_wake");
	h->md_wakes.fetch_add(1, RELAXED);
}

void plat_relax(void) {}

void plat_sleep_ms(llb_u32 ms)
{
	called("plat_sleep_ms");
	plat_array *h = current_host.load(RELAXED);
	if (h && h->on_sleep)
		h->on_sleep();
	if (h && !h->real_time.load(RELAXED)) {
		if (h->inline_work)
			h->clock_ms += ms;
		else
			std::this_thread::sleep_for(std::chrono::milliseconds(1));
		return;
	}
	std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

void plat_wait(struct plat_array *h, struct llb_bitmap *b, llb_u32 kind, llb_u64 arg)
{
	called("plat_wait");
	if (llb_wait_done(b, kind, arg))
		return;
	h->waits.fetch_add(1, RELAXED);
	if (h->inline_work && kind != PLAT_WAIT_LEADER && h->run_lead() && llb_wait_done(b, kind, arg))
		return;
	auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(fake::kWaitLimit_s);
	std::unique_lock<std::mutex> hold(h->wait_mutex);
	while (!llb_wait_done(b, kind, arg)) {
		if (h->wait_cv.wait_until(hold, limit) == std::cv_status::timeout) {
			fprintf(stderr, "platform: plat_wait(%u, %llu) is not woken\n", kind,
				static_cast<unsigned long long>(arg));
			abort();
		}
	}
}

void plat_wake(struct plat_array *h)
{
	called("plat_wake");
	{
		std::lock_guard<std::mutex> hold(h->wait_mutex); // as wake_up_all does
		h->wait_cv.notify_all();
	}
	if (h->on_woken)
		h->on_woken();
}

// ---- the array ----

void plat_array_get(struct plat_array *h, struct plat_array_info *out)
{
	called("plat_array_get");
	fake::jitter();
	*out = h->array;
	out->flags = h->flags.load(RELAXED);
	out->degraded = h->degraded.load(RELAXED);
	out->events = h->events.load(RELAXED);
}

static void count_slots(struct plat_array *h, const std::vector<bool> *flushed, struct plat_slots *out)
{
	*out = {};
	out->slots = u32(h->array.raid_disks);
	out->degraded = h->degraded.load(std::memory_order_seq_cst);
	for (s32 slot = 0; slot < h->array.raid_disks; slot++) {
		bool in_sync = false, all = true, other = false;
		for (u32 i = 0; i < h->members.size(); i++) {
			Member &m = *h->members[i];
			if (m.slot.load(RELAXED) != slot || !m.working())
				continue;
			if (!m.in_sync()) {
				other = true;
				continue;
			}
			in_sync = true;
			all = all && flushed && (*flushed)[i];
		}
		out->in_sync += in_sync;
		out->flushed += in_sync && all;
		out->replacing += in_sync && other;
	}
}

void plat_slots_get(struct plat_array *h, struct plat_slots *out)
{
	called("plat_slots_get");
	count_slots(h, nullptr, out);
	out->flushed = 0;
}

llb_u64 plat_events(struct plat_array *h)
{
	called("plat_events");
	return h->events.load(RELAXED);
}

int plat_member_get(struct plat_array *h, llb_u32 index, struct plat_member *out)
{
	called("plat_member_get");
	if (index >= h->members.size())
		return -LLB_ERANGE;
	Member &m = *h->members[index];
	*out = m.m;
	if (!out->new_data_offset) // a test says so only for a reshape
		out->new_data_offset = out->data_offset;
	out->slot = m.slot.load(RELAXED);
	out->flags = m.flags.load(RELAXED);
	return 0;
}

void plat_bbl_disable(struct plat_array *h, llb_u32 index)
{
	called("plat_bbl_disable");
	h->members[index]->bad_log_disabled = true;
	h->members[index]->flags.fetch_and(~PLAT_MEMBER_BBL, RELAXED);
}

void plat_chunk_bytes_set(struct plat_array *h, llb_u64 bytes, llb_u32 daemon_sleep_s)
{
	called("plat_chunk_bytes_set");
	h->chunk_bytes = bytes;
	h->daemon_sleep_s = daemon_sleep_s;
}

void plat_bitmap_place(struct plat_array *h, llb_s64 offset)
{
	called("plat_bitmap_place");
	h->array.bitmap_offset = offset;
	h->array.bitmap_space = 0;
}

void plat_resync_request(struct plat_array *h)
{
	called("plat_resync_request");
	h->resync_offset.store(0, RELAXED);
	h->resync_requests.fetch_add(1, RELAXED);
}

void plat_broken_set(struct plat_array *h)
{
	called("plat_broken_set");
	h->flags.fetch_or(PLAT_ARRAY_BROKEN, RELAXED);
}

void plat_member_fail(struct plat_array *h, llb_u32 index)
{
	called("plat_member_fail");
	h->fail_member(index);
}

void plat_absent_missed(struct plat_array *h)
{
	called("plat_absent_missed");
	for (auto &m : h->members) {
		if (m->in_sync())
			m->flags.fetch_and(~PLAT_MEMBER_MISSED, RELAXED);
		else
			m->flags.fetch_or(PLAT_MEMBER_MISSED, RELAXED);
	}
}

void plat_member_distrust(struct plat_array *h, llb_u32 index)
{
	called("plat_member_distrust");
	h->members[index]->flags.fetch_and(~PLAT_MEMBER_MISSED, RELAXED);
	h->distrusted.push_back(index);
}

void plat_write_behind_set(struct plat_array *h, llb_u32 writes)
{
	called("plat_write_behind_set");
	h->write_behind = writes;
}

void plat_map_write(struct plat_array *h, llb_u64 *sector, llb_u64 *sectors)
{
	called("plat_map_write");
	u64 at = *sector, n = *sectors;
	if (h->on_map) {
		h->on_map(at, n);
	} else { // whole rows of raid chunks, as raid4/5/6 announce them
		u64 stripe =
			u64{h->array.raid_chunk} * u64(h->array.raid_disks - (h->array.level == 6 ? 2 : 1));
		u64 first = at / stripe, end = (at + n + stripe - 1) / stripe;
		at = first * h->array.raid_chunk;
		n = (end - first) * h->array.raid_chunk;
	}
	*sector = at;
	*sectors = n;
}

int plat_superblock_write(struct plat_array *h)
{
	called("plat_superblock_write");
	h->superblocks++;
	if (h->superblock_busy)
		return -LLB_EBUSY;
	h->events.fetch_add(1);
	llb_update_sb(h->bitmap);
	return 0;
}

void plat_recovery_wait(struct plat_array *h)
{
	called("plat_recovery_wait");
	if (h->on_recovery_wait)
		h->on_recovery_wait();
}

void plat_checkpoint(struct plat_array *h, llb_u64 sector)
{
	called("plat_checkpoint");
	h->checkpoints.push_back(sector);
}

int plat_stripes_forget(struct plat_array *h)
{
	called("plat_stripes_forget");
	h->stripes_forgotten++;
	return h->stripes_error;
}

void plat_recovery_begin(struct plat_array *)
{
	called("plat_recovery_begin");
}

void plat_recovery_back(struct plat_array *h, llb_u64 sector)
{
	called("plat_recovery_back");
	h->recovery_back_to = sector;
}

void plat_recovery_again(struct plat_array *h, llb_u64 sector)
{
	called("plat_recovery_again");
	h->recovery_back_at.push_back(h->stripes_forgotten);
	h->recovery_again_from = sector;
}

void plat_recovery_stopped(struct plat_array *h, llb_u64 sector)
{
	called("plat_recovery_stopped");
	h->stopped_at.push_back(sector);
}

int plat_recover(struct plat_array *h, llb_u64 sector, llb_u64 sectors)
{
	called("plat_recover");
	h->recovered_again.push_back({sector, sectors});
	return h->on_recover ? h->on_recover(sector) : 0;
}

void plat_log(struct plat_array *h, llb_u32 level, const char *fmt, ...)
{
	called("plat_log");
	char text[1000];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	std::lock_guard<std::mutex> hold(h->log_mutex);
	if (h->log.size() < 1000)
		h->log.push_back({level, text});
}

// ---- member I/O ----

llb_u32 plat_members_get(struct plat_array *h, llb_u32 hold)
{
	called("plat_members_get");
	if (!hold && h->suspended.load(RELAXED))
		return 0;
	h->refs.fetch_add(1, RELAXED);
	return 1;
}

void plat_members_put(struct plat_array *h, llb_u32)
{
	called("plat_members_put");
	h->refs.fetch_sub(1, RELAXED);
}

static bool fails(std::atomic<int> &count)
{
	int n = count.load(RELAXED);
	if (n > 0)
		count.fetch_sub(1, RELAXED);
	return n != 0;
}

int plat_read(struct plat_array *h, llb_u32 index, llb_u64 offset, void *page, llb_u32 bytes)
{
	called("plat_read");
	if (index >= h->members.size())
		return -LLB_ERANGE;
	Member &m = *h->members[index];
	if (offset % m.m.logical_block || bytes % m.m.logical_block)
		h->violation("read at %llu of %u bytes is not in blocks of %u",
			     static_cast<unsigned long long>(offset), bytes, m.m.logical_block);
	if (h->on_read && !h->on_read(index))
		return -LLB_EIO;
	if (m.has(PLAT_MEMBER_FAULTY) || fails(m.fail_reads) || offset + bytes > m.bytes.size())
		return -LLB_EIO;
	for (u32 i = 0; i < bytes; i++)
		static_cast<u8 *>(page)[i] = m.at(offset + i);
	return 0;
}

void plat_io_begin(struct plat_array *h)
{
	called("plat_io_begin");
	if (h->batch_open)
		h->violation("two batches at a time");
	if (h->refs.load(RELAXED) <= 0)
		h->violation("a batch without a reference to the members");
	h->batch_open = true;
	h->targets.clear();
	h->pieces.clear();
	for (u32 i = 0; i < h->members.size(); i++) {
		Member &m = *h->members[i];
		if (m.working() && !m.has(PLAT_MEMBER_JOURNAL))
			h->targets.push_back({i, m.in_sync(), false});
	}
	h->io_batches.fetch_add(1, RELAXED);
}

void plat_io_add(struct plat_array *h, llb_u64 offset, const void *buf, llb_u32 bytes)
{
	called("plat_io_add");
	if (!h->batch_open)
		h->violation("plat_io_add without a batch");
	const u8 *p = static_cast<const u8 *>(buf);
	h->pieces.push_back({u32(offset), bytes, p, std::vector<u8>(p, p + bytes)});
	h->io_adds.fetch_add(1, RELAXED);
}

static void apply(struct plat_array *h, u32 member, const plat_array::Piece &piece)
{
	Member &m = *h->members[member];
	if (piece.offset % m.m.logical_block || piece.bytes % m.m.logical_block || piece.bytes == 0)
		h->violation("write at %u of %u bytes is not in blocks of %u", piece.offset, piece.bytes,
			     m.m.logical_block);
	if (piece.offset + piece.bytes > m.bytes.size()) {
		h->violation("write at %u of %u bytes", piece.offset, piece.bytes);
		return;
	}
	if (h->check_space && piece.offset + piece.bytes > h->space_bytes)
		h->violation("write at %u of %u bytes, but the bitmap's space ends at %u", piece.offset,
			     piece.bytes, h->space_bytes);
	for (u32 at = 0; at < piece.bytes; at += 512) {
		for (u32 i = at; i < at + 512; i++) {
			u32 where = piece.offset + i;
			u8 before = m.at(where);
			if (h->on_byte && where >= LLB_CELLS_OFFSET && before != piece.copy[i])
				h->on_byte(member, where - LLB_CELLS_OFFSET, before, piece.copy[i]);
			if (before != piece.copy[i])
				m.put(where, piece.copy[i]);
		}
		if (h->keep_log) {
			fake::SectorWrite w = {h->io_batches.load(RELAXED), member, piece.offset + at, {}};
			memcpy(w.data, &piece.copy[at], 512);
			h->writes.push_back(w);
		}
	}
}

void plat_io_wait(struct plat_array *h, struct plat_io_result *out)
{
	called("plat_io_wait");
	if (h->on_io_wait)
		h->on_io_wait();
	for (auto &t : h->targets) {
		Member &m = *h->members[t.member];
		m.batches.fetch_add(1, RELAXED);
		if (m.has(PLAT_MEMBER_FAULTY) || fails(m.fail_writes)) {
			t.failed = true;
			h->fail_member(t.member);
			if (!h->failures_land)
				continue;
		}
		for (const auto &piece : h->pieces)
			apply(h, t.member, piece);
	}
	for (const auto &piece : h->pieces) {
		if (memcmp(piece.buf, piece.copy.data(), piece.bytes))
			h->violation("W6: a buffer changed under I/O, at %u", piece.offset);
	}
	*out = {};
	for (auto &t : h->targets) {
		Member &m = *h->members[t.member];
		out->in_sync_ok += t.was_in_sync && !t.failed && m.has(PLAT_MEMBER_IN_SYNC);
	}
	h->batch_open = false;
}

int plat_flush(struct plat_array *h, llb_u32 hold, struct plat_slots *out)
{
	called("plat_flush");
	if (!hold && h->suspended.load(RELAXED))
		return -LLB_EBUSY;
	h->flush_calls.fetch_add(1, RELAXED);
	if (h->on_flush)
		h->on_flush();
	std::vector<bool> flushed(h->members.size());
	for (u32 i = 0; i < h->members.size(); i++) {
		Member &m = *h->members[i];
		if (!m.working())
			continue;
		if (h->on_member_flush_begin)
			h->on_member_flush_begin(i);
		if (fails(m.fail_flushes)) {
			h->fail_member(i);
			continue;
		}
		m.flushes.fetch_add(1, RELAXED);
		flushed[i] = true;
		if (h->on_member_flush_end)
			h->on_member_flush_end(i);
	}
	if (h->on_flushed)
		h->on_flushed();
	count_slots(h, &flushed, out);
	if (h->on_slots)
		h->on_slots(*out);
	return 0;
}
}
