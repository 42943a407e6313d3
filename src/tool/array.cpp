// SPDX-License-Identifier: GPL-2.0
#include "tool/array.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include "tool/error.hpp"

namespace tool {

namespace {

constexpr u64 kEventsMax = ~u64{0} >> 1; // far from where adding to it would begin anew

void check_alone(const Member &m, Purpose purpose)
{
	const MdSuper &s = m.super;
	const std::string &name = m.device.path();
	if (!s.checksum_ok)
		refuse(name + ": md superblock with a wrong checksum");
	if (s.features & ~kFeatures)
		refuse(name + ": md superblock with unknown features");
	if (s.has(kFeatureReshape | kFeatureNewOffset))
		refuse(name + ": a reshape is not finished; assemble the array and let it finish");
	if (s.has(kFeatureJournal) || s.role == kRoleJournal)
		refuse(name + ": the array has a journal, which goes with no bitmap");
	if (s.has(kFeaturePpl | kFeatureMultiplePpl))
		refuse(name + ": the array has a partial parity log, which goes with no bitmap");
	if (s.has(kFeatureClustered) || m.bitmap.kind == Kind::Clustered)
		refuse(name + ": the array is a cluster's");
	if (s.has(kFeatureReplacement))
		refuse(name + ": is about to replace another member; let that finish first");
	if (s.role == kRoleFaulty)
		refuse(name + ": is marked faulty; leave it out and replace it first");
	if (purpose != Purpose::Mend && s.active() && s.has(kFeatureRecoveryOffset))
		refuse(name + ": is not recovered yet; assemble the array and let it finish");
	if (s.level != 1 && s.level != 10 && (s.level < 4 || s.level > 6))
		refuse(name + ": " + s.level_text() + " has no bitmap");
	if (s.sync_size() == 0 || (s.active() && s.role >= s.raid_disks) ||
	    s.data_offset > m.device.sectors() || s.data_size > m.device.sectors() - s.data_offset)
		refuse(name + ": md superblock with an impossible geometry");
	if (s.minor && s.data_offset < s.start + base::div_up(s.raw.size(), kSector))
		refuse(name + ": md superblock with data inside itself");
	if (s.events > kEventsMax)
		refuse(name + ": md superblock with impossible events (" + std::to_string(s.events) + ")");
	if (m.other_supers)
		refuse(name + ": has several md superblocks; take the old ones away first (wipefs)");
	if (m.bitmap.unreadable)
		refuse(m.bitmap.faults[0]);
	if (!m.bad_log.known)
		refuse(name +
		       ": its bad-block log, which may have entries, cannot be read where it is said to be");
}

void check_same(const Member &a, const Member &b, Purpose purpose)
{
	const MdSuper &s = a.super, &t = b.super;
	auto differ = [&](const char *what) {
		refuse(a.device.path() + " and " + b.device.path() + " disagree: " + what);
	};
	if (memcmp(s.uuid, t.uuid, sizeof(s.uuid)))
		differ("members of different arrays");
	if (s.minor != t.minor || s.level != t.level || s.layout != t.layout || s.size != t.size ||
	    s.chunk != t.chunk || s.raid_disks != t.raid_disks)
		differ("level, layout, size, chunk or number of members");
	if (!t.active())
		return; // a spare's superblock may be old
	bool bitmaps = s.has(kFeatureBitmap) != t.has(kFeatureBitmap) ||
		       (s.has(kFeatureBitmap) && s.bitmap_offset != t.bitmap_offset);
	if (purpose != Purpose::Convert) {
		if (bitmaps)
			differ("bitmap");
		return;
	}
	if (s.events != t.events)
		differ("events (assemble the array, stop it, and try again)");
	if (s.resync_offset != t.resync_offset || bitmaps)
		differ("resync_offset or bitmap (assemble the array, stop it, and try again)");
}

void check_slots(Array &a, Purpose purpose)
{
	u32 slots = a.super().raid_disks, next = 0;
	u64 events = a.events();
	auto empty = [&](u32 slot) {
		std::string all = "no member for slot " + std::to_string(slot) + " of " +
				  std::to_string(slots) + ": name all members";
		// One that is away would come back with its old bitmap, or alone with it.
		if (purpose != Purpose::Mend)
			refuse(all + "; a degraded array must be recovered first");
		for (const Member &m : a.members) {
			if (m.super.active() && m.super.events == events && m.super.slot_taken(slot))
				refuse(all + "; " + m.device.path() + " knows of one there");
		}
		a.whole = false;
	};
	for (const Member &m : a.members) {
		if (!m.super.active())
			break; // spares come last
		if (m.super.role < next)
			refuse("two members claim slot " + std::to_string(m.super.role));
		// md's own margin: the members are not told of an event in one instant
		if (m.super.events + 1 < events)
			refuse(m.device.path() + ": is older than the others (events " +
			       std::to_string(m.super.events) + ", not " + std::to_string(events) +
			       "), and assembling would leave it out: leave it out here, too, and --add it later");
		while (next < m.super.role)
			empty(next++);
		next++;
		a.active++;
		a.whole &= !m.super.has(kFeatureRecoveryOffset);
	}
	while (next < slots)
		empty(next++);
	if (a.active == 0)
		refuse("no active member of the array: name all members");
}

// What each member says of one thing: nothing, if all say the same.
void differ(std::vector<std::string> &lines, const std::vector<const Member *> &members,
	    const std::string &what, const std::function<std::string(const Member &)> &value)
{
	std::vector<std::pair<std::string, std::string>> said;
	for (const Member *m : members) {
		std::string v = value(*m);
		auto same = std::find_if(said.begin(), said.end(), [&](auto &one) { return one.first == v; });
		if (same == said.end())
			said.push_back({v, m->device.path()});
		else
			same->second += ", " + m->device.path();
	}
	if (said.size() < 2)
		return;
	std::string line = what + ": ";
	for (const auto &[v, who] : said)
		line += (&v == &said[0].first ? "" : "; ") + v + " on " + who;
	lines.push_back(line);
}

std::string flag(const Member &m, u32 bit)
{
	return m.bitmap.head.state & bit ? "set" : "not set";
}

bool has_head(const Member &m)
{
	return m.bitmap.kind == Kind::Lockless || m.bitmap.kind == Kind::Classic;
}

} // namespace

u64 Array::events() const
{
	u64 most = 0;
	for (const Member &m : members) {
		if (m.super.active())
			most = std::max(most, m.super.events);
	}
	return most;
}

std::vector<const Member *> active_of(const Array &a)
{
	std::vector<const Member *> active;
	for (u32 i = 0; i < a.active; i++)
		active.push_back(&a.members[i]);
	return active;
}

Array gather(const std::vector<std::string> &paths, bool dry_run, Purpose purpose)
{
	Array a;
	std::vector<Device> looked;
	for (const std::string &path : paths) {
		Device d(path, Device::Use::Look);
		for (const Device &other : looked) {
			if (d.same_as(other))
				throw Error(kUsage, path + " is " + other.path() + ": named twice");
		}
		looked.push_back(std::move(d));
	}
	looked.clear();
	const Device::Use look = purpose == Purpose::Live ? Device::Use::Look : Device::Use::Exclusive;
	const Device::Use write = purpose == Purpose::Live ? Device::Use::Beside : Device::Use::Write;
	for (const std::string &path : paths) {
		Device d(path, dry_run ? look : write);
		a.members.push_back(Member::read(std::move(d)));
		check_alone(a.members.back(), purpose);
	}
	std::stable_sort(a.members.begin(), a.members.end(),
			 [](const Member &x, const Member &y) { return x.super.role < y.super.role; });
	for (const Member &m : a.members) {
		if (&m != &a.members[0])
			check_same(a.members[0], m, purpose);
	}
	check_slots(a, purpose);
	return a;
}

std::vector<std::string> bitmap_disagreements(const std::vector<const Member *> &members)
{
	std::vector<std::string> lines;
	differ(lines, members, "bitmap",
	       [](const Member &m) { return std::string(kind_text(m.bitmap.kind)); });
	std::vector<const Member *> heads;
	std::copy_if(members.begin(), members.end(), std::back_inserter(heads),
		     [](const Member *m) { return has_head(*m); });
	differ(lines, heads, "first use", [](const Member &m) { return flag(m, LLB_SB_FIRST_USE); });
	differ(lines, heads, "made clean", [](const Member &m) { return flag(m, LLB_SB_CLEAN); });
	differ(lines, heads, "stale", [](const Member &m) { return flag(m, LLB_SB_STALE); });
	differ(lines, heads, "bitmap's sync_size",
	       [](const Member &m) { return std::to_string(m.bitmap.head.sync_size); });
	differ(lines, heads, "bitmap's chunksize",
	       [](const Member &m) { return std::to_string(m.bitmap.head.chunksize); });
	differ(lines, heads, "bitmap's sectors_reserved",
	       [](const Member &m) { return std::to_string(m.bitmap.head.sectors_reserved); });
	return lines;
}

std::vector<std::string> disagreements(const std::vector<const Member *> &members)
{
	std::vector<std::string> lines;
	std::map<std::string, std::vector<const Member *>> arrays;
	differ(lines, members, "array", [](const Member &m) { return m.super.uuid_text(); });
	for (const Member *m : members) {
		if (m->super.active())
			arrays[m->super.uuid_text()].push_back(m);
	}
	for (const auto &[uuid, active] : arrays) {
		auto number = [&](const char *what, auto field) {
			differ(lines, active, what,
			       [&](const Member &m) { return std::to_string(m.super.*field); });
		};
		number("level", &MdSuper::level);
		number("layout", &MdSuper::layout);
		number("size", &MdSuper::size);
		number("raid chunk", &MdSuper::chunk);
		number("members", &MdSuper::raid_disks);
		number("events", &MdSuper::events);
		number("resync_offset", &MdSuper::resync_offset);
		number("bitmap_offset", &MdSuper::bitmap_offset);
		number("logical_block_size", &MdSuper::logical_block);
		for (const std::string &line : bitmap_disagreements(active))
			lines.push_back(line);
	}
	return lines;
}

} // namespace tool
