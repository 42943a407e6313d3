// SPDX-License-Identifier: GPL-2.0
#include "tool/convert.hpp"

#include <algorithm>

#include "tool/error.hpp"
#include "tool/phases.hpp"
#include "tool/target.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

constexpr u64 kLogSectorsMax = 128; // what one page of any kernel holds

void check(const Array &a, const Conversion &what)
{
	for (const Member &m : a.members) {
		// A cut in the first phase would leave an array that mdadm cannot assemble.
		if (m.bitmap.kills_mdadm)
			refuse(m.device.path() +
			       ": the bitmap's chunksize is 0, of which mdadm dies; llbitmap mend first");
	}
	if (what.to != "none" && a.super().minor != 2)
		refuse("1." + std::to_string(a.super().minor) +
		       " metadata: only 1.2 has room for a bitmap that can be changed");
}

// An empty log that lies where state bytes may have been.
bool log_to_clear(const Member &m, u64 space)
{
	return m.bad_log.there && m.bad_log.entries == 0 && m.super.bad_log_offset > 0 && m.log_in_place() &&
	       m.super.bad_log_sectors && m.super.bad_log_sectors <= kLogSectorsMax &&
	       !log_inside(m, core::kPlace, space);
}

std::vector<Phase> plan(Array &a, const Conversion &what, const Known &known, std::string *becomes,
			u64 *space)
{
	std::vector<Phase> phases;
	u64 events = a.super().events;
	// md resynchronises from there without a bitmap, and with one only what it says.
	u64 resync = known.all_clean() ? a.super().resync_offset : 0;
	bool to_none = what.to == "none", to_lockless = what.to == "lockless";
	Target t;

	if (a.super().has(kFeatureBitmap) || to_none)
		events++;
	if (!to_none) {
		events++;
		t = to_lockless ? lockless(a, known, events, core::kPlace, 0)
				: classic(a, known, events, core::kPlace, 0, what.classic_chunk_kib * 2);
	}
	*space = t.space;
	if (a.super().has(kFeatureBitmap))
		phases.push_back(superblocks(
			a, "the old bitmap is given up",
			{.events = a.super().events + 1, .resync_offset = resync, .bitmap_offset = {}}, 0));
	*becomes = resync == 0 ? "none, everything is to be resynchronised" : "none";
	if (to_none)
		return phases;

	Phase body{"the new bitmap", {}};
	for (Member &m : a.members) {
		const MdSuper &s = m.super;
		body.writes.push_back({&m, (s.start + u64(core::kPlace)) * kSector, t.bytes});
		if (!to_lockless && log_to_clear(m, t.space))
			body.writes.push_back({&m, (s.start + u64(s.bad_log_offset)) * kSector,
					       Bytes(u64{s.bad_log_sectors} * kSector, 0xff)});
	}
	phases.push_back(std::move(body));
	phases.push_back(superblocks(
		a, "md's superblock names it",
		{.events = events, .resync_offset = resync, .bitmap_offset = s32(core::kPlace)}, t.space));
	*becomes = what.to + ", chunks of " + std::to_string(t.chunk_sectors / 2) + " KiB, " +
		   std::to_string(t.dirty) + " of " + std::to_string(t.chunks) + " to be resynchronised";
	return phases;
}

bool as_wanted(const Array &a, Kind wanted)
{
	auto active = active_of(a);
	return std::all_of(active.begin(), active.end(),
			   [&](const Member *m) {
				   return m->bitmap.kind == wanted && m->bitmap.usable() && !m->bitmap.stale;
			   }) &&
	       bitmap_disagreements(active).empty();
}

} // namespace

int convert(const Conversion &what)
{
	Array a = gather(what.paths, what.dry_run, Purpose::Convert);
	check(a, what);
	Kind wanted = what.to == "lockless"   ? Kind::Lockless
		      : what.to == "internal" ? Kind::Classic
					      : Kind::None;
	if (wanted == Kind::None && !a.super().has(kFeatureBitmap)) {
		say("the array has no bitmap: nothing to do");
		return kDone;
	}
	if (wanted != Kind::None && as_wanted(a, wanted)) {
		say("the bitmap is " + std::string(kind_text(wanted)) + " already: nothing to do");
		return kDone;
	}
	Known known = Known::of(a);
	std::string becomes;
	u64 space = 0;
	std::vector<Phase> phases = plan(a, what, known, &becomes, &space);
	if (what.dry_run && what.json) {
		print_json(known.from, phases);
		return kDone;
	}
	say(a.super().level_text() + ", " + std::to_string(a.super().raid_disks) + " members: " + known.from +
	    " -> " + becomes);
	if (wanted != Kind::None)
		say_logs_given_up(a, space);
	if (what.dry_run) {
		say("dry run: nothing was written");
		return kDone;
	}
	execute(phases, "assemble the array before anything else");
	return kDone;
}

} // namespace tool
