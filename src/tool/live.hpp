// SPDX-License-Identifier: GPL-2.0
// llbitmap convert for an array that runs, mounted or not. See README.md for how md is brought
// to it, and for what a power cut in the middle leaves.
#pragma once

#include "tool/convert.hpp"

namespace tool {

// Does it name one array, not members? A file here that is called like one is a member.
bool of_running(const Conversion &what);

// what.paths is the one array. Refuses before anything is changed, or does it; throws Error,
// kBroken, if it could not be done to its end: the array runs on without a bitmap then, or with
// the one that it had.
int convert_live(const Conversion &what);

} // namespace tool
