// SPDX-License-Identifier: GPL-2.0
// The classic bitmap and the in-tree lockless driver, as their rules are known.
#include "trackers.hpp"

#include <algorithm>
#include <cstring>

namespace {

constexpr u64 kSecond = 1000000;
constexpr u64 kBitmapBytes = 128 * 1024; // what mdadm reserves when nobody asks for a chunk size
constexpr u64 kClassicHeader = 256;
constexpr u64 kPageBytes = 4096;

u64 div_up(u64 a, u64 b)
{
	return (a + b - 1) / b;
}

} // namespace

const std::vector<Size> &sizes()
{
	constexpr u64 kTiB = u64{1} << 40;
	// What a disk of 16 TB has, less where mdadm lets data begin.
	static const std::vector<Size> all = {
		{"1TiB", kTiB},	      {"4TiB", 4 * kTiB},   {"16TB", 16000900661248 - u64{264192} * 512},
		{"16TiB", 16 * kTiB}, {"64TiB", 64 * kTiB},
	};
	return all;
}

// ---- a round at a time ----

void Model::arrive(const Arrival &a)
{
	counts_.writes++;
	switch (begin_write(a)) {
	case Need::Nothing:
		go(a);
		return;
	case Need::ThisRound:
		in_round_.push_back(a);
		break;
	case Need::NextRound:
		waiting_.push_back(a);
		if (!round_runs_)
			round();
		break;
	}
	counts_.waited++;
}

void Model::round()
{
	round_runs_ = true;
	in_round_.swap(waiting_);
	counts_.batches++;
	round_begins();
	auto over = [](void *object, u64) {
		auto *m = static_cast<Model *>(object);
		m->round_ends();
		m->round_runs_ = false;
		for (const Arrival &a : m->in_round_)
			m->go(a);
		m->in_round_.clear();
		if (!m->waiting_.empty())
			m->round();
	};
	engine_.at(engine_.now_us() + times_.bitmap_us, over, this, 0);
}

void Model::go(const Arrival &a)
{
	counts_.waited_us += engine_.now_us() - a.at_us;
	auto over = [](void *object, u64 which) {
		auto *m = static_cast<Model *>(object);
		m->end_write(m->under_way_.take(u32(which)));
	};
	engine_.at(engine_.now_us() + times_.data_us, over, this, under_way_.put(a));
}

// ---- classic ----

// mdadm: 4 KiB, doubled until the bits fit behind the header; 64 MiB at least.
u64 classic_chunk_bytes(u64 device_bytes)
{
	const u64 most = (kBitmapBytes - kClassicHeader) * 8;
	u64 chunk = 4096, bits = device_bytes / 4096 + 1;
	while (bits > most) {
		chunk *= 2;
		bits = (bits + 1) / 2;
	}
	return std::max(chunk, u64{64} << 20);
}

namespace {

// md-bitmap.c: a counter for each chunk: 0: clean; 1: to be cleared by the next pass; 2: dirty
// and nobody writes; more: writers. A pass takes 2 to 1 and 1 to 0, which clears the bit in
// memory and makes its page pending; the pass after that writes the page, unless an unplug
// that needs it for a new bit did so before.
class Classic : public Model {
    public:
	Classic(Engine &e, const Times &t, u64 device_bytes)
		: Model{e, t}
		, chunk_{classic_chunk_bytes(device_bytes)}
		, device_{device_bytes}
		, counters_(div_up(device_bytes, chunk_))
		, pending_(div_up(counters_.size(), kCountersInPage))
		, pages_(div_up(kClassicHeader + div_up(counters_.size(), 8), kPageBytes))
		, bits_(pages_.size() * kPageBytes)
		, disk_(bits_.size())
	{}
	u64 chunk_bytes() const override { return chunk_; }
	u64 resync_bytes() override
	{
		u64 dirty = 0;
		for (u64 at = 0; at < disk_.size(); at += 8) {
			u64 word;
			memcpy(&word, &disk_[at], 8);
			dirty += u64(__builtin_popcountll(word));
		}
		u64 bytes = dirty * chunk_;
		u64 last = counters_.size() - 1;
		if (on_disk(last))
			bytes -= counters_.size() * chunk_ - device_;
		return bytes;
	}

