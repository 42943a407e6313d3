// SPDX-License-Identifier: GPL-2.0
// llbitmap examine: members, as text or as JSON, and in what they disagree.
#pragma once

#include <string>
#include <vector>

namespace tool {

// Returns kDone, or kDamaged if there is something to warn of. Throws Error if a member
// cannot be read; the others are shown nevertheless.
int examine(const std::vector<std::string> &paths, bool json);

} // namespace tool
