// SPDX-License-Identifier: GPL-2.0
// What /etc/fstab mounts, and what that is made of.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace tool {

struct Mount {
	std::string where; // as fstab has it
	std::string device; // the kernel's name
	std::set<std::string> below; // that one, and all that it is made of
};

// Those of block devices that are there, without which a boot ends in emergency mode. Not the root
// file system, which the initramfs mounts.
std::vector<Mount> boot_mounts();

} // namespace tool
