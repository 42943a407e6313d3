// SPDX-License-Identifier: GPL-2.0
// llbitmap status: the arrays that the kernel has, for people, scripts and monitoring.
#pragma once

#include <string>
#include <vector>

#include "tool/health.hpp"
#include "tool/limit.hpp"
#include "tool/screen.hpp"

namespace tool {

struct StatusWanted {
	std::vector<std::string> arrays; // none: all
	bool problems = false; // -x: only arrays that something is wrong with
	bool verbose = false;
	bool check = false; // one line, for monitoring
	Limit warning, critical; // for `check`: what a power cut may cost
	bool json = false;

	bool limited() const { return warning.given() || critical.given(); }
};

// kDone; kDamaged: there is something to look after; kUnusable: an array does not run.
int status(const StatusWanted &wanted);

struct Judged {
	Running array;
	Verdict verdict;
};
std::vector<Judged> judged(const std::vector<std::string> &names); // the worst first
int exit_status(const std::vector<Judged> &all);

// One object; indent: of its lines by so many blanks, -1: all in one line. Without a line's end.
std::string status_json(const std::vector<Judged> &all, int indent);

// The screen of status.
Screen status_screen(const StatusWanted &wanted, const std::vector<Judged> &all);
// What runs there and how much of it is left, in words.
std::string sync_text(const Running &a);

} // namespace tool
