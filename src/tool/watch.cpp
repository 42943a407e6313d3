// SPDX-License-Identifier: GPL-2.0
#include "tool/watch.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/text.hpp"

using Json = nlohmann::ordered_json;

namespace tool {

namespace {

constexpr u32 kCalm_ms = 200; // between two looks, however often we are woken

// md wakes who polls /proc/mdstat when an array or a sync begins, ends or fails; the module
// who polls llbitmap/bits when its daemon has found that chunks became dirty or clean. The
// interval is for the rest: what waits for a sync, another kernel's bitmap.
class Waker {
    public:
	Waker() { set({}); }
	~Waker() { set({}, false); }
	Waker(const Waker &) = delete;
	Waker &operator=(const Waker &) = delete;

	// Whose bits wake, besides mdstat.
	void set(const std::vector<std::string> &arrays, bool mdstat = true)
	{
		for (pollfd &one : fds_)
			drop(one);
		paths_.clear();
		if (mdstat)
			paths_.push_back("/proc/mdstat");
		for (const std::string &name : arrays)
			paths_.push_back("/sys/block/" + name + "/md/llbitmap/bits");
		fds_.assign(paths_.size(), {-1, POLLPRI, 0}); // poll() passes over those with -1
	}

	// Before they are looked at: only what comes later wakes.
	void arm()
	{
		char some[4096];
		for (size_t i = 0; i < fds_.size(); i++) {
			pollfd &one = fds_[i];
			if (one.fd >= 0 && pread(one.fd, some, sizeof(some), 0) < 0)
				drop(one); // the array has another bitmap, or is another one
			if (one.fd < 0 && (one.fd = open(at(paths_[i]).c_str(), O_RDONLY | O_CLOEXEC)) >= 0 &&
			    pread(one.fd, some, sizeof(some), 0) < 0)
				drop(one);
		}
	}

	void wait(u32 seconds)
	{
		if (poll(fds_.data(), fds_.size(), int(seconds * 1000)) > 0)
			poll(nullptr, 0, int(std::min(kCalm_ms, seconds * 1000)));
	}

    private:
	static void drop(pollfd &one)
	{
		if (one.fd >= 0)
			close(one.fd);
		one.fd = -1;
	}

	std::vector<std::string> paths_;
	std::vector<pollfd> fds_; // of these
};

[[noreturn]] void not_known(const Running &a, const std::string &until, const std::string &why)
{
	throw Error(kUnreadable, a.name + ": " + why + ", so whether it is " + until + " is not known");
}

// Wanted, or under way: md counts no member as missing then.
bool being_replaced(const Running &a)
{
	return std::any_of(a.parts.begin(), a.parts.end(), [](const Part &one) {
		return !one.is("faulty") &&
		       (one.is("want_replacement") || (one.is("replacement") && !one.is("in_sync")));
	});
}

// Throws Error, kUnreadable, where that cannot be known: who waits here may be about to cut
// the power.
bool reached(const std::string &until, const std::vector<Judged> &all)
{
	if (all.empty())
		throw Error(kUnreadable, "no md array is running");
	for (const Judged &one : all) {
		const Running &a = one.array;
		if (!a.active())
			return false;
		if (!a.redundant())
			continue; // nothing is missing, or resynchronised, ever
		if (until == "whole") {
			if (!a.degraded)
				not_known(a, until, "md/degraded cannot be read");
			if (*a.degraded || being_replaced(a))
				return false;
			continue;
		}
		if (a.sync.running && a.sync.action != "check")
			return false;
		if (a.bitmap == Has::Unknown || (a.bitmap == Has::Lockless && !a.counts))
			not_known(a, until,
				  a.bitmap == Has::Unknown ? "which bitmap it has cannot be read"
							   : "the bitmap does not answer");
		if (a.waiting() || (a.bitmap != Has::Lockless && a.resync_due))
			return false;
		if (until != "clean")
			continue;
		// Without counts it is md's own state that says what a power cut finds.
		if (a.bitmap == Has::Lockless
			    ? (*a.counts)[LLB_DIRTY] != 0
			    : a.state != "clean" && a.state != "readonly" && a.state != "read-auto")
			return false;
	}
	return true;
}

// What is worth a line when it changes.
struct Fact {
	std::string array;
	const char *what; // in JSON
	std::string words; // in text
	std::string member; // empty: the array
	std::string value;

