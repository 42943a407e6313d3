// SPDX-License-Identifier: GPL-2.0
// llbitmap examine: one member, as text or as JSON.
#pragma once

#include "tool/member.hpp"

namespace tool {

// Returns kDone, or kDamaged if there is something to warn of.
int examine(const std::string &path, bool json);

} // namespace tool
