// SPDX-License-Identifier: GPL-2.0
// llbitmap map: where the chunks of each state are, as a picture.
#pragma once

#include <optional>
#include <string>

#include "base/types.hpp"

namespace tool {

struct MapWanted {
	std::string what; // an array, or a member (a device, an image file)
	u32 rows = 16, width = 64; // cells
	std::optional<std::string> range; // see range.hpp
	bool svg = false;
	bool json = false;
};

// Throws Error: kUnreadable, kUsage.
int map(const MapWanted &wanted);

} // namespace tool
