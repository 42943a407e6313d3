// SPDX-License-Identifier: GPL-2.0
// The power-cut simulator: random work, a cut, assembly, resync, compare. See
// README.md for the fault model. sim --seed N replays run N exactly.
#include "members.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

extern "C" void sim_time_set(uint64_t ms);

namespace {

struct Workload {
	const char *name;
	uint64_t chunks_max; // the array's size is random up to this
	uint32_t depth; // writes in flight
	uint32_t members;
	uint32_t hot_percent; // of the array that writes go to
	bool sequential;
	uint32_t discard_one_in; // 0: never
	uint32_t fail_one_in; // steps; 0: never
	uint32_t io_error_one_in; // bitmap writes and flushes; 0: never
	bool behind; // the last member is written behind
	uint32_t reshape_one_in = 0; // steps; 0: never
	uint32_t spares = 0; // disks that reshapes may add
	uint32_t bitmap_fails_one_in = 0; // steps: a member's bitmap takes no write any more; 0: never
	uint32_t budget_mib = 0; // what a crash may cost; 0: the default
	uint8_t size = 0; // of kSizes
	bool hot = false; // a write of one chunk is always under way
};

// Of an array, in sectors. Where there is more room than reserved, a new bitmap takes it.
struct Size {
	uint64_t chunks_min; // with fewer they would be smaller
	uint32_t chunk;
	uint64_t reserved, space; // for the bitmap: by its header, and what lies there
	uint64_t room; // what leaves so much for it
};
constexpr uint8_t kReal = 1, k16tb = 2;
constexpr Size kSizes[] = {
	{8, LLB_CHUNK_SECTORS_MIN, kSpaceSectors, kSpaceSectors, kSpaceSectors},
	{3600, 1 << 13, 4, kSpaceSectors, (1 << 14) + 64 * 16}, // 14 to 28 GiB
	{1'907'000, 1 << 14, 256, 4096, (1 << 18) - 16}, // "16 TB", and mdadm's place before the data
};
constexpr uint32_t kHot = 3; // the chunk
constexpr uint32_t kRecover = 0; // an action: neither of those that have a flag

constexpr Workload kWorkloads[] = {
	{"random", 600, 8, 2, 100, false, 0, 0, 0, false},
	{"sequential", 600, 4, 2, 100, true, 0, 0, 0, false},
	{"dense-quarter", 2000, 16, 2, 25, false, 0, 0, 0, false},
	{"hot", 3000, 8, 2, 2, false, 0, 0, 0, false},
	{"large", 9000, 16, 3, 100, false, 0, 0, 0, false},
	{"discard", 300, 6, 2, 100, false, 4, 0, 0, false},
	{"failing", 120, 6, 3, 50, false, 0, 60, 0, false},
	{"bitmap-errors", 120, 6, 3, 50, false, 0, 100, 60, false},
	{"behind", 300, 8, 2, 50, false, 0, 0, 0, true},
	{"everything", 120, 8, 3, 60, false, 8, 100, 200, true},
	{"last-member", 120, 6, 2, 100, false, 0, 150, 0, false, 0, 0, 300},
	{"reshape", 120, 6, 3, 60, false, 0, 120, 0, false, 80},
	{"reshape-adds", 120, 6, 2, 60, false, 8, 150, 300, false, 80, 2},
	{"reshape-large", 5000, 8, 2, 5, false, 0, 300, 0, false, 200, 1},
	{"budget", 600, 8, 2, 100, false, 8, 0, 0, false, 0, 0, 0, 1},
	{"budget-failing", 400, 8, 3, 50, false, 8, 100, 200, true, 0, 0, 0, 1},
	{"real-size", 3500, 8, 2, 100, false, 8, 0, 0, false, 0, 0, 0, 0, kReal},
	{"real-size-budget", 3500, 8, 2, 5, false, 0, 300, 300, false, 0, 0, 0, 12, kReal}, // 3 chunks
	{"hot-neighbour", 300, 8, 2, 100, false, 0, 0, 0, false, 0, 0, 0, 0, 0, true},
	{"hot-budget", 300, 8, 2, 100, false, 0, 0, 0, false, 0, 0, 0, 1, 0, true},
	{"16tb", 800, 8, 2, 1, false, 8, 300, 0, false, 0, 0, 0, 0, k16tb},
};

struct Totals {
	uint64_t cuts = 0, resynced = 0, at_risk = 0, runs = 0, recoveries = 0, reshapes = 0;
};

// A write or discard on its way.
struct Op {
	uint32_t first_half, halves, version;
	bool discard;
	enum { Started, Issuing, Acked } at = Started;
	std::vector<bool> done; // per member
	bool behind_counted = false;
};

struct Sync {
	uint32_t action; // PLAT_ARRAY_SYNC, PLAT_ARRAY_RESHAPE or kRecover
	bool full = false;
	uint64_t pos = 0; // sectors
};

bool tracing; // --seed: what happens to members is told

template <class... Args>
void trace(const char *fmt, Args... args)
{
	if (tracing)
		printf(fmt, args...);
}

class Run {
    public:
	Run(const Workload &w, uint64_t seed, Totals &totals)
		: w_(w)
		, totals_(totals)
	{
		rng_.engine.seed(seed);
	}

