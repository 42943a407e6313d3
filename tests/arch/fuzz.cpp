// SPDX-License-Identifier: GPL-2.0
// The cases of tests/fuzz over inputs that come from seeds, the same on every machine: what
// the core makes of them is folded into a number, and printed. A byte order or an alignment
// that matters gives another number than on another machine, or a crash.
//
//   fuzz [--seeds N] [--from SEED]
#include <cinttypes>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "fuzz/cases.hpp"

namespace {

class Random {
    public:
	explicit Random(u64 seed)
		: x_(seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull)
	{}
	u64 next()
	{
		x_ ^= x_ << 13, x_ ^= x_ >> 7, x_ ^= x_ << 17;
		return x_;
	}

    private:
	u64 x_;
};

// Half of them are short, so that a part of the choices is the plain one.
std::vector<u8> input(u64 seed)
{
	Random random(seed);
	std::vector<u8> bytes((random.next() >> 32) % (seed % 2 ? 32 : 256));
	for (u8 &byte : bytes)
		byte = u8(random.next() >> 24);
	return bytes;
}

} // namespace

int main(int argc, char **argv)
{
	u64 seeds = 2000, from = 1;
	testing::InitGoogleTest(&argc, argv); // the rig says with it what it finds
	for (int i = 1; i + 1 < argc; i += 2) {
		if (std::string(argv[i]) == "--seeds")
			seeds = strtoull(argv[i + 1], nullptr, 10);
		else if (std::string(argv[i]) == "--from")
			from = strtoull(argv[i + 1], nullptr, 10);
	}

	fuzz::Seen seen;
	fuzz::Digest all;
	bool good = true;
	for (u64 seed = from; good && seed < from + seeds; seed++) {
		fuzz::Digest one;
		auto bytes = input(seed);
		fuzz::Source in(bytes.data(), bytes.size());
		try {
			fuzz::superblock(in, one, seen);
			fuzz::array(in, one, seen);
		} catch (const std::exception &wrong) {
			printf("FAILED: seed %" PRIu64 ": %s\n", u64(seed), wrong.what());
			good = false;
		}
		all.put(one.value(), 8);
		if ((seed - from) % 100 == 99)
			printf("up to seed %" PRIu64 ": %016" PRIx64 "\n", u64(seed), u64(all.value()));
	}
	printf("superblocks: %" PRIu64 " valid, %" PRIu64 " refused; arrays: %" PRIu64
	       " turned away, %" PRIu64 " made, %" PRIu64 " loaded\n",
	       u64(seen.valid), u64(seen.refused), u64(seen.turned_away), u64(seen.made), u64(seen.loaded));
	printf("all: %016" PRIx64 "\n", u64(all.value()));
	// What never gets anywhere finds nothing.
	if (!seen.valid || !seen.refused || !seen.loaded || !seen.turned_away) {
		printf("FAILED: a kind of outcome was not seen\n");
		return 1;
	}
	return good ? 0 : 1;
}