	bool same(const Fact &other) const
	{
		return array == other.array && words == other.words && member == other.member;
	}
};

std::vector<Fact> facts(const std::vector<Judged> &all)
{
	std::vector<Fact> now;
	for (const Judged &one : all) {
		const Running &a = one.array;
		now.push_back({a.name, "health", "health", "", health_text(one.verdict.health)});
		now.push_back({a.name, "sync", "sync", "", a.sync.action});
		now.push_back({a.name, "array_state", "state", "", a.state});
		now.push_back(
			{a.name, "waiting_chunks", "chunks that wait", "", a.waiting() ? "some" : "none"});
		for (const Part &p : a.parts) {
			std::string states;
			for (const std::string &state : p.states)
				states += (states.empty() ? "" : ",") + state;
			now.push_back({a.name, "member", "member " + p.name, p.name, states});
		}
	}
	return now;
}

// A line of text, or an object in a line; none: it was not there before, or is gone.
void tell(const Fact &fact, const std::string *before, const std::string *after, bool json)
{
	char clock[32];
	time_t t = time(nullptr);
	tm parts;
	if (json) {
		gmtime_r(&t, &parts);
		strftime(clock, sizeof(clock), "%Y-%m-%dT%H:%M:%SZ", &parts);
		auto or_null = [](const std::string *value) { return value ? Json(*value) : Json(); };
		Json out{{"format", 1},
			 {"time", clock},
			 {"array", fact.array},
			 {"what", fact.what},
			 {"member", or_null(fact.member.empty() ? nullptr : &fact.member)},
			 {"before", or_null(before)},
			 {"after", or_null(after)}};
		printf("%s\n", out.dump(-1, ' ', true, Json::error_handler_t::replace).c_str());
		return;
	}
	localtime_r(&t, &parts);
	strftime(clock, sizeof(clock), "%H:%M:%S ", &parts);
	const std::string name = clock + fact.array + ' ' + fact.words + ": ";
	if (!after)
		say(name + "gone, was " + *before);
	else
		say(name + (before ? *before + " -> " : "") + *after);
}

void tell(const std::vector<Fact> &old, const std::vector<Fact> &now, bool json)
{
	auto find = [](const std::vector<Fact> &in, const Fact &fact) {
		auto found = std::find_if(in.begin(), in.end(), [&](const Fact &f) { return f.same(fact); });
		return found == in.end() ? nullptr : &found->value;
	};
	for (const Fact &fact : now) {
		const std::string *before = find(old, fact);
		if (!before || *before != fact.value)
			tell(fact, before, &fact.value, json);
	}
	for (const Fact &fact : old) {
		if (!find(now, fact))
			tell(fact, &fact.value, nullptr, json);
	}
	fflush(stdout);
}

u64 seconds_now()
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return u64(now.tv_sec);
}

std::vector<std::string> names_of(const std::vector<Judged> &all)
{
	std::vector<std::string> names;
	for (const Judged &one : all)
		names.push_back(one.array.name);
	return names;
}

} // namespace

int watch(const WatchWanted &wanted)
{
	Waker waker;
	bool terminal = isatty(STDOUT_FILENO), first = true;
	std::vector<Fact> old;
	std::vector<std::string> names;
	// Who reads a screen, or each look, wants it at the interval.
	const bool by_bits = wanted.events || !wanted.until.empty();
	const u64 begin = seconds_now();
	for (u64 shown = 1;; shown++) {
		waker.arm();
		std::vector<Judged> all = judged(wanted.status.arrays);
		if (std::vector<std::string> found = names_of(all); by_bits && found != names) {
			names = found;
			waker.set(names);
			waker.arm();
			all = judged(wanted.status.arrays); // what came in between wakes nobody
		}
		if (!wanted.until.empty() && reached(wanted.until, all))
			return kDone;
		if (wanted.events) {
			std::vector<Fact> now = facts(all);
			if (!first)
				tell(old, now, wanted.status.json);
			old = std::move(now);
		} else if (wanted.status.json) {
			printf("%s\n", status_json(all, -1).c_str());
			fflush(stdout);
		} else if (wanted.until.empty()) {
			const Screen screen = status_screen(wanted.status, all);
			struct winsize window = {};
			if (terminal)
				fputs("\033[H\033[2J", stdout);
			else if (!first)
				fputs("\n", stdout);
			if (terminal && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) && window.ws_row &&
			    window.ws_col)
				screen.show(window.ws_row, window.ws_col);
			else
				screen.show();
			fflush(stdout);
		}
		if (wanted.count && shown >= wanted.count)
			return exit_status(all);
		if (ferror(stdout))
			return kUnreadable;
		first = false;
		u64 waited = seconds_now() - begin;
		u32 step = wanted.interval;
		if (!wanted.until.empty() && wanted.timeout)
			step = u32(std::min<u64>(step, wanted.timeout - std::min(waited, wanted.timeout)));
		waker.wait(step);
		waited = seconds_now() - begin;
		if (!wanted.until.empty() && wanted.timeout && waited >= wanted.timeout) {
			complain("after " + seconds_text(wanted.timeout) + " it is not " + wanted.until +
				 " yet");
			return kDamaged;
		}
	}
}

} // namespace tool
