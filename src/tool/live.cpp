// SPDX-License-Identifier: GPL-2.0
#include "tool/live.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/phases.hpp"
#include "tool/running.hpp"
#include "tool/screen.hpp"
#include "tool/system.hpp"
#include "tool/target.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

constexpr const char *kOldestMd = "7.2"; // the module's; md takes a bitmap by its header since 7.1
constexpr int kLooks = 100;
constexpr useconds_t kPause_us = 100000; // between two of them
constexpr u64 kPlainSuper = 1024; // bytes of md's superblock, where md's place for a bitmap begins

// The array's device. md suspends all writes for each of these.
class Md {
    public:
	explicit Md(const std::string &name)
		: path_(at("/dev/" + name))
		, fd_(open(path_.c_str(), O_RDONLY | O_CLOEXEC))
	{
		if (fd_ < 0)
			refuse(path_ + ": " + strerror(errno));
	}
	~Md() { close(fd_); }
	Md(const Md &) = delete;
	Md &operator=(const Md &) = delete;

	// With or without a bitmap at md's place; 0, or why not. md is busy, too, for the moment
	// in which it looks whether there is something to do, as after each change of the array.
	int set_bitmap(bool on)
	{
		const int present = 1 << MD_SB_BITMAP_PRESENT;
		for (int look = 0;; look++) {
			mdu_array_info_t info;
			if (ioctl(fd_, GET_ARRAY_INFO, &info))
				return errno;
			info.state = on ? info.state | present : info.state & ~present;
			if (!ioctl(fd_, SET_ARRAY_INFO, &info))
				return 0;
			if (errno != EBUSY || look == kLooks)
				return errno;
			usleep(kPause_us);
		}
	}
	const std::string &path() const { return path_; }

    private:
	std::string path_;
	int fd_;
};

// Half of it done is an array without a bitmap: Ctrl-C waits.
class Unbroken {
    public:
	Unbroken()
	{
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, &before_);
	}
	~Unbroken() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
	Unbroken(const Unbroken &) = delete;
	Unbroken &operator=(const Unbroken &) = delete;

    private:
	sigset_t before_;
};

std::string why_not(int error)
{
	if (error == EBUSY)
		return "md is about to synchronise something; try again when that is done";
	return std::string(strerror(error)) + "; dmesg says why";
}

void check(const Running &a)
{
	if (!a.active())
		refuse(a.name + ": the array does not run: name its members");
	if (a.metadata != "1.2")
		refuse(a.name + ": metadata " + a.metadata +
		       ": only 1.2 has room for a bitmap that can be changed");
	if (!a.redundant())
		refuse(a.name + ": " + a.level + " has no bitmap");
	if (a.state == "readonly" || a.state == "read-auto")
		refuse(a.name + ": is read-only (" + a.state + "): mdadm --readwrite /dev/" + a.name);
	if (a.journalled())
		refuse(a.name + ": the array has a " + a.policy + ", which goes with no bitmap");
	if (a.bitmap == Has::File)
		refuse(a.name + ": its bitmap is in a file; first mdadm --grow --bitmap=none /dev/" + a.name);
	if (a.bitmap == Has::Unknown)
		refuse(a.name + ": its bitmap is of a kind that is not known here");
	if (a.sync.action != "idle")
		refuse(a.name + ": " +
		       (a.sync.action == "frozen"
				? "sync_action is frozen"
				: "a " + a.sync.action + " runs; once it is done: llbitmap watch " + a.name +
					  " --until synced"));
}

// More, for a bitmap that calls all that there is in sync.
void check_lockless(const Running &a)
{
	if (a.degraded.value_or(1))
		refuse(a.name + ": a member is missing; a degraded array must be recovered first");
	if (a.resync_due)
		refuse(a.name + ": is not in sync (resync_start): let md resynchronise it first");
	for (const Part &p : a.parts) {
		if (p.is("replacement"))
			refuse(a.name + ": " + p.name +
			       " is about to replace another member; let that finish first");
	}
	const std::string kernel = file_line("/proc/sys/kernel/osrelease");
	if (before(kernel, kOldestMd))
		refuse(a.name + ": md of this kernel (" + kernel +
		       ") takes no lockless bitmap while the array runs, that of " + kOldestMd +
		       " does: stop the array and convert its members");
	// The in-tree driver would begin where md looks, in 3 KiB.
	if (!exists("/sys/module/llbitmap"))
		refuse("the module is not loaded: modprobe llbitmap");
}

// Chunks of which md knows nothing once the bitmap is gone: it resynchronises everything, and no
// other bitmap can be made before that is done.
u64 unknown_without(const Running &a)
{
	if (a.bitmap != Has::Lockless || !a.counts)
		return 0;
	return *a.chunks - (*a.counts)[LLB_CLEAN] - (*a.counts)[LLB_DIRTY];
}

// Spares get theirs from the module, when they get a slot.
std::vector<std::string> members_of(const Running &a)
{
	std::vector<std::string> paths;
	for (const Part &p : a.parts) {
		if (p.slot && !p.is("faulty"))
			paths.push_back(at("/dev/" + p.name));
	}
	return paths;
}

void check_members(const Array &a, const std::string &uuid)
{
	for (const Member &m : a.members) {
		if (m.super.uuid_text() != uuid)
			refuse(m.device.path() + ": is not what the array has under that name");
		// md asks us only for what it finds behind its superblock, in the same 4 KiB.
		if (m.device.logical_block() != kSector)
			refuse(m.device.path() + ": blocks of " + std::to_string(m.device.logical_block()) +
			       " bytes: md's superblock has no room for what tells it of a lockless bitmap; stop the array and convert its members");
		if (m.super.raw.size() > kPlainSuper)
			refuse(m.device.path() + ": md's superblock is for " +
			       std::to_string(m.super.max_dev) +
			       " devices, and has no room for what tells md of a lockless bitmap; stop the array and convert its members");
	}
}

