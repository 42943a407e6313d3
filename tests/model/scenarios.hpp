// SPDX-License-Identifier: GPL-2.0
#pragma once

#include "world.hpp"

struct Scenario {
	const char *name;
	const char *what;
	void (*setup)(); // makes the bitmap and the tasks
	bool want_clean; // W4 at the end
	void (*at_end)(); // more checks, in the state where all tasks are done; may be null
};

extern const Scenario kScenarios[];
extern const int kScenarioCount;
