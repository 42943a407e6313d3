// SPDX-License-Identifier: GPL-2.0
// When the daemon does what, in milliseconds of plat_now_ms().
//
// Pass: over all pages, it marks, and clears what was marked before. Each pass_ms, two thirds of
// daemon_sleep: a chunk that is left alone takes three (marked, cleared in memory, written), and
// these are two daemon_sleep (W4). One that comes a little early counts, so that a timer's jitter
// does not make four of three.
// First mark: nothing is cleared before barrier_idle has passed since the oldest mark. Since the
// oldest: where daemon_sleep is shorter, a chunk that was marked later is cleared with the
// others, so that W4's bound holds for it, too.
// Hurry: while a crash would cost too much, each kHurry_ms, over as many pages as it takes; a
// pass is as good.
// Seen: what a crash would have cost at the last look; from two looks comes how fast it grows.
#pragma once

#include "base/types.hpp"

namespace core {

constexpr u32 kHurry_ms = 1000; // between two passes while a crash would cost too much

class Rhythm {
    public:
	bool pass_due(u64 now_ms) const { return now_ms >= next_pass_ms_; }
	void passed(u64 now_ms, u32 pass_ms)
	{
		next_pass_ms_ = now_ms + pass_ms - base::min(pass_ms / 8, 100u);
		hurried(now_ms);
	}
	void begin_anew() { next_pass_ms_ = 0; } // daemon_sleep is another

	bool hurry_due(u64 now_ms) const { return now_ms >= next_hurry_ms_; }
	void hurried(u64 now_ms) { next_hurry_ms_ = now_ms + kHurry_ms - kHurry_ms / 8; }

	u64 next_ms(bool hurries) const
	{
		return hurries ? base::min(next_pass_ms_, next_hurry_ms_) : next_pass_ms_;
	}

	bool marked() const { return first_mark_ms_; }
	void mark(u64 now_ms) { first_mark_ms_ = now_ms | 1; }
	void no_mark() { first_mark_ms_ = 0; }
	bool rested(u64 now_ms, u32 idle_ms) const { return marked() && now_ms - first_mark_ms_ >= idle_ms; }

	// By how much the cost grows in so many milliseconds, at the rate since the last look.
	u64 growth(u64 now_ms, u64 bytes, u32 in_ms)
	{
		u64 more = bytes > seen_bytes_ ? bytes - seen_bytes_ : 0;
		u64 since_ms = base::max<u64>(now_ms - seen_ms_, 1);

		seen_ms_ = now_ms;
		seen_bytes_ = bytes;
		return more / since_ms * in_ms;
	}

    private:
	friend struct Peek;

	u64 next_pass_ms_ = 0;
	u64 next_hurry_ms_ = 0;
	u64 first_mark_ms_ = 0; // 0: none
	u64 seen_ms_ = 0, seen_bytes_ = 0;
};

} // namespace core