	// One array, several cuts. "" or what went wrong.
	std::string go(uint32_t cuts)
	{
		make();
		for (uint32_t i = 0; i < cuts && error_.empty(); i++) {
			bool quiet_end = false;
			try {
				h_.cut_in = 0;
				assemble();
				if (i == 0)
					h_.cut_in = 0;
				// a reshape that was cut may go on beside all else
				if (!h_.shape.pending || rng_.one_in(2)) {
					settle_syncs();
					compare("after assembly and resync");
				}
				uint64_t steps = 20 + rng_.below(w_.fail_one_in ? 1500 : 300);
				// the cut: between steps, or inside the n-th I/O from some step
				uint64_t inside_from = rng_.one_in(3) ? steps : rng_.below(steps);
				for (uint64_t s = 0; s < steps && error_.empty(); s++) {
					if (s == inside_from)
						h_.cut_in = 1 + uint32_t(rng_.below(12));
					step();
				}
				h_.cut_in = 0;
				if (rng_.one_in(8)) {
					quiet_end = true;
					idle_and_check();
				}
			} catch (const Cut &) {
			}
			if (!error_.empty())
				break;
			cut(quiet_end);
		}
		drop();
		return error_;
	}

    private:
	// ---- making the array ----

	void make()
	{
		h_.rng = &rng_;
		h_.members.resize(w_.members + w_.spares);
		h_.shape.now = h_.shape.next = {kRoom, w_.members};
		h_.level = w_.reshape_one_in && rng_.one_in(2) ? 10 : 1;
		const Size &size = kSizes[w_.size];
		h_.chunks = size.chunks_min + rng_.below(w_.chunks_max);
		h_.chunk_sectors = size.chunk;
		h_.room_sectors = size.room;
		h_.sync_size = h_.chunks * h_.chunk_sectors - (rng_.one_in(2) ? 0 : 8);
		halves_ = h_.halves = uint32_t(h_.chunks * kHalves);
		care_.assign(halves_, false);
		bool big_blocks = rng_.one_in(4);
		for (Member &m : h_.members) {
			m.bitmap.assign(size.space * 512, uint8_t(rng_.below(256)));
			m.data.assign(halves_ + kRoom, 0);
			for (uint32_t &v : m.data)
				v = uint32_t(rng_.below(1000)); // never-written: anything
			m.roles_faulty.assign(h_.members.size(), false);
			m.logical_block = big_blocks ? 4096 : 512;
			if (&m - h_.members.data() >= w_.members)
				continue; // a spare
			m.active = m.in_sync = true;
			m.events = 1;
			m.shape = h_.shape;
			header(m.bitmap.data());
		}
	}

	// What mdadm --create --bitmap=lockless writes.
	void header(uint8_t *p)
	{
		auto put = [&](uint32_t at, uint64_t v, uint32_t n) {
			for (uint32_t i = 0; i < n; i++)
				p[at + i] = uint8_t(v >> (8 * i));
		};
		memset(p, 0, 512);
		put(LLB_SB_MAGIC, LLB_MAGIC, 4);
		put(LLB_SB_VERSION, LLB_VERSION, 4);
		memset(p + LLB_SB_UUID, 7, 16);
		put(LLB_SB_SYNC_SIZE, h_.sync_size, 8);
		put(LLB_SB_STATE, LLB_SB_FIRST_USE, 4);
		put(LLB_SB_CHUNKSIZE, 65536, 4);
		put(LLB_SB_DAEMON_SLEEP, 1 + rng_.below(6), 4);
		put(LLB_SB_SECTORS_RESERVED, kSizes[w_.size].reserved, 4);
		put(LLB_SB_RESYNC_BUDGET, w_.budget_mib, 4);
	}

	void drop()
	{
		if (h_.bitmap)
			llb_destroy(h_.bitmap);
		h_.bitmap = nullptr;
	}

	// ---- assembly ----

