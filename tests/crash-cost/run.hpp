// SPDX-License-Identifier: GPL-2.0
// One load on one bitmap, looked at again and again.
#pragma once

#include <string>
#include <vector>

#include "loads.hpp"
#include "trackers.hpp"

struct Job {
	std::string size = "16TB", load = "a50", tracker = "llbitmap";
	s64 budget_mib = -1; // below 0: the tracker's own
	u32 seconds = 600;
	u32 instants = 60; // in the second half
	u64 seed = 1;
	Times times;
};

// Plain bytes: workers hand it over in shared memory.
struct Result {
	u64 chunk_bytes = 0, budget_bytes = 0;
	double mean = 0; // bytes to resynchronise
	u64 max = 0;
	double recent_mean = 0; // bytes of the chunks that were written in the last 3 s
	u64 recent_max = 0;
	double over_recent = 0; // the most by which an instant exceeds the larger of the budget and
		// 1.5 times that; 1: just as much
	double bitmap_writes_per_s = 0, steady_writes_per_s = 0; // all; of the second half
	double bytes_per_s = 0, batches_per_s = 0, flushes_per_s = 0;
	double waits = 0; // share of the writes
	double latency_ms = 0; // of a write, mean
	u64 idle_bytes = 0; // when nothing was written for a while
	double cpu_s = 0;
	char complaint[400] = {}; // of what must not have happened
};

Result run_job(const Job &job);
std::string line(const Job &job, const Result &r);
std::string bytes_text(double bytes); // 8.3 TB
std::string time_text(double seconds); // 11.5 h
