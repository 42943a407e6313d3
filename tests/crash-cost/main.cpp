// SPDX-License-Identifier: GPL-2.0
// crash-cost [--size S,..] [--load L,..] [--tracker T,..] [--budget MiB] [--seconds N]
//            [--seed N] [--io-ms N]      a line for each
// crash-cost --report FOLDER [--quick]   all of them
// crash-cost --start [--io-ms N]         what the bitmap does when an array starts
// crash-cost --self-test
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "report.hpp"
#include "run.hpp"
#include "self_test.hpp"

namespace {

[[noreturn]] void usage()
{
	fputs("usage: crash-cost [--size S,..] [--load L,..] [--tracker T,..] [--budget MiB] [--seconds N]\n"
	      "                  [--seed N] [--io-ms N] | --report FOLDER [--quick] | --self-test\n"
	      "                  | --start [--io-ms N]\n"
	      "sizes:",
	      stderr);
	for (const Size &s : sizes())
		fprintf(stderr, " %s", s.name);
	fputs("\nloads:", stderr);
	for (const LoadInfo &l : loads())
		fprintf(stderr, " %s", l.name);
	fputs("\ntrackers: classic intree llbitmap llbitmap-strict\n", stderr);
	exit(2);
}

std::vector<std::string> split(const std::string &list)
{
	std::vector<std::string> parts;
	std::istringstream in{list};
	for (std::string one; std::getline(in, one, ',');)
		parts.push_back(one);
	return parts;
}

u64 number(const std::string &s, u64 least, u64 most)
{
	char *end = nullptr;
	u64 n = strtoull(s.c_str(), &end, 10);
	if (s.empty() || *end || s[0] == '-' || n < least || n > most)
		usage();
	return n;
}

constexpr u64 kCreate_us = 1000000; // of bitmap work, members with 5 ms per write
constexpr double kPass_us = 1000; // of CPU, for a million chunks

// Of an assembly nothing is judged: its reads have no time here.
const char *verdict(size_t which, const Start &f)
{
	if (f.asks_resync)
		return "WRONG";
	if (which == 1)
		return "seen";
	return (which == 0 ? f.io_us + f.cpu_us < kCreate_us
			   : double(f.cpu_us) < kPass_us * double(f.chunks) / (1 << 20))
		       ? "met"
		       : "missed";
}

// True: something is wrong. A missed aim is not.
bool print_start(const Times &t)
{
	static const char *const kWhat[] = {"create", "assemble", "pass, all clean"};
	bool wrong = false;

	for (const Size &s : sizes()) {
		const std::vector<Start> found = start_costs(t, s.bytes);
		for (size_t i = 0; i < found.size(); i++) {
			const Start &f = found[i];
			wrong = wrong || f.asks_resync;
			printf("%s: %s %s: %lu chunks, %lu writes of %lu KiB in all to each member, %lu flushes, "
			       "%lu reads of %lu KiB in all from each; writes and flushes one after the other %.0f ms "
			       "at %u ms; CPU %.2f ms\n",
			       verdict(i, f), s.name, kWhat[i], f.chunks, f.writes, f.write_bytes / 1024,
			       f.flushes, f.reads, f.read_bytes / 1024, double(f.io_us) / 1000,
			       t.bitmap_us / 1000, double(f.cpu_us) / 1000);
		}
	}
	return wrong;
}

} // namespace

int main(int argc, char **argv)
{
	std::string size = "16TB", load = "a50", tracker = "llbitmap";
	Job job;
	ReportOptions report;
	bool start = false;

	for (int i = 1; i < argc; i++) {
		std::string o = argv[i];
		if (o == "--self-test")
			return self_test();
		if (o == "--start") {
			start = true;
			continue;
		}
		if (o == "--quick") {
			report.quick = true;
			continue;
		}
		if (++i == argc)
			usage();
		std::string v = argv[i];
		if (o == "--report")
			report.folder = v;
		else if (o == "--size")
			size = v;
		else if (o == "--load")
			load = v;
		else if (o == "--tracker")
			tracker = v;
		else if (o == "--budget")
			job.budget_mib = s64(number(v, 0, u64{1} << 40));
		else if (o == "--seconds")
			job.seconds = u32(number(v, 2, 100000));
		else if (o == "--seed")
			job.seed = number(v, 0, ~u64{0});
		else if (o == "--io-ms")
			job.times.data_us = job.times.bitmap_us = u32(number(v, 1, 1000)) * 1000;
		else
			usage();
	}
	if (!report.folder.empty())
		return make_report(report) ? 1 : 0;

	if (start)
		return print_start(job.times);
	bool bad = false;
	for (const std::string &s : split(size)) {
		for (const std::string &l : split(load)) {
			for (const std::string &t : split(tracker)) {
				job.size = s, job.load = l, job.tracker = t;
				Result r = run_job(job);
				puts(line(job, r).c_str());
				fflush(stdout);
				bad = bad || r.complaint[0];
			}
		}
	}
	return bad;
}