	void assemble()
	{
		uint64_t newest = 0;
		const Member *fresh = nullptr;
		for (const Member &m : h_.members) {
			if (m.events > newest) {
				newest = m.events;
				fresh = &m;
			}
		}
		for (size_t i = 0; i < h_.members.size(); i++) {
			Member &m = h_.members[i];
			bool in = m.events && m.events + 1 >= newest && !fresh->roles_faulty[i] &&
				  !m.roles_recovering && i < fresh->shape.slots();
			m.active = m.in_sync = in;
			m.faulty = m.old = m.waiting = m.bitmap_fails = false;
		}
		h_.shape = fresh->shape;
		h_.recorded = h_.shape.done;
		for (size_t i = 0; i < h_.members.size(); i++)
			trace("assemble: member %zu events %llu %s\n", i,
			      (unsigned long long)h_.members[i].events, h_.members[i].active ? "in" : "out");
		trace("assemble: %u slots, %s\n", h_.slots(),
		      h_.shape.pending ? "a reshape goes on" : "no reshape");
		if (h_.in_sync_members() == 0)
			return fail("no member is in sync: the simulator's fault");
		h_.events = newest;
		h_.flags = 0;
		h_.broken = false;
		h_.daemon_armed = h_.lead_queued = h_.superblock_pending = false;
		h_.resync_offset = 0; // md's superblock says dirty: it resyncs what the bitmap names
		h_.io_error_one_in = 0;
		h_.log.clear();
		all_clean_ = std::exchange(orderly_, false);
		bool inside_load = rng_.one_in(5) && made_;
		made_ = true;
		if (inside_load)
			h_.cut_in = 1 + uint32_t(rng_.below(4));
		if (rng_.one_in(2) && h_.bitmap == nullptr)
			h_.now_ms += 100;
		if (int err = llb_create(&h_, &h_.bitmap))
			return fail("create refused: " + std::to_string(err) + " " + h_.log);
		if (rng_.one_in(4))
			h_.write_superblocks(); // md may, before load
		if (int err = llb_load(h_.bitmap))
			return fail("load refused: " + std::to_string(err) + " " + h_.log);
		h_.write_superblocks();
		llb_metadata md;
		llb_metadata_get(h_.bitmap, &md);
		if (md.chunks != h_.chunks || (w_.budget_mib && md.resync_budget_mib != w_.budget_mib))
			return fail(std::to_string(md.chunks) + " chunks, budget " +
				    std::to_string(md.resync_budget_mib));
		// An orderly stop of a whole array leaves nothing to do.
		llb_u64 bits[LLB_STATES];
		llb_bits_count(h_.bitmap, bits);
		if (all_clean_ && bits[LLB_NEED_SYNC])
			return fail(std::to_string(bits[LLB_NEED_SYNC]) +
				    " chunks need sync after an orderly stop: " + h_.log);
		if (inside_load)
			h_.cut_in = 0;
		h_.io_error_one_in = w_.io_error_one_in;
	}

	// ---- md: sync ----

	void start_sync_if_due()
	{
		if (sync_ || h_.broken)
			return;
		if (llb_daemon_work_due(h_.bitmap))
			llb_daemon_work(h_.bitmap);
		if (h_.shape.pending) {
			sync_ = Sync{PLAT_ARRAY_RESHAPE}; // goes on before all else
		} else if (h_.resync_offset == 0) {
			sync_ = Sync{PLAT_ARRAY_SYNC};
		} else {
			for (Member &m : h_.members) {
				m.active |= m.waiting;
				m.waiting = false;
			}
			bool any = false, full = false; // one recovery serves all that came
			for (uint32_t i = 0; i < h_.members.size(); i++) {
				const Member &m = h_.members[i];
				bool wants = m.active && !m.in_sync && !m.faulty;
				any |= wants;
				full |= wants && full_[i];
			}
			if (any) {
				trace("recovery starts%s\n", full ? ", full" : "");
				sync_ = Sync{kRecover, full};
				llb_write_all(h_.bitmap);
				totals_.recoveries++;
			}
		}
		if (sync_)
			h_.flags = PLAT_ARRAY_RUNNING | sync_->action;
	}

	// The reshape begins: md calls what it adds in sync at once, and writes that down.
	void start_reshape()
	{
		if (sync_ || h_.broken || h_.shape.pending || h_.superblock_pending || h_.resync_offset == 0)
			return;
		for (uint32_t i = 0; i < h_.slots(); i++) {
			if (h_.working(i) && !h_.in_sync(i))
				return; // see README: its recovery comes first
		}
		Shape &s = h_.shape;
		s.next = s.now;
		while (s.next.gap == s.now.gap)
			s.next.gap = uint32_t(rng_.below(kRoom + 1));
		uint32_t added = s.now.slots;
		if (added < h_.members.size() && rng_.one_in(2)) {
			s.next.slots++;
			h_.members[added].active = h_.members[added].in_sync = true;
			h_.members[added].roles_recovering = false;
		}
		s.pending = true;
		trace("reshape: data moves %s by %u halves, %u slots\n", s.up() ? "up" : "down", s.room(),
		      s.next.slots);
		totals_.reshapes++;
		sync_ = Sync{PLAT_ARRAY_RESHAPE};
		h_.flags = PLAT_ARRAY_RUNNING | PLAT_ARRAY_RESHAPE;
		h_.write_superblocks();
	}

