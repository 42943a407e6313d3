// SPDX-License-Identifier: GPL-2.0
#include "tool/examine.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/cell.hpp"
#include "llbitmap/release.h"
#include "tool/array.hpp"
#include "tool/error.hpp"
#include "tool/screen.hpp"
#include "tool/text.hpp"

using Json = nlohmann::ordered_json;

namespace tool {

namespace {

// The names of llbitmap/bits.
constexpr const char *kStateNames[LLB_STATES] = {LLB_STATE_LIST(LLB_STATE_TEXT)};

// For scripts: without blanks.
std::string key(std::string name)
{
	std::replace(name.begin(), name.end(), ' ', '_');
	return name;
}

struct Counts {
	u64 states[LLB_STATES] = {};
	u64 invalid = 0; // bytes that are no state: treated as need sync
	u64 resync_chunks = 0; // that the next start resynchronises, by what this member says
	u64 resync_sectors = 0;
};

Counts count(const Member &m)
{
	Counts c;
	const Bitmap &b = m.bitmap;
	m.each_cells([&](u64 first, const Bytes &cells) {
		for (u64 i = 0; i < cells.size(); i++) {
			u8 byte = cells[i];
			bool sync = b.stale;
			if (b.kind == Kind::Lockless) {
				byte < LLB_STATES ? c.states[byte]++ : c.invalid++;
				sync |= core::reloaded(byte) == LLB_NEED_SYNC;
			} else {
				sync |= byte;
			}
			if (sync) {
				c.resync_chunks++;
				c.resync_sectors += std::min(
					b.chunk_sectors, b.head.sync_size - (first + i) * b.chunk_sectors);
			}
		}
	});
	return c;
}

// A member as it is shown: with what its state bytes say, if they could be read.
struct Shown {
	Member member;
	std::optional<Counts> counts;
};

std::vector<std::string> flags(u32 state)
{
	std::vector<std::string> set;
	if (state & LLB_SB_STALE)
		set.push_back("stale");
	if (state & LLB_SB_FIRST_USE)
		set.push_back("first use");
	if (state & LLB_SB_CLEAN)
		set.push_back("made clean");
	return set;
}

std::vector<std::string> features(const MdSuper &s)
{
	constexpr std::pair<u32, const char *> names[] = {
		{kFeatureBitmap, "bitmap"},
		{kFeatureRecoveryOffset, "recovering"},
		{kFeatureReshape, "reshape"},
		{kFeatureBadBlocks, "bad blocks"},
		{kFeatureReplacement, "replacement"},
		{kFeatureReshapeBackwards, "reshape backwards"},
		{kFeatureNewOffset, "new offset"},
		{kFeatureRecoveryBitmap, "recovery by bitmap"},
		{kFeatureClustered, "clustered"},
		{kFeatureJournal, "journal"},
		{kFeaturePpl, "ppl"},
		{kFeatureMultiplePpl, "multiple ppl"},
		{kFeatureRaid0Layout, "raid0 layout"},
	};
	std::vector<std::string> set;
	for (auto [bit, name] : names) {
		if (s.has(bit))
			set.push_back(name);
	}
	return set;
}

Json role(const MdSuper &s)
{
	switch (s.role) {
	case kRoleSpare:
		return "spare";
	case kRoleFaulty:
		return "faulty";
	case kRoleJournal:
		return "journal";
	}
	return s.role;
}

// MiB; 0: no limit; null: nobody chose one, or it is no lockless bitmap.
Json budget(const Bitmap &b)
{
	u32 mib = b.head.resync_budget;
	if (b.kind != Kind::Lockless || mib == 0)
		return nullptr;
	return mib == LLB_BUDGET_NONE ? 0 : mib;
}

Json bitmap_json(const Shown &shown)
{
	const Member &m = shown.member;
	const Bitmap &b = m.bitmap;
	if (b.kind == Kind::None)
		return nullptr;
	Json j = {
		{"kind", kind_text(b.kind)},
		{"version", b.head.version},
		{"usable", b.usable()},
		{"offset_sectors", m.super.bitmap_offset},
		{"sector", b.sector},
		{"reserved_sectors", b.head.sectors_reserved},
		{"sync_size_sectors", b.head.sync_size},
		{"chunk_field", b.head.chunksize},
		{"chunk_unit", b.first_use				  ? "ignored"
			       : b.kind != Kind::Lockless || b.bytes_unit ? "bytes"
									  : "sectors"},
		{"chunk_sectors", b.chunk_sectors},
		{"chunks", b.chunks},
		{"events", b.head.events},
		{"events_cleared", b.head.events_cleared},
		{"daemon_sleep_seconds", b.head.daemon_sleep_s},
		{"write_behind", b.head.write_behind},
		{"resync_budget_mib", budget(b)},
		{"flags", flags(b.head.state)},
		{"stale", b.stale},
	};
	if (!shown.counts)
		return j;
	const Counts &c = *shown.counts;
	if (b.kind == Kind::Lockless) {
		Json states = Json::object();
		for (u32 i = 0; i < LLB_STATES; i++)
			states[key(kStateNames[i])] = c.states[i];
		states["invalid"] = c.invalid;
		j["state_chunks"] = states;
	}
	j["resync_chunks"] = c.resync_chunks;
	j["resync_sectors"] = c.resync_sectors;
	return j;
}

// What the oldest kernel is whose md takes the member as it is, as far as is known.
Json oldest_kernel(const Member &m)
{
	if (m.super.padding)
		return nullptr;
	if (m.super.logical_block)
		return "6.19";
	return m.bitmap.kind == Kind::Lockless ? Json("6.18") : Json(nullptr);
}

Json member_json(const Shown &shown)
{
	const Member &m = shown.member;
	const MdSuper &s = m.super;
	Json log = nullptr;
	if (m.bad_log.there || !m.bad_log.known)
		log = {{"offset_sectors", s.bad_log_offset},
		       {"sectors", s.bad_log_sectors},
		       {"entries", m.bad_log.known ? Json(m.bad_log.entries) : Json(nullptr)}};
	Json resync = nullptr;
	if (s.resync_offset != kMaxSector)
		resync = s.resync_offset;
	return {
		{"device", m.device.path()},
		{"metadata", "1." + std::to_string(s.minor)},
		{"array",
		 {{"uuid", s.uuid_text()},
		  {"name", s.name},
		  {"level", s.level},
		  {"layout", s.layout},
		  {"members", s.raid_disks},
		  {"chunk_sectors", s.chunk},
		  {"member_sectors", s.size},
		  {"sync_size_sectors", s.sync_size()},
		  {"events", s.events},
		  {"resync_offset_sectors", resync},
		  {"logical_block_bytes", s.logical_block ? Json(s.logical_block) : Json(nullptr)},
		  {"oldest_kernel", oldest_kernel(m)}}},
		{"member",
		 {{"role", role(s)},
		  {"super_sector", s.start},
		  {"data_offset_sectors", s.data_offset},
		  {"data_sectors", s.data_size},
		  {"checksum_ok", s.checksum_ok},
		  {"features", features(s)},
		  {"bad_block_log", log}}},
		{"bitmap", bitmap_json(shown)},
		{"warnings", m.warnings},
		{"notes", m.notes},
	};
}

std::string joined(const std::vector<std::string> &words)
{
	std::string all;
	for (const std::string &word : words)
		all += (all.empty() ? "" : ", ") + word;
	return all.empty() ? "none" : all;
}

std::string size_text(u64 sectors)
{
	const char *units[] = {"KiB", "MiB", "GiB", "TiB"};
	if (sectors % 2)
		return std::to_string(sectors) + " sectors";
	u64 value = sectors / 2, unit = 0;
	while (unit < 3 && value && value % 1024 == 0) {
		value /= 1024;
		unit++;
	}
	return std::to_string(value) + " " + units[unit];
}

void line(const char *what, const std::string &text)
{
	constexpr size_t indent = 15, room = 80 - indent;
	std::string head = "  " + std::string(what);
	// What fits stays as it is: names have any spaces.
	for (const std::string &words :
	     text.size() <= room ? std::vector<std::string>{text} : wrapped(text, room)) {
		say(head + std::string(indent - std::min(indent - 1, head.size()), ' ') + words);
		head.clear();
	}
}

void print_bitmap(const Shown &shown)
{
	const Member &m = shown.member;
	const Bitmap &b = m.bitmap;
	if (b.kind == Kind::None) {
		line("bitmap", "none on this member");
		return;
	}
	Json mib = budget(b);
	std::string budget_text = b.kind != Kind::Lockless ? ""
				  : mib.is_null()	   ? ", resync_budget by default"
				  : mib == 0		   ? ", resync_budget none"
							   : ", resync_budget " + mib.dump() + " MiB";
	line("bitmap",
	     std::string(kind_text(b.kind)) + ", version " + std::to_string(b.head.version) + ", at sector " +
		     std::to_string(b.sector) + " (superblock " + (m.super.bitmap_offset < 0 ? "" : "+") +
		     std::to_string(m.super.bitmap_offset) + "), " + std::to_string(b.head.sectors_reserved) +
		     " sectors (" + size_text(b.head.sectors_reserved) + ") reserved");
	if (!b.usable())
		return;
	std::string unit = b.first_use		      ? " (to be chosen when the array starts)"
			   : b.kind != Kind::Lockless ? ""
			   : b.bytes_unit	      ? " (in bytes on disk)"
						      : " (in sectors on disk)";
	line("chunk", size_text(b.chunk_sectors) + unit + ", " + std::to_string(b.chunks) + " chunks over " +
			      size_text(b.first_use ? m.super.sync_size() : b.head.sync_size));
	line("events", std::to_string(b.head.events) + ", cleared at " +
			       std::to_string(b.head.events_cleared) +
			       (b.stale ? ": STALE, everything is resynchronised" : ""));
	line("flags", joined(flags(b.head.state)));
	line("settings", "daemon_sleep " + std::to_string(b.head.daemon_sleep_s) + " s, write_behind " +
				 std::to_string(b.head.write_behind) + budget_text);
	if (b.first_use)
		line("chunks", b.head.state & LLB_SB_CLEAN
				       ? "not initialised: all clean at the first start"
				       : "not initialised: all unwritten at the first start");
	if (!shown.counts)
		return;
	const Counts &c = *shown.counts;
	if (b.kind == Kind::Lockless) {
		std::vector<std::string> words;
		for (u32 i = 0; i < LLB_STATES; i++) {
			if (c.states[i])
				words.push_back(std::to_string(c.states[i]) + " " + kStateNames[i]);
		}
		if (c.invalid)
			words.push_back(std::to_string(c.invalid) + " invalid (taken for need sync)");
		line("chunks", joined(words));
	}
	line("to resync", std::to_string(c.resync_chunks) + " chunks, " + size_text(c.resync_sectors));
}

void print(const Shown &shown)
{
	const Member &m = shown.member;
	const MdSuper &s = m.super;
	std::string who = s.active() ? "member " + std::to_string(s.role) : role(s).get<std::string>();
	say(m.device.path() + ": md 1." + std::to_string(s.minor) + ", " + s.level_text() + " of " +
	    std::to_string(s.raid_disks) + ", " + who);
	line("array", s.uuid_text() + (s.name.empty() ? "" : " (" + s.name + ")"));
	line("events", std::to_string(s.events) + ", " +
			       (s.resync_offset == kMaxSector
					? "in sync"
					: "not in sync from sector " + std::to_string(s.resync_offset)));
	line("data", "at sector " + std::to_string(s.data_offset) + ", " + size_text(s.size) + " used");
	if (s.logical_block)
		line("blocks", std::to_string(s.logical_block) + " bytes, as md recorded");
	line("features", joined(features(s)));
	if (m.bad_log.there)
		line("bad blocks", "log at superblock " + std::string(s.bad_log_offset < 0 ? "" : "+") +
					   std::to_string(s.bad_log_offset) + ", " +
					   (m.bad_log.known ? std::to_string(m.bad_log.entries) + " entries"
							    : "not readable"));
	print_bitmap(shown);
	for (const std::string &note : m.notes)
		line("note", note);
	for (const std::string &warning : m.warnings)
		line("warning", warning);
}

Shown look(const std::string &path)
{
	Shown shown{Member::read(Device(path, Device::Use::Look)), {}};
	Member &m = shown.member;
	const Bitmap &b = m.bitmap;
	if (b.read) {
		try {
			shown.counts = count(m);
		} catch (const Error &error) {
			m.warnings.push_back(std::string("bitmap: ") + error.what());
		}
	}
	if (shown.counts && shown.counts->invalid)
		m.warnings.push_back(std::to_string(shown.counts->invalid) +
				     " state bytes are invalid: these chunks are resynchronised");
	if (shown.counts && b.kind == Kind::Lockless) {
		const u64 *states = shown.counts->states;
		u64 late = states[LLB_NEED_SYNC_UNWRITTEN] + states[LLB_SYNCING_UNWRITTEN] +
			   states[LLB_CLEAN_UNWRITTEN];
		if (late)
			m.notes.push_back(
				std::to_string(late) +
				" state bytes (5 to 7) came with Linux 7.1: the in-tree drivers of 6.18 to 7.0 do not mark writes to these chunks; before such a kernel starts the array, llbitmap convert --to none");
	}
	if (b.usable() && b.stale)
		m.warnings.push_back("the bitmap is not current (events " + std::to_string(b.head.events) +
				     ", array " + std::to_string(m.super.events) +
				     ") or marked stale: everything is resynchronised");
	if (b.usable() && !b.first_use && b.head.sync_size != m.super.sync_size())
		m.warnings.push_back("the bitmap covers " + std::to_string(b.head.sync_size) +
				     " sectors, the array has " + std::to_string(m.super.sync_size()));
	return shown;
}

void print_json(const Json &json)
{
	printf("%s\n", json.dump(2, ' ', true, Json::error_handler_t::replace).c_str());
}

} // namespace

int examine(const std::vector<std::string> &paths, bool json)
{
	std::vector<Shown> all;
	std::vector<std::string> unreadable;
	bool several = paths.size() > 1, damaged = false;
	for (const std::string &path : paths) {
		try {
			all.push_back(look(path));
		} catch (const Error &error) {
			if (!several)
				throw;
			unreadable.push_back(error.what());
		}
	}
	std::vector<const Member *> members;
	for (const Shown &shown : all) {
		members.push_back(&shown.member);
		damaged |= !shown.member.warnings.empty();
		if (!json)
			print(shown);
	}
	std::vector<std::string> lines = disagreements(members);
	int status = !unreadable.empty() ? kUnreadable : damaged || !lines.empty() ? kDamaged : kDone;
	if (json) {
		Json list = Json::array();
		for (const Shown &shown : all)
			list.push_back(member_json(shown));
		print_json({{"format", 1},
			    {"tool", LLB_RELEASE},
			    {"exit_status", status},
			    {"members", list},
			    {"disagreements", lines},
			    {"unreadable", unreadable}});
	} else {
		for (const std::string &what : lines)
			say("members disagree: " + what);
		if (lines.empty() && members.size() > 1)
			say("the members agree");
	}
	for (const std::string &why : unreadable)
		complain(why);
	return status;
}

} // namespace tool
