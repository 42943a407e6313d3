// SPDX-License-Identifier: GPL-2.0
// llbitmap convert: another bitmap for an array; here for a stopped one, in live.hpp for one that runs. See README.md for what a
// power cut in the middle leaves.
#pragma once

#include <string>
#include <vector>

#include "base/types.hpp"

namespace tool {

struct Conversion {
	std::string to; // lockless, internal, none
	std::vector<std::string> paths;
	u64 classic_chunk_kib = 0; // of an internal bitmap; 0: as mdadm would
	bool dry_run = false;
	bool json = false; // with dry_run: every write, in its order
};

int convert(const Conversion &what);

} // namespace tool