	// Data go to where something else lies: only where the superblocks say that it has
	// been moved already.
	void reshape_step()
	{
		Shape &s = h_.shape;
		if (h_.flags & PLAT_ARRAY_INTR || h_.broken)
			return finish_reshape(false);
		if (s.done == halves_)
			return finish_reshape(true);
		if (s.done == h_.recorded + s.room() || (s.done > h_.recorded && rng_.one_in(8)))
			return h_.write_superblocks();
		if (llb_skip_sync(h_.bitmap, sync_->pos))
			return; // told to stop
		uint32_t most = uint32_t(std::min<uint64_t>(h_.recorded + s.room(), halves_));
		for (uint64_t n = 1 + rng_.below(8); n && s.done < most; n--) {
			uint32_t half = s.up() ? halves_ - 1 - s.done : s.done;
			if (busy(half, 1))
				return; // the barrier waits for what is in flight
			uint32_t value = h_.members[source(half)].now(h_.place(half));
			s.done++;
			for (uint32_t i = 0; i < h_.members.size(); i++) {
				if (h_.in_sync(i))
					h_.members[i].write(h_.place(half), value);
			}
		}
		sync_->pos = uint64_t(s.done) * (h_.chunk_sectors / kHalves);
	}

	// md asks the bitmap nothing at the end of a reshape.
	void finish_reshape(bool whole)
	{
		trace("reshape %s\n", whole ? "done" : "stopped");
		if (whole) {
			h_.shape.now = h_.shape.next;
			h_.shape.pending = false;
			h_.shape.done = 0;
		}
		if (!h_.broken)
			h_.write_superblocks();
		sync_.reset();
		h_.flags = 0;
	}

	// A member with the truth about it.
	uint32_t source(uint32_t half) const
	{
		for (uint32_t i = 0; i < h_.members.size(); i++) {
			if (h_.in_sync(i) && h_.holds(i, half))
				return i;
		}
		return 0;
	}

	bool busy(uint32_t first, uint32_t count) const
	{
		for (const Op &op : ops_) {
			if (op.first_half < first + count && first < op.first_half + op.halves)
				return true;
		}
		return false;
	}

	void sync_step()
	{
		Sync &s = *sync_;
		if (s.action == PLAT_ARRAY_RESHAPE)
			return reshape_step();
		if (h_.flags & PLAT_ARRAY_INTR || h_.broken)
			return finish_sync();
		if (s.pos >= h_.sync_size)
			return finish_sync();
		uint64_t skip = llb_skip_sync(h_.bitmap, s.pos);
		if (skip) {
			s.pos += skip;
			return;
		}
		uint32_t half = uint32_t(s.pos / (h_.chunk_sectors / kHalves));
		if (busy(half, 1))
			return; // the barrier waits for what is in flight
		llb_u64 n = 0;
		bool must = llb_start_sync(h_.bitmap, s.pos, &n, 1);
		if (!must && !s.full) {
			s.pos += n;
			return;
		}
		llb_cond_end_sync(h_.bitmap, s.pos, 0);
		uint32_t missing = 0;
		for (uint32_t i = 0; i < h_.slots(); i++)
			missing += !h_.working(i);
		llb_start_sync(h_.bitmap, s.pos, &n, missing > 0);
		uint32_t from = source(half);
		for (uint32_t i = 0; i < h_.members.size(); i++) {
			Member &m = h_.members[i];
			bool to = s.action == kRecover ? !m.in_sync : m.in_sync;
			if (i == from || !m.active || m.faulty || !to)
				continue;
			m.write(h_.place(half), h_.members[from].now(h_.place(half)));
		}
		if (s.action == PLAT_ARRAY_SYNC)
			resynced_ += half % kHalves == 0;
		s.pos = (uint64_t(half) + 1) * (h_.chunk_sectors / kHalves);
	}

	void finish_sync()
	{
		bool stopped = h_.flags & PLAT_ARRAY_INTR || h_.broken;
		if (stopped)
			h_.flags |= PLAT_ARRAY_INTR;
		llb_close_sync(h_.bitmap);
		stopped |= (h_.flags & PLAT_ARRAY_INTR) != 0;
		if (!stopped && sync_->action == PLAT_ARRAY_SYNC)
			h_.resync_offset = ~0ull;
		if (!stopped && sync_->action == kRecover) {
			for (Member &m : h_.members) {
				if (m.active && !m.faulty)
					m.in_sync = true, m.old = false;
			}
		}
		trace("%s %s at sector %llu\n", sync_->action == PLAT_ARRAY_SYNC ? "resync" : "recovery",
		      stopped ? "stopped" : "done", (unsigned long long)sync_->pos);
		sync_.reset();
		h_.flags = 0;
		if (!h_.broken)
			h_.write_superblocks();
	}

