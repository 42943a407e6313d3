// SPDX-License-Identifier: GPL-2.0
#include "report.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.hpp"

namespace {

constexpr double kResyncPerSecond = 200e6;
constexpr const char *kHeadline = "16TB"; // the size of the plot
const char *const kTrackers[] = {"classic", "intree", "llbitmap", "llbitmap-strict"};

__attribute__((format(printf, 1, 2))) std::string text(const char *fmt, ...)
{
	char line[1000];
	va_list args;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	return line;
}

// ---- running ----

struct Shared {
	std::atomic<u32> next;
	std::atomic<u32> done;
	Result results[]; // as many as there are jobs
};

class Runs {
    public:
	Runs(std::vector<Job> jobs, unsigned processes)
		: jobs_{std::move(jobs)}
	{
		size_t bytes = sizeof(Shared) + jobs_.size() * sizeof(Result);
		void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			abort();
		shared_ = new (p) Shared;
		for (size_t i = 0; i < jobs_.size(); i++)
			new (&shared_->results[i]) Result;
		std::vector<pid_t> children;
		for (unsigned i = 0; i < processes; i++) {
			pid_t child = fork();
			if (child == 0)
				work();
			children.push_back(child);
		}
		for (pid_t child : children) {
			int status = 1;
			if (child < 0 || waitpid(child, &status, 0) != child || status) {
				fprintf(stderr, "crash-cost: a worker failed\n");
				exit(1);
			}
		}
	}
	const std::vector<Job> &jobs() const { return jobs_; }
	const Result &of(size_t i) const { return shared_->results[i]; }
	const Result *of(const std::string &size, const std::string &load, const std::string &tracker) const
	{
		for (size_t i = 0; i < jobs_.size(); i++) {
			if (jobs_[i].size == size && jobs_[i].load == load && jobs_[i].tracker == tracker)
				return &shared_->results[i];
		}
		return nullptr;
	}

    private:
	[[noreturn]] void work()
	{
		for (;;) {
			u32 i = shared_->next.fetch_add(1);
			if (i >= jobs_.size())
				break;
			shared_->results[i] = run_job(jobs_[i]);
			u32 done = shared_->done.fetch_add(1) + 1;
			if (isatty(2))
				fprintf(stderr, "\r%u of %zu ", done, jobs_.size());
		}
		_exit(0);
	}
	std::vector<Job> jobs_;
	Shared *shared_;
};

std::vector<Job> all_jobs(bool quick)
{
	std::vector<Job> jobs;
	for (const LoadInfo &l : loads()) {
		for (const Size &s : sizes()) {
			for (const char *t : kTrackers) {
				std::string tracker = t;
				if (l.hot && (tracker == "intree" || tracker == "llbitmap-strict"))
					continue;
				Job job;
				job.size = s.name, job.load = l.name, job.tracker = tracker;
				if (quick && !l.hot) // a working set has to get dirty first
					job.seconds = 120;
				jobs.push_back(job);
			}
		}
	}
	// what takes long first: the two processes end together
	std::stable_sort(jobs.begin(), jobs.end(), [](const Job &a, const Job &b) {
		return (a.load == "a2000") > (b.load == "a2000");
	});
	return jobs;
}

// ---- report.json ----

void write_json(const Runs &runs, const std::string &path)
{
	FILE *f = fopen(path.c_str(), "w");
	if (!f) {
		perror(path.c_str());
		exit(1);
	}
	fputs("[", f);
	const char *between = "\n";
	for (const Size &s : sizes()) {
		for (const LoadInfo &l : loads()) {
			for (const char *t : kTrackers) {
				const Result *r = runs.of(s.name, l.name, t);
				if (!r || l.hot)
					continue;
				fprintf(f,
					"%s\t{\"size_bytes\": %llu, \"load\": \"%s\", \"tracker\": \"%s\", "
					"\"budget_bytes\": %llu, \"chunk_bytes\": %llu, "
					"\"resync_bytes_mean\": %.0f, \"resync_bytes_max\": %llu, "
					"\"seconds_at_200MBps\": %.3f, \"bitmap_writes_per_s\": %.4f, "
					"\"writes_that_wait\": %.6f}",
					between, static_cast<unsigned long long>(s.bytes), l.name, t,
					static_cast<unsigned long long>(r->budget_bytes),
					static_cast<unsigned long long>(r->chunk_bytes), r->mean,
					static_cast<unsigned long long>(r->max), r->mean / kResyncPerSecond,
					r->bitmap_writes_per_s, r->waits);
				between = ",\n";
			}
		}
	}
	fputs("\n]\n", f);
	if (fclose(f)) {
		perror(path.c_str());
		exit(1);
	}
}

// ---- the aims ----

struct Verdict {
	bool met;
	std::string size, load, figure, is, aim;
};

class Aims {
    public:
	explicit Aims(const Runs &runs)
		: runs_{runs}
	{
		for (const Size &s : sizes()) {
			for (const LoadInfo &l : loads())
				judge(s.name, l);
		}
	}
	const std::vector<Verdict> &all() const { return all_; }

