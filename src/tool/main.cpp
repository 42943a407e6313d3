// SPDX-License-Identifier: GPL-2.0
// llbitmap: the command line.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "llbitmap/release.h"
#include "tool/convert.hpp"
#include "tool/error.hpp"
#include "tool/examine.hpp"

namespace {

constexpr const char *kStatuses =
	"Exit status: 0 done; 1 examine: damaged, stale or unusable (see its warnings);\n"
	"2 wrong command line; 3 cannot be read, or no md 1.x metadata; 4 convert: refused,\n"
	"nothing written; 5 convert: a write failed (assembling the array is safe).";

constexpr const char *kConvertHelp =
	"The array must be stopped, and all its members named, spares too. Data is not\n"
	"touched. What is not known to be in sync is resynchronised at the next start,\n"
	"from an internal bitmap: its dirty chunks; from none: what md says is not in sync;\n"
	"from a lockless one: all that is not clean, chunks never written included.\n"
	"A power cut in the middle leaves the old bitmap, or none (with a full resync if\n"
	"anything was not clean), or the new one.\n"
	"\n"
	"A running array is not converted: md (7.1 to 7.3) would take a version 6 header\n"
	"through bitmap/location, but then leaves the classic bitmap's sysfs files on it,\n"
	"which write into it as if it were a classic one, and makes none of its own.";

int run(int argc, char **argv)
{
	CLI::App app("Lockless write-intent bitmaps of Linux software RAID", "llbitmap");
	app.require_subcommand(1);
	app.footer(kStatuses);
	app.set_version_flag("--version", "llbitmap " LLB_RELEASE);

	std::string device;
	bool json = false;
	CLI::App *examine = app.add_subcommand("examine", "Show what is on a member (device or image file)");
	examine->add_option("DEVICE", device)->required();
	examine->add_flag("--json", json, "As one JSON object; units are sectors and seconds");
	examine->footer(kStatuses);

	tool::Conversion what;
	CLI::App *convert = app.add_subcommand("convert", "Give a stopped array another bitmap");
	convert->add_option("--to", what.to, "lockless, internal or none")
		->required()
		->check(CLI::IsMember({"lockless", "internal", "none"}));
	convert->add_option("--bitmap-chunk", what.classic_chunk_kib,
			    "KiB, of an internal bitmap (default: 65536 or more)")
		->check(CLI::Range(4u, 1u << 21));
	convert->add_flag("--dry-run", what.dry_run, "Check everything, write nothing");
	convert->add_flag("--json", what.json, "With --dry-run: every write as JSON, in its order")
		->needs("--dry-run");
	convert->add_option("DEVICE", what.paths, "All members of the array")->required();
	convert->footer(std::string(kConvertHelp) + "\n\n" + kStatuses);

	try {
		app.parse(argc, argv);
	} catch (const CLI::ParseError &error) {
		if (error.get_exit_code() == 0)
			return app.exit(error);
		fprintf(stderr, "llbitmap: %s (llbitmap --help)\n", error.what());
		return tool::kUsage;
	}
	if (*examine)
		return tool::examine(device, json);
	if (what.classic_chunk_kib &&
	    (what.to != "internal" || (what.classic_chunk_kib & (what.classic_chunk_kib - 1))))
		throw tool::Error(tool::kUsage,
				  "--bitmap-chunk is a power of two, and for --to internal only");
	return tool::convert(what);
}

} // namespace

int main(int argc, char **argv)
{
	int status;
	try {
		status = run(argc, argv);
	} catch (const tool::Error &error) {
		fprintf(stderr, "llbitmap: %s\n", error.what());
		status = error.status;
	} catch (const std::exception &error) {
		fprintf(stderr, "llbitmap: %s\n", error.what());
		status = tool::kUnreadable;
	}
	if (fflush(stdout)) {
		perror("llbitmap: stdout");
		return tool::kUnreadable;
	}
	return status;
}
