// SPDX-License-Identifier: GPL-2.0
#include "tool/mend.hpp"

#include <cstdio>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/phases.hpp"
#include "tool/target.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

// What is wrong with the bitmaps, a line each; nothing: they are as they should be.
std::vector<std::string> damage(const Array &a)
{
	std::vector<std::string> lines;
	for (const Member &m : a.members) {
		if (m.bitmap.kills_mdadm)
			lines.push_back(m.device.path() + ": chunksize is 0, of which mdadm dies");
		if (!m.super.active())
			continue; // nobody believes a spare's
		for (const std::string &fault : m.bitmap.faults)
			lines.push_back(m.device.path() + ": " + fault);
	}
	for (const std::string &line : bitmap_disagreements(active_of(a)))
		lines.push_back("members disagree: " + line);
	return lines;
}

Kind kind_of(const Array &a, const std::string &as)
{
	Kind told = Kind::Unknown;
	for (const Member *m : active_of(a)) {
		Kind kind = m->bitmap.kind;
		if (kind == Kind::Unknown)
			continue;
		if (as.empty() && told != Kind::Unknown && told != kind)
			refuse("some members' bitmaps are internal, some lockless: say --as lockless or --as internal");
		told = kind;
	}
	Kind said = as == "lockless" ? Kind::Lockless : as == "internal" ? Kind::Classic : Kind::Unknown;
	if (said != Kind::Unknown)
		return said;
	if (told == Kind::Unknown)
		refuse("no member's bitmap tells its kind any more: say --as lockless or --as internal");
	return told;
}

// The header goes last: until then mdadm and md take the array no more than before, or,
// if they did take it, find what asks for more to be resynchronised, never for less. The
// members' events stay as they are, so that this can be done again from any point.
std::vector<Phase> plan(Array &a, Kind kind)
{
	const MdSuper &s = a.super();
	Known known = Known::nothing(s.sync_size());
	bool to_lockless = kind == Kind::Lockless;
	s64 offset = s.bitmap_offset;
	if (offset < core::kPlace)
		refuse("md's superblock has its bitmap at " + std::to_string(offset) +
		       ", inside itself or before it");
	Target t = to_lockless ? lockless(a, known, a.events(), offset, LLB_SB_STALE)
			       : classic(a, known, a.events(), offset, LLB_SB_STALE, 0);
	u64 head = to_lockless ? u64{LLB_CELLS_OFFSET} : kSector;
	if (t.bytes.size() < head)
		refuse("no room for a bitmap");

	std::vector<Phase> phases;
	Phase other{"headers of another kind are taken away", {}}, body{"the state of each chunk", {}},
		header{"the header", {}};
	for (Member &m : a.members) {
		if (!m.super.has(kFeatureBitmap) || m.super.bitmap_offset != offset)
			continue; // a spare that has none
		u64 at = (m.super.start + u64(offset)) * kSector;
		if (m.bitmap.kind != kind && m.bitmap.kind != Kind::Unknown)
			other.writes.push_back({&m, at, Bytes(kSector, 0)});
		if (t.bytes.size() > head)
			body.writes.push_back(
				{&m, at + head, Bytes(t.bytes.begin() + s64(head), t.bytes.end())});
		header.writes.push_back({&m, at, Bytes(t.bytes.begin(), t.bytes.begin() + s64(head))});
	}
	if (!other.writes.empty())
		phases.push_back(std::move(other));
	phases.push_back(std::move(body));
	// md does not start a raid4/5/6 that lacks a member and is not in sync, by its
	// superblock. It is the bitmap then that keeps everything marked.
	if (a.whole || s.level == 1 || s.level == 10) {
		Phase resync{"md's superblock asks for a resync", {}};
		for (u32 i = 0; i < a.active; i++) {
			Member &m = a.members[i];
			SuperEdit edit{.events = {}, .resync_offset = 0, .bitmap_offset = s.bitmap_offset};
			resync.writes.push_back({&m, m.super.start * kSector, edited(m.super, edit)});
		}
		phases.push_back(std::move(resync));
	}
	phases.push_back(std::move(header));
	return phases;
}

bool agreed()
{
	printf("Go on? [y/N] ");
	fflush(stdout);
	char answer[16] = {};
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

} // namespace

int mend(const Mending &what)
{
	Array a = gather(what.paths, what.dry_run, Purpose::Mend);
	if (!a.super().has(kFeatureBitmap)) {
		say("the array has no bitmap: nothing to mend");
		return kDone;
	}
	std::vector<std::string> lines = damage(a);
	if (lines.empty()) {
		say("the members' bitmaps can be read and agree: nothing to mend");
		return kDone;
	}
	if (a.super().minor != 2)
		refuse("1." + std::to_string(a.super().minor) +
		       " metadata: only 1.2 has room for a bitmap that can be changed");
	Kind kind = kind_of(a, what.as);
	std::vector<Phase> phases = plan(a, kind);
	if (what.dry_run && what.json) {
		print_json(lines[0], phases);
		return kDone;
	}
	if (!what.yes && !what.dry_run && !isatty(STDIN_FILENO))
		refuse("nobody can be asked: say --yes");
	for (const std::string &line : lines)
		say(line);
	say(a.super().level_text() + ", " + std::to_string(a.active) + " of " +
	    std::to_string(a.super().raid_disks) + " members: the " + kind_text(kind) +
	    " bitmap is written anew; nothing of the old one is believed, everything is resynchronised");
	if (what.dry_run) {
		say("dry run: nothing was written");
		return kDone;
	}
	if (!what.yes && !agreed())
		refuse("nothing was written");
	execute(phases, "run llbitmap mend again");
	return kDone;
}

} // namespace tool
