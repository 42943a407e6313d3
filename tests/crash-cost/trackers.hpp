// SPDX-License-Identifier: GPL-2.0
// What tells after a crash which parts may differ: the three write-intent bitmaps, each
// over an engine's time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine.hpp"

struct Times {
	u32 data_us = 2000; // a write to a member
	u32 bitmap_us = 2000; // a bitmap write: one batch
};

// Counted from the end of start() on.
struct Counts {
	u64 writes = 0; // arrivals
	u64 waited = 0; // of these: stopped until the bitmap was written
	u64 waited_us = 0; // all together
	u64 bitmap_writes = 0; // bios to one member
	u64 bitmap_bytes = 0;
	u64 batches = 0;
	u64 flushes = 0;
};

// Writes to members, each in a slot, which is reused: what an event can name.
class UnderWay {
    public:
	u32 put(const Arrival &a)
	{
		if (free_.empty()) {
			all_.push_back(a);
			return u32(all_.size()) - 1;
		}
		const u32 slot = free_.back();
		free_.pop_back();
		all_[slot] = a;
		return slot;
	}
	Arrival take(u32 slot)
	{
		free_.push_back(slot);
		return all_[slot];
	}

    private:
	std::vector<Arrival> all_;
	std::vector<u32> free_;
};

class Tracker : public Engine::Source {
    public:
	Tracker(Engine &engine, const Times &times)
		: engine_{engine}
		, times_{times}
	{}
	virtual void start() {} // before the first write
	virtual u64 chunk_bytes() const = 0;
	virtual u64 resync_bytes() = 0; // after a power cut now
	virtual u64 budget_bytes() { return 0; } // 0: it has none
	virtual std::string complaint() { return {}; } // of what must not have happened

	void feed(std::function<bool(Arrival *)> source) { feed_ = std::move(source); }
	bool next(Arrival *out) override { return feed_(out); }
	const Counts &counts() const { return counts_; }

    protected:
	Engine &engine_;
	const Times times_;
	Counts counts_;

    private:
	std::function<bool(Arrival *)> feed_;
};

// Classic and in-tree: one round of bitmap writes at a time; who comes meanwhile and needs
// one waits for the next.
class Model : public Tracker {
    public:
	using Tracker::Tracker;
	void arrive(const Arrival &a) override;

    protected:
	enum class Need : u8 { Nothing, ThisRound, NextRound };
	virtual Need begin_write(const Arrival &a) = 0;
	virtual void end_write(const Arrival &a) = 0;
	virtual void round_begins() = 0; // takes what is to be written, and counts it
	virtual void round_ends() = 0; // it is on the disk
	bool round_runs() const { return round_runs_; }

    private:
	void round();
	void go(const Arrival &a);
	bool round_runs_ = false;
	std::vector<Arrival> waiting_, in_round_;
	UnderWay under_way_;
};

struct Size {
	const char *name;
	u64 bytes; // of each member, as the array sees it
};
const std::vector<Size> &sizes();

u64 classic_chunk_bytes(u64 device_bytes);
u64 intree_chunk_bytes(u64 device_bytes);
std::unique_ptr<Tracker> make_classic(Engine &e, const Times &t, u64 device_bytes);
std::unique_ptr<Tracker> make_intree(Engine &e, const Times &t, u64 device_bytes);
// The core. budget_mib: below 0: its default.
std::unique_ptr<Tracker> make_llbitmap(Engine &e, const Times &t, u64 device_bytes, s64 budget_mib);

// What the bitmap does for an array that starts, and what one pass does where all is clean.
struct Start {
	u64 chunks;
	u64 writes, write_bytes, flushes; // to one member
	u64 reads, read_bytes; // from one
	u64 io_us; // the writes and flushes one after the other: no less than they take
	u64 cpu_us; // of this machine
	bool asks_resync; // of anything, though nothing was written
};
// Of the core: created, assembled, a pass.
std::vector<Start> start_costs(const Times &t, u64 device_bytes);
