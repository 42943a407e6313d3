// SPDX-License-Identifier: GPL-2.0
// llbitmap doctor: how the next boot can fail, and where the bitmap is not what people think.
#pragma once

#include <string>
#include <vector>

namespace tool {

struct DoctorWanted {
	std::vector<std::string> arrays; // none: all. Of a named one it is a warning if it has another bitmap
	std::string kernel; // only this one of /lib/modules; empty: all
	bool skip_initramfs = false; // listing one takes a second or more
	bool json = false;
	bool fix = false; // and do what can be done, asking about each
	bool yes = false; // do not ask
};

// kDone; kDamaged: there is something to see to; kUnusable: an array does not run; with `fix` kBroken: one
// of its programs failed. Throws Error, kRefused, if `fix` cannot ask, or is not root.
int doctor(const DoctorWanted &wanted);

} // namespace tool
