// SPDX-License-Identifier: GPL-2.0
// How the tool ends, and the one line that says why.
#pragma once

#include <stdexcept>
#include <string>

namespace tool {

constexpr int kDone = 0;
constexpr int kDamaged =
	1; // examine: read, but damaged, stale or not usable as it is; status, doctor: see to it
constexpr int kUsage = 2; // a wrong command line
constexpr int kUnreadable = 3; // no such device, an I/O error, or no md 1.x superblock
constexpr int kRefused = 4; // convert, mend, resync: nothing was written
constexpr int kBroken = 5; // convert, mend: writing failed half-way; the line says what to do
constexpr int kUnusable = 6; // status: an array is inactive or has failed

struct Error : std::runtime_error {
	Error(int status, const std::string &why)
		: std::runtime_error(why)
		, status(status)
	{}
	int status;
};

[[noreturn]] inline void refuse(const std::string &why)
{
	throw Error(kRefused, why);
}

} // namespace tool
