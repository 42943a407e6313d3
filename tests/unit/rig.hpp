// SPDX-License-Identifier: GPL-2.0
// An array with a bitmap, for one test: members are formatted as mdadm or the
// kernel would, the core runs on them, and at the end nothing may be left over.
#pragma once

#include <gtest/gtest.h>

#include "core/bitmap.hpp"
#include "platform.hpp"

namespace rig {

using core::State;

constexpr u64 kChunk = LLB_CHUNK_SECTORS_MIN; // sectors
constexpr u64 kSleep_ms = 30000; // the defaults
constexpr u64 kIdle_ms = 5000;
// W4: what was written is clean on disk that long after its end
constexpr u64 kCleanBy_ms = kIdle_ms + 2 * kSleep_ms;

struct Options {
	s32 level = 1;
	u32 members = 2;
	u64 chunks = 64;
	u32 space = 256; // sectors
	u64 sync_size = 0; // sectors; 0: chunks * 64 KiB
	u32 state = 0; // LLB_SB_*
	std::vector<u8> cells = {}; // on disk; the rest is fill
	u8 fill = LLB_UNWRITTEN;
	u64 disk_events = 100;
	u32 chunksize = 0; // the field; 0: what suits
	u32 raid_chunk = 0; // sectors
	u32 guard = fake::kGuardBytes; // of each member, beyond the space
};

using Image = std::vector<std::vector<u8>>; // bytes of every member

class Rig {
    public:
	explicit Rig(const Options &o = {});
	~Rig();

	void format(u32 member, const Options &o);
	void put32(u32 member, u32 offset, u32 value);
	void put64(u32 member, u32 offset, u64 value);
	u32 get32(u32 member, u32 offset) const;
	u64 get64(u32 member, u32 offset) const;

	int create();
	int load();
	void start(); // both; throws if one fails
	void stop(); // destroy
	void reboot() // without an orderly stop
	{
		stop();
		start();
	}

	llb_bitmap *b() { return h.bitmap; }
	core::Table *table();
	u8 raw(u64 chunk);
	State state(u64 chunk) { return core::state_of(raw(chunk)); }
	void set_raw(u64 chunk, u8 raw_byte);
	u8 disk(u32 member, u64 chunk) const { return h.members[member]->at(LLB_CELLS_OFFSET + chunk); }
	// the same byte on all working members, else 0xEE
	u8 disk(u64 chunk) const;
	std::vector<u64> counts();

	// A write of 8 sectors in a chunk: begin (durable), and end.
	void begin(u64 chunk)
	{
		begin_nowait(chunk);
		wait_durable();
	}
	void begin_nowait(u64 chunk) { llb_start_write(b(), chunk * chunk_sectors() + 8, 8); }
	void wait_durable()
	{
		if (llb_pending(b()))
			llb_unplug(b(), 1);
	}
	void end(u64 chunk) { llb_end_write(b(), chunk * chunk_sectors() + 8, 8); }
	void write(u64 chunk)
	{
		begin(chunk);
		end(chunk);
	}
	u64 chunk_sectors();
	void idle() { h.run_for(kCleanBy_ms); }

	Image image() const;
	void restore(const Image &image);
	// the image after the first n sector writes of the log, on top of base
	Image replay(const Image &base, size_t n) const;
	// every disk that a cut may leave: batches in order, of the last one some sectors,
	// the first ones or the last ones
	std::vector<Image> cuts(const Image &base) const;
	static bool reloads_to_sync(u8 byte) { return byte >= LLB_DIRTY && byte <= LLB_SYNCING; }

	Options o;
	plat_array h;
	bool check_leaks = true;

    private:
	int live_before_;
};

const char *name(State s);

} // namespace rig