    private:
	void add(bool met, const std::string &figure, const std::string &is, const std::string &aim)
	{
		all_.push_back({met, size_, load_, figure, is, aim});
	}
	void judge(const char *size, const LoadInfo &l)
	{
		const Result *classic = runs_.of(size, l.name, "classic");
		const Result *ours = runs_.of(size, l.name, "llbitmap");
		const Result *strict = runs_.of(size, l.name, "llbitmap-strict");
		const bool stream = l.kind == Kind::Stream;
		size_ = size, load_ = l.name;

		if (strict) {
			double part = stream						? 0.6
				      : l.kind == Kind::Sparse || l.kind == Kind::Burst ? 0.25
											: 0.5;
			add(strict->mean <= part * classic->mean, "strict-mean",
			    text("x%.2f (%s)", strict->mean / classic->mean,
				 bytes_text(strict->mean).c_str()),
			    text("x%.2f of classic's %s", part, bytes_text(classic->mean).c_str()));
			add(strict->max <= classic->max, "strict-worst", bytes_text(double(strict->max)),
			    "classic's " + bytes_text(double(classic->max)));
		}
		// A working set that fits is judged by what it writes.
		double mean = std::max(double(ours->budget_bytes), 0.6 * classic->mean);
		double worst = std::max(double(ours->budget_bytes), 0.6 * double(classic->max));
		add(ours->mean <= mean, "default-mean", bytes_text(ours->mean), bytes_text(mean));
		add(double(ours->max) <= worst, "default-worst", bytes_text(double(ours->max)),
		    bytes_text(worst));
		add(ours->over_recent <= 1, "default-worst-3s",
		    text("x%.2f at the worst instant", ours->over_recent),
		    "x1 of the larger of the budget and 1.5 times the chunks of the last 3 s");
		if (l.hot) {
			add(ours->steady_writes_per_s <= kNothing, "writes-hot",
			    text("%.3f/s in the second half", ours->steady_writes_per_s),
			    text("%.2f/s", kNothing));
		} else {
			double part = stream ? 0.5 : 1.3;
			add(ours->bitmap_writes_per_s <= part * classic->bitmap_writes_per_s, "writes",
			    text("x%.2f (%.2f/s)", ours->bitmap_writes_per_s / classic->bitmap_writes_per_s,
				 ours->bitmap_writes_per_s),
			    text("x%.1f of classic's %.2f/s", part, classic->bitmap_writes_per_s));
		}
		if (l.kind == Kind::Sparse && load_ != "a2000") // one write at a time, or nearly so
			add(ours->latency_ms <= 1.05 * classic->latency_ms, "latency",
			    text("%.2f ms", ours->latency_ms),
			    text("x1.05 of classic's %.2f ms", classic->latency_ms));
		u64 idle = std::max(ours->idle_bytes, strict ? strict->idle_bytes : 0);
		add(idle == 0, "idle", bytes_text(double(idle)), "0 B when nothing was written for a while");
	}