u64 sign_at(const Member &m)
{
	return (m.super.start + u64(core::kLiveOffset)) * kSector;
}

// On each member as far as it can be written to: one that died is md's business.
void take_signs_back(Array &a, const Bytes &sign)
{
	for (Member &m : a.members) {
		try {
			if (m.device.read(sign_at(m), kSector) != sign)
				continue;
			m.device.write(sign_at(m), Bytes(kSector, 0));
			m.device.sync();
		} catch (const Error &error) {
			complain(error.what());
		}
	}
}

// mdadm knows where a classic bitmap goes.
bool make_internal(const Md &md, u64 chunk_kib)
{
	std::vector<std::string> command{"mdadm", "--grow", "--bitmap=internal"};
	if (chunk_kib)
		command.push_back("--bitmap-chunk=" + std::to_string(chunk_kib) + "K");
	command.push_back(md.path());
	return said_by(command).has_value();
}

void take_away(Md &md, const std::string &name)
{
	if (int error = md.set_bitmap(false))
		refuse(name + ": its bitmap cannot be taken away: " + why_not(error));
}

// Empty: the array has it.
std::string add_lockless(Md &md, const Running &before, Array &members, const Bytes &sign)
{
	const Running now = running({before.name}).at(0);
	if (members_of(now) != members_of(before) || now.degraded.value_or(1))
		return "its members changed meanwhile";
	Phase p{"what tells md of the bitmap", {}};
	for (Member &m : members.members)
		p.writes.push_back({&m, sign_at(m), sign});
	std::vector<Phase> phases{p};
	try {
		execute(phases, "the array runs on");
	} catch (const std::exception &error) {
		return error.what();
	}
	if (int error = md.set_bitmap(true))
		return "md did not take the new bitmap: " + why_not(error);
	return running({before.name}).at(0).bitmap == Has::Lockless
		       ? ""
		       : "md has another bitmap than the one that it was given";
}

void to_lockless(Md &md, const Running &before, Array &members, const Bytes &sign)
{
	Unbroken unbroken;
	if (before.bitmap == Has::Internal)
		take_away(md, before.name);
	const std::string failed = add_lockless(md, before, members, sign);
	take_signs_back(members, sign);
	if (failed.empty())
		return;
	const bool again = before.bitmap == Has::Internal && make_internal(md, 0);
	throw Error(kBroken,
		    before.name + ": " + failed + ". The array runs on " +
			    (again ? "with a new internal bitmap, as mdadm makes it."
				   : "without a bitmap: mdadm --grow --bitmap=internal " + md.path()));
}

} // namespace

bool of_running(const Conversion &what)
{
	const std::string &first = what.paths[0];
	const bool file = first.find('/') == first.npos && !access(first.c_str(), F_OK);
	return what.paths.size() == 1 && !file && is_array(first);
}

int convert_live(const Conversion &what)
{
	if (what.json)
		throw Error(kUsage, "--json: is for the members of a stopped array");
	const Running a = running(what.paths).at(0);
	check(a);
	const Has wanted = what.to == "lockless"   ? Has::Lockless
			   : what.to == "internal" ? Has::Internal
						   : Has::None;
	if (wanted == a.bitmap) {
		say("the bitmap is " + what.to + " already: nothing to do");
		return kDone;
	}
	std::optional<Array> members;
	std::optional<Target> target;
	if (wanted == Has::Lockless) {
		check_lockless(a);
		members = gather(members_of(a), what.dry_run, Purpose::Live);
		check_members(*members, a.uuid);
		target = lockless(*members, Known::nothing(members->super().sync_size()), 1, core::kPlace,
				  LLB_SB_FIRST_USE); // refuses if there is no room
	}
	const u64 unknown = unknown_without(a);
	if (wanted == Has::Internal && unknown)
		refuse(a.name + ": " + grouped(unknown) +
		       " chunks were never written, or wait for a resync: md would resynchronise everything before it takes an internal bitmap; stop the array and convert its members, or mdadm --grow --bitmap=none " +
		       "/dev/" + a.name);
	const std::string from = a.bitmap == Has::None	     ? "no bitmap"
				 : a.bitmap == Has::Internal ? "internal"
							     : "lockless";
	say(a.name + ", " + a.level + ", running: " + from + " -> " + what.to);
	if (unknown)
		say(grouped(unknown) + " chunks were never written, or wait: md resynchronises everything");
	if (target)
		say_logs_given_up(*members, target->space);
	if (what.dry_run) {
		say("dry run: nothing was written");
		return kDone;
	}
	Md md(a.name);
	if (wanted == Has::Lockless) {
		to_lockless(md, a, *members, live_sign(*target));
		say("done: llbitmap doctor " + a.name + " tells whether the next boot finds it");
		return kDone;
	}
	Unbroken unbroken;
	if (a.bitmap != Has::None)
		take_away(md, a.name);
	if (wanted == Has::Internal && !make_internal(md, what.classic_chunk_kib))
		throw Error(
			kBroken,
			a.name +
				": mdadm made no internal bitmap. The array runs on without one: mdadm --grow --bitmap=internal " +
				md.path());
	return kDone;
}

} // namespace tool
