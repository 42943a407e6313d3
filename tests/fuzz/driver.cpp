// SPDX-License-Identifier: GPL-2.0
// libFuzzer's way into the case that CASE names.
#include "cases.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
	fuzz::Digest digest(false);
	static fuzz::Seen seen;
	try {
		fuzz::CASE(fuzz::Source(data, bytes), digest, seen);
	} catch (const std::exception &wrong) {
		fprintf(stderr, "WRONG: %s\n", wrong.what());
		abort();
	}
	return 0;
}
