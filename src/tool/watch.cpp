// SPDX-License-Identifier: GPL-2.0
#include "tool/watch.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <map>
#include <poll.h>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

// md wakes who polls /proc/mdstat when an array or a sync begins, ends or fails. The counts
// of a bitmap wake nobody: hence the interval.
class Waker {
    public:
	Waker()
		: fd_(open(at("/proc/mdstat").c_str(), O_RDONLY | O_CLOEXEC))
	{}
	~Waker()
	{
		if (fd_ >= 0)
			close(fd_);
	}
	Waker(const Waker &) = delete;
	Waker &operator=(const Waker &) = delete;

	void wait(u32 seconds)
	{
		char byte; // seen so far: only what comes later wakes
		if (fd_ >= 0 && pread(fd_, &byte, 1, 0) < 0)
			byte = 0;
		pollfd one{fd_, POLLPRI, 0};
		poll(&one, 1, int(seconds * 1000));
	}

    private:
	int fd_;
};

[[noreturn]] void not_known(const Running &a, const std::string &until, const std::string &why)
{
	throw Error(kUnreadable, a.name + ": " + why + ", so whether it is " + until + " is not known");
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
			if (*a.degraded)
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

// What is worth a line when it changes, by name.
std::map<std::string, std::string> facts(const std::vector<Judged> &all)
{
	std::map<std::string, std::string> now;
	for (const Judged &one : all) {
		const Running &a = one.array;
		now[a.name + " health"] = health_text(one.verdict.health);
		now[a.name + " sync"] = a.sync.action;
		now[a.name + " state"] = a.state;
		now[a.name + " chunks that wait"] = a.waiting() ? "some" : "none";
		for (const Part &p : a.parts) {
			std::string states;
			for (const std::string &state : p.states)
				states += (states.empty() ? "" : ",") + state;
			now[a.name + " member " + p.name] = states;
		}
	}
	return now;
}

void tell(const std::map<std::string, std::string> &old, const std::map<std::string, std::string> &now)
{
	char clock[16];
	time_t t = time(nullptr);
	tm local;
	localtime_r(&t, &local);
	strftime(clock, sizeof(clock), "%H:%M:%S ", &local);
	for (const auto &[name, value] : now) {
		auto before = old.find(name);
		if (before == old.end())
			say(clock + name + ": " + value);
		else if (before->second != value)
			say(clock + name + ": " + before->second + " -> " + value);
	}
	for (const auto &[name, value] : old) {
		if (!now.contains(name))
			say(clock + name + ": gone, was " + value);
	}
	fflush(stdout);
}

} // namespace

int watch(const WatchWanted &wanted)
{
	Waker waker;
	bool terminal = isatty(STDOUT_FILENO), first = true;
	std::map<std::string, std::string> old;
	u64 waited = 0;
	for (u64 shown = 1;; shown++) {
		std::vector<Judged> all = judged(wanted.status.arrays);
		if (!wanted.until.empty() && reached(wanted.until, all))
			return kDone;
		if (wanted.events) {
			std::map<std::string, std::string> now = facts(all);
			if (!first)
				tell(old, now);
			old = std::move(now);
		} else if (wanted.until.empty()) {
			if (terminal)
				fputs("\033[H\033[2J", stdout);
			else if (!first)
				fputs("\n", stdout);
			status_screen(wanted.status, all).show();
			fflush(stdout);
		}
		if (wanted.count && shown >= wanted.count)
			return exit_status(all);
		if (ferror(stdout))
			return kUnreadable;
		first = false;
		struct timespec from, to;
		clock_gettime(CLOCK_MONOTONIC, &from);
		u32 step = wanted.interval;
		if (!wanted.until.empty() && wanted.timeout)
			step = u32(std::min<u64>(step, wanted.timeout - waited));
		waker.wait(step);
		clock_gettime(CLOCK_MONOTONIC, &to);
		// A wake-up by md is short: then it counts as nothing, and the timeout is later.
		waited += u64(to.tv_sec - from.tv_sec);
		if (!wanted.until.empty() && wanted.timeout && waited >= wanted.timeout) {
			complain("after " + seconds_text(wanted.timeout) + " it is not " + wanted.until +
				 " yet");
			return kDamaged;
		}
	}
}

} // namespace tool
