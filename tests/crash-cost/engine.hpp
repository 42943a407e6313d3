// SPDX-License-Identifier: GPL-2.0
// Virtual time. Events happen in the order of their times, and of two at one time in the
// order in which they were asked for. A call that blocks stops its own fiber, and the loop
// goes on in another one: whoever calls into the core needs to know nothing of that.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <queue>
#include <ucontext.h>
#include <vector>

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s64 = int64_t;

// Repeatable on every machine, unlike the distributions of the standard library.
struct Rng {
	u64 state;
	explicit Rng(u64 seed)
		: state{seed * 0x9e3779b97f4a7c15 + 0x2545f4914f6cdd1d}
	{}
	u64 next(); // splitmix64
	u64 below(u64 n); // 0 .. n-1
	double unit(); // in (0, 1]
};
u64 mix(u64 x); // a permutation of 64-bit numbers that leaves no order

struct Arrival {
	u64 at_us;
	u64 sector;
	u32 sectors;
};

class Engine {
    public:
	using Call = void (*)(void *object, u64 arg);
	struct Fiber;
	// What is done to the array, until the time is over.
	struct Source {
		virtual ~Source() = default;
		virtual bool next(Arrival *out) = 0; // in the order of their times
		virtual void arrive(const Arrival &a) = 0; // may block
	};

	Engine();
	~Engine();
	Engine(const Engine &) = delete;
	Engine &operator=(const Engine &) = delete;

	u64 now_us() const { return now_us_; }
	void at(u64 us, Call call, void *object, u64 arg); // the call may block
	// Runs all that happens before this time; its clock then stands there. source may be
	// null: nothing comes. From the thread's own stack, not from a call.
	void run(u64 until_us, Source *source);

	// In a call: stop here until wake() is called for what current() was.
	void park();
	Fiber *current() const { return current_; }
	void wake(Fiber *f) { ready_.push_back(f); }
	void sleep(u64 us);
	u32 parked() const { return parked_; }

    private:
	struct Event {
		u64 at, seq;
		Call call;
		void *object;
		u64 arg;
		bool operator<(const Event &o) const { return at != o.at ? at > o.at : seq > o.seq; }
	};
	static void entry(u32 high, u32 low);
	void loop();
	void prepare(Fiber &f);
	Fiber *spare();

	u64 now_us_ = 0, until_us_ = 0, seq_ = 0;
	std::priority_queue<Event> events_;
	std::deque<Fiber *> ready_;
	Source *source_ = nullptr;
	Arrival next_ = {};
	bool more_ = false, over_ = true;
	u32 parked_ = 0;
	Fiber *current_ = nullptr;
	std::vector<Fiber *> spare_;
	std::vector<std::unique_ptr<Fiber>> fibers_;
	ucontext_t home_;
};