	// Let md do all syncs it wants, with nothing else going on.
	void settle_syncs()
	{
		int idle_s = 0;
		for (int i = 0; i < 200000 && error_.empty(); i++) {
			if (h_.superblock_pending)
				h_.write_superblocks();
			start_sync_if_due();
			if (!sync_) {
				if (idle_s++ > 20 || h_.broken)
					return;
				pass_time(1000);
				continue;
			}
			idle_s = 0;
			sync_step();
		}
		fail("syncs go on for ever");
	}

	// ---- work ----

	void start_op()
	{
		Op op{};
		uint32_t span = std::max<uint32_t>(kHalves, halves_ * w_.hot_percent / 100);
		op.discard = w_.discard_one_in && rng_.one_in(w_.discard_one_in);
		op.halves =
			op.discard ? kHalves * (1 + uint32_t(rng_.below(2))) : 1 + uint32_t(rng_.below(3));
		if (w_.sequential) {
			op.first_half = next_;
			next_ = (next_ + op.halves) % span;
		} else {
			op.first_half = uint32_t(rng_.below(span));
		}
		if (op.discard)
			op.first_half -= op.first_half % kHalves;
		op.halves = std::min(op.halves, halves_ - op.first_half);
		if (w_.hot && op.first_half < (kHot + 1) * kHalves &&
		    op.first_half + op.halves > kHot * kHalves)
			return; // keep_hot()'s
		// overlapping writes in flight have no defined result on a mirror
		if (!op.halves || busy(op.first_half, op.halves) || moving(op))
			return;
		op.version = ++version_;
		op.done.assign(h_.members.size(), false);
		if (op.discard)
			llb_start_discard(h_.bitmap, sector(op), sectors(op));
		else
			llb_start_write(h_.bitmap, sector(op), sectors(op));
		ops_.push_back(op);
	}

	bool is_hot(const Op &op) const { return w_.hot && op.first_half / kHalves == kHot; }

	// One of the two halves of the hot chunk is being written, at each instant: see advance_op().
	void keep_hot()
	{
		for (uint32_t half = kHot * kHalves; half < (kHot + 1) * kHalves; half++) {
			if (!busy(half, 1))
				start_write(half, 1);
		}
	}

	void start_write(uint32_t first_half, uint32_t halves)
	{
		Op op{};
		op.first_half = first_half;
		op.halves = halves;
		op.version = ++version_;
		op.done.assign(h_.members.size(), false);
		llb_start_write(h_.bitmap, sector(op), sectors(op));
		ops_.push_back(op);
	}

	uint64_t sector(const Op &op) const { return uint64_t(op.first_half) * h_.chunk_sectors / kHalves; }
	uint64_t sectors(const Op &op) const
	{
		uint64_t n = uint64_t(op.halves) * h_.chunk_sectors / kHalves;
		return std::min(n, h_.sync_size - sector(op));
	}

	bool takes(const Member &m) const { return m.active && !m.faulty; }

	// Moved, but no superblock says so yet: md lets no write in there.
	bool moving(const Op &op) const
	{
		const Shape &s = h_.shape;
		for (uint32_t half = op.first_half; s.pending && half < op.first_half + op.halves; half++) {
			uint32_t order = s.up() ? halves_ - 1 - half : half;
			if (order >= h_.recorded && order < s.done)
				return true;
		}
		return false;
	}

	void advance_op()
	{
		if (ops_.empty())
			return;
		size_t at = rng_.below(ops_.size());
		Op &op = ops_[at];
		uint32_t last = h_.slots() - 1;

		switch (op.at) {
		case Op::Started:
			if (llb_pending(h_.bitmap))
				llb_unplug(h_.bitmap, rng_.one_in(2));
			// md let it in, and sends it now, though the array be broken
			if (w_.behind && !op.discard && takes(h_.members[last])) {
				llb_start_behind(h_.bitmap);
				op.behind_counted = true;
			}
			for (uint32_t i = 0; i < op.halves; i++)
				care_[op.first_half + i] = !op.discard;
			op.at = Op::Issuing;
			return;
		case Op::Issuing:
		case Op::Acked: {
			uint32_t i = uint32_t(rng_.below(h_.members.size()));
			if (!op.done[i]) {
				issue(op, i);
				op.done[i] = true;
			}
			bool all = true, front = true;
			for (uint32_t m = 0; m < op.done.size(); m++) {
				bool done = op.done[m] || !takes(h_.members[m]);
				all &= done;
				front &= done || (op.behind_counted && m == last);
			}
			if (!front)
				return;
			if (is_hot(op) && stays_hot_ && !busy(op.first_half ^ 1, 1))
				return; // the other one begins first
			if (h_.superblock_pending) // a member missed it: recorded first
				h_.write_superblocks();
			if (op.at == Op::Issuing) {
				end(op);
				op.at = Op::Acked;
			}
			if (all) {
				if (op.behind_counted)
					llb_end_behind(h_.bitmap);
				ops_.erase(ops_.begin() + at);
			}
		}
		}
	}

