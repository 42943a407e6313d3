// SPDX-License-Identifier: GPL-2.0
#include "tool/fix.hpp"

#include <algorithm>
#include <cstdio>

#include "tool/system.hpp"
#include "tool/text.hpp"

namespace tool {

namespace {

bool agreed()
{
	printf("Do it? [y/N] ");
	fflush(stdout);
	char answer[16] = {};
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

} // namespace

std::string Fix::words() const
{
	std::string all;
	for (const auto &command : commands) {
		all += all.empty() ? "" : " && ";
		for (size_t i = 0; i < command.size(); i++)
			all += (i ? " " : "") + command[i];
	}
	return all;
}

size_t carry_out(std::vector<Fix> fixes, bool ask, std::vector<std::string> *asked, bool *failed)
{
	std::stable_sort(fixes.begin(), fixes.end(),
			 [](const Fix &x, const Fix &y) { return x.turn < y.turn; });
	size_t done = 0;
	for (const Fix &fix : fixes) {
		const std::string words = fix.words();
		if (std::find(asked->begin(), asked->end(), words) != asked->end())
			continue;
		asked->push_back(words);
		say("");
		say("fix [" + fix.id + "]: " + words);
		if (ask && !agreed()) {
			say("left as it is");
			continue;
		}
		done++;
		fflush(stdout);
		for (const auto &command : fix.commands) {
			int status = run_program(command);
			if (!status)
				continue;
			complain(command[0] + (status == kNoProgram
						       ? ": no such program"
						       : ": ended with status " + std::to_string(status)));
			*failed = true;
			break;
		}
	}
	if (done)
		say("");
	return done;
}

} // namespace tool
