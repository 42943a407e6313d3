// SPDX-License-Identifier: GPL-2.0
// llbitmap watch: status again and again, what changes, or until something is so.
#pragma once

#include <string>

#include "tool/status.hpp"

namespace tool {

struct WatchWanted {
	StatusWanted status;
	u32 interval = 2; // seconds
	u64 count = 0; // screens; 0: without an end
	bool events = false; // a line for each change instead of screens
	std::string until; // clean, synced or whole: says nothing, and ends when it is so
	u64 timeout = 0; // seconds for `until`; 0: as long as it takes
};

// As status at its end; with `until`: kDone, or kDamaged at the timeout.
int watch(const WatchWanted &wanted);

} // namespace tool
