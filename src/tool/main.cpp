// SPDX-License-Identifier: GPL-2.0
// llbitmap: the command line.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <sstream>

#include "llbitmap/release.h"
#include "tool/convert.hpp"
#include "tool/doctor.hpp"
#include "tool/error.hpp"
#include "tool/examine.hpp"
#include "tool/live.hpp"
#include "tool/map.hpp"
#include "tool/mend.hpp"
#include "tool/metrics.hpp"
#include "tool/resync.hpp"
#include "tool/screen.hpp"
#include "tool/status.hpp"
#include "tool/text.hpp"
#include "tool/watch.hpp"

namespace {

constexpr const char *kStatuses =
	"Exit status: 0 done, all is well; 1 something is to be seen to (examine: damaged, "
	"stale or unusable); 2 wrong command line; 3 cannot be read, or no md 1.x metadata; 4 "
	"refused, nothing written; 5 a write failed, and the line says what to do (no data "
	"was touched); 6 an array is inactive or has failed.\n"
	"status --check: 0 to 3, as monitoring wants it.";

constexpr const char *kConvertHelp =
	"Of a stopped array all members must be named, spares too. Data is not touched. What "
	"is not known to be in sync is resynchronised at the next start, from an internal "
	"bitmap: its dirty chunks; from none: what md says is not in sync; from a lockless "
	"one: all that is not clean, chunks never written included. A power cut in the middle "
	"leaves the old bitmap, or none (with a full resync if anything was not clean), or "
	"the new one.\n\n"
	"A running array, mounted or not, is named itself (md0, /dev/md0). To lockless it "
	"takes Linux 7.2 or newer, and an array that is whole, in sync and idle. Writes wait "
	"for some moments, and nothing is resynchronised. A power cut in the middle leaves "
	"the old bitmap, none (with a full resync), or the new one.";

constexpr const char *kMendHelp =
	"For a bitmap whose header is damaged on a member, or whose headers disagree, as "
	"examine says. The array must be stopped, and all its members named; slots that the "
	"members themselves know to be empty may be. The header is written anew from md's "
	"superblock. Nothing of the old bitmap is believed: the whole array is resynchronised "
	"at the next start. Data is not touched. After a power cut in the middle: once more.";

void add_colour(CLI::App *command)
{
	using Colours = tool::Screen::Colours;
	static const std::map<std::string, Colours> names{
		{"auto", Colours::Auto}, {"always", Colours::Always}, {"never", Colours::Never}};
	command->add_option_function<std::string>(
		       "--color", [](const std::string &word) { tool::Screen::colours = names.at(word); },
		       "auto, always or never")
		->check(CLI::IsMember({"auto", "always", "never"}));
}

constexpr char kRange[] =
	"FIRST-LAST: chunks, or sizes with KiB, MiB, GiB, TiB of a member (raid10: of the array)";

// Each line of it in lines of so many columns.
std::string lines_of(const std::string &text, size_t columns = tool::kColumns)
{
	std::string all;
	std::istringstream words(text);
	for (std::string line; std::getline(words, line);) {
		for (const std::string &part : tool::wrapped(line, columns))
			all += (all.empty() ? "" : "\n") + part;
	}
	return all;
}

// CLI11 prints each of these as one line, a description behind its column for names.
void wrap_help(CLI::App &app)
{
	constexpr u32 names = 30;
	app.get_formatter()->column_width(names);
	app.footer(lines_of(app.get_footer()));
	for (CLI::App *sub : app.get_subcommands({})) {
		sub->get_formatter()->column_width(names);
		sub->footer(lines_of(sub->get_footer()));
		for (CLI::Option *option : sub->get_options({})) {
			option->description(lines_of(option->get_description(), tool::kColumns - names));
		}
	}
}

int run(int argc, char **argv)
{
	CLI::App app("Lockless write-intent bitmaps of Linux software RAID", "llbitmap");
	app.require_subcommand(1);
	app.footer(kStatuses);
	app.set_version_flag("--version", "llbitmap " LLB_RELEASE);

	std::vector<std::string> devices;
	bool json = false;
	CLI::App *examine = app.add_subcommand("examine", "Show what is on members, and what differs");
	examine->add_option("DEVICE", devices, "Devices or image files: one member, or several of an array")
		->required();
	examine->add_flag("--json", json, "As one JSON object; units are sectors and seconds");
	examine->footer(kStatuses);

	tool::StatusWanted wanted;
	CLI::App *status = app.add_subcommand("status", "Show the arrays that the kernel has");
	status->add_option("ARRAY", wanted.arrays, "md0, /dev/md0, /dev/md/name or a uuid (default: all)");
	status->add_flag("-x,--problems", wanted.problems, "Only arrays that something is wrong with");
	status->add_flag("-v,--verbose", wanted.verbose, "In full, members too");
	CLI::Option *as_json = status->add_flag("--json", wanted.json, "As one JSON object");
	CLI::Option *as_check =
		status->add_flag("--check", wanted.check, "One line, for monitoring")->excludes(as_json);
	std::string warning, critical;
	for (auto [name, value] : {std::pair{"--warning", &warning}, std::pair{"--critical", &critical}})
		status->add_option(name, *value,
				   "With --check: if a power cut costs more than 20GiB, or 5min, for example")
			->needs(as_check);
	add_colour(status);
	status->footer(kStatuses);

	tool::WatchWanted watched;
	CLI::App *watch = app.add_subcommand("watch", "Show them again and again, or wait");
	watch->add_option("ARRAY", watched.status.arrays,
			  "md0, /dev/md0, /dev/md/name or a uuid (default: all)");
	watch->add_option("-n,--interval", watched.interval, "Seconds between two looks (default: 2)")
		->check(CLI::Range(1u, 86400u));
	watch->add_option("--count", watched.count, "End after so many looks");
	watch->add_flag("-x,--problems", watched.status.problems, "Only arrays that something is wrong with");
	watch->add_flag("-v,--verbose", watched.status.verbose, "In full, members too");
	watch->add_flag("--events", watched.events, "A line for each change instead of screens");
	CLI::Option *in_json =
		watch->add_flag("--json", watched.status.json,
				"An object in a line for each look, or with --events for each change");
	watch->add_option("--until", watched.until,
			  "Say nothing, and end when all are clean (nothing dirty or waiting), synced "
			  "(nothing waits) or whole (no member missing)")
		->check(CLI::IsMember({"clean", "synced", "whole"}))
		->excludes(in_json);
	watch->add_option("--timeout", watched.timeout, "Seconds for --until; then the status is 1")
		->needs("--until");
	add_colour(watch);
	watch->footer(kStatuses);

	tool::DoctorWanted ill;
	CLI::App *doctor = app.add_subcommand("doctor", "Will it work, now and after the next boot?");
	doctor->add_option("ARRAY", ill.arrays, "md0, /dev/md0, /dev/md/name or a uuid (default: all)");
	doctor->add_option("--kernel", ill.kernel, "Only this kernel of /lib/modules");
	doctor->add_flag("--skip-initramfs", ill.skip_initramfs, "Do not list what is in the initramfs");
	CLI::Option *ill_json = doctor->add_flag("--json", ill.json, "As one JSON object");
	CLI::Option *fix =
		doctor->add_flag("--fix", ill.fix, "And do what can be done here, asking about each");
	fix->excludes(ill_json);
	doctor->add_flag("--yes", ill.yes, "With --fix: do not ask")->needs(fix);
	add_colour(doctor);
	doctor->footer(kStatuses);

	std::vector<std::string> measured;
	std::string output;
	CLI::App *metrics = app.add_subcommand("metrics", "Print the arrays as Prometheus's text format");
	metrics->add_option("ARRAY", measured, "md0, /dev/md0, /dev/md/name or a uuid (default: all)");
	metrics->add_option("--output", output, "Replace this file instead, as a whole");
	metrics->footer(kStatuses);

	tool::MapWanted shown;
	CLI::App *map = app.add_subcommand("map", "Show where the chunks of each state are");
	map->add_option("ARRAY|MEMBER", shown.what, "An array, or a member (a device or an image file)")
		->required();
	map->add_option("--rows", shown.rows, "Of the picture, at most (default: 16)")
		->check(CLI::Range(1u, 1000u));
	map->add_option("--width", shown.width, "Cells in a row (default: 64)")->check(CLI::Range(1u, 1000u));
	map->add_option("--range", shown.range, kRange);
	CLI::Option *as_svg = map->add_flag("--svg", shown.svg, "As an SVG picture");
	map->add_flag("--json", shown.json, "As one JSON object")->excludes(as_svg);
	add_colour(map);
	map->footer(kStatuses);

	tool::ResyncWanted again;
	CLI::App *resync = app.add_subcommand("resync", "Resynchronise everything, or a range, now");
	resync->add_option("ARRAY", again.array, "md0, /dev/md0, /dev/md/name or a uuid")->required();
	resync->add_option("--range", again.range, kRange);
	resync->add_flag("--yes", again.yes, "Do not ask");
	resync->add_flag("--dry-run", again.dry_run, "Check everything, write nothing");
	resync->footer(kStatuses);

	tool::Conversion what;
	CLI::App *convert = app.add_subcommand("convert", "Give an array another bitmap");
	convert->add_option("--to", what.to, "lockless, internal or none")
		->required()
		->check(CLI::IsMember({"lockless", "internal", "none"}));
	convert->add_option("--bitmap-chunk", what.classic_chunk_kib,
			    "KiB, of an internal bitmap (default: 65536 or more)")
		->check(CLI::Range(4u, 1u << 21));
	convert->add_flag("--dry-run", what.dry_run, "Check everything, write nothing");
	convert->add_flag("--json", what.json, "With --dry-run: every write as JSON, in its order")
		->needs("--dry-run");
	convert->add_option("DEVICE", what.paths, "The running array, or all members of a stopped one")
		->required();
	convert->footer(std::string(kConvertHelp) + "\n\n" + kStatuses);

	tool::Mending mending;
	CLI::App *mend = app.add_subcommand("mend", "Write a damaged bitmap of a stopped array anew");
	mend->add_option("--as", mending.as, "lockless or internal, if no header tells any more")
		->check(CLI::IsMember({"lockless", "internal"}));
	mend->add_flag("--yes", mending.yes, "Do not ask");
	mend->add_flag("--dry-run", mending.dry_run, "Check everything, write nothing");
	mend->add_flag("--json", mending.json, "With --dry-run: every write as JSON, in its order")
		->needs("--dry-run");
	mend->add_option("DEVICE", mending.paths, "All members of the array")->required();
	mend->footer(std::string(kMendHelp) + "\n\n" + kStatuses);

	wrap_help(app);
	try {
		app.parse(argc, argv);
	} catch (const CLI::ParseError &error) {
		if (error.get_exit_code() == 0)
			return app.exit(error);
		const std::vector<CLI::App *> chosen = app.get_subcommands();
		if (chosen.empty() && argc > 1 && argv[1][0] != '-')
			tool::complain(std::string(argv[1]) + ": no such command (llbitmap --help)");
		else
			tool::complain(std::string(error.what()) + " (llbitmap " +
				       (chosen.empty() ? "" : chosen[0]->get_name() + ' ') + "--help)");
		return tool::kUsage;
	}
	if (*status) {
		wanted.warning = tool::limit_of("--warning", warning);
		wanted.critical = tool::limit_of("--critical", critical);
		return tool::status(wanted);
	}
	if (*watch)
		return tool::watch(watched);
	if (*doctor)
		return tool::doctor(ill);
	if (*metrics)
		return tool::metrics(measured, output);
	if (*map)
		return tool::map(shown);
	if (*resync)
		return tool::resync(again);
	if (*examine)
		return tool::examine(devices, json);
	if (*mend)
		return tool::mend(mending);
	if (what.classic_chunk_kib &&
	    (what.to != "internal" || (what.classic_chunk_kib & (what.classic_chunk_kib - 1))))
		throw tool::Error(tool::kUsage,
				  "--bitmap-chunk is a power of two, and for --to internal only");
	return tool::of_running(what) ? tool::convert_live(what) : tool::convert(what);
}

} // namespace

int main(int argc, char **argv)
{
	int status;
	try {
		status = run(argc, argv);
	} catch (const tool::Error &error) {
		tool::complain(error.what());
		status = error.status;
	} catch (const std::exception &error) {
		tool::complain(error.what());
		status = tool::kUnreadable;
	}
	if (fflush(stdout)) {
		perror("llbitmap: stdout");
		return tool::kUnreadable;
	}
	return status;
}
