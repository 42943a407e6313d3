// SPDX-License-Identifier: GPL-2.0
// Every size, load and tracker; what came of it as report.json, table.md and an SVG; and
// whether each aim is met.
#pragma once

#include <string>

struct ReportOptions {
	std::string folder;
	bool quick = false;
	unsigned jobs = 2; // processes side by side
};
// The number of runs in which something happened that must not; a missed aim is none.
int make_report(const ReportOptions &o);