	void issue(const Op &op, uint32_t i)
	{
		Member &m = h_.members[i];
		if (!takes(m))
			return;
		for (uint32_t half = op.first_half; half < op.first_half + op.halves; half++) {
			// a discard leaves what the member likes
			if (!op.discard || rng_.one_in(2))
				m.write(h_.place(half), op.discard ? uint32_t(rng_.below(1000)) : op.version);
		}
	}

	void end(const Op &op)
	{
		if (op.discard)
			llb_end_discard(h_.bitmap, sector(op), sectors(op));
		else
			llb_end_write(h_.bitmap, sector(op), sectors(op));
	}

	void pass_time(uint64_t ms)
	{
		h_.now_ms += ms;
		sim_time_set(h_.now_ms);
		if (h_.daemon_armed && h_.daemon_due_ms <= h_.now_ms) {
			h_.daemon_armed = false;
			llb_daemon(h_.bitmap);
		}
	}

	void member_comes_or_goes(uint32_t i)
	{
		Member &m = h_.members[i];
		if (h_.in_sync(i) && h_.can_lose(i)) {
			trace("member %u fails\n", i);
			h_.fail(i);
			if (rng_.one_in(2))
				h_.write_superblocks();
		} else if (!sync_ && (!m.active || m.faulty) && !m.waiting && !h_.superblock_pending) {
			// away: its cache had time to reach the medium, or was lost
			if (rng_.one_in(2))
				m.flush();
			m.cut(rng_);
			llb_stats st;
			llb_stats_get(h_.bitmap, &st);
			full_.resize(h_.members.size());
			full_[i] = !m.events || m.roles_recovering || m.events < st.events_cleared ||
				   rng_.one_in(4);
			if (full_[i] && rng_.one_in(2)) // a new disk
				for (uint32_t &v : m.data)
					v = uint32_t(rng_.below(1000));
			trace("member %u returns (events %llu, cleared %llu)%s\n", i,
			      (unsigned long long)m.events, (unsigned long long)st.events_cleared,
			      full_[i] ? ", full" : "");
			m.waiting = h_.shape.pending; // no slot until the reshape is over
			m.active = !m.waiting;
			m.faulty = m.in_sync = false;
			m.old = true;
			m.roles_recovering = true;
		} else if (sync_ && (!w_.reshape_one_in || rng_.one_in(4))) {
			h_.flags |= PLAT_ARRAY_INTR; // somebody stops the sync
		}
	}

	// Some time in which little happens: members return and are recovered, what was
	// written becomes clean.
	void calm()
	{
		for (uint32_t i = 0; i < h_.slots() && !sync_; i++) {
			if (!h_.working(i) && rng_.one_in(2))
				member_comes_or_goes(i);
		}
		finish_ops();
		settle_syncs();
		compare("in a calm");
		for (int i = 0; i < 30 && !h_.broken; i++)
			pass_time(1000);
	}

	void step()
	{
		full_.resize(h_.members.size());
		if (h_.broken) { // only a restart helps
			if (rng_.one_in(8))
				throw Cut{};
			if (rng_.one_in(8)) // too late: what it missed is missed
				h_.members[rng_.below(h_.slots())].bitmap_fails = false;
			return advance_op();
		}
		if (w_.hot)
			stays_hot_ = !sync_; // else the sync would wait for ever
		if (stays_hot_)
			keep_hot();
		switch (rng_.below(10)) {
		case 0:
		case 1:
			if (ops_.size() < w_.depth)
				start_op();
			break;
		case 2:
			pass_time(rng_.below(3000));
			break;
		case 3:
			if (rng_.one_in(30))
				h_.write_superblocks();
			break;
		case 4:
			if (h_.lead_queued && rng_.one_in(2)) {
				h_.lead_queued = false;
				llb_leader_work(h_.bitmap);
			}
			break;
		case 5:
		case 6:
			start_sync_if_due();
			if (sync_)
				sync_step();
			break;
		default:
			advance_op();
		}
		if (w_.fail_one_in && rng_.one_in(w_.fail_one_in))
			member_comes_or_goes(uint32_t(rng_.below(h_.slots())));
		if ((w_.reshape_one_in || w_.bitmap_fails_one_in) && rng_.one_in(200))
			calm();
		if (w_.reshape_one_in && rng_.one_in(w_.reshape_one_in))
			start_reshape();
		if (w_.bitmap_fails_one_in && rng_.one_in(w_.bitmap_fails_one_in)) {
			bool all = rng_.one_in(2);
			for (Member &m : h_.members)
				m.bitmap_fails |= all || rng_.one_in(h_.slots());
		}
	}

