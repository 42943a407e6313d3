// SPDX-License-Identifier: GPL-2.0
// What is on a member: md's 1.x superblock and its bitmap, decoded. The lockless
// bitmap is judged by the module's own code (src/core): one way of deciding.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/geometry.hpp"
#include "core/superblock.hpp"
#include "tool/device.hpp"

namespace tool {

constexpr u64 kMaxSector = ~u64{0};
constexpr u32 kSector = 512;

// feature_map of md's superblock
constexpr u32 kFeatureBitmap = 1;
constexpr u32 kFeatureRecoveryOffset = 2;
constexpr u32 kFeatureReshape = 4;
constexpr u32 kFeatureBadBlocks = 8;
constexpr u32 kFeatureReplacement = 16;
constexpr u32 kFeatureReshapeBackwards = 32;
constexpr u32 kFeatureNewOffset = 64;
constexpr u32 kFeatureRecoveryBitmap = 128;
constexpr u32 kFeatureClustered = 256;
constexpr u32 kFeatureJournal = 512;
constexpr u32 kFeaturePpl = 1024;
constexpr u32 kFeatureMultiplePpl = 2048;
constexpr u32 kFeatureRaid0Layout = 4096;
constexpr u32 kFeatures = 8191;

// A classic bitmap's bits, that the tool works with: what a lockless one may be long.
constexpr u64 kClassicBytesMax = core::kSpaceSectorsMax * kSector;

constexpr u32 kRoleSpare = 0xffff, kRoleFaulty = 0xfffe, kRoleJournal = 0xfffd;

// md's superblock. Sectors unless said otherwise.
struct MdSuper {
	Bytes raw; // 256 bytes and 2 per device
	u32 minor;
	bool checksum_ok;
	u32 features;
	u8 uuid[16];
	std::string name;
	u64 created; // seconds and microseconds, as mdadm packs them
	s32 level;
	u32 layout;
	u64 size; // of each member, as used
	u32 chunk;
	u32 raid_disks;
	s32 bitmap_offset;
	u64 data_offset, data_size;
	s64 new_data_offset; // where a reshape moves it; else data_offset
	u64 start; // of this superblock on the member
	u32 number;
	u32 role; // kRole*, or the slot
	u64 events;
	u64 resync_offset; // kMaxSector: all in sync
	u32 max_dev;
	u32 bad_log_sectors;
	s32 bad_log_offset;
	u32 bad_log_shift;
	u32 logical_block; // bytes; 0: md older than 6.19 made it
	bool padding; // something is set where this md knows of nothing

	bool has(u32 feature) const { return features & feature; }
	bool active() const { return role < kRoleJournal; }
	// Sectors that a bitmap covers: of a member; raid10: of the array. 0: impossible.
	u64 sync_size() const;
	// Does any device have that slot, by this superblock?
	bool slot_taken(u32 slot) const;
	std::string uuid_text() const;
	std::string level_text() const;
};

// Changes fields of the raw bytes and makes the checksum right again.
struct SuperEdit {
	std::optional<u64> events; // none: as it is
	u64 resync_offset;
	std::optional<s32> bitmap_offset; // none: no bitmap
	bool drop_bad_log = false; // only one without entries
};
Bytes edited(const MdSuper &s, const SuperEdit &edit);

enum class Kind { None, Lockless, Classic, Clustered, Unknown };
const char *kind_text(Kind k);

struct Bitmap {
	Kind kind = Kind::None;
	u64 sector = 0; // on the member
	core::BitmapSuper head{}; // the classic one has the same fields; chunksize in bytes there
	u64 chunk_sectors = 0;
	u64 chunks = 0;
	bool bytes_unit = false; // lockless: the chunk size is in bytes on disk
	bool first_use = false; // lockless: the state bytes are not initialised
	bool stale = false; // older than the array, or marked so
	bool read = false; // there are cells, and each_cells() finds them
	bool unreadable = false; // an I/O error
	bool kills_mdadm = false; // mdadm divides by its chunksize, which is 0
	std::vector<std::string> faults; // why it cannot be used

	bool usable() const { return kind != Kind::None && kind != Kind::Unknown && faults.empty(); }
};

// md's bad-block log of a member. md looks at its content only if the feature is set.
struct BadLog {
	bool there = false; // the superblock names one
	bool known = true; // false: it cannot be read where it is said to be
	u32 entries = 0;
};

struct Member {
	Device device;
	MdSuper super;
	Bitmap bitmap;
	BadLog bad_log;
	bool other_supers = false; // md superblocks of another version are there, too
	std::vector<std::string> warnings; // something is wrong
	std::vector<std::string> notes; // good to know

	// Throws Error if this is no member of an array with 1.x metadata.
	static Member read(Device device);
	plat_array_info as_array() const;
	plat_member as_member() const;
	// Does the module's code find fault with a lockless bitmap of so many sectors at
	// that offset? Empty: no.
	std::vector<std::string> place_faults(s64 offset, u64 sectors, u64 bytes) const;
	// Sectors from there to what lies next on the member, as the module sees it (core::room),
	// or to the member's end.
	u64 room(u64 sector) const;
	// Does the bad-block log lie on the member, off md's superblock and off the data?
	bool log_in_place() const;
	// Calls f with the state byte (classic: 0 or 1) of each chunk, in pieces of bounded
	// size, from the first chunk on. Throws Error if it cannot be read.
	void each_cells(const std::function<void(u64 first, const Bytes &cells)> &f) const;
};

} // namespace tool
