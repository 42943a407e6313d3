// SPDX-License-Identifier: GPL-2.0
// The explorer: depth first over copies of the machine, with bounds that grow, then
// random walks beyond the bounds. README.md says what is explored.
#include "scenarios.hpp"

#include <fnmatch.h>

#include <ctime>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

// CPU time: what is explored does not depend on who else is at work.
struct Clock {
	using time_point = double;
	static double now()
	{
		timespec t;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
		return double(t.tv_sec) + double(t.tv_nsec) / 1e9;
	}
};

struct Bound {
	int preemptions, stale; // 255: no bound
};

constexpr Bound kBounds[] = {{0, 0}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {3, 1}, {3, 2}, {4, 2}, {255, 2}};

struct Action {
	u8 task, variant, preempts, stale;
};

struct Frame {
	size_t snap; // offset of the copy
	size_t steps; // length of the schedule
	u8 n, next;
	short preemptions, stale; // left
	short last; // task that ran last
	Action act[48];
};

struct Stats {
	u64 executions = 0, states = 0, steps = 0, pruned = 0, reloads = 0, walks = 0, ends = 0;
	int complete = -1; // index of the last bound explored in full
	bool exhaustive = false;
};

std::vector<u64> g_keys;
std::vector<u32> g_left; // preemptions left << 16 | old values left
size_t g_filled;

std::vector<char> g_snaps;
std::vector<Frame> g_frames;
std::vector<Action> g_steps;
std::vector<u64> g_reloaded;

const Scenario *g_scenario;
double g_limit_s = 1.5, g_walk_s = 0.3;
u64 g_seed = 1;
bool g_no_walks = false, g_only_walks = false;
int g_bound_max = sizeof(kBounds) / sizeof(kBounds[0]);

double since(Clock::time_point t)
{
	return Clock::now() - t;
}

void set_up(const Scenario &s)
{
	world_reset();
	g_span = kCh;
	g_last = 3;
	s.setup();
	g_setup = false;
	for (int i = 0; i < kTasks; i++) {
		if (w.t[i].used)
			task_run(i, 0); // to its first scheduling point
	}
}

// Has this state been explored with at least as much left?
bool seen(u64 key, int preemptions, int stale)
{
	size_t mask = g_keys.size() - 1;
	for (size_t i = key & mask;; i = (i + 1) & mask) {
		if (g_keys[i] == key) {
			int p = int(g_left[i] >> 16), s = int(g_left[i] & 0xffff);
			if (p >= preemptions && s >= stale)
				return true;
			if (preemptions >= p && stale >= s)
				g_left[i] = u32(preemptions) << 16 | u32(stale);
			return false;
		}
		if (!g_keys[i]) {
			if (g_filled * 10 < g_keys.size() * 8) {
				g_keys[i] = key;
				g_left[i] = u32(preemptions) << 16 | u32(stale);
				g_filled++;
			}
			return false;
		}
	}
}

// What may happen next. cut: something was left out because of a bound.
int actions(int last, int preemptions, int stale, Action *out, bool *cut)
{
	int n = 0;
	bool last_runs = last >= 0 && task_enabled(last);
	bool free = !last_runs || w.t[last].free_switch;
	// the one that ran goes on first: the plainest schedule first
	for (int k = 0; k < kTasks; k++) {
		int t = last < 0 ? k : (last + k) % kTasks;
		if (t == last ? !last_runs : !task_enabled(t))
			continue;
		u8 cost = t != last && !free;
		if (cost && preemptions == 0) {
			*cut = true;
			continue;
		}
		u8 variants[16];
		int v = task_variants(t, true, variants);
		for (int i = 0; i < v && n < 48; i++) {
			u8 s = w.t[t].is_load && variants[i];
			if (s && stale == 0) {
				*cut = true;
				continue;
			}
			out[n++] = Action{u8(t), variants[i], cost, s};
		}
	}
	return n;
}

void step(const Action &a)
{
	task_run(a.task, a.variant);
	if (!g_violation)
		check_invariants();
}

// All tasks are done, or stuck.
void at_end(Stats &st)
{
	for (int i = 0; i < kTasks; i++) {
		Task &t = w.t[i];
		if (t.used && !t.done && !(t.server && t.idle)) {
			violation("deadlock", "task %c (%s) sleeps for ever: %s", 'A' + i, t.name, t.what);
			return;
		}
	}
	if (g_scenario->at_end)
		g_scenario->at_end();
	if (g_violation)
		return;
	epilogue(g_scenario->want_clean);
	if (!g_violation)
		reload_check(0);
	st.reloads++;
}

