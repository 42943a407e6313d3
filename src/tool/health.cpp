// SPDX-License-Identifier: GPL-2.0
#include "tool/health.hpp"

#include <algorithm>
#include <cerrno>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/member.hpp"
#include "tool/screen.hpp"

namespace tool {

const char *health_text(Health h)
{
	constexpr const char *names[] = {"healthy", "syncing", "degraded", "critical", "failed", "inactive"};
	return names[static_cast<u32>(h)];
}

const char *severity_text(Severity s)
{
	constexpr const char *names[] = {"info", "warning", "critical"};
	return names[static_cast<u32>(s)];
}

namespace {

// What a member of an array that does not run says of it.
struct Asleep {
	Kind kind = Kind::Unknown; // of its bitmap; Unknown: no member can be asked
	u64 wanted = 0; // members
	std::string why; // none can be asked
	bool forbidden = false; // to this user
};

Asleep ask_members(const Running &a)
{
	Asleep none;
	none.why = "it has none";
	for (const Part &p : a.parts) {
		const std::string path = at("/dev/" + p.name);
		try {
			Member m = Member::read(Device(path, Device::Use::Look));
			return {m.bitmap.kind, m.super.raid_disks, "the bitmap is damaged", false};
		} catch (const std::exception &error) {
			none.forbidden |= access(path.c_str(), R_OK) && errno == EACCES;
			none.why = error.what();
		}
	}
	return none;
}

std::string empty_slots(const Running &a)
{
	std::string slots;
	u64 shown = 0;
	for (u64 slot = 0; slot < std::min<u64>(a.wanted.value_or(0), 4096); slot++) {
		bool there = std::any_of(a.parts.begin(), a.parts.end(), [&](const Part &p) {
			return p.slot == slot && p.is("in_sync") && !p.is("faulty");
		});
		if (!there && ++shown <= 8)
			slots += (slots.empty() ? "" : ", ") + std::to_string(slot);
	}
	if (shown > 8)
		slots += ", …";
	return (shown == 1 ? "slot " : "slots ") + slots;
}

class Judge {
    public:
	explicit Judge(const Running &a)
		: a_(a)
		, dev_("/dev/" + a.name)
	{}

	Verdict verdict()
	{
		Verdict v{health(), {}, false, false};
		if (v.health == Health::Inactive) {
			v.wants_module = inactive(&v.assembled_early);
		} else {
			members(v.health);
			bitmap();
			waiting(v.health);
		}
		std::stable_sort(notices_.begin(), notices_.end(),
				 [](const Notice &x, const Notice &y) { return x.severity > y.severity; });
		v.notices = std::move(notices_);
		return v;
	}

    private:
	const Running &a_;
	std::string dev_;
	std::vector<Notice> notices_;

	void say(const char *id, Severity severity, const std::string &what, const std::string &action = "")
	{
		notices_.push_back({id, severity, what, action, a_.name});
	}

	bool rebuilding() const { return a_.sync.action == "recover"; }

	Health health() const
	{
		if (!a_.active())
			return Health::Inactive;
		u64 gone = a_.degraded.value_or(0);
		bool broken = a_.state == "broken" ||
			      (a_.wanted && *a_.wanted && a_.in_sync() == 0 && a_.redundant());
		// Each of raid10's members has copies/wanted of the data: fewer than that have not all.
		broken |= a_.level == "raid10" && a_.in_sync() * a_.copies() < a_.wanted.value_or(0);
		if ((a_.parity() && gone > (a_.level == "raid6" ? 2 : 1)) || broken)
			return Health::Failed;
		if (gone)
			return a_.failures_left() ? Health::Degraded : Health::Critical;
		return a_.sync.running ? Health::Syncing : Health::Healthy;
	}

