// SPDX-License-Identifier: GPL-2.0
// Arrays as md's sysfs files show them: for everybody, not only for root. None: the kernel
// does not say.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "llbitmap/format.h"
#include "tool/system.hpp"

namespace tool {

struct Part { // a member, as the running array has it
	std::string name; // sda1
	std::optional<u64> slot; // none: a spare, or one that failed
	std::vector<std::string> states; // in_sync, faulty, spare, …
	std::optional<u64> errors; // corrected read errors

	bool is(const char *state) const;
};

enum class Has { Lockless, Internal, File, None, Unknown };

struct Sync {
	std::string action = "idle"; // resync, recover, reshape, check, repair, frozen
	bool running = false;
	bool delayed = false; // waits for another array's
	std::optional<u64> done, total; // bytes of what is gone through, skipped ones included
	std::optional<u64> speed; // bytes per second of real work: what is skipped is not counted
	std::optional<u64> speed_max; // md's limit
};

struct Running {
	std::string name; // md0
	std::string level, metadata, uuid, state; // state: md's array_state
	std::optional<u64> bytes; // of the array
	std::optional<u64> member_bytes; // of each member, as used
	std::optional<u64> disk_chunk; // bytes; raid0, 4, 5, 6, 10
	std::optional<u64> wanted; // members
	std::optional<u64> degraded; // missing ones
	std::optional<u64> mismatches; // sectors, of the last check
	u64 layout = 0;
	std::vector<Part> parts; // by slot, then by name

	Has bitmap = Has::Unknown;
	std::string policy; // md's consistency_policy: bitmap, journal, ppl, resync, none
	bool resync_due = false; // by md's own mark, which says nothing of a lockless array
	bool selectable = false; // md has bitmap_type
	std::string module_selected; // of bitmap_type, in brackets
	// lockless:
	std::optional<std::array<u64, LLB_STATES>> counts; // chunks by state
	std::optional<u64> chunk; // bytes
	std::optional<u64> chunks;
	std::optional<u64> daemon_sleep, barrier_idle; // seconds
	std::optional<u64> budget; // bytes; 0: no limit
	std::optional<u64> crash; // bytes, as the module counts them (not the in-tree driver)
	std::map<std::string, u64> stats; // llbitmap/stats: counts since it was loaded; none: in-tree

	Sync sync;

	bool active() const { return state != "inactive" && state != "clear" && !state.empty(); }
	bool container() const; // of external metadata: no array itself
	bool parity() const { return level == "raid4" || level == "raid5" || level == "raid6"; }
	bool journalled() const { return policy == "journal" || policy == "ppl"; } // no resync after a cut
	bool redundant() const { return parity() || level == "raid1" || level == "raid10"; }
	u64 in_sync() const;
	u64 spares() const;
	u64 faulty() const;
	// How many more members may fail, at least; 0 if there is nothing to spare.
	u64 failures_left() const;
	u64 copies() const; // of each block, raid10
	// Chunks that wait for a resync, or are in one; and all that a power cut leaves to one.
	u64 waiting() const;
	u64 written() const; // chunks that a recovery copies
	std::optional<u64> stat(const std::string &named) const;
	// Bytes that a power cut now leaves to be resynchronised: as the module counts them, or
	// by the counts. None: not a lockless bitmap.
	std::optional<u64> cost() const;
	// Without bitmap: does a power cut now leave all of it to be resynchronised?
	bool cost_is_all() const;
};

// The names of `bits`, in the order of LLB_*: as the file has them, and for scripts.
extern const char *const kBitNames[LLB_STATES];
extern const char *const kStateKeys[LLB_STATES];

// Has the kernel a lockless bitmap, in the module or in md itself?
bool registered();

// Is that the name of an array which the kernel knows, in any way that running() takes?
bool is_array(const std::string &called);

// All arrays of the machine; with names (md0, /dev/md0, /dev/md/name, a uuid) only these, in
// that order. Throws Error, kUnreadable, for a name that is no array: a file that is called like
// one, or a container.
std::vector<Running> running(const std::vector<std::string> &names);

} // namespace tool
