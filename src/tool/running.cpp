// SPDX-License-Identifier: GPL-2.0
#include "tool/running.hpp"

#include <algorithm>
#include <cstdlib>
#include <sys/stat.h>
#include <unistd.h>

#include "tool/error.hpp"

namespace tool {

const char *const kBitNames[LLB_STATES] = {LLB_STATE_LIST(LLB_STATE_TEXT)};

const char *const kStateKeys[LLB_STATES] = {
	"unwritten",	     "clean",		"dirty", "need_sync", "syncing", "need_sync_unwritten",
	"syncing_unwritten", "clean_unwritten",
};

namespace {

constexpr u64 kSectorBytes = 512;
constexpr u64 kFastest = u64{1} << 50; // bytes per second

std::optional<u64> times(std::optional<u64> value, u64 unit)
{
	if (!value || *value > ~u64{0} / unit)
		return {};
	return *value * unit;
}

// "131072 (65536)" while a reshape changes it; "max (system)".
std::optional<u64> first_number(const std::string &path)
{
	std::vector<std::string> found = words(file_line(path));
	return found.empty() ? std::nullopt : number(found[0]);
}

// md prints a uuid in five groups, mdadm in four; the same 32 digits.
std::string digits_of(const std::string &uuid)
{
	std::string digits;
	for (char c : uuid) {
		if (isxdigit(u8(c)))
			digits += char(tolower(u8(c)));
		else if (c != ':' && c != '-')
			return "";
	}
	return digits.size() == 32 ? digits : "";
}

std::string as_mdadm(const std::string &uuid)
{
	std::string d = digits_of(uuid);
	if (d.empty() || d.find_first_not_of('0') == d.npos)
		return "";
	return d.substr(0, 8) + ':' + d.substr(8, 8) + ':' + d.substr(16, 8) + ':' + d.substr(24);
}

std::vector<std::string> split(const std::string &text, char by)
{
	std::vector<std::string> pieces;
	for (size_t i = 0; i < text.size();) {
		size_t end = std::min(text.find(by, i), text.size());
		if (end > i)
			pieces.push_back(text.substr(i, end - i));
		i = end + 1;
	}
	return pieces;
}

Part part(const std::string &md, const std::string &name)
{
	Part p;
	p.name = name.substr(4); // dev-
	std::replace(p.name.begin(), p.name.end(), '!', '/');
	p.slot = file_number(md + name + "/slot");
	p.states = split(file_line(md + name + "/state"), ',');
	p.errors = file_number(md + name + "/errors");
	return p;
}

Has bitmap_of(const Running &a, const std::string &md)
{
	// md can leave the folder behind: what it has selected says more, where it says anything.
	if (is_folder(md + "llbitmap") && (a.module_selected.empty() || a.module_selected == "llbitmap"))
		return Has::Lockless;
	if (!a.active())
		return Has::Unknown; // only the members know
	std::string location = file_line(md + "bitmap/location");
	if (location == "file")
		return Has::File;
	if (!location.empty() && location != "none")
		return Has::Internal;
	if (a.policy == "bitmap")
		return a.module_selected == "llbitmap" ? Has::Lockless : Has::Internal;
	if (location == "none" || !a.policy.empty())
		return Has::None;
	return Has::Unknown;
}

void read_lockless(Running &a, const std::string &folder)
{
	std::array<u64, LLB_STATES> counts{};
	u32 known = 0;
	for (const std::string &line : lines(file_text(folder + "bits").value_or(""))) {
		size_t gap = line.rfind(' ');
		if (gap == line.npos)
			continue;
		std::optional<u64> value = number(line.substr(gap + 1));
		for (u32 i = 0; i < LLB_STATES; i++) {
			if (value && line.substr(0, gap) == kBitNames[i]) {
				counts[i] = *value;
				known++;
			}
		}
	}
	if (known == LLB_STATES)
		a.counts = counts;
	for (const std::string &line : lines(file_text(folder + "metadata").value_or(""))) {
		std::vector<std::string> found = words(line);
		if (found.size() != 2)
			continue;
		if (found[0] == "chunksize")
			a.chunk = times(number(found[1]), kSectorBytes);
		else if (found[0] == "chunks")
			a.chunks = number(found[1]);
	}
	a.daemon_sleep = file_number(folder + "daemon_sleep");
	a.barrier_idle = file_number(folder + "barrier_idle");
	a.budget = times(file_number(folder + "resync_budget"), u64{1} << 20);
	a.crash = file_number(folder + "crash_bytes");
	for (const std::string &line : lines(file_text(folder + "stats").value_or(""))) {
		std::vector<std::string> found = words(line);
		std::optional<u64> value = found.size() == 2 ? number(found[1]) : std::nullopt;
		if (value)
			a.stats[found[0]] = *value;
	}
}

Sync sync_of(const std::string &md)
{
	Sync s;
	std::string action = file_line(md + "sync_action"), completed = file_line(md + "sync_completed");
	if (!action.empty())
		s.action = action;
	s.delayed = completed == "delayed";
	s.running = s.action != "idle" && s.action != "frozen";
	std::vector<std::string> found = words(completed);
	if (found.size() == 3 && found[1] == "/") {
		s.done = times(number(found[0]), kSectorBytes);
		s.total = times(number(found[2]), kSectorBytes);
	}
	if (s.running)
		s.speed = times(file_number(md + "sync_speed"), 1024);
	if (s.speed.value_or(0) > kFastest) // md subtracts what is still on its way, below zero at times
		s.speed = {};
	s.speed_max = times(first_number(md + "sync_speed_max"), 1024);
	return s;
}

Running read_array(const std::string &name)
{
	Running a;
	const std::string md = "/sys/block/" + name + "/md/";
	a.name = name;
	a.state = file_line(md + "array_state");
	a.level = file_line(md + "level");
	a.metadata = file_line(md + "metadata_version");
	a.uuid = as_mdadm(file_line(md + "uuid"));
	a.bytes = times(file_number("/sys/block/" + name + "/size"), kSectorBytes);
	a.member_bytes = times(file_number(md + "component_size"), 1024);
	a.disk_chunk = first_number(md + "chunk_size");
	a.wanted = first_number(md + "raid_disks");
	a.degraded = file_number(md + "degraded");
	a.mismatches = file_number(md + "mismatch_cnt");
	a.layout = first_number(md + "layout").value_or(0);
	for (const std::string &one : names_in(md)) {
		if (one.starts_with("dev-"))
			a.parts.push_back(part(md, one));
	}
	std::stable_sort(a.parts.begin(), a.parts.end(), [](const Part &x, const Part &y) {
		return x.slot.value_or(~u64{0}) < y.slot.value_or(~u64{0});
	});
	std::string types = file_line(md + "bitmap_type");
	a.selectable = !types.empty();
	size_t open = types.find('['), close = types.find(']');
	if (open != types.npos && close != types.npos && close > open)
		a.module_selected = types.substr(open + 1, close - open - 1);
	a.policy = file_line(md + "consistency_policy");
	std::string from = file_line(md + "resync_start");
	a.resync_due = !from.empty() && from != "none";
	a.bitmap = bitmap_of(a, md);
	if (a.bitmap == Has::Lockless)
		read_lockless(a, md + "llbitmap/");
	a.sync = sync_of(md);
	return a;
}

// md0 for whatever a human calls it.
std::string device_name(const std::string &called)
{
	if (std::string digits = digits_of(called); !digits.empty()) {
		for (const std::string &name : names_in("/sys/block")) {
			if (digits_of(file_line("/sys/block/" + name + "/md/uuid")) == digits)
				return name;
		}
		throw Error(kUnreadable, called + ": no running array has that uuid");
	}
	std::string name = called.find('/') == called.npos ? called : block_device(called);
	if (name.empty() || name == "." || name == ".." || !is_folder("/sys/block/" + name + "/md"))
		throw Error(kUnreadable,
			    called + (called.find('/') == called.npos
					      ? ": no md array of that name is known to the kernel"
					      : ": is not the device of an md array"));
	return name;
}

} // namespace

bool Part::is(const char *state) const
{
	return std::find(states.begin(), states.end(), state) != states.end();
}

bool Running::container() const
{
	return metadata.starts_with("external:") && !metadata.starts_with("external:/") &&
	       !metadata.starts_with("external:-");
}

u64 Running::in_sync() const
{
	u64 n = 0;
	for (const Part &p : parts)
		n += p.slot && p.is("in_sync") && !p.is("replacement") && !p.is("faulty");
	return n;
}

u64 Running::spares() const
{
	u64 n = 0;
	for (const Part &p : parts)
		n += p.is("spare") && !p.is("faulty");
	return n;
}

u64 Running::faulty() const
{
	u64 n = 0;
	for (const Part &p : parts)
		n += p.is("faulty");
	return n;
}

u64 Running::failures_left() const
{
	u64 all = wanted.value_or(0), gone = degraded.value_or(0), spare = 0;
	if (level == "raid1" && all)
		spare = all - 1;
	else if (level == "raid4" || level == "raid5")
		spare = 1;
	else if (level == "raid6")
		spare = 2;
	else if (level == "raid10") // so many, whichever they are; of others more may
		spare = copies() - 1;
	return spare > gone ? spare - gone : 0;
}

u64 Running::copies() const
{
	// Near ones times far ones.
	return std::max<u64>((layout & 255) * (layout >> 8 & 255), 1);
}

u64 Running::waiting() const
{
	if (!counts)
		return 0;
	const auto &c = *counts;
	return c[LLB_NEED_SYNC] + c[LLB_SYNCING] + c[LLB_NEED_SYNC_UNWRITTEN] + c[LLB_SYNCING_UNWRITTEN];
}

u64 Running::written() const
{
	if (!counts)
		return 0;
	const auto &c = *counts;
	// Parity or copies that were made before the first write are made again, too.
	return c[LLB_CLEAN] + c[LLB_DIRTY] + c[LLB_NEED_SYNC] + c[LLB_SYNCING] + c[LLB_CLEAN_UNWRITTEN];
}

std::optional<u64> Running::stat(const std::string &named) const
{
	auto found = stats.find(named);
	return found == stats.end() ? std::nullopt : std::optional(found->second);
}

std::optional<u64> Running::cost() const
{
	if (bitmap != Has::Lockless)
		return {};
	if (crash)
		return crash;
	if (!counts || !chunk)
		return {};
	return times((*counts)[LLB_DIRTY] + waiting(), *chunk);
}

bool Running::cost_is_all() const
{
	bool rests = state == "clean" || state == "readonly" || state == "read-auto";
	// A dirty raid4/5/6 that is degraded is not started at all.
	return bitmap == Has::None && redundant() && !journalled() && !rests && in_sync() > 1 &&
	       !(parity() && degraded.value_or(0));
}

bool registered()
{
	if (exists("/sys/module/llbitmap"))
		return true;
	for (const std::string &name : names_in("/sys/block")) {
		for (const std::string &type : words(file_line("/sys/block/" + name + "/md/bitmap_type"))) {
			if (type == "llbitmap" || type == "[llbitmap]")
				return true;
		}
	}
	return false;
}

bool is_array(const std::string &called)
{
	try {
		return !device_name(called).empty();
	} catch (const Error &) {
		return false;
	}
}

std::vector<Running> running(const std::vector<std::string> &names)
{
	std::vector<Running> all;
	for (const std::string &called : names) {
		std::string name = device_name(called);
		if (std::none_of(all.begin(), all.end(), [&](const Running &a) { return a.name == name; }))
			all.push_back(read_array(name));
		if (all.back().container())
			throw Error(kUnreadable, called + ": is a container (" + all.back().metadata +
							 "): it holds arrays, and is none itself");
	}
	if (!names.empty())
		return all;
	for (const std::string &name : names_in("/sys/block")) {
		if (!is_folder("/sys/block/" + name + "/md"))
			continue;
		Running a = read_array(name);
		// "clear": a device node without an array.
		if (a.state != "clear" && !a.state.empty() && !a.container())
			all.push_back(std::move(a));
	}
	return all;
}

} // namespace tool
