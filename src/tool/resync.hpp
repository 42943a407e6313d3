// SPDX-License-Identifier: GPL-2.0
// llbitmap resync: everything now, or a range, whatever the bitmap says of it.
#pragma once

#include <string>

namespace tool {

struct ResyncWanted {
	std::string array;
	std::string range; // FIRST-LAST: chunks, or sizes with a unit; empty: all
	bool yes = false;
	bool dry_run = false;
};

// Throws Error: kRefused, nothing was changed.
int resync(const ResyncWanted &wanted);

} // namespace tool