	static constexpr double kNothing = 0.02; // bitmap writes per second
	const Runs &runs_;
	std::string size_, load_;
	std::vector<Verdict> all_;
};

std::string verdict_line(const Verdict &v)
{
	return (v.met ? "met: " : "missed: ") + v.size + " " + v.load + " " + v.figure + " " + v.is +
	       ", aim <= " + v.aim;
}

// ---- table.md ----

std::string mib(u64 bytes)
{
	return text("%g MiB", double(bytes) / 1048576);
}

std::string cell(const Result &r)
{
	return text("%s (%s), %s, %.2f/s, %.0f %%", bytes_text(r.mean).c_str(),
		    bytes_text(double(r.max)).c_str(), time_text(r.mean / kResyncPerSecond).c_str(),
		    r.bitmap_writes_per_s, r.waits * 100);
}

std::string title_of(const Size &s)
{
	std::string name = s.name;
	size_t unit = name.find_first_not_of("0123456789");
	return name.substr(0, unit) + " " + name.substr(unit) + (name == "16TB" ? " disks" : "");
}

void write_table(const Runs &runs, const Aims &aims, bool quick, const std::string &path)
{
	FILE *f = fopen(path.c_str(), "w");
	if (!f) {
		perror(path.c_str());
		exit(1);
	}
	fprintf(f,
		"# What a power cut costs\n\n"
		"Bytes to resynchronise, mean (worst) of the instants; time for the mean at 200 MB/s; "
		"bitmap writes to each member per second; share of the writes that wait for one. "
		"Strict: a budget of 1 MiB.%s\n",
		quick ? " A quick run: two minutes of virtual time instead of ten." : "");
	for (const Size &s : sizes()) {
		const Result *c = runs.of(s.name, "a50", "classic"), *i = runs.of(s.name, "a50", "intree");
		const Result *o = runs.of(s.name, "a50", "llbitmap");
		fprintf(f,
			"\n## %s\n\nChunks of %s (classic), %s (in-tree), %s (llbitmap); budget %s.\n\n"
			"| load | classic | in-tree | llbitmap | strict | llbitmap, of classic: bytes, writes | strict |\n"
			"|---|---|---|---|---|---|---|\n",
			title_of(s).c_str(), mib(c->chunk_bytes).c_str(), mib(i->chunk_bytes).c_str(),
			mib(o->chunk_bytes).c_str(), bytes_text(double(o->budget_bytes)).c_str());
		for (const LoadInfo &l : loads()) {
			if (l.hot)
				continue;
			const Result *r[4];
			for (u32 t = 0; t < 4; t++)
				r[t] = runs.of(s.name, l.name, kTrackers[t]);
			fprintf(f, "| %s | %s | %s | %s | %s |", l.title, cell(*r[0]).c_str(),
				cell(*r[1]).c_str(), cell(*r[2]).c_str(), cell(*r[3]).c_str());
			for (u32 t = 2; t < 4; t++)
				fprintf(f, " ×%.2f, ×%.2f |", r[t]->mean / r[0]->mean,
					r[t]->bitmap_writes_per_s / r[0]->bitmap_writes_per_s);
			fputs("\n", f);
		}
	}
	fputs("\n## Hot working sets: within the budget, all of it rewritten within 15 s\n\n"
	      "| size | load | classic | llbitmap | its bitmap writes once it is dirty |\n|---|---|---|---|---|\n",
	      f);
	for (const Size &s : sizes()) {
		for (const LoadInfo &l : loads()) {
			if (!l.hot)
				continue;
			const Result *o = runs.of(s.name, l.name, "llbitmap");
			fprintf(f, "| %s | %s | %s | %s | %.3f/s |\n", title_of(s).c_str(), l.title,
				cell(*runs.of(s.name, l.name, "classic")).c_str(), cell(*o).c_str(),
				o->steady_writes_per_s);
		}
	}
	u64 met = 0;
	for (const Verdict &v : aims.all())
		met += v.met;
	fprintf(f,
		"\n## The aims\n\n%llu of %zu met. Missed:\n\n| size | load | figure | is | aim: at most |\n"
		"|---|---|---|---|---|\n",
		static_cast<unsigned long long>(met), aims.all().size());
	for (const Verdict &v : aims.all()) {
		if (!v.met)
			fprintf(f, "| %s | %s | %s | %s | %s |\n", v.size.c_str(), v.load.c_str(),
				v.figure.c_str(), v.is.c_str(), v.aim.c_str());
	}
	if (fclose(f)) {
		perror(path.c_str());
		exit(1);
	}
}

// ---- crash-cost.svg ----

class Plot {
    public:
	void draw(const Runs &runs, const std::string &path)
	{
		FILE *f = fopen(path.c_str(), "w");
		if (!f) {
			perror(path.c_str());
			exit(1);
		}
		fprintf(f,
			"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" "
			"font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
			"<title>Bytes to resynchronise after a power cut, 16 TB disks</title>\n"
			"<style>\n"
			"text { fill: #6e7681 } .grid { stroke: #8b949e; stroke-opacity: .35 } "
			".budget { stroke: #10704a; stroke-width: 1.5; stroke-dasharray: 6 4 }\n"
			".b0 { fill: #8b949e } .b1 { fill: #d9822b } .b2 { fill: #1f9d6b }\n"
			"@media (prefers-color-scheme: dark) { text { fill: #b1bac4 } .budget { stroke: #7ee0b8 } .b2 { fill: #2fbf86 } }\n"
			"</style>\n",
			kWidth, kHeight);
		fprintf(f,
			"<text x=\"%d\" y=\"20\" font-size=\"15\">What a power cut costs on 16 TB disks: bytes "
			"to resynchronise, and how long at 200 MB/s</text>\n",
			kLeft);
		legend(f);
		grid(f);
		int at = 0;
		for (const LoadInfo &l : loads()) {
			if (!l.hot)
				group(f, runs, l, at++);
		}
		if (u64 budget = runs.of(kHeadline, "a50", "llbitmap")->budget_bytes) {
			// over the bars; its name is in the legend
			fprintf(f,
				"<path class=\"budget\" d=\"M%d %.1fH%d\"/>"
				"<path class=\"budget\" d=\"M%d 38h24\"/><text x=\"%d\" y=\"42\">its budget, "
				"%s</text>\n",
				kLeft, y(double(budget)), kWidth - kRight, kLeft + 390, kLeft + 420,
				bytes_text(double(budget)).c_str());
		}
		fputs("</svg>\n", f);
		if (fclose(f)) {
			perror(path.c_str());
			exit(1);
		}
	}