	void finish_ops()
	{
		stays_hot_ = false;
		for (int i = 0; i < 1000000 && !ops_.empty(); i++)
			advance_op();
	}

	// W4: what rests is clean on disk after so long.
	uint32_t clean_by_s() const
	{
		llb_metadata m;
		llb_metadata_get(h_.bitmap, &m);
		return 2 * m.daemon_sleep_s + m.barrier_idle_s;
	}

	// Some chunks are written once, and rest; a hot one does not.
	void rest_beside_hot_one()
	{
		stays_hot_ = true;
		keep_hot();
		for (uint32_t i = 0; i < 10; i++)
			start_op();
		for (uint32_t s = 0; s <= clean_by_s(); s++) {
			for (int i = 0; i < (s ? 20 : 400); i++) {
				keep_hot();
				advance_op();
			}
			pass_time(1000);
		}
		for (const Op &op : ops_) {
			if (!is_hot(op))
				return fail("a write takes for ever: the simulator's fault");
		}
	}

	// ---- checks ----

	void fail(const std::string &what)
	{
		if (error_.empty())
			error_ = what;
	}

	void compare(const char *when)
	{
		for (uint32_t i = 0; i < h_.members.size() && !h_.broken; i++) {
			const Member &m = h_.members[i];
			if (!h_.in_sync(i))
				continue;
			for (uint32_t half = 0; half < halves_; half++) {
				if (!care_[half] || !h_.holds(i, half))
					continue;
				uint32_t from = source(half), at = h_.place(half);
				if (m.now(at) != h_.members[from].now(at)) {
					char text[200];
					snprintf(
						text, sizeof(text),
						"%s: half %u of chunk %u is version %u on member %u and %u on member %u",
						when, half % kHalves, half / kHalves,
						h_.members[from].now(at), from, m.now(at), i);
					return fail(text);
				}
			}
		}
	}

	// Nothing is written any more: members equal, everything written is Clean on disk.
	void idle_and_check()
	{
		h_.io_error_one_in = 0;
		for (Member &m : h_.members)
			m.bitmap_fails = false;
		finish_ops();
		settle_syncs();
		compare("idle");
		if (w_.hot && !h_.broken)
			rest_beside_hot_one();
		for (uint32_t s = 0; s <= clean_by_s() && !w_.hot; s++) {
			pass_time(1000);
			if (h_.superblock_pending)
				h_.write_superblocks();
		}
		if (h_.broken || h_.degraded())
			return;
		orderly_ = !w_.hot;
		llb_stats st;
		llb_stats_get(h_.bitmap, &st);
		if (st.crash_bytes != (w_.hot ? h_.chunk_sectors * 512 : 0))
			fail("idle: a crash would cost " + std::to_string(st.crash_bytes) + " bytes");
		for (uint32_t i = 0; i < h_.slots(); i++) {
			const Member &m = h_.members[i];
			for (uint32_t c = 0; c < h_.chunks; c++) {
				if (w_.hot && c == kHot)
					continue;
				uint8_t byte = m.bitmap[LLB_CELLS_OFFSET + c];
				bool written = false;
				for (uint32_t h = 0; h < kHalves; h++)
					written |= care_[c * kHalves + h];
				if (written ? byte != LLB_CLEAN
					    : byte != LLB_CLEAN && byte != LLB_UNWRITTEN) {
					char text[120];
					snprintf(text, sizeof(text), "idle: chunk %u (%s) is %u on disk", c,
						 written ? "written" : "not written", byte);
					return fail(text);
				}
			}
		}
	}

	void cut(bool was_idle)
	{
		std::vector<bool> risk(h_.chunks);
		for (const Op &op : ops_) {
			if (op.at == Op::Started)
				continue;
			for (uint32_t half = op.first_half; half < op.first_half + op.halves; half++)
				risk[half / kHalves] = true;
		}
		for (Member &m : h_.members) {
			for (auto &[place, versions] : m.cache) {
				for (uint32_t gap : {h_.shape.now.gap, h_.shape.next.gap}) {
					uint32_t half = place - gap;
					if (half < halves_ && h_.place(half) == place)
						risk[half / kHalves] = true;
				}
			}
			m.cut(rng_);
		}
		totals_.cuts++;
		trace("cut\n");
		totals_.resynced += resynced_;
		totals_.at_risk += uint64_t(std::count(risk.begin(), risk.end(), true));
		resynced_ = 0;
		(void)was_idle;
		ops_.clear();
		sync_.reset();
		h_.cut_in = 0;
		drop();
	}

