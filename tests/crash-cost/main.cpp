// SPDX-License-Identifier: GPL-2.0
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <string>

#include "run.hpp"

int main(int argc, char **argv)
{
	Job job;
	for (int i = 1; i + 1 < argc; i += 2) {
		std::string o = argv[i], v = argv[i + 1];
		if (o == "--size")
			job.size = v;
		if (o == "--load")
			job.load = v;
		if (o == "--tracker")
			job.tracker = v;
		if (o == "--budget")
			job.budget_mib = atoll(v.c_str());
		if (o == "--seconds")
			job.seconds = u32(atoi(v.c_str()));
		if (o == "--seed")
			job.seed = u64(atoll(v.c_str()));
	}
	Result r = run_job(job);
	printf("%s\n", line(job, r).c_str());
}