	// Does it want the module, as far as is known?
	bool inactive(bool *assembled_early)
	{
		const std::string again = "mdadm --stop " + dev_ + "; mdadm --assemble --scan";
		const Asleep found = ask_members(a_);
		*assembled_early = found.kind == Kind::Lockless && a_.parts.size() >= found.wanted;
		if (found.kind == Kind::Unknown && !found.forbidden) {
			say("inactive", Severity::Critical,
			    "the array does not run. Its members could not be read (" + found.why +
				    "), so whether it wants the module llbitmap is not known; dmesg says more",
			    again);
		} else if (found.kind == Kind::Unknown) {
			say("inactive", Severity::Critical,
			    "the array does not run. Its members could not be read (only root may), so whether it wants the module llbitmap is not known.",
			    "llbitmap status, as root");
		} else if (found.kind == Kind::Lockless && !registered()) {
			say("inactive", Severity::Critical,
			    "the array does not run. Its bitmap is lockless, and the module llbitmap is not loaded. Nothing is lost.",
			    "modprobe llbitmap; " + again);
		} else if (a_.parts.size() < found.wanted) {
			say("inactive", Severity::Critical,
			    "the array does not run: " + std::to_string(a_.parts.size()) + " of " +
				    std::to_string(found.wanted) +
				    " members are here (bitmap: " + kind_text(found.kind) + ")",
			    "find the others, then " + again);
		} else {
			say("inactive", Severity::Critical,
			    std::string("the array does not run (bitmap: ") + kind_text(found.kind) +
				    "); dmesg says why",
			    again);
		}
		return found.kind == Kind::Lockless || found.kind == Kind::Unknown;
	}

	void members(Health health)
	{
		u64 wanted = a_.wanted.value_or(0);
		if (health == Health::Failed) {
			say("failed", Severity::Critical,
			    text("%llu of %llu members are in sync: too few, the array cannot be used",
				 static_cast<unsigned long long>(a_.in_sync()),
				 static_cast<unsigned long long>(wanted)),
			    "mdadm --detail " + dev_);
		} else if (health == Health::Degraded || health == Health::Critical) {
			Severity severity =
				health == Health::Critical ? Severity::Critical : Severity::Warning;
			std::string what = empty_slots(a_) +
					   (rebuilding() ? ": being rebuilt. " : ": no member in sync. ");
			what += health == Health::Critical
					? (a_.level == "raid10"
						   ? "The next one that fails may be one too many."
						   : "No further member may fail.")
					: std::to_string(a_.failures_left()) +
						  (a_.failures_left() == 1 ? " more member may fail."
									   : " more members may fail.");
			say("degraded", severity, what,
			    rebuilding() ? ""
					 : "mdadm " + dev_ + (a_.faulty() ? " --remove failed" : "") +
						   " --add NEW-MEMBER");
		}
		if (a_.faulty()) {
			std::string names;
			for (const Part &p : a_.parts) {
				if (p.is("faulty"))
					names += (names.empty() ? "" : ", ") + p.name;
			}
			say("faulty", Severity::Warning, "failed, and still part of the array: " + names,
			    "mdadm " + dev_ + " --remove failed");
		}
		if (a_.state == "readonly")
			say("readonly", Severity::Info, "the array is read-only",
			    "mdadm --readwrite " + dev_);
		if (a_.mismatches.value_or(0))
			say("mismatch", Severity::Info,
			    "the last check found copies or parity that differ, in " +
				    grouped(*a_.mismatches) +
				    " sectors; where nothing was ever written that is no fault");
	}