void maybe_reload(Stats &st)
{
	u64 h = image_hash();
	u64 &slot = g_reloaded[h & (g_reloaded.size() - 1)];
	if (slot == h)
		return;
	slot = h;
	bool pending = false;
	for (Member &m : w.m)
		pending |= m.hdr_pending || m.cells_pending;
	for (u32 seed = 0; seed < (pending ? 16u : 1u); seed++) {
		st.reloads++;
		if (!reload_check(seed))
			return;
	}
}

std::string schedule()
{
	std::string s = std::string(g_scenario->name) + (g_weak ? ":w" : ":s");
	char mask[24];
	snprintf(mask, sizeof(mask), "%llx:", (unsigned long long)shared_get());
	s += mask;
	for (size_t i = 0; i < g_steps.size();) {
		size_t j = i;
		while (j < g_steps.size() && g_steps[j].task == g_steps[i].task &&
		       g_steps[j].variant == g_steps[i].variant)
			j++;
		s += char('A' + g_steps[i].task);
		if (g_steps[i].variant)
			s += "'" + std::to_string(g_steps[i].variant) + (j - i > 1 ? "x" : "");
		if (j - i > 1)
			s += std::to_string(j - i);
		i = j;
	}
	return s;
}

// One bound, depth first. True: complete (or a violation was found).
bool explore_once(const Bound &b, Stats &st, Clock::time_point start, bool *cut)
{
	g_weak = b.stale > 0;
	std::fill(g_keys.begin(), g_keys.end(), 0);
	g_filled = 0;
	g_frames.clear();
	g_steps.clear();
	set_up(*g_scenario);
	int last = -1, preemptions = b.preemptions, stale = b.stale;
	size_t snap_top = 0;
	const size_t bound = snap_bound();
	u32 tick = 0;

	for (;;) {
		bool back = false;
		Action act[48];
		int n = 0;
		if (g_violation || g_restart)
			return true;
		n = actions(last, preemptions, stale, act, cut);
		if (n == 0) {
			// stuck only because of the bound is impossible: the last task or
			// a free switch always costs nothing
			// the same end by another way needs no second look
			if (!seen(hash_state(false) ^ 0x5555, 255, 255)) {
				at_end(st);
				if (g_violation)
					return true;
				st.ends++;
			}
			st.executions++;
			back = true;
		} else if (n > 1) {
			u64 key = hash_state(stale > 0) + u64(last + 1) * 0x9E3779B97F4A7C15ull;
			if (seen(key, preemptions, stale)) {
				st.pruned++;
				back = true;
			} else {
				st.states++;
				maybe_reload(st);
				if (g_violation)
					return true;
				if (g_snaps.size() < snap_top + bound)
					g_snaps.resize((snap_top + bound) * 2);
				Frame f;
				f.snap = snap_top;
				f.steps = g_steps.size();
				f.n = u8(n);
				f.next = 1;
				f.preemptions = short(preemptions);
				f.stale = short(stale);
				f.last = short(last);
				memcpy(f.act, act, sizeof(Action) * size_t(n));
				char *to = g_snaps.data() + snap_top;
				snap_save(to);
				snap_top = size_t(to - g_snaps.data());
				g_frames.push_back(f);
			}
		}
		if ((++tick & 1023) == 0 && since(start) > g_limit_s)
			return false;
		if (!back) {
			if (preemptions != 255)
				preemptions -= act[0].preempts;
			stale -= act[0].stale;
			last = act[0].task;
			g_steps.push_back(act[0]);
			st.steps++;
			if (g_steps.size() > 20000) {
				violation("livelock", "no end after %zu steps", g_steps.size());
				return true;
			}
			step(act[0]);
			continue;
		}
		while (!g_frames.empty() && g_frames.back().next == g_frames.back().n) {
			snap_top = g_frames.back().snap;
			g_frames.pop_back();
		}
		if (g_frames.empty())
			return true;
		Frame &f = g_frames.back();
		const char *from = g_snaps.data() + f.snap;
		snap_load(from);
		snap_top = size_t(from - g_snaps.data());
		g_steps.resize(f.steps);
		const Action a = f.act[f.next++];
		preemptions = f.preemptions == 255 ? 255 : f.preemptions - a.preempts;
		stale = f.stale - a.stale;
		last = a.task;
		g_steps.push_back(a);
		st.steps++;
		step(a);
	}
}

bool explore(const Bound &b, Stats &st, Clock::time_point start, bool *cut)
{
	for (;;) {
		g_restart = false;
		*cut = false;
		bool complete = explore_once(b, st, start, cut);
		if (!g_restart || g_violation || !complete)
			return complete;
	}
}

