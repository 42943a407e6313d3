// SPDX-License-Identifier: GPL-2.0
#include "tool/resync.hpp"

#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "tool/error.hpp"
#include "tool/health.hpp"
#include "tool/range.hpp"
#include "tool/screen.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

void check(const Running &a)
{
	const std::string md = "/sys/block/" + a.name + "/md/";
	if (!a.active())
		refuse(a.name + ": the array does not run");
	if (!a.redundant())
		refuse(a.name + ": " + a.level + " has nothing to resynchronise");
	if (a.bitmap != Has::Lockless)
		refuse(a.name + ": no lockless bitmap; with any other: echo repair > " + md + "sync_action");
	if (a.state == "readonly" || a.state == "read-auto")
		refuse(a.name + ": is read-only (" + a.state + "): mdadm --readwrite /dev/" + a.name);
	if (a.sync.action == "frozen")
		refuse(a.name + ": sync_action is frozen, so nothing would be resynchronised: echo idle > " +
		       md + "sync_action");
	if (a.sync.action == "reshape")
		refuse(a.name + ": a reshape runs; once it is done: llbitmap watch " + a.name +
		       " --until synced");
	if (access(at(md + "bitmap_set_bits").c_str(), W_OK))
		refuse(md + "bitmap_set_bits: " + strerror(errno) + (errno == EACCES ? "; run as root" : ""));
	if (!a.chunk || !*a.chunk || !a.chunks || !*a.chunks)
		refuse(a.name + ": " + md + "llbitmap/metadata cannot be read");
}

bool agreed()
{
	printf("Go on? [y/N] ");
	fflush(stdout);
	char answer[16] = {};
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

// md's own file: it has the bitmap mark these chunks, on disk too, before the write returns.
void mark(const Running &a, Range r)
{
	const std::string path = "/sys/block/" + a.name + "/md/bitmap_set_bits";
	const std::string text = std::to_string(r.first) + '-' + std::to_string(r.last) + '\n';
	int fd = open(at(path).c_str(), O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		refuse(path + ": " + strerror(errno));
	ssize_t got = write(fd, text.data(), text.size());
	int why = errno;
	close(fd);
	if (got != ssize_t(text.size()))
		refuse(path + ": " + (got < 0 ? strerror(why) : "not taken in full"));
}

} // namespace

int resync(const ResyncWanted &wanted)
{
	const RangeWords range(wanted.range); // a wrong command line is one, whatever the array
	const Running a = running({wanted.array}).at(0);
	check(a);
	Range r = range.of(*a.chunks, *a.chunk);
	u64 bytes = (r.last - r.first + 1) * *a.chunk;
	if (!wanted.yes && !wanted.dry_run && !isatty(STDIN_FILENO))
		refuse("nobody can be asked: say --yes");
	Screen s;
	std::string what = a.name + ": chunks " + grouped(r.first) + " to " + grouped(r.last) + ", " +
			   bytes_text(bytes) + (a.level == "raid10" ? " of the array" : " of each member") +
			   ", are marked and resynchronised, never written ones too";
	Pace p = pace(a);
	if (p.bytes_per_second)
		what += ": about " + seconds_text(seconds_for(bytes, p.bytes_per_second)) + " at " +
			bytes_text(p.bytes_per_second) + "/s" +
			(p.measured ? "" : " (md's limit; disks may be slower)");
	what += a.parity() ? ". Parity is made to fit the data as it is."
			   : ". The first member is copied over the others, right or wrong.";
	what += " Data can be used meanwhile. It goes on after a restart, and cannot be taken back.";
	for (const std::string &line : wrapped(what, kColumns))
		s.line(line);
	if (a.degraded.value_or(0))
		s.line("A member is missing: it begins when the array is whole again.", Colour::Notice);
	s.show();
	if (wanted.dry_run) {
		say("dry run: nothing was written");
		return kDone;
	}
	if (!wanted.yes && !agreed())
		refuse("nothing was written");
	mark(a, r);
	const Running now = running({a.name}).at(0);
	// md takes whatever is written to that file, and says nothing if it did nothing. What was
	// resynchronised already is dirty for some seconds.
	u64 seen = now.counts ? now.waiting() + (*now.counts)[LLB_DIRTY] : 0;
	if (now.sync.action != "resync" && seen < r.last - r.first + 1)
		throw Error(kBroken, a.name + ": the chunks were not marked: " + grouped(now.waiting()) +
					     " wait, and no resync runs; dmesg says why");
	say("marked; " + grouped(now.waiting()) + " chunks wait or are in a resync now (llbitmap watch " +
	    a.name + ")");
	return kDone;
}

} // namespace tool
