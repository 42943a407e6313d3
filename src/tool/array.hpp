// SPDX-License-Identifier: GPL-2.0
// The members of one array: are they all here, do they agree, may they be written to?
#pragma once

#include <string>
#include <vector>

#include "tool/member.hpp"

namespace tool {

struct Array {
	std::vector<Member> members; // active ones in the order of their slots, then spares
	u32 active = 0;
	bool whole = true; // false: slots are empty, by the members' own word (see gather)

	const MdSuper &super() const { return members[0].super; }
	const Bitmap &bitmap() const { return members[0].bitmap; }
	u64 events() const; // the most of an active member
};

enum class Purpose {
	Convert, // every slot has its member, and all have the same events
	Live, // the same, of an array that runs, and writes its superblocks meanwhile
	Mend, // as md assembles: events may differ by one, slots may be empty if the
	// members know it, a member need not be recovered
};

// Opens them, for writing unless dry_run, and reads them. Throws Error, kRefused, if
// something forbids it: nothing was written.
Array gather(const std::vector<std::string> &paths, bool dry_run, Purpose purpose);

// In what the bitmaps of the active members of one array (by its uuid) disagree, and in
// what their superblocks do: a line for each field, with who says what.
std::vector<std::string> disagreements(const std::vector<const Member *> &members);
// Only of the bitmaps, and only what each start of the array makes equal.
std::vector<std::string> bitmap_disagreements(const std::vector<const Member *> &members);
std::vector<const Member *> active_of(const Array &a);

} // namespace tool