    private:
	static constexpr int kWidth = 960, kHeight = 420, kLeft = 70, kRight = 70, kTop = 60, kBottom = 50;
	static constexpr double kLow = 1e7, kHigh = 3e13; // bytes
	static constexpr int kGroups = 12, kBar = 16;

	double y(double bytes) const
	{
		double part = std::log(std::clamp(bytes, kLow, kHigh) / kLow) / std::log(kHigh / kLow);
		return kHeight - kBottom - part * (kHeight - kBottom - kTop);
	}
	void legend(FILE *f) const
	{
		static const char *const name[] = {"classic", "in-tree lockless", "llbitmap"};
		int x = kLeft;
		for (int i = 0; i < 3; i++) {
			fprintf(f,
				"<rect class=\"b%d\" x=\"%d\" y=\"32\" width=\"12\" height=\"12\"/>"
				"<text x=\"%d\" y=\"42\">%s</text>\n",
				i, x, x + 17, name[i]);
			x += 40 + 8 * int(std::string(name[i]).size());
		}
	}
	void grid(FILE *f) const
	{
		for (double b = kLow; b <= kHigh; b *= 10) {
			fprintf(f, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", kLeft, y(b), kWidth - kRight);
			fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>", kLeft - 6,
				y(b) + 4, short_bytes(b).c_str());
			fprintf(f, "<text x=\"%d\" y=\"%.1f\">%s</text>\n", kWidth - kRight + 6, y(b) + 4,
				time_text(b / kResyncPerSecond).c_str());
		}
	}
	static std::string short_bytes(double b)
	{
		return b < 1e9	  ? text("%.0f MB", b / 1e6)
		       : b < 1e12 ? text("%.0f GB", b / 1e9)
				  : text("%.0f TB", b / 1e12);
	}
	void group(FILE *f, const Runs &runs, const LoadInfo &l, int at) const
	{
		const double width = double(kWidth - kLeft - kRight) / kGroups;
		const double middle = kLeft + (at + 0.5) * width;
		for (int t = 0; t < 3; t++) {
			const Result *r = runs.of(kHeadline, l.name, kTrackers[t]);
			double top = y(r->mean), x = middle + (t - 1.5) * kBar;
			fprintf(f,
				"<rect class=\"b%d\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\">"
				"<title>%s, %s: %s, %s</title></rect>\n",
				t, x, top, kBar - 2, kHeight - kBottom - top, l.title, kTrackers[t],
				bytes_text(r->mean).c_str(), time_text(r->mean / kResyncPerSecond).c_str());
		}
		fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", middle,
			kHeight - kBottom + 17, l.above);
		fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", middle,
			kHeight - kBottom + 32, l.below);
	}
};

} // namespace

int make_report(const ReportOptions &o)
{
	Runs runs{all_jobs(o.quick), o.jobs};
	if (isatty(2))
		fputs("\r", stderr);
	write_json(runs, o.folder + "/report.json");
	Plot{}.draw(runs, o.folder + "/crash-cost.svg");
	Aims aims{runs};
	write_table(runs, aims, o.quick, o.folder + "/table.md");

	u64 met = 0;
	for (const Verdict &v : aims.all()) {
		puts(verdict_line(v).c_str());
		met += v.met;
	}
	int bad = 0;
	for (size_t i = 0; i < runs.jobs().size(); i++) {
		if (!runs.of(i).complaint[0])
			continue;
		bad++;
		printf("WRONG: %s\n", line(runs.jobs()[i], runs.of(i)).c_str());
	}
	printf("crash-cost: %llu of %zu aims met; %s/table.md, report.json, crash-cost.svg\n",
	       static_cast<unsigned long long>(met), aims.all().size(), o.folder.c_str());
	return bad;
}
