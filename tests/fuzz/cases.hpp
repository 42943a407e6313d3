// SPDX-License-Identifier: GPL-2.0
// What is asked of the core, whatever it is given. A case throws Wrong; what it saw goes
// into the digest.
#pragma once

#include "input.hpp"

namespace fuzz {

struct Seen { // how cases ended
	u64 valid = 0, refused = 0; // superblocks
	u64 turned_away = 0, made = 0, loaded = 0; // arrays
};

// Superblocks and geometry, by themselves.
void superblock(Source in, Digest &out, Seen &seen);
// An array over the fake platform (tests/unit): created, loaded, used, stopped, loaded again.
void array(Source in, Digest &out, Seen &seen);

} // namespace fuzz
