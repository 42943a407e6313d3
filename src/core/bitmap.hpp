// SPDX-License-Identifier: GPL-2.0
// The bitmap of one array. Its parts are layers, each a class that owns its fields, over the one
// that it stands on; it can call what is below it, and nothing above:
//
//   Bitmap    writes; create, load, resize, reshape; what sysfs shows and sets
//   Resync    what the sync thread asks, and when a sync is asked for
//   Cleaner   the daemon: mark, grace period, flush, clear
//   Commit    flagged pages, requested and durable, the leader lock, the header
//   Cost      what a crash costs, and may cost
//   Alarm     when the daemon comes
//   Inflight  writes under way
//   Ground    the array, the table of cells
//
// Layers and not members that hold pointers to each other: there is nothing to follow from one
// to the next, and no way up. The protocol is told in README.md; W1-W8 are its invariants.
//
// Memory: one byte per chunk (cells), a page of 4096 bytes for I/O, 3 bytes per
// 4096 chunks, a byte per group, and two 32-bit counters per group and
// possible CPU. At most kGroupsMax groups, so 8 KiB per CPU. While several pages are
// written, up to kBatch - 1 more pages.
#pragma once

#include "core/resync.hpp"

namespace core {

class Bitmap : public Resync {
    public:
	Bitmap(plat_array *h, s32 level)
		: Resync{h, level}
		, level_seen_{level}
	{}
	// life.cpp
	static base::Result create(plat_array *h, Bitmap **out);
	base::Result load();
	void destroy();
	void remove_live();
	// resize.cpp
	base::Result resize(u64 sync_size);
	// reshape.cpp
	void update_sb();
	// place.cpp
	void write_all();
	// write.cpp, which alone calls it: inline
	LLB_HOT inline void start(u64 sector, u64 sectors);
	void start_discard(u64 sector, u64 sectors);
	// bitmap.cpp
	bool wait_done(u32 kind, u64 arg);
	base::Result tune(u32 what, u64 value);
	void stats(llb_stats *out) const;
	void metadata(llb_metadata *out) const;
	void count_bits(u64 counts[LLB_STATES]) const;
	u64 copy_cells(u64 first, u8 *out, u64 count) const;

    private:
	friend struct Peek;

	// write.cpp
	enum class Start : u8 { Ready, NeedsCommit, Frozen };
	Context context() const;
	Start start_slow(Table *t, u64 chunk, bool discard, bool whole);
	Start start_chunks(Table *t, u64 sector, u64 stop, bool discard);
	void start_range(Table *t, u64 sector, u64 sectors, bool discard);

	// life.cpp
	struct Found;
	base::Result read_superblocks(const plat_array_info &a, Found *found) LLB_REQUIRES(leader_);
	base::Result begin_live(plat_array_info *a) LLB_REQUIRES(leader_);
	void clear_past(u64 events) LLB_REQUIRES(leader_);
	base::Result check_mapping(const plat_array_info &a);
	void set_write_behind(const plat_array_info &a);
	base::Result choose_geometry(const plat_array_info &a, Geometry *out) LLB_REQUIRES(leader_);
	base::Result make_parts(const plat_array_info &a, const Geometry &geo) LLB_REQUIRES(leader_);
	base::Result read_state(const plat_array_info &a, Found *found) LLB_REQUIRES(leader_);
	base::Result read_cells(Table *t, Found *found, bool stale, u64 known_chunks) LLB_REQUIRES(leader_);
	bool read_page(u32 page, Found *found, u8 *into, u8 *scratch);
	void set_all(Table *t, State s);

	// place.cpp
	enum class Unfit : u8 { Refuse, Fail };
	base::Result check_members(u64 bytes, Unfit unfit) LLB_REQUIRES(leader_);
	void distrust_members();
	u64 room_now(const plat_array_info &a, bool spares) const;
	bool reads_back(const Geometry &geo, u64 space_sectors) const;
	u64 reserve_for(const Geometry &geo) const;

	// resize.cpp
	base::Result extend(const Geometry &geo) LLB_REQUIRES(daemon_busy_);
	base::Result relayout(const Geometry &geo) LLB_REQUIRES(daemon_busy_);
	void merge_cells(const Table *from, Table *to, bool parity);

	u64 claimed_sectors_ = 0; // what the header on disk says that the bitmap may use
	u64 space_sectors_ = 0; // what it may use: also no more than lies there on every member
	u32 write_behind_ = 0; // as in the superblock that was found
	bool moving_ LLB_GUARDED_BY(leader_) = false; // update_sb() has seen that a reshape is not finished
	s32 level_seen_ LLB_GUARDED_BY(leader_); // by update_sb()
};

static inline Bitmap &of(llb_bitmap *b)
{
	return static_cast<Bitmap &>(*b);
}

} // namespace core