    protected:
	Need begin_write(const Arrival &a) override
	{
		bool in_flight = false;
		for (u64 c = first(a); c <= last(a); c++) {
			if (counters_[c] == 0) {
				bits_[byte(c)] |= u8(1u << (c & 7));
				page(c).dirty = true;
				unwritten_ = true;
			} else if (!on_disk(c)) {
				in_flight = true;
			}
			if (counters_[c] < 2)
				counters_[c] = 2;
			counters_[c]++;
		}
		wake_daemon();
		// unplug: writes what is dirty, and what a pass left for it
		if (unwritten_)
			return Need::NextRound;
		return in_flight && round_runs() ? Need::ThisRound : Need::Nothing;
	}
	void end_write(const Arrival &a) override
	{
		for (u64 c = first(a); c <= last(a); c++) {
			if (--counters_[c] <= 2) {
				pending_[c / kCountersInPage] = true;
				all_clean_ = false;
			}
		}
		wake_daemon();
	}
	void round_begins() override
	{
		unwritten_ = false;
		for (u32 p = 0; p < pages_.size(); p++) {
			Page &one = pages_[p];
			if (!one.dirty && !one.need_write)
				continue;
			one.dirty = one.need_write = one.pending = false;
			write(p);
		}
	}
	void round_ends() override {} // each page says so itself

    private:
	static constexpr u64 kCountersInPage = 2048;
	static constexpr u64 kDaemon_us = 5 * kSecond;
	struct Page {
		bool dirty = false, need_write = false, pending = false;
	};
	u64 first(const Arrival &a) const { return a.sector * 512 / chunk_; }
	u64 last(const Arrival &a) const { return ((a.sector + a.sectors) * 512 - 1) / chunk_; }
	u64 byte(u64 c) const { return kClassicHeader + c / 8; }
	Page &page(u64 c) { return pages_[byte(c) / kPageBytes]; }
	bool on_disk(u64 c) const { return disk_[byte(c)] >> (c & 7) & 1; }

	// As the page is now; it is on the disk some time later.
	void write(u32 p)
	{
		counts_.bitmap_writes++;
		counts_.bitmap_bytes += kPageBytes;
		flying_.push_back({p, {}});
		memcpy(flying_.back().bytes, &bits_[p * kPageBytes], kPageBytes);
		auto over = [](void *object, u64) {
			auto *c = static_cast<Classic *>(object);
			memcpy(&c->disk_[c->flying_.front().page * kPageBytes], c->flying_.front().bytes,
			       kPageBytes);
			c->flying_.pop_front();
		};
		engine_.at(engine_.now_us() + times_.bitmap_us, over, this, 0);
	}

	// md's thread, which each write wakes.
	void wake_daemon()
	{
		if (armed_)
			return;
		armed_ = true;
		auto run = [](void *object, u64) { static_cast<Classic *>(object)->pass(); };
		engine_.at(std::max(engine_.now_us(), last_pass_ + kDaemon_us), run, this, 0);
	}
	void pass()
	{
		armed_ = false;
		last_pass_ = engine_.now_us();
		if (all_clean_)
			return;
		all_clean_ = true;
		for (Page &p : pages_) {
			p.need_write |= p.pending;
			p.pending = false;
		}
		for (u64 group = 0; group < pending_.size(); group++) {
			if (!pending_[group])
				continue;
			pending_[group] = false;
			u64 end = std::min((group + 1) * kCountersInPage, u64(counters_.size()));
			for (u64 c = group * kCountersInPage; c < end; c++)
				age(c);
		}
		for (u32 p = 0; p < pages_.size(); p++) {
			if (pages_[p].dirty)
				break; // an unplug is about to come, and writes the rest
			if (pages_[p].need_write) {
				pages_[p].need_write = false;
				write(p);
			}
		}
		if (!all_clean_)
			wake_daemon();
	}
	void age(u64 c)
	{
		if (counters_[c] == 1) {
			counters_[c] = 0;
			bits_[byte(c)] &= u8(~(1u << (c & 7)));
			if (!page(c).need_write) {
				page(c).pending = true;
				all_clean_ = false;
			}
		} else if (counters_[c] == 2) {
			counters_[c] = 1;
			pending_[c / kCountersInPage] = true;
			all_clean_ = false;
		}
	}

	struct Flight {
		u32 page;
		u8 bytes[kPageBytes];
	};
	const u64 chunk_, device_;
	std::vector<u16> counters_;
	std::vector<bool> pending_; // of kCountersInPage counters: one of them may be aged
	std::vector<Page> pages_;
	std::vector<u8> bits_, disk_;
	std::deque<Flight> flying_;
	bool unwritten_ = false; // an unplug would write
	bool all_clean_ = true, armed_ = false;
	u64 last_pass_ = 0;
};

} // namespace

std::unique_ptr<Tracker> make_classic(Engine &e, const Times &t, u64 device_bytes)
{
	return std::make_unique<Classic>(e, t, device_bytes);
}

// ---- in-tree ----

// The smallest with which a byte for each chunk fits; the header is not counted.
u64 intree_chunk_bytes(u64 device_bytes)
{
	u64 chunk = 64 * 1024;
	while (div_up(device_bytes, chunk) > kBitmapBytes)
		chunk *= 2;
	return chunk;
}

