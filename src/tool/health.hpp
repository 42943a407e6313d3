// SPDX-License-Identifier: GPL-2.0
// What is to be said of an array, and of what a power cut costs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tool/running.hpp"

namespace tool {

enum class Severity { Info, Warning, Critical };

// The ids are stable: scripts may go by them.
struct Notice {
	std::string id;
	Severity severity;
	std::string text;
	std::string action; // a command, or empty: there is nothing to do
	std::string array; // md0, or empty: the machine
};

enum class Health { Healthy, Syncing, Degraded, Critical, Failed, Inactive };

struct Verdict {
	Health health;
	std::vector<Notice> notices; // the worst first
	bool wants_module = false; // it does not run, and its bitmap is lockless, or not known
	bool assembled_early = false; // it does not run for want of the module alone: all members are here
};

const char *health_text(Health h); // healthy, syncing, …
const char *severity_text(Severity s);

// Of an array that is not active, the members are read as well, if they may be.
Verdict judge(const Running &a);
Severity worst(const std::vector<Notice> &notices);

// How fast a resync goes, and how that is known.
struct Pace {
	u64 bytes_per_second = 0; // 0: not known
	bool measured = false; // by the sync that runs; else it is md's limit, and disks may be slower
};
Pace pace(const Running &a);

// Seconds that so many bytes take; rounded up.
u64 seconds_for(u64 bytes, u64 bytes_per_second);

// What is left of the sync that runs. md's own time left counts what will be skipped as if
// it had to be done, and is hours where it is minutes.
struct Left {
	u64 bytes; // of each member (raid10: of the array)
	bool most; // it may be less: where the rest lies is not known
	std::optional<u64> seconds; // none: no pace yet
};
std::optional<Left> left_of_sync(const Running &a);

} // namespace tool
