// SPDX-License-Identifier: GPL-2.0
#include "tool/target.hpp"

#include <cstring>

#include "core/cell.hpp"
#include "tool/error.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

constexpr u32 kClassicVersion = 4;
constexpr u32 kClassicHeader = 256; // bytes
constexpr u64 kClassicChunk = 64 * 2048; // sectors; mdadm's default
constexpr u64 kClassicChunkMax = 1 << 22; // sectors: 2 GiB, the field has 32 bits of bytes
constexpr u32 kClassicSleep_s = 5; // mdadm's default
constexpr u32 kPage = 4096;

// Sectors between where the bitmap begins and what it must not reach, on any member. A
// log with entries is refused elsewhere.
u64 room(const Array &a, s64 offset, bool spare_bad_log)
{
	s64 least = s64(core::kSpaceSectorsMax);
	for (const Member &m : a.members) {
		const MdSuper &s = m.super;
		s64 end = s64(std::min(s.data_offset, m.device.sectors())) - s64(s.start);
		if (spare_bad_log && m.bad_log.there && s.bad_log_offset >= offset)
			end = std::min(end, s64(s.bad_log_offset));
		least = std::min(least, end - offset);
	}
	return least > 0 ? u64(least) : 0;
}

// As the module reserves for a bitmap that is new: what mdadm would, or as much as small chunks
// take, where every member has it. Of members that are away nobody knows what they have.
u64 lockless_space(const Array &a, s64 offset)
{
	u64 space = std::min(core::kReserved, room(a, offset, false)), least = ~u64{0};
	for (const Member &m : a.members)
		least = std::min(least, m.room(m.super.start + u64(offset)));
	u64 more = std::min(core::space_wanted(a.super().sync_size(), space, least), least);
	return a.whole ? std::max(space, more) : space;
}

// For none of the bitmaps that there were is better than another: the first that can be
// believed says how it was set.
core::BitmapSuper new_head(const Array &a, u64 events, u32 state)
{
	core::BitmapSuper h{};
	h.magic = LLB_MAGIC;
	memcpy(h.uuid, a.super().uuid, sizeof(h.uuid));
	h.events = events;
	// Who is not here now gets a full recovery.
	h.events_cleared = events;
	h.sync_size = a.super().sync_size();
	h.state = state;
	for (const Member &m : a.members) {
		if (!m.bitmap.usable())
			continue;
		h.daemon_sleep_s = m.bitmap.head.daemon_sleep_s;
		h.write_behind = m.bitmap.head.write_behind;
		if (h.write_behind > core::kWriteBehindMax)
			h.write_behind = 0; // md would refuse the bitmap
		break;
	}
	return h;
}

// The delay as it was, but for what the other kind has by default.
void settle_sleep(core::BitmapSuper &h, u32 others, u32 ours)
{
	if (h.daemon_sleep_s < 1 || h.daemon_sleep_s > core::kDaemonSleepMax_s || h.daemon_sleep_s == others)
		h.daemon_sleep_s = ours;
}

void finish(Target &t, const core::BitmapSuper &h)
{
	core::super_encode(h, t.bytes.data());
	t.bytes.resize(base::round_up(t.bytes.size(), kPage));
	if (t.bytes.size() > t.space * kSector)
		t.bytes.resize(t.space * kSector);
}

} // namespace

bool log_inside(const Member &m, s64 offset, u64 sectors)
{
	const MdSuper &s = m.super;
	return m.bad_log.there && s.bad_log_offset < offset + s64(sectors) &&
	       s.bad_log_offset + s64(s.bad_log_sectors) > offset;
}

bool log_given_up(const Member &m, s64 offset, u64 sectors)
{
	return m.bad_log.there && m.bad_log.entries == 0 &&
	       (log_inside(m, offset, sectors) || !m.log_in_place());
}

void say_logs_given_up(const Array &a, u64 sectors)
{
	for (const Member &m : a.members) {
		if (log_given_up(m, core::kPlace, sectors))
			say(m.device.path() + ": the empty bad-block log is " +
			    (m.log_in_place() ? "in the bitmap's place" : "where none can be") +
			    " and is given up: a bad block then fails the member");
	}
}