	const Workload &w_;
	Totals &totals_;
	Rng rng_;
	plat_array h_;
	uint32_t halves_ = 0;
	std::vector<bool> care_; // holds what somebody wrote
	std::vector<Op> ops_;
	std::vector<bool> full_;
	std::optional<Sync> sync_;
	uint32_t next_ = 0, version_ = 1000;
	bool stays_hot_ = false;
	bool orderly_ = false, all_clean_ = false; // the last end left every chunk clean
	bool made_ = false; // assembled once: mdadm's header is not the newest any more
	uint64_t resynced_ = 0;
	std::string error_;
};

} // namespace

int main(int argc, char **argv)
{
	uint64_t cuts = 20000, first = 1;
	bool one = false;
	const char *report = nullptr, *only = nullptr;

	for (int i = 1; i < argc; i++) {
		std::string a = argv[i];
		const char *v = i + 1 < argc ? argv[i + 1] : nullptr;
		if (a == "--cuts" && v)
			cuts = strtoull(v, nullptr, 10), i++;
		else if (a == "--seed" && v)
			first = strtoull(v, nullptr, 10), one = tracing = true, i++;
		else if (a == "--from" && v)
			first = strtoull(v, nullptr, 10), i++;
		else if (a == "--workload" && v)
			only = v, i++;
		else if (a == "--report" && v)
			report = v, i++;
		else {
			fprintf(stderr,
				"usage: sim [--cuts N] [--from SEED] [--seed SEED --workload NAME] [--report FILE]\n");
			return 2;
		}
	}

	constexpr uint32_t kCutsPerRun = 20;
	std::vector<Totals> totals(std::size(kWorkloads));
	std::vector<std::pair<uint64_t, std::string>> failed;
	auto start = std::chrono::steady_clock::now();
	auto told = start;
	uint64_t done = 0;
	for (uint64_t seed = first; done < cuts; seed++) {
		for (size_t w = 0; w < std::size(kWorkloads); w++) {
			const Workload &workload = kWorkloads[w];
			// that one takes a hundred times as long as the others
			if (only ? strcmp(only, workload.name) != 0 : workload.size == k16tb)
				continue;
			uint64_t before = totals[w].cuts;
			std::string error = Run(kWorkloads[w], seed * 1000003 + w, totals[w]).go(kCutsPerRun);
			totals[w].runs++;
			done += totals[w].cuts - before;
			if (!error.empty()) {
				printf("FAILED: sim --seed %llu --workload %s: %s\n",
				       (unsigned long long)seed, kWorkloads[w].name, error.c_str());
				failed.push_back({seed, kWorkloads[w].name});
				done++;
			}
		}
		auto now = std::chrono::steady_clock::now();
		if (now - told > std::chrono::seconds(10)) {
			told = now;
			fprintf(stderr, "sim: %llu of %llu cuts\n", (unsigned long long)done,
				(unsigned long long)cuts);
		}
		if (one || failed.size() > 20)
			break;
	}

	printf("%-16s %10s %10s %10s %12s %14s\n", "workload", "cuts", "recoveries", "reshapes", "resynced",
	       "resync_ratio");
	for (size_t w = 0; w < std::size(kWorkloads); w++) {
		if (totals[w].runs)
			printf("%-16s %10llu %10llu %10llu %12llu %14.2f\n", kWorkloads[w].name,
			       (unsigned long long)totals[w].cuts, (unsigned long long)totals[w].recoveries,
			       (unsigned long long)totals[w].reshapes, (unsigned long long)totals[w].resynced,
			       totals[w].at_risk ? double(totals[w].resynced) / double(totals[w].at_risk)
						 : 0.0);
	}
	double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
	printf("%llu cuts in %.1f s, %zu failures\n", (unsigned long long)done, seconds, failed.size());
	if (report) {
		FILE *f = fopen(report, "w");
		if (!f) {
			fprintf(stderr, "sim: cannot write %s\n", report);
			return 2;
		}
		fprintf(f, "{\"cuts\": %llu, \"failures\": %zu, \"seeds_failed\": [",
			(unsigned long long)done, failed.size());
		for (size_t i = 0; i < failed.size(); i++)
			fprintf(f, "%s{\"seed\": %llu, \"workload\": \"%s\"}", i ? ", " : "",
				(unsigned long long)failed[i].first, failed[i].second.c_str());
		fprintf(f, "], \"resync_ratio\": {");
		for (size_t w = 0, n = 0; w < std::size(kWorkloads); w++) {
			if (totals[w].at_risk)
				fprintf(f, "%s\"%s\": %.3f", n++ ? ", " : "", kWorkloads[w].name,
					double(totals[w].resynced) / double(totals[w].at_risk));
		}
		fprintf(f, "}}\n");
		fclose(f);
	}
	return failed.empty() ? 0 : 1;
}
