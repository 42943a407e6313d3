// SPDX-License-Identifier: GPL-2.0
#include "tool/status.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "llbitmap/release.h"
#include "tool/error.hpp"
#include "tool/text.hpp"

using Json = nlohmann::ordered_json;

namespace tool {

namespace {

constexpr size_t kBlocks = 8; // more arrays: a table, and blocks of those that need attention
constexpr size_t kMembersShown = 12;

using Number = unsigned long long;

const char *kind_words(Has has)
{
	constexpr const char *words[] = {"lockless", "classic", "classic (file)", "none", "not known"};
	return words[static_cast<u32>(has)];
}

const char *kind_key(Has has)
{
	constexpr const char *keys[] = {"lockless", "internal", "file", "none", "unknown"};
	return keys[static_cast<u32>(has)];
}

Colour colour_of(Health h)
{
	return h == Health::Healthy			       ? Colour::Good
	       : h == Health::Syncing || h == Health::Degraded ? Colour::Notice
							       : Colour::Bad;
}

std::string cost_text(const Running &a)
{
	std::optional<u64> cost = a.cost();
	if (!cost)
		return a.cost_is_all() ? "a power cut now costs a resync of everything" : "";
	if (*cost == 0)
		return "a power cut now costs nothing";
	std::string words = "a power cut now costs a resync of " + bytes_text(*cost);
	if (a.parity())
		words += " of each member";
	// On disk the neighbours of a chunk are marked with it; the daemon takes that back.
	if (a.counts && a.chunk && *cost > ((*a.counts)[LLB_DIRTY] + a.waiting()) * *a.chunk)
		words += " (what is marked on disk beside dirty chunks included)";
	Pace p = pace(a);
	if (p.bytes_per_second)
		words += ", about " + seconds_text(seconds_for(*cost, p.bytes_per_second)) +
			 (p.measured ? " at the present " : " at ") + bytes_text(p.bytes_per_second) + "/s" +
			 (p.measured ? "" : " (md's limit; disks may be slower)");
	return words;
}

std::string chunk_amount(u64 n, std::optional<u64> chunk)
{
	return grouped(n) + (chunk && n ? " (" + bytes_text(n * *chunk) + ")" : "");
}

std::string counts_text(const Running &a)
{
	const auto &c = *a.counts;
	u64 all = 0;
	for (u64 n : c)
		all += n;
	std::string words = "clean " + percent_text(c[LLB_CLEAN], all) + ", unwritten " +
			    percent_text(c[LLB_UNWRITTEN], all) + ", dirty " +
			    chunk_amount(c[LLB_DIRTY], a.chunk);
	if (a.waiting())
		words += ", to be resynchronised " + chunk_amount(a.waiting(), a.chunk);
	if (c[LLB_CLEAN_UNWRITTEN])
		words += ", clean but never written " + percent_text(c[LLB_CLEAN_UNWRITTEN], all);
	return words;
}

void budget_line(Screen &s, const Running &a)
{
	if (!a.budget)
		return;
	// What waits for a resync is not counted: no daemon can clean it.
	u64 cost = a.cost().value_or(0);
	u64 cleanable = cost - std::min(cost, a.chunk ? a.waiting() * *a.chunk : 0);
	if (*a.budget == 0)
		s.field("budget", "none: there is no limit to what a power cut may cost");
	else
		s.field("budget", bytes_text(*a.budget) + " may be dirty (resync_budget); " +
					  percent_text(cleanable, *a.budget) + " of that now");
}

void members(Screen &s, const Running &a, bool all)
{
	auto odd = [](const Part &p) { return !p.is("in_sync") || p.is("faulty") || p.errors.value_or(0); };
	bool table = all || std::any_of(a.parts.begin(), a.parts.end(), odd);
	if (!table) {
		std::string names;
		for (const Part &p : a.parts)
			names += (names.empty() ? "" : " ") + p.name;
		if (!names.empty())
			s.field("members", names);
		return;
	}
	bool few = all || a.parts.size() <= kMembersShown;
	size_t width = 16;
	for (const Part &p : a.parts)
		width = std::clamp(printable(p.name).size(), width, size_t{32}); // the kernel's longest
	s.line(text("         %-*s   SLOT  ERRORS  STATE", int(width - 1), "MEMBER"));
	for (const Part &p : a.parts) {
		if (!few && !odd(p))
			continue;
		std::string states;
		for (const std::string &state : p.states)
			states += (states.empty() ? "" : ", ") + state;
		std::replace(states.begin(), states.end(), '_', ' ');
		s.line(text("         %-*s %5s  %6s  %s", int(width), short_name(p.name, width).c_str(),
			    p.slot ? std::to_string(*p.slot).c_str() : "-",
			    p.errors ? std::to_string(*p.errors).c_str() : "?", states.c_str()),
		       p.is("faulty") ? Colour::Bad
		       : odd(p)	      ? Colour::Notice
				      : Colour::None);
	}
	if (!few)
		s.line("         (the others are in sync; all with -v)", Colour::Faint);
}

std::string mean_text(u64 ns, u64 count)
{
	return count ? text("%.1f ms on average", double(ns) / double(count) / 1e6) : "none took time";
}

// What the module has counted since it loaded this bitmap.
void stats_lines(Screen &s, const Running &a)
{
	auto count = [&](const char *name) { return a.stat(name).value_or(0); };
	if (a.stats.empty())
		return;
	s.field("load", grouped(count("loaded_dirty_chunks")) +
				" chunks were to be resynchronised; since then " +
				grouped(count("dirtied_chunks")) + " became dirty, " +
				grouped(count("cleaned_chunks")) + " clean");
	const u64 batches = count("batches"), waits = count("waits");
	s.field("writes", grouped(batches) + " of the bitmap, " + bytes_text(count("batch_bytes")) +
				  " to each member, " + mean_text(count("batch_ns_total"), batches) +
				  text(", %.1f ms at most", double(count("batch_ns_max")) / 1e6));
	s.field("waits",
		grouped(waits) + " of writes for another's, " + mean_text(count("wait_ns_total"), waits));
}

void block(Screen &s, const Judged &one, bool verbose)
{
	const Running &a = one.array;
	s.gap();
	std::string head = a.name;
	if (!a.level.empty())
		head += ", " + a.level;
	if (a.wanted && *a.wanted)
		head += text(", %llu of %llu members in sync", Number(a.in_sync()), Number(*a.wanted));
	if (a.spares() && a.active())
		head += text(", %llu spare or rebuilding", Number(a.spares()));
	if (a.active() && a.bytes)
		head += ", " + bytes_text(*a.bytes);
	s.field("array", head);
	std::string state = health_text(one.verdict.health);
	for (char &c : state)
		c = char(toupper(u8(c)));
	if (a.active())
		state += " (" + a.state + ")";
	s.field("state", state, colour_of(one.verdict.health));
	for (const Notice &n : one.verdict.notices) {
		Colour colour = n.severity == Severity::Info	  ? Colour::None
				: n.severity == Severity::Warning ? Colour::Notice
								  : Colour::Bad;
		s.field(n.severity == Severity::Info ? "note" : "problem", n.text, colour);
		if (!n.action.empty())
			s.field("action", n.action);
	}
	if (a.active()) {
		std::string bitmap = kind_words(a.bitmap);
		if (a.journalled())
			bitmap += a.policy == "ppl" ? "; PPL instead" : "; a journal instead";
		if (a.chunks && a.chunk)
			bitmap += ", " + grouped(*a.chunks) + " chunks of " + bytes_text(*a.chunk);
		if (a.daemon_sleep)
			bitmap += "; daemon_sleep " + seconds_text(*a.daemon_sleep);
		if (a.barrier_idle)
			bitmap += ", barrier_idle " + seconds_text(*a.barrier_idle);
		s.field("bitmap", bitmap);
		if (a.redundant())
			s.field("sync", sync_text(a));
	}
	if (a.counts)
		s.field("chunks", counts_text(a));
	budget_line(s, a);
	if (std::string cost = cost_text(a); !cost.empty())
		s.field("cost", cost);
	if (verbose) {
		s.field("uuid", a.uuid.empty() ? "not known" : a.uuid);
		s.field("md", "metadata " + a.metadata +
				      (a.disk_chunk && *a.disk_chunk
					       ? ", chunks of " + bytes_text(*a.disk_chunk) + " per disk"
					       : ""));
		stats_lines(s, a);
	}
	members(s, a, verbose);
}

void table(Screen &s, const std::vector<Judged> &all)
{
	s.line("ARRAY       LEVEL   IN SYNC  STATE     BITMAP    DIRTY      A POWER CUT COSTS");
	for (const Judged &one : all) {
		const Running &a = one.array;
		std::string dirty = a.counts && a.chunk ? bytes_text((*a.counts)[LLB_DIRTY] * *a.chunk) : "-";
		std::string cost = a.cost_is_all() ? "all of it" : "-";
		if (a.cost()) {
			cost = bytes_text(*a.cost());
			Pace p = pace(a);
			if (*a.cost() && p.bytes_per_second)
				cost += ", " + seconds_text(seconds_for(*a.cost(), p.bytes_per_second));
		}
		std::string sync = text("%llu/%llu", Number(a.in_sync()), Number(a.wanted.value_or(0)));
		s.line(text("%-11s %-7s %-8s %-9s %-9s %-10s %s", short_name(a.name, 11).c_str(),
			    printable(a.level).c_str(), sync.c_str(), health_text(one.verdict.health),
			    a.bitmap == Has::Unknown ? "?" : kind_words(a.bitmap), dirty.c_str(),
			    cost.c_str()),
		       one.verdict.health == Health::Healthy ? Colour::None : colour_of(one.verdict.health));
	}
}

bool troubled(const Judged &one)
{
	return worst(one.verdict.notices) > Severity::Info;
}

// What the table has no column for, of arrays that get no block.
void below_table(Screen &s, const std::vector<Judged> &all)
{
	std::string noted;
	bool first = true;
	for (const Judged &one : all) {
		if (troubled(one))
			continue;
		if (!one.verdict.notices.empty())
			noted += (noted.empty() ? "" : " ") + one.array.name;
		if (!one.array.sync.running)
			continue;
		if (first)
			s.gap();
		first = false;
		s.field("sync", one.array.name + ": " + sync_text(one.array));
	}
	if (!noted.empty()) {
		s.gap();
		s.field("notes", "on " + noted + " (llbitmap status ARRAY)");
	}
}

// ---- JSON ----

template <class T>
Json or_null(const std::optional<T> &value)
{
	return value ? Json(*value) : Json();
}

Json or_null(const std::string &value)
{
	return value.empty() ? Json() : Json(value);
}

Json notice_json(const Notice &n)
{
	return {{"id", n.id},
		{"severity", severity_text(n.severity)},
		{"text", n.text},
		{"action", or_null(n.action)},
		{"array", or_null(n.array)}};
}

Json sync_json(const Running &a)
{
	std::optional<Left> left = left_of_sync(a);
	return {{"action", a.sync.action},
		{"delayed", a.sync.delayed},
		{"position_bytes", or_null(a.sync.done)},
		{"total_bytes", or_null(a.sync.total)},
		{"speed_bytes_per_second", or_null(a.sync.speed)},
		{"speed_max_bytes_per_second", or_null(a.sync.speed_max)},
		{"left_bytes", left ? Json(left->bytes) : Json()},
		{"left_is_upper_bound", left ? Json(left->most) : Json()},
		{"left_seconds", left ? or_null(left->seconds) : Json()}};
}

Json array_json(const Judged &one)
{
	const Running &a = one.array;
	Json states;
	for (u32 i = 0; a.counts && i < LLB_STATES; i++)
		states[kStateKeys[i]] = (*a.counts)[i];
	Pace p = pace(a);
	std::optional<u64> cost = a.cost(), seconds;
	if (cost && p.bytes_per_second)
		seconds = seconds_for(*cost, p.bytes_per_second);
	Json parts = Json::array(), notices = Json::array();
	for (const Part &part : a.parts)
		parts.push_back({{"device", part.name},
				 {"slot", or_null(part.slot)},
				 {"states", part.states},
				 {"corrected_errors", or_null(part.errors)}});
	for (const Notice &n : one.verdict.notices)
		notices.push_back(notice_json(n));
	return {{"device", a.name},
		{"path", "/dev/" + a.name},
		{"uuid", or_null(a.uuid)},
		{"level", or_null(a.level)},
		{"metadata", or_null(a.metadata)},
		{"health", health_text(one.verdict.health)},
		{"array_state", or_null(a.state)},
		{"size_bytes", or_null(a.bytes)},
		{"member_used_bytes", or_null(a.member_bytes)},
		{"disk_chunk_bytes", or_null(a.disk_chunk)},
		{"members_wanted", or_null(a.wanted)},
		{"members_in_sync", a.in_sync()},
		{"failures_left", a.active() ? Json(a.failures_left()) : Json()},
		{"mismatches_sectors", or_null(a.mismatches)},
		{"bitmap",
		 {{"kind", kind_key(a.bitmap)},
		  {"chunk_bytes", or_null(a.chunk)},
		  {"chunks", or_null(a.chunks)},
		  {"daemon_sleep_seconds", or_null(a.daemon_sleep)},
		  {"barrier_idle_seconds", or_null(a.barrier_idle)},
		  {"resync_budget_bytes", or_null(a.budget)},
		  {"state_chunks", states},
		  {"dirty_bytes", a.counts && a.chunk ? Json((*a.counts)[LLB_DIRTY] * *a.chunk) : Json()},
		  {"waiting_bytes", a.counts && a.chunk ? Json(a.waiting() * *a.chunk) : Json()},
		  {"power_cut_bytes", or_null(cost)},
		  {"power_cut_seconds", or_null(seconds)},
		  {"power_cut_speed_is_measured", p.bytes_per_second ? Json(p.measured) : Json()},
		  {"stats", a.stats.empty() ? Json() : Json(a.stats)}}},
		{"sync", sync_json(a)},
		{"members", parts},
		{"notices", notices}};
}

} // namespace

std::string status_json(const std::vector<Judged> &all, int indent)
{
	Json arrays = Json::array();
	for (const Judged &one : all)
		arrays.push_back(array_json(one));
	bool loaded = registered();
	Json out{{"format", 1},
		 {"tool", LLB_RELEASE},
		 {"exit_status", exit_status(all)},
		 {"kernel", or_null(file_line("/proc/sys/kernel/osrelease"))},
		 {"module",
		  {{"loaded", loaded}, {"version", or_null(file_line("/sys/module/llbitmap/version"))}}},
		 {"arrays", arrays}};
	return out.dump(indent, ' ', true, Json::error_handler_t::replace);
}

namespace {

// ---- monitoring ----

// One line without what the protocol gives a meaning to.
std::string plain(std::string words)
{
	words = printable(words);
	std::replace(words.begin(), words.end(), '|', '/');
	return words;
}

// Arrays that its line names, the worst: what carries it may cut it at 1 KiB.
constexpr size_t kCheckNamed = 8;

constexpr const char *kCheckNames[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

std::string check_words(const Judged &one)
{
	const Running &a = one.array;
	std::string words = a.name + ' ' + health_text(one.verdict.health);
	if (a.active() && a.wanted && a.degraded.value_or(0))
		words += text(" (%llu of %llu)", Number(a.in_sync()), Number(*a.wanted));
	for (const Notice &n : one.verdict.notices) {
		if (n.severity > Severity::Info && n.id != "degraded" && n.id != "inactive" &&
		    n.id != "failed")
			words += ", " + n.id;
	}
	if (a.sync.running)
		words += ", " + a.sync.action;
	if (a.waiting())
		words += ", " + std::to_string(a.waiting()) + " chunks wait";
	return words;
}

// What is said of an array's cost where it is over a limit; adds to the plugin's status.
std::string judge_cost(const StatusWanted &wanted, const Running &a, Severity *most, bool *unknown)
{
	std::string words;
	for (auto [limit, severity] : {std::pair{&wanted.critical, Severity::Critical},
				       std::pair{&wanted.warning, Severity::Warning}}) {
		Over o = over(*limit, a);
		if (o == Over::Unknown) {
			*unknown = true;
			words = "how long a resync takes is not known";
		}
		if (o != Over::Yes)
			continue;
		*most = std::max(*most, severity);
		u64 cost = known_cost(a).value_or(0), speed = pace(a).bytes_per_second;
		return "a power cut costs " + bytes_text(cost) +
		       (speed ? ", " + seconds_text(seconds_for(cost, speed)) : "") + " (limit " +
		       limit->words + ")";
	}
	return words;
}

// NAME=VALUE;WARNING;CRITICAL;MINIMUM; of the plugins' protocol.
std::string cost_data(const StatusWanted &wanted, const Running &a, u64 cost)
{
	auto number_or_nothing = [](std::optional<u64> n) { return n ? std::to_string(*n) : ""; };
	std::string data = text(" %s_power_cut=%lluB;%s;%s;0; %s_waiting=%lluB;;;0;", a.name.c_str(),
				Number(cost), number_or_nothing(wanted.warning.bytes).c_str(),
				number_or_nothing(wanted.critical.bytes).c_str(), a.name.c_str(),
				Number(a.chunk ? a.waiting() * *a.chunk : 0));
	u64 speed = pace(a).bytes_per_second;
	if ((wanted.warning.seconds || wanted.critical.seconds) && speed)
		data += text(" %s_power_cut_time=%llus;%s;%s;0;", a.name.c_str(),
			     Number(seconds_for(cost, speed)),
			     number_or_nothing(wanted.warning.seconds).c_str(),
			     number_or_nothing(wanted.critical.seconds).c_str());
	return data;
}

int check(const StatusWanted &wanted)
{
	std::vector<Judged> all;
	try {
		all = judged(wanted.arrays);
	} catch (const std::exception &error) {
		printf("LLBITMAP UNKNOWN - %s\n", plain(error.what()).c_str());
		return 3;
	}
	if (all.empty()) {
		printf("LLBITMAP UNKNOWN - no md array is running\n");
		return 3;
	}
	Severity most = Severity::Info;
	std::string words, data;
	std::vector<std::pair<Severity, std::string>> said;
	size_t fine = 0;
	bool unknown = false;
	for (const Judged &one : all) {
		const Running &a = one.array;
		Severity s = worst(one.verdict.notices), with_cost = s;
		std::string costly = judge_cost(wanted, a, &with_cost, &unknown);
		most = std::max(most, with_cost);
		if (s == Severity::Info && one.verdict.health == Health::Healthy && costly.empty())
			fine++;
		else
			said.emplace_back(with_cost,
					  check_words(one) + (costly.empty() ? "" : ", " + costly));
		if (std::optional<u64> cost = wanted.limited() ? known_cost(a) : a.cost())
			data += cost_data(wanted, a, *cost);
	}
	std::stable_sort(said.begin(), said.end(),
			 [](const auto &x, const auto &y) { return x.first > y.first; });
	for (size_t i = 0; i < std::min(said.size(), kCheckNamed); i++)
		words += (i ? "; " : "") + said[i].second;
	if (said.size() > kCheckNamed)
		words += "; and " + std::to_string(said.size() - kCheckNamed) + " more";
	if (fine)
		words += (words.empty() ? "" : "; ") + std::to_string(fine) +
			 (fine == 1 ? " array" : " arrays") + " healthy";
	int status = most == Severity::Critical ? 2 : most == Severity::Warning ? 1 : unknown ? 3 : 0;
	printf("LLBITMAP %s - %s%s%s\n", kCheckNames[status], plain(words).c_str(), data.empty() ? "" : " |",
	       plain(data).c_str());
	return status;
}

} // namespace

std::string sync_text(const Running &a)
{
	const Sync &s = a.sync;
	if (!s.running)
		return s.action == "frozen" ? "frozen: nothing is started" : "idle";
	if (s.delayed)
		return s.action + ", waits until another array's is done";
	std::string words = s.action;
	std::optional<Left> left = left_of_sync(a);
	if (left)
		words += ", " + std::string(left->most ? "at most " : "") + bytes_text(left->bytes) + " left";
	if (s.speed.value_or(0))
		words += ", " + bytes_text(*s.speed) + "/s";
	if (left && left->seconds)
		words += std::string(left->most ? ", at most " : ", about ") + seconds_text(*left->seconds);
	if (s.done && s.total && *s.total)
		words += "; it is " + percent_text(*s.done, *s.total) + " of the way through" +
			 (a.bitmap == Has::Lockless && s.action != "reshape" ? ", skipping what needs none"
									     : "");
	return words;
}

std::vector<Judged> judged(const std::vector<std::string> &names)
{
	std::vector<Judged> all;
	for (Running &a : running(names)) {
		Verdict v = judge(a);
		all.push_back({std::move(a), std::move(v)});
	}
	std::stable_sort(all.begin(), all.end(), [](const Judged &x, const Judged &y) {
		return worst(x.verdict.notices) > worst(y.verdict.notices);
	});
	return all;
}

int exit_status(const std::vector<Judged> &all)
{
	int status = kDone;
	for (const Judged &one : all) {
		Health h = one.verdict.health;
		if (h == Health::Failed || h == Health::Inactive)
			return kUnusable;
		if (troubled(one))
			status = kDamaged;
	}
	return status;
}

Screen status_screen(const StatusWanted &wanted, const std::vector<Judged> &all)
{
	Screen s;
	size_t fine = size_t(
		std::count_if(all.begin(), all.end(), [](const Judged &one) { return !troubled(one); }));
	if (all.empty()) {
		s.line("no md array is running");
		return s;
	}
	if (wanted.problems && fine == all.size()) {
		s.line(all.size() == 1 ? "the one array is healthy, or busy becoming so"
				       : text("all %zu arrays are healthy, or busy becoming so", all.size()));
		return s;
	}
	bool brief = !wanted.verbose && wanted.arrays.empty() && all.size() > kBlocks;
	if (brief && !wanted.problems) {
		table(s, all);
		below_table(s, all);
	}
	for (const Judged &one : all) {
		if (troubled(one) || (!brief && !wanted.problems))
			block(s, one, wanted.verbose);
	}
	if (wanted.problems && fine) {
		s.gap();
		s.line(text("%zu other %s healthy, or busy becoming so", fine,
			    fine == 1 ? "array is" : "arrays are"));
	}
	return s;
}

int status(const StatusWanted &wanted)
{
	if (wanted.check)
		return check(wanted);
	std::vector<Judged> all = judged(wanted.arrays);
	if (wanted.json)
		printf("%s\n", status_json(all, 2).c_str());
	else
		status_screen(wanted, all).show();
	return exit_status(all);
}

} // namespace tool