namespace {

// What is known of the in-tree lockless driver without its source: the first chunk that gets
// dirty in a block of 512 bytes is written as such; a second one makes all of the block dirty.
// Each 30 s, a page of 4096 bytes in which no write began for 5 s is clean in memory; the disk
// learns of it when a chunk of the block gets dirty again.
class InTree : public Model {
    public:
	InTree(Engine &e, const Times &t, u64 device_bytes)
		: Model{e, t}
		, chunk_{intree_chunk_bytes(device_bytes)}
		, device_{device_bytes}
		, chunks_{div_up(device_bytes, chunk_)}
		, dirty_(div_up(kHeader + chunks_, kPageBytes) * kPageBytes)
		, disk_(dirty_.size())
		, blocks_(dirty_.size() / kBlock)
		, page_us_(dirty_.size() / kPageBytes)
	{
		auto run = [](void *object, u64) { static_cast<InTree *>(object)->pass(); };
		engine_.at(kDaemon_us, run, this, 0);
	}
	u64 chunk_bytes() const override { return chunk_; }
	u64 resync_bytes() override
	{
		u64 bytes = 0;
		for (u64 c = 0; c < chunks_; c++) {
			if (disk_[kHeader + c])
				bytes += std::min(chunk_, device_ - c * chunk_);
		}
		return bytes;
	}

    protected:
	Need begin_write(const Arrival &a) override
	{
		bool mark = false, in_flight = false;
		u64 last = ((a.sector + a.sectors) * 512 - 1) / chunk_;
		for (u64 c = a.sector * 512 / chunk_; c <= last; c++) {
			u64 at = kHeader + c;
			page_us_[at / kPageBytes] = engine_.now_us();
			if (dirty_[at]) {
				in_flight |= !disk_[at];
				continue;
			}
			Block &b = blocks_[at / kBlock];
			if (b.touched) {
				u64 from = std::max(at / kBlock * kBlock, kHeader);
				u64 to = std::min((at / kBlock + 1) * kBlock, kHeader + chunks_);
				std::fill(dirty_.begin() + s64(from), dirty_.begin() + s64(to), u8{1});
			}
			dirty_[at] = 1;
			b.touched = true;
			if (!b.flagged)
				flagged_.push_back(u32(at / kBlock));
			b.flagged = true;
			mark = true;
		}
		if (mark || (in_flight && !flagged_.empty()))
			return Need::NextRound;
		return in_flight && round_runs() ? Need::ThisRound : Need::Nothing;
	}
	void end_write(const Arrival &) override {}
	void round_begins() override
	{
		for (u32 b : flagged_) {
			blocks_[b].flagged = false;
			counts_.bitmap_writes++;
			counts_.bitmap_bytes += kBlock;
			flying_.push_back({b, {}});
			memcpy(flying_.back().bytes, &dirty_[b * kBlock], kBlock);
		}
		flagged_.clear();
	}
	void round_ends() override
	{
		for (const Flight &f : flying_)
			memcpy(&disk_[f.block * kBlock], f.bytes, kBlock);
		flying_.clear();
	}

    private:
	static constexpr u64 kHeader = 1024;
	static constexpr u64 kBlock = 512;
	static constexpr u64 kDaemon_us = 30 * kSecond;
	static constexpr u64 kIdle_us = 5 * kSecond;
	struct Block {
		bool touched = false; // since it was clean
		bool flagged = false; // to be written
	};
	struct Flight {
		u32 block;
		u8 bytes[kBlock];
	};

	void pass()
	{
		for (u64 p = 0; p < page_us_.size(); p++) {
			if (engine_.now_us() - page_us_[p] < kIdle_us)
				continue;
			std::fill_n(dirty_.begin() + s64(p * kPageBytes), kPageBytes, u8{0});
			for (u64 b = p * kPageBytes / kBlock; b < (p + 1) * kPageBytes / kBlock; b++)
				blocks_[b].touched = false;
		}
		auto run = [](void *object, u64) { static_cast<InTree *>(object)->pass(); };
		engine_.at(engine_.now_us() + kDaemon_us, run, this, 0);
	}

	const u64 chunk_, device_, chunks_;
	std::vector<u8> dirty_, disk_; // as the bytes lie on the disk, header included
	std::vector<Block> blocks_;
	std::vector<u64> page_us_; // when a write last began there
	std::vector<u32> flagged_;
	std::vector<Flight> flying_;
};

} // namespace

std::unique_ptr<Tracker> make_intree(Engine &e, const Times &t, u64 device_bytes)
{
	return std::make_unique<InTree>(e, t, device_bytes);
}
