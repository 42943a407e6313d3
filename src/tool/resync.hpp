// SPDX-License-Identifier: GPL-2.0
// llbitmap resync: everything now, or a range, whatever the bitmap says of it.
#pragma once

#include <optional>
#include <string>

namespace tool {

struct ResyncWanted {
	std::string array;
	std::optional<std::string> range; // see range.hpp
	bool yes = false;
	bool dry_run = false;
};

// Throws Error: kRefused, nothing was changed.
int resync(const ResyncWanted &wanted);

} // namespace tool
