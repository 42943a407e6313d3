// SPDX-License-Identifier: GPL-2.0
#include "run.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unordered_map>

namespace {

constexpr u64 kSecond = 1000000;
constexpr u64 kRecent_us = 3 * kSecond;
constexpr u64 kIdle_s = 150; // after the last write

std::unique_ptr<Tracker> make_tracker(const Job &job, Engine &e, u64 bytes)
{
	if (job.tracker == "classic")
		return make_classic(e, job.times, bytes);
	if (job.tracker == "intree")
		return make_intree(e, job.times, bytes);
	if (job.tracker == "llbitmap")
		return make_llbitmap(e, job.times, bytes, job.budget_mib);
	if (job.tracker == "llbitmap-strict")
		return make_llbitmap(e, job.times, bytes, job.budget_mib < 0 ? 1 : job.budget_mib);
	fprintf(stderr, "crash-cost: no tracker '%s'\n", job.tracker.c_str());
	exit(2);
}

// Which chunks were written in the last seconds.
class Recent {
    public:
	explicit Recent(u64 chunk_bytes)
		: chunk_{chunk_bytes}
	{}
	void add(const Arrival &a)
	{
		u64 last = ((a.sector + a.sectors) * 512 - 1) / chunk_;
		for (u64 c = a.sector * 512 / chunk_; c <= last; c++) {
			queue_.push_back({a.at_us, c});
			count_[c]++;
		}
	}
	u64 bytes(u64 now_us)
	{
		while (!queue_.empty() && queue_.front().first + kRecent_us < now_us) {
			auto it = count_.find(queue_.front().second);
			if (--it->second == 0)
				count_.erase(it);
			queue_.pop_front();
		}
		return count_.size() * chunk_;
	}

    private:
	u64 chunk_;
	std::deque<std::pair<u64, u64>> queue_;
	std::unordered_map<u64, u32> count_;
};

} // namespace

Result run_job(const Job &job)
{
	const Size *size = nullptr;
	for (const Size &s : sizes()) {
		if (job.size == s.name)
			size = &s;
	}
	if (!size || !load_named(job.load)) {
		fprintf(stderr, "crash-cost: no size '%s', or no load '%s'\n", job.size.c_str(),
			job.load.c_str());
		exit(2);
	}

	Result r;
	clock_t cpu = clock();
	Engine engine;
	auto tracker = make_tracker(job, engine, size->bytes);
	auto load = Load::make(job.load, size->bytes / 512, job.seed);
	tracker->start();
	r.chunk_bytes = tracker->chunk_bytes();
	r.budget_bytes = tracker->budget_bytes();
	Recent recent{r.chunk_bytes};
	const u64 begin = engine.now_us(), end = begin + job.seconds * kSecond;
	tracker->feed([&](Arrival *a) {
		load->next(a);
		a->at_us += begin;
		if (a->at_us >= end)
			return false;
		recent.add(*a);
		return true;
	});

	Rng rng{job.seed + 77};
	const u64 half = job.seconds * kSecond / 2, step = half / job.instants;
	engine.run(begin + half, tracker.get());
	const u64 writes_before = tracker->counts().bitmap_writes;
	for (u32 i = 0; i < job.instants; i++) {
		engine.run(begin + half + i * step + rng.below(step), tracker.get());
		u64 bytes = tracker->resync_bytes();
		u64 last = recent.bytes(engine.now_us());
		r.mean += double(bytes) / job.instants;
		r.recent_mean += double(last) / job.instants;
		r.max = std::max(r.max, bytes);
		r.recent_max = std::max(r.recent_max, last);
		double limit = std::max(double(r.budget_bytes), 1.5 * double(last));
		if (bytes)
			r.over_recent = std::max(r.over_recent, limit ? double(bytes) / limit : 1e9);
	}
	engine.run(end, tracker.get());
	const Counts n = tracker->counts();
	r.bitmap_writes_per_s = double(n.bitmap_writes) / job.seconds;
	r.steady_writes_per_s = double(n.bitmap_writes - writes_before) / (job.seconds / 2.0);
	r.bytes_per_s = double(n.bitmap_bytes) / job.seconds;
	r.batches_per_s = double(n.batches) / job.seconds;
	r.flushes_per_s = double(n.flushes) / job.seconds;
	r.waits = n.writes ? double(n.waited) / double(n.writes) : 0;
	r.latency_ms = (n.writes ? double(n.waited_us) / double(n.writes) : 0) / 1000 +
		       double(job.times.data_us) / 1000;
	std::string complaint = tracker->complaint();
	engine.run(end + kIdle_s * kSecond, tracker.get());
	r.idle_bytes = tracker->resync_bytes();
	if (engine.parked())
		complaint += " " + std::to_string(engine.parked()) + " calls wait for ever;";
	snprintf(r.complaint, sizeof(r.complaint), "%s", complaint.c_str());
	r.cpu_s = double(clock() - cpu) / CLOCKS_PER_SEC;
	return r;
}

std::string bytes_text(double b)
{
	static const char *const unit[] = {"B", "KB", "MB", "GB", "TB"};
	u32 u = 0;
	while (b >= 1000 && u < 4)
		b /= 1000, u++;
	char text[40];
	snprintf(text, sizeof(text), u == 4 ? "%.2f %s" : b < 10 && u ? "%.1f %s" : "%.0f %s", b, unit[u]);
	return text;
}

std::string time_text(double s)
{
	char text[40];
	if (s < 60)
		snprintf(text, sizeof(text), "%.1f s", s);
	else if (s < 3600)
		snprintf(text, sizeof(text), "%.1f min", s / 60);
	else
		snprintf(text, sizeof(text), "%.1f h", s / 3600);
	return text;
}

std::string line(const Job &job, const Result &r)
{
	char text[1000];
	snprintf(text, sizeof(text),
		 "%-6s %-11s %-15s chunk %6.4g MiB  mean %9s  max %9s  (3 s: %9s, max %9s)  writes %8.3f/s  "
		 "2nd half %8.3f  flushes %5.2f  waits %6.2f %%  latency %5.2f ms  idle %s  cpu %.1fs%s",
		 job.size.c_str(), job.load.c_str(), job.tracker.c_str(), double(r.chunk_bytes) / 1048576,
		 bytes_text(r.mean).c_str(), bytes_text(double(r.max)).c_str(),
		 bytes_text(r.recent_mean).c_str(), bytes_text(double(r.recent_max)).c_str(),
		 r.bitmap_writes_per_s, r.steady_writes_per_s, r.flushes_per_s, r.waits * 100, r.latency_ms,
		 bytes_text(double(r.idle_bytes)).c_str(), r.cpu_s, r.complaint);
	return text;
}
