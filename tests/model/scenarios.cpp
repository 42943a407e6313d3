// SPDX-License-Identifier: GPL-2.0
// What is explored. A scenario makes a bitmap in set-up, without interleaving, and
// then adds tasks; each runs to its end in every order that the bounds allow.
#include "scenarios.hpp"

namespace {

void fresh(u64 chunks = 2, u8 byte = LLB_CLEAN)
{
	world_image(chunks, byte, 10);
	for (u64 c = 0; c < chunks && c < kCh; c++)
		w.alive[c] = byte == LLB_CLEAN;
	world_create(true);
}

// In set-up: time goes on, and the daemon has its pass if one is due.
void pass()
{
	if (w.due_ms == kNever)
		return;
	w.now_ms = w.now_ms < w.due_ms ? w.due_ms : w.now_ms;
	w.due_ms = kNever;
	llb_daemon(bm);
}

// In set-up: a whole write.
void written(int c)
{
	llb_start_write(bm, u64(c) * 128, 8);
	llb_unplug(bm, 1);
	llb_end_write(bm, u64(c) * 128, 8);
	w.alive[c] = 1;
	w.dirtied[c] = 1;
}

void write0() { write_chunk(0, 0); }
void write1() { write_chunk(1, 0); }
void write0_bio() { write_chunk(0, kBio); }
void write0_migrate() { write_chunk(0, kMigrate | kIrq); }
void write1_migrate() { write_chunk(1, kMigrate | kIrq); }
void daemon1() { daemon_passes(1); }
void daemon2() { daemon_passes(2); }
void daemon3() { daemon_passes(3); }
void lead2() { lead_worker(2); }
void lead3() { lead_worker(3); }

void two_writers()
{
	fresh();
	task_add("write", write0, 0);
	task_add("write", write0, 1);
}

void two_writers_daemon()
{
	fresh();
	task_add("write", write0, 0);
	task_add("write", write0, 1);
	task_add("daemon", daemon2, 255, true);
}

void writers_unplug_daemon()
{
	fresh();
	task_add("write", write0, 0);
	task_add("write-bio", write0_bio, 1);
	task_add("daemon", daemon1, 255, true);
	task_add("lead", lead2, 255, true);
}

} // namespace

const Scenario kScenarios[] = {
	{"two-writers", "two writers of the same fresh chunk", two_writers, true, nullptr},
	{"two-writers-daemon", "the same, and two daemon passes", two_writers_daemon, true, nullptr},
	{"writers-unplug-daemon", "two writers, one inside submit_bio, the worker that leads, the daemon",
	 writers_unplug_daemon, true, nullptr},
};
const int kScenarioCount = sizeof(kScenarios) / sizeof(kScenarios[0]);
