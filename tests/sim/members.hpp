// SPDX-License-Identifier: GPL-2.0
// The simulated members and the array over them: what a plat_array is in this test.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "llbitmap/abi.h"
#include "llbitmap/format.h"

constexpr uint64_t kBitmapOffset = 8; // sectors behind the superblock at 8
constexpr uint64_t kSpaceSectors = 256;
constexpr uint32_t kHalves = 2; // separately written parts of a chunk
constexpr uint32_t kRoom = 24; // halves of a member's space beyond its data

struct Cut {}; // thrown where the power goes

struct Rng {
	std::mt19937_64 engine;
	uint64_t below(uint64_t n) { return engine() % n; }
	bool one_in(uint64_t n) { return below(n) == 0; }
};

// Where a half chunk lies on the members, and how far a reshape has come.
struct Shape {
	struct {
		uint32_t gap; // halves of a member before the data
		uint32_t slots; // raid_disks
	} now = {kRoom, 0}, next = {kRoom, 0};
	bool pending = false; // a reshape from now to next is not finished
	uint32_t done = 0; // halves moved: the first ones, or the last if the data moves up

	bool up() const { return next.gap > now.gap; }
	uint32_t room() const { return up() ? next.gap - now.gap : now.gap - next.gap; }
	bool moved(uint32_t half, uint32_t halves) const
	{
		return pending && (up() ? half >= halves - done : half < done);
	}
	uint32_t slots() const { return pending ? next.slots : now.slots; }
};

struct Member {
	std::vector<uint8_t> bitmap; // durable
	std::vector<uint32_t> data; // durable version of what lies at each place, in halves
	std::map<uint32_t, std::vector<uint32_t>> cache; // versions since the last flush
	uint64_t events = 0; // of its md superblock; 0: it has none
	Shape shape; // of its md superblock
	std::vector<bool> roles_faulty; // whom its superblock calls faulty
	bool roles_recovering = false; // its superblock says: not yet in sync
	// this life of the array
	bool active = false; // has a slot
	bool in_sync = false;
	bool faulty = false;
	bool old = false; // re-added, bitmap not current
	bool waiting = false; // returned during a reshape: a spare until that is over
	bool bitmap_fails = false; // each write of its bitmap
	uint32_t logical_block = 512;

	uint32_t now(uint32_t place) const;
	void write(uint32_t place, uint32_t version);
	void flush();
	void cut(Rng &rng); // the cache is lost or kept, piece by piece
};

struct plat_array {
	Rng *rng = nullptr;
	std::vector<Member> members; // beyond slots(): disks that a reshape may add
	Shape shape;
	uint32_t recorded = 0; // shape.done as all superblocks have it
	uint32_t halves = 0; // of the array's data
	int32_t level = 1;
	uint64_t chunks = 0;
	uint32_t chunk_sectors = 0;
	uint64_t sync_size = 0;
	uint64_t room_sectors = kSpaceSectors; // between the bitmap's begin and the data
	uint64_t events = 1; // in memory
	uint32_t flags = 0; // PLAT_ARRAY_* of the sync thread
	uint64_t now_ms = 1;
	uint64_t resync_offset = ~0ull;
	bool broken = false;
	bool suspended = false;
	bool daemon_armed = false;
	uint64_t daemon_due_ms = 0;
	bool lead_queued = false;
	uint32_t cut_in = 0; // cut inside the n-th I/O from now; 0: not
	uint32_t io_error_one_in = 0; // a bitmap write or flush fails on a member
	uint64_t bitmap_writes = 0;
	bool superblock_pending = false; // a failure is not recorded yet
	llb_bitmap *bitmap = nullptr;
	std::vector<uint32_t> counters;
	std::string log; // the last run's messages

	struct Write {
		uint64_t offset;
		const uint8_t *buf;
		uint32_t bytes;
	};
	std::vector<Write> batch;

	uint32_t slots() const { return shape.slots(); }
	uint32_t degraded() const;
	uint32_t in_sync_members() const;
	bool working(uint32_t index) const; // takes writes
	bool in_sync(uint32_t index) const;
	bool can_lose(uint32_t index) const; // all data are on others
	bool holds(uint32_t index, uint32_t half) const; // if it is in sync
	uint32_t place(uint32_t half) const;
	void fail(uint32_t index); // md_error
	void maybe_cut();
	void write_superblocks(); // md_update_sb: may be cut
};