	void bitmap()
	{
		if (a_.bitmap == Has::Lockless && !a_.counts)
			say("no_counts", Severity::Warning,
			    "the bitmap does not answer: llbitmap/bits cannot be read", "dmesg");
		if (!a_.redundant())
			return;
		if (a_.bitmap == Has::Internal || a_.bitmap == Has::File) {
			say("classic_bitmap", Severity::Info,
			    "this is the CLASSIC bitmap, not a lockless one: mdadm --grow --bitmap=lockless (4.6) makes it, too",
			    "llbitmap convert --to lockless " + dev_);
		} else if (a_.bitmap == Has::None && a_.parity() && a_.degraded.value_or(0) &&
			   !a_.journalled()) {
			say("no_bitmap", Severity::Info,
			    "no bitmap, and degraded: if the power is cut while it is written to, md does not start it again by itself (mdadm --assemble --force does)");
		} else if (a_.bitmap == Has::None && !a_.journalled() && a_.in_sync() > 1) {
			say("no_bitmap", Severity::Info,
			    "no bitmap: after a power cut while it is written to, all of it is resynchronised");
		}
		u64 cost = a_.cost().value_or(0), budget = a_.budget.value_or(0);
		u64 waits = a_.chunk ? a_.waiting() * *a_.chunk : 0;
		if (budget && cost > budget && cost - std::min(waits, cost) > budget)
			say("over_budget", Severity::Info,
			    "more is dirty than the resync_budget of " + bytes_text(budget) +
				    " allows: writes come faster than they can be called clean. It falls again when they pause");
	}

	void waiting(Health health)
	{
		if (a_.sync.action == "frozen" && (a_.waiting() || a_.degraded.value_or(0)))
			say("frozen", Severity::Warning,
			    "md's sync_action is frozen: nothing is resynchronised",
			    "echo idle > /sys/block/" + a_.name + "/md/sync_action");
		if (!a_.waiting())
			return;
		std::string much = grouped(a_.waiting()) + " chunks";
		if (a_.chunk)
			much += " (" + bytes_text(a_.waiting() * *a_.chunk) + ")";
		if (health == Health::Degraded || health == Health::Critical) {
			std::string what =
				much + " wait for a resync, and stay marked until the array is whole again.";
			if (a_.sync.action == "resync")
				what += " The resync that runs settles nothing while a slot is empty.";
			say("waits_for_whole", Severity::Info, what);
		} else if (!a_.sync.running && a_.sync.action != "frozen") {
			say("waiting", Severity::Info,
			    much + " wait for a resync; md starts it by itself" +
				    (a_.state == "read-auto"  ? " after the first write"
				     : a_.state == "readonly" ? " when the array is no longer read-only"
							      : ""));
		}
	}
};

} // namespace

Verdict judge(const Running &a)
{
	return Judge(a).verdict();
}

Severity worst(const std::vector<Notice> &notices)
{
	Severity s = Severity::Info;
	for (const Notice &n : notices)
		s = std::max(s, n.severity);
	return s;
}

Pace pace(const Running &a)
{
	if (a.sync.running && a.sync.speed.value_or(0))
		return {*a.sync.speed, true};
	return {a.sync.speed_max.value_or(0), false};
}

u64 seconds_for(u64 bytes, u64 bytes_per_second)
{
	return bytes_per_second ? bytes / bytes_per_second + (bytes % bytes_per_second != 0) : 0;
}

std::optional<Left> left_of_sync(const Running &a)
{
	const Sync &s = a.sync;
	if (!s.running || s.delayed)
		return {};
	Left left{};
	const bool counted = a.bitmap == Has::Lockless && a.counts && a.chunk;
	std::optional<u64> ahead;
	if (s.done && s.total)
		ahead = *s.total - std::min(*s.done, *s.total);
	if (s.action == "resync" && counted) {
		left.bytes = a.waiting() * *a.chunk; // the rest is skipped
		// While a slot is empty, what is behind goes on waiting as well.
		left.most = a.degraded.value_or(0) != 0;
		if (left.most && ahead)
			left.bytes = std::min(left.bytes, *ahead);
	} else if (ahead) {
		left.bytes = *ahead;
		// raid10's recovery goes by another order of sectors, and skips nothing.
		bool bounded = s.action != "reshape" && !(s.action == "recover" && a.level == "raid10");
		if (counted && bounded) {
			left.bytes = std::min(left.bytes, a.written() * *a.chunk);
			left.most = true;
		} else if (a.bitmap == Has::Internal || a.bitmap == Has::File) {
			left.most = s.action == "resync" || s.action == "recover"; // a check skips nothing
		}
	} else {
		return {};
	}
	if (s.speed.value_or(0))
		left.seconds = seconds_for(left.bytes, *s.speed);
	return left;
}

} // namespace tool
