// SPDX-License-Identifier: GPL-2.0
// What is written to the members of an array, in steps between which a power cut is safe.
#pragma once

#include <string>
#include <vector>

#include "tool/array.hpp"

namespace tool {

struct Write {
	Member *member;
	u64 offset; // bytes
	Bytes data;
};

// Every write of a phase is durable before the next phase begins.
struct Phase {
	std::string what;
	std::vector<Write> writes;
};

// md's superblocks of all members, changed. space: sectors of a bitmap that they are to
// name: an empty bad-block log in its place, or where none can be, is given up. 0: none is.
Phase superblocks(Array &a, const char *what, const SuperEdit &edit, u64 space);

// All writes as one JSON object, in their order.
void print_json(const std::string &from, const std::vector<Phase> &phases);

// Does them and reads each back. Refuses if one of them cannot be done, before the first;
// afterwards throws Error, kBroken, which ends with what is to be done then.
void execute(std::vector<Phase> &phases, const std::string &then);

} // namespace tool
