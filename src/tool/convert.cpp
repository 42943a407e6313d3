// SPDX-License-Identifier: GPL-2.0
#include "tool/convert.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/cell.hpp"
#include "tool/error.hpp"
#include "tool/member.hpp"

namespace tool {

namespace {

constexpr s64 kOffset = 8; // sectors from the superblock, where mdadm puts bitmaps of 1.2 arrays
constexpr u64 kLocklessSpace = 256; // sectors, as mdadm reserves
constexpr u32 kClassicVersion = 4;
constexpr u32 kClassicHeader = 256; // bytes
constexpr u64 kClassicChunk = 64 * 2048; // sectors; mdadm's default
constexpr u64 kClassicChunkMax = 1 << 22; // sectors: 2 GiB, the field has 32 bits of bytes
constexpr u32 kClassicSleep_s = 5; // mdadm's default
constexpr u32 kPage = 4096;

[[noreturn]] void refuse(const std::string &why)
{
	throw Error(kRefused, why);
}

struct Write {
	Member *member;
	u64 offset; // bytes
	Bytes data;
};

// Every write of a phase is durable before the next phase begins.
struct Phase {
	std::string what;
	std::vector<Write> writes;
};

// What is known of a part of the array.
struct Part {
	u64 start, end; // sectors
	bool clean; // all copies agree, parity is valid
};

struct Array {
	std::vector<Member> members; // active ones in the order of their slots, then spares
	u32 active = 0;
	Kind kind = Kind::None;
	std::vector<Part> parts;
	std::string was; // in words