Bytes live_sign(const Target &t)
{
	core::BitmapSuper h = core::super_decode(t.bytes.data());
	h.state = LLB_SB_FIRST_USE;
	h.events = h.events_cleared = 1;
	h.sectors_reserved = core::kLiveSpace;
	Bytes sign(kSector, 0);
	core::super_encode(h, sign.data());
	return sign;
}

Target lockless(const Array &a, const Known &known, u64 events, s64 offset, u32 state)
{
	Target t;
	t.space = lockless_space(a, offset);
	core::Geometry geo;
	u64 size = a.super().sync_size();
	u32 from = core::chunk_shift_wanted(size, std::min(core::kReserved, t.space));
	if (core::geometry_for(size, t.space, from, &geo).failed())
		refuse("no room for a lockless bitmap: " + std::to_string(t.space) +
		       " sectors between md's superblock and the data");
	for (const Member &m : a.members) {
		auto faults = m.place_faults(offset, t.space, geo.bytes());
		if (!faults.empty())
			refuse(m.device.path() + ": " + faults[0]);
	}
	core::BitmapSuper h = new_head(a, events, state);
	h.version = LLB_VERSION;
	for (const Member &m : a.members) {
		if (m.bitmap.kind != Kind::Lockless || !m.bitmap.usable())
			continue;
		h.resync_budget = m.bitmap.head.resync_budget;
		break;
	}
	h.chunksize = u32(geo.chunk_sectors());
	h.sectors_reserved = u32(t.space);
	settle_sleep(h, kClassicSleep_s, core::kDaemonSleepDefault_s);
	t.chunk_sectors = geo.chunk_sectors();
	t.chunks = geo.chunks;
	t.bytes.assign(geo.bytes(), LLB_CLEAN);
	std::fill_n(t.bytes.begin(), LLB_CELLS_OFFSET, 0);
	known.each_dirty([&](u64 start, u64 end) {
		for (u64 c = start / t.chunk_sectors; c <= (end - 1) / t.chunk_sectors; c++)
			t.bytes[LLB_CELLS_OFFSET + c] = LLB_NEED_SYNC;
	});
	t.dirty = u64(std::count(t.bytes.begin() + LLB_CELLS_OFFSET, t.bytes.end(), LLB_NEED_SYNC));
	finish(t, h);
	return t;
}

Target classic(const Array &a, const Known &known, u64 events, s64 offset, u32 state, u64 chunk_sectors)
{
	Target t;
	u64 size = a.super().sync_size();
	t.space = std::min(core::kReserved, room(a, offset, true)) / 8 * 8;
	auto bytes = [&](u64 chunk) { return kClassicHeader + base::div_up(base::div_up(size, chunk), 8); };
	if (t.space == 0)
		refuse("no room for an internal bitmap between md's superblock and the data");
	for (const Member &m : a.members) {
		if (m.bad_log.entries && log_inside(m, offset, t.space))
			refuse(m.device.path() + ": the bad-block log lies in the bitmap's place and has " +
			       std::to_string(m.bad_log.entries) + " entries");
	}
	t.chunk_sectors = chunk_sectors ? chunk_sectors : kClassicChunk;
	while (bytes(t.chunk_sectors) > t.space * kSector) {
		if (chunk_sectors)
			refuse("no room for an internal bitmap with such small chunks");
		t.chunk_sectors *= 2;
		if (t.chunk_sectors > kClassicChunkMax)
			refuse("no room for an internal bitmap of such a large array");
	}
	core::BitmapSuper h = new_head(a, events, state);
	h.version = kClassicVersion;
	h.chunksize = u32(t.chunk_sectors * kSector);
	h.sectors_reserved = u32(t.space);
	settle_sleep(h, core::kDaemonSleepDefault_s, kClassicSleep_s);
	t.chunks = base::div_up(size, t.chunk_sectors);
	t.bytes.assign(bytes(t.chunk_sectors), 0);
	known.each_dirty([&](u64 start, u64 end) {
		for (u64 c = start / t.chunk_sectors; c <= (end - 1) / t.chunk_sectors; c++) {
			u8 &byte = t.bytes[kClassicHeader + c / 8], bit = u8(1 << c % 8);
			t.dirty += !(byte & bit);
			byte |= bit;
		}
	});
	finish(t, h);
	return t;
}

} // namespace tool