u64 next_random(u64 &x)
{
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 0x2545F4914F6CDD1Dull;
}

// Random walks in the manner of PCT: fixed priorities, a few points where the running
// task falls to the end; now and then an older value.
void walk(Stats &st, Clock::time_point start)
{
	g_weak = true;
	g_steps.clear();
	set_up(*g_scenario);
	std::vector<char> first(snap_bound());
	char *to = first.data();
	snap_save(to);
	u64 rnd = g_seed * 0x9E3779B97F4A7C15ull + 12345;
	size_t length = 300;

	while (since(start) < g_walk_s && !g_violation) {
		const char *from = first.data();
		snap_load(from);
		g_steps.clear();
		g_restart = false;
		int prio[kTasks];
		for (int &p : prio)
			p = int(next_random(rnd) % 1000) + 100;
		int low = 99;
		u32 changes = u32(next_random(rnd) % 8);
		std::vector<size_t> at(changes);
		for (size_t &a : at)
			a = next_random(rnd) % length;
		u32 stale_odds = 1u << (next_random(rnd) % 4 * 2 + 2);
		int last = -1;
		for (;;) {
			Action act[48];
			bool cut = false;
			int n = actions(last, 255, 255, act, &cut);
			if (n == 0) {
				at_end(st);
				break;
			}
			for (size_t a : at) {
				if (a == g_steps.size() && last >= 0)
					prio[last] = low--;
			}
			int best = -1;
			for (int i = 0; i < n; i++) {
				if (best < 0 || prio[act[i].task] > prio[act[best].task])
					best = i;
			}
			// of this task: the newest value, or by chance another
			int same = 0, pick = best;
			for (int i = 0; i < n; i++) {
				if (act[i].task == act[best].task) {
					same++;
					if (i != best && !act[i].stale && next_random(rnd) % 3 == 0)
						pick = i;
					else if (i != best && act[i].stale &&
						 next_random(rnd) % stale_odds == 0)
						pick = i;
				}
			}
			// what blocks for long goes to the end by chance: passes and I/O
			if (w.t[act[pick].task].free_switch && next_random(rnd) % 4 == 0)
				prio[act[pick].task] = int(next_random(rnd) % 1000) + 100;
			last = act[pick].task;
			g_steps.push_back(act[pick]);
			st.steps++;
			step(act[pick]);
			if (g_violation)
				return;
			if (g_restart)
				break; // the steps so far would not replay
			if (next_random(rnd) % 256 == 0)
				maybe_reload(st);
			if (g_violation)
				return;
			if (g_steps.size() > 20000) {
				violation("livelock", "no end after %zu steps", g_steps.size());
				return;
			}
		}
		length = (length * 7 + g_steps.size()) / 8 + 1;
		st.walks++;
	}
}

bool run(const Scenario &s)
{
	Stats st;
	auto start = Clock::now();
	g_scenario = &s;
	std::fill(g_reloaded.begin(), g_reloaded.end(), 0);
	g_violation = nullptr;
	bool found = false;
	shared_set(0, true);
	for (int b = 0; b < g_bound_max && !g_only_walks; b++) {
		bool cut = false;
		bool complete = explore(kBounds[b], st, start, &cut);
		if (g_violation) {
			found = true;
			break;
		}
		if (!complete)
			break;
		st.complete = b;
		// nothing of SC was left out: the next bounds without old values add nothing
		if (!cut) {
			st.exhaustive = true;
			break;
		}
	}
	if (!found && !g_no_walks) {
		walk(st, Clock::now());
		found = g_violation != nullptr;
	}
	char full[96];
	if (st.complete < 0)
		snprintf(full, sizeof(full), "%s", g_only_walks ? "walks only" : "partial");
	else if (kBounds[st.complete].preemptions == 255)
		snprintf(full, sizeof(full), "all interleavings, <=%d old values",
			 kBounds[st.complete].stale);
	else
		snprintf(full, sizeof(full), "<=%d preemptions, <=%d old values%s",
			 kBounds[st.complete].preemptions, kBounds[st.complete].stale,
			 st.exhaustive ? ": all there are" : "");
	printf("%-22s %-6s %9llu executions %10llu states %11llu steps %8llu reloads %7llu walks  %s  %.1f s\n",
	       s.name, found ? "FAILED" : "ok", (unsigned long long)st.executions,
	       (unsigned long long)st.states, (unsigned long long)st.steps, (unsigned long long)st.reloads,
	       (unsigned long long)st.walks, full, since(start));
	if (found) {
		printf("  %s: %s\n  replay: model --replay \"%s\"\n", g_violation, g_detail,
		       schedule().c_str());
	}
	fflush(stdout);
	return !found;
}

