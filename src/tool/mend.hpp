// SPDX-License-Identifier: GPL-2.0
// llbitmap mend: a damaged bitmap of a stopped array written anew, from md's superblock
// alone. See README.md for what a power cut in the middle leaves.
#pragma once

#include <string>
#include <vector>

namespace tool {

struct Mending {
	std::vector<std::string> paths;
	std::string as; // lockless, internal; empty: what the headers say
	bool yes = false; // do not ask
	bool dry_run = false;
	bool json = false; // with dry_run: every write, in its order
};

int mend(const Mending &what);

} // namespace tool