	const Super &super() const { return members[0].super; }
	const Bitmap &bitmap() const { return members[0].bitmap; }
	bool all_clean() const
	{
		return std::all_of(parts.begin(), parts.end(), [](const Part &p) { return p.clean; });
	}
};

// ---- may it be converted? ----

void check_alone(const Member &m)
{
	const Super &s = m.super;
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
	if (s.active() && s.has(kFeatureRecoveryOffset))
		refuse(name + ": is not recovered yet; assemble the array and let it finish");
	if (s.level != 1 && s.level != 10 && (s.level < 4 || s.level > 6))
		refuse(name + ": " + s.level_text() + " has no bitmap");
	if (s.sync_size() == 0)
		refuse(name + ": md superblock with an impossible geometry");
}

void check_same(const Member &a, const Member &b)
{
	const Super &s = a.super, &t = b.super;
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
	if (s.events != t.events)
		differ("events (assemble the array, stop it, and try again)");
	if (s.resync_offset != t.resync_offset || s.has(kFeatureBitmap) != t.has(kFeatureBitmap) ||
	    (s.has(kFeatureBitmap) && s.bitmap_offset != t.bitmap_offset))
		differ("resync_offset or bitmap (assemble the array, stop it, and try again)");
}

Array gather(const Conversion &what)
{
	Array a;
	std::vector<Device> looked;
	for (const std::string &path : what.paths) {
		Device d(path, Device::Use::Look);
		for (const Device &other : looked) {
			if (d.same_as(other))
				throw Error(kUsage, path + " is " + other.path() + ": named twice");
		}
		looked.push_back(std::move(d));
	}
	looked.clear();
	for (const std::string &path : what.paths) {
		Device d(path, what.dry_run ? Device::Use::Exclusive : Device::Use::Write);
		a.members.push_back(Member::read(std::move(d)));
		check_alone(a.members.back());
	}
	std::stable_sort(a.members.begin(), a.members.end(),
			 [](const Member &x, const Member &y) { return x.super.role < y.super.role; });
	for (const Member &m : a.members) {
		if (&m != &a.members[0])
			check_same(a.members[0], m);
	}
	u32 slots = a.super().raid_disks;
	for (const Member &m : a.members) {
		if (!m.super.active())
			continue;
		if (m.super.role < a.active)
			refuse("two members claim slot " + std::to_string(m.super.role));
		if (m.super.role > a.active)
			break;
		a.active++;
	}
	// One that is away would come back with its old bitmap, or alone with it.
	if (a.active < slots)
		refuse("no member for slot " + std::to_string(a.active) + " of " + std::to_string(slots) +
		       ": name all members; a degraded array must be recovered first");
	if (what.to != "none" && a.super().minor != 2)
		refuse("1." + std::to_string(a.super().minor) +
		       " metadata: only 1.2 has room for a bitmap that can be changed");
	return a;
}

// ---- what is known ----

// A chunk is clean if all members that have a current bitmap say so alike.
bool cell_clean(const Array &a, const std::vector<const Bitmap *> &current, u64 chunk)
{
	u8 first = current[0]->cells[chunk];
	for (const Bitmap *b : current) {
		if (b->cells[chunk] != first)
			return false;
	}
	if (a.kind == Kind::Classic)
		return first == 0;
	// Never written: raid4/5/6 have no parity there, the others no equal copies.
	return first == LLB_CLEAN || first == LLB_CLEAN_UNWRITTEN;
}

void learn_from_bitmap(Array &a)
{
	std::vector<const Bitmap *> current;
	const Bitmap *any = nullptr;
	bool mixed = false;
	u64 sync_size = a.super().sync_size();
	for (u32 i = 0; i < a.active; i++) {
		const Bitmap &b = a.members[i].bitmap;
		if (!b.usable())
			continue;
		mixed |= any && any->kind != b.kind;
		a.kind = b.kind;
		any = &b;
	}
	for (u32 i = 0; i < a.active; i++) {
		const Bitmap &b = a.members[i].bitmap;
		if (!b.usable() || mixed || b.stale || (!b.first_use && b.head.sync_size != sync_size))
			continue;
		if (current.empty() ||
		    (b.chunk_sectors == current[0]->chunk_sectors && b.chunks == current[0]->chunks &&
		     b.first_use == current[0]->first_use))
			current.push_back(&b);
	}
	if (current.empty()) {
		a.was = any && !mixed ? std::string(kind_text(a.kind)) + " (stale)" : "damaged";
		if (!any || mixed)
			a.kind = Kind::Unknown;
		a.parts.push_back({0, sync_size, false});
		return;
	}
	const Bitmap &b = *current[0];
	if (b.first_use) {
		bool clean = b.head.state & LLB_SB_CLEAN;
		a.was = "lockless (never started)";
		a.parts.push_back({0, sync_size, clean});
		return;
	}
	u64 dirty = 0;
	for (u64 chunk = 0; chunk < b.chunks; chunk++) {
		u64 start = chunk * b.chunk_sectors;
		bool clean = cell_clean(a, current, chunk);
		dirty += !clean;
		a.parts.push_back({start, std::min(start + b.chunk_sectors, sync_size), clean});
	}
	a.was = std::string(kind_text(a.kind)) + " (" + std::to_string(dirty) + " of " +
		std::to_string(b.chunks) + " chunks not clean)";
}

void learn(Array &a)
{
	const Super &s = a.super();
	if (s.has(kFeatureBitmap)) {
		learn_from_bitmap(a);
		return;
	}
	u64 sync_size = s.sync_size(), synced = std::min(s.resync_offset, sync_size);
	if (synced)
		a.parts.push_back({0, synced, true});
	if (synced < sync_size)
		a.parts.push_back({synced, sync_size, false});
	a.was = synced == sync_size ? "no bitmap, in sync"
				    : "no bitmap, not in sync from sector " + std::to_string(synced);
}

// ---- the new bitmap ----

struct Target {
	Bytes head; // and bits or state bytes
	u64 space = 0; // sectors reserved for it
	u64 chunk_sectors = 0;
	u64 chunks = 0, dirty = 0;
};

// Calls mark(first, last) with the chunks of each part that is not clean.
template <class F>
void each_dirty(const Array &a, u64 chunk_sectors, F mark)
{
	for (const Part &p : a.parts) {
		if (!p.clean)
			mark(p.start / chunk_sectors, (p.end - 1) / chunk_sectors);
	}
}

// Sectors between where the bitmap begins and what it must not reach.
u64 room(const Array &a, bool spare_bad_log)
{
	s64 least = s64(core::kSpaceSectorsMax);
	for (const Member &m : a.members) {
		const Super &s = m.super;
		s64 end = s64(s.data_offset) - s64(s.start);
		if (spare_bad_log && s.bad_log_offset >= kOffset)
			end = std::min(end, s64(s.bad_log_offset));
		least = std::min(least, end - kOffset);
	}
	return least > 0 ? u64(least) : 0;
}

core::Super new_head(const Array &a, u64 events)
{
	core::Super h{};
	h.magic = LLB_MAGIC;
	memcpy(h.uuid, a.super().uuid, sizeof(h.uuid));
	h.events = events;
	// Who is not here now gets a full recovery.
	h.events_cleared = events;
	h.sync_size = a.super().sync_size();
	if (a.bitmap().usable()) {
		h.daemon_sleep_s = a.bitmap().head.daemon_sleep_s;
		h.write_behind = a.bitmap().head.write_behind;
	}
	return h;
}

void finish(Target &t, const core::Super &h)
{
	core::super_encode(h, t.head.data());
	t.head.resize(base::round_up(t.head.size(), kPage));
	if (t.head.size() > t.space * kSector)
		t.head.resize(t.space * kSector);
}

Target lockless(const Array &a, u64 events)
{
	Target t;
	t.space = std::min(kLocklessSpace, room(a, false));
	core::Geometry geo;
	u64 size = a.super().sync_size();
	if (core::geometry_for(size, t.space, core::kChunkShiftMin, &geo).failed())
		refuse("no room for a lockless bitmap: " + std::to_string(t.space) +
		       " sectors between md's superblock and the data");
	for (const Member &m : a.members) {
		auto faults = m.place_faults(kOffset, t.space, geo.bytes());
		if (!faults.empty())
			refuse(m.device.path() + ": " + faults[0]);
	}
	core::Super h = new_head(a, events);
	h.version = LLB_VERSION;
	h.chunksize = u32(geo.chunk_sectors());
	h.sectors_reserved = u32(t.space);
	if (h.daemon_sleep_s < 1 || h.daemon_sleep_s > core::kDaemonSleepMax_s ||
	    h.daemon_sleep_s == kClassicSleep_s)
		h.daemon_sleep_s = core::kDaemonSleepDefault_s;
	t.chunk_sectors = geo.chunk_sectors();
	t.chunks = geo.chunks;
	t.head.assign(geo.bytes(), LLB_CLEAN);
	std::fill_n(t.head.begin(), LLB_CELLS_OFFSET, 0);
	each_dirty(a, t.chunk_sectors, [&](u64 first, u64 last) {
		for (u64 c = first; c <= last; c++)
			t.head[LLB_CELLS_OFFSET + c] = LLB_NEED_SYNC;
	});
	t.dirty = u64(std::count(t.head.begin() + LLB_CELLS_OFFSET, t.head.end(), LLB_NEED_SYNC));
	finish(t, h);
	return t;
}

Target classic(const Array &a, u64 events, u64 chunk_sectors)
{
	Target t;
	u64 size = a.super().sync_size();
	t.space = std::min(kLocklessSpace, room(a, true)) / 8 * 8;
	auto bytes = [&](u64 chunk) { return kClassicHeader + base::div_up(base::div_up(size, chunk), 8); };
	if (t.space == 0)
		refuse("no room for an internal bitmap between md's superblock and the data");
	t.chunk_sectors = chunk_sectors ? chunk_sectors : kClassicChunk;
	while (bytes(t.chunk_sectors) > t.space * kSector) {
		if (chunk_sectors)
			refuse("no room for an internal bitmap with such small chunks");
		t.chunk_sectors *= 2;
		if (t.chunk_sectors > kClassicChunkMax)
			refuse("no room for an internal bitmap of such a large array");
	}
	core::Super h = new_head(a, events);
	h.version = kClassicVersion;
	h.chunksize = u32(t.chunk_sectors * kSector);
	h.sectors_reserved = u32(t.space);
	if (h.daemon_sleep_s < 1 || h.daemon_sleep_s > core::kDaemonSleepMax_s ||
	    h.daemon_sleep_s == core::kDaemonSleepDefault_s)
		h.daemon_sleep_s = kClassicSleep_s;
	t.chunks = base::div_up(size, t.chunk_sectors);
	t.head.assign(bytes(t.chunk_sectors), 0);
	each_dirty(a, t.chunk_sectors, [&](u64 first, u64 last) {
		for (u64 c = first; c <= last; c++) {
			u8 &byte = t.head[kClassicHeader + c / 8], bit = u8(1 << c % 8);
			t.dirty += !(byte & bit);
			byte |= bit;
		}
	});
	finish(t, h);
	return t;
}

// ---- the writes ----

bool log_inside(const Super &s, u64 space)
{
	return s.bad_log_offset && s.bad_log_offset < kOffset + s64(space) &&
	       s.bad_log_offset + s64(s.bad_log_sectors) > kOffset;
}

Phase superblocks(Array &a, const char *what, const SuperEdit &edit, u64 lockless_space)
{
	Phase p{what, {}};
	for (Member &m : a.members) {
		SuperEdit own = edit;
		own.drop_bad_log = log_inside(m.super, lockless_space);
		p.writes.push_back({&m, m.super.start * kSector, edited(m.super, own)});
	}
	return p;
}

std::vector<Phase> plan(Array &a, const Conversion &what, std::string *becomes)
{
	std::vector<Phase> phases;
	u64 events = a.super().events;
	// md resynchronises from there without a bitmap, and with one only what it says.
	u64 resync = a.all_clean() ? a.super().resync_offset : 0;
	bool to_none = what.to == "none", to_lockless = what.to == "lockless";
	Target t;

	if (a.super().has(kFeatureBitmap) || to_none)
		events++;
	if (!to_none) {
		events++;
		t = to_lockless ? lockless(a, events) : classic(a, events, what.classic_chunk_kib * 2);
	}
	if (a.super().has(kFeatureBitmap))
		phases.push_back(superblocks(
			a, "the old bitmap is given up",
			{.events = a.super().events + 1, .resync_offset = resync, .bitmap_offset = {}}, 0));
	*becomes = resync == 0 ? "none, everything is to be resynchronised" : "none";
	if (to_none)
		return phases;

	Phase body{"the new bitmap", {}};
	for (Member &m : a.members) {
		const Super &s = m.super;
		body.writes.push_back({&m, (s.start + u64(kOffset)) * kSector, t.head});
		// The log is empty, but state bytes may have been where it is.
		if (!to_lockless && s.bad_log_offset > 0 && s.bad_log_sectors && !m.bad_log_entries)
			body.writes.push_back({&m, u64(s64(s.start) + s.bad_log_offset) * kSector,
					       Bytes(u64{s.bad_log_sectors} * kSector, 0xff)});
	}
	phases.push_back(std::move(body));
	phases.push_back(
		superblocks(a, "md's superblock names it",
			    {.events = events, .resync_offset = resync, .bitmap_offset = s32(kOffset)},
			    to_lockless ? t.space : 0));
	*becomes = what.to + ", chunks of " + std::to_string(t.chunk_sectors / 2) + " KiB, " +
		   std::to_string(t.dirty) + " of " + std::to_string(t.chunks) + " to be resynchronised";
	return phases;
}

void print_json(const Array &a, const std::vector<Phase> &phases)
{
	using Json = nlohmann::ordered_json;
	Json list = Json::array();
	for (const Phase &p : phases) {
		Json writes = Json::array();
		for (const Write &w : p.writes) {
			std::string hex;
			for (u8 byte : w.data) {
				hex += "0123456789abcdef"[byte >> 4];
				hex += "0123456789abcdef"[byte & 15];
			}
			writes.push_back(
				{{"device", w.member->device.path()}, {"offset", w.offset}, {"hex", hex}});
		}
		list.push_back({{"what", p.what}, {"writes", writes}});
	}
	printf("%s\n", Json{{"from", a.was}, {"phases", list}}.dump().c_str());
}

void execute(std::vector<Phase> &phases)
{
	for (Phase &p : phases) {
		try {
			for (Write &w : p.writes)
				w.member->device.write(w.offset, w.data);
			for (Write &w : p.writes)
				w.member->device.sync();
			for (Write &w : p.writes) {
				if (w.member->device.read(w.offset, w.data.size()) != w.data)
					throw Error(kBroken, w.member->device.path() +
								     ": does not read back what was written");
			}
		} catch (const Error &error) {
			throw Error(kBroken, std::string(error.what()) + " (in phase '" + p.what +
						     "'; assemble the array before anything else)");
		}
	}
}

} // namespace

int convert(const Conversion &what)
{
	Array a = gather(what);
	learn(a);
	Kind wanted = what.to == "lockless"   ? Kind::Lockless
		      : what.to == "internal" ? Kind::Classic
					      : Kind::None;
	if (a.kind == wanted && !a.super().has(kFeatureBitmap)) {
		printf("the array has no bitmap: nothing to do\n");
		return kDone;
	}
	if (a.kind == wanted && a.bitmap().usable() && !a.bitmap().stale) {
		printf("the bitmap is %s already: nothing to do\n", kind_text(wanted));
		return kDone;
	}
	std::string becomes;
	std::vector<Phase> phases = plan(a, what, &becomes);
	if (what.dry_run && what.json) {
		print_json(a, phases);
		return kDone;
	}
	printf("%s, %u members: %s -> %s\n", a.super().level_text().c_str(), a.super().raid_disks,
	       a.was.c_str(), becomes.c_str());
	if (wanted == Kind::Lockless) {
		for (const Member &m : a.members) {
			if (log_inside(m.super, kLocklessSpace))
				printf("%s: the empty bad-block log is in the bitmap's place and is given up: a bad block then fails the member\n",
				       m.device.path().c_str());
		}
	}
	if (what.dry_run) {
		printf("dry run: nothing was written\n");
		return kDone;
	}
	execute(phases);
	return kDone;
}

} // namespace tool