int replay(const char *arg)
{
	std::string text = arg;
	if (FILE *f = fopen(arg, "r")) {
		text.clear();
		for (int c; (c = fgetc(f)) != EOF && c != '\n';)
			text += char(c);
		fclose(f);
	}
	size_t colon = text.find(':');
	if (colon == std::string::npos || text.size() < colon + 3)
		return fprintf(stderr, "not a schedule\n"), 2;
	g_scenario = nullptr;
	for (int i = 0; i < kScenarioCount; i++) {
		if (text.substr(0, colon) == kScenarios[i].name)
			g_scenario = &kScenarios[i];
	}
	if (!g_scenario)
		return fprintf(stderr, "no such scenario\n"), 2;
	g_weak = text[colon + 1] == 'w';
	u64 shared = strtoull(&text[colon + 2], nullptr, 16);
	colon = text.find(':', colon + 1);
	if (colon == std::string::npos)
		return fprintf(stderr, "not a schedule\n"), 2;
	shared_set(shared, false);
	set_up(*g_scenario);
	g_trace = true;
	printf("%s: %s\n", g_scenario->name, g_scenario->what);
	for (size_t i = colon + 1; i < text.size() && !g_violation;) {
		Action a = {u8(text[i++] - 'A'), 0, 0, 0};
		size_t times = 1;
		bool explicit_x = true;
		if (i < text.size() && text[i] == '\'') {
			a.variant = u8(strtoul(&text[i + 1], nullptr, 10));
			for (i++; i < text.size() && isdigit(text[i]);)
				i++;
			explicit_x = i < text.size() && text[i] == 'x';
			i += explicit_x;
		}
		if (explicit_x && i < text.size() && isdigit(text[i])) {
			times = strtoul(&text[i], nullptr, 10);
			while (i < text.size() && isdigit(text[i]))
				i++;
		}
		for (; times && !g_violation; times--) {
			if (a.task >= kTasks || !task_enabled(a.task)) {
				printf("the schedule does not fit this build: task %c cannot run\n",
				       'A' + a.task);
				return 2;
			}
			step(a);
		}
	}
	Stats st;
	for (u32 seed = 0; seed < 16 && !g_violation; seed++)
		reload_check(seed);
	if (!g_violation) {
		bool any = false;
		for (int i = 0; i < kTasks; i++)
			any |= task_enabled(i);
		if (!any)
			at_end(st);
	}
	printf("%s: %s\n", g_violation ? g_violation : "no violation", g_detail);
	return g_violation != nullptr;
}

int usage()
{
	puts("model [--list] [--seconds S] [--walk-seconds S] [--seed N] [--bounds N] [--replay SCHEDULE|FILE] [scenario...]");
	return 2;
}

} // namespace

int main(int argc, char **argv)
{
	std::vector<const char *> only;
	bool stop_at_first = false;
	setvbuf(stdout, nullptr, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		std::string a = argv[i];
		const char *v = i + 1 < argc ? argv[i + 1] : nullptr;
		if (a == "--list") {
			for (int s = 0; s < kScenarioCount; s++)
				printf("%-22s %s\n", kScenarios[s].name, kScenarios[s].what);
			return 0;
		} else if (a == "--stop") {
			stop_at_first = true;
		} else if (a == "--no-walks") {
			g_no_walks = true;
		} else if (a == "--only-walks") {
			g_only_walks = true;
		} else if (a[0] == '-' && !v) {
			return usage();
		} else if (a == "--seconds") {
			g_limit_s = atof(argv[++i]);
		} else if (a == "--walk-seconds") {
			g_walk_s = atof(argv[++i]);
		} else if (a == "--seed") {
			g_seed = strtoull(argv[++i], nullptr, 0);
		} else if (a == "--bounds") {
			g_bound_max = atoi(argv[++i]);
		} else if (a == "--replay") {
			return replay(argv[++i]);
		} else if (a[0] == '-') {
			return usage();
		} else {
			only.push_back(argv[i]);
		}
	}
	g_keys.resize(1u << 22);
	g_left.resize(1u << 22);
	g_reloaded.resize(1u << 14);
	int passed = 0, failed = 0;
	for (int s = 0; s < kScenarioCount; s++) {
		bool wanted = only.empty();
		for (const char *o : only)
			wanted |= fnmatch(o, kScenarios[s].name, 0) == 0;
		if (!wanted)
			continue;
		(run(kScenarios[s]) ? passed : failed)++;
		if (failed && stop_at_first)
			break;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed;
}
