// SPDX-License-Identifier: GPL-2.0
#include "engine.hpp"

#include <cstdlib>

namespace {
constexpr size_t kStackBytes = 256 * 1024;
}

struct Engine::Fiber {
	ucontext_t context;
	std::unique_ptr<char[]> stack;
};

u64 mix(u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

u64 Rng::next()
{
	return mix(state += 0x9e3779b97f4a7c15);
}

u64 Rng::below(u64 n)
{
	return u64((static_cast<unsigned __int128>(next()) * n) >> 64);
}

double Rng::unit()
{
	return (double(next() >> 11) + 1) * 0x1p-53;
}

Engine::Engine() = default;
Engine::~Engine() = default;

void Engine::at(u64 us, Call call, void *object, u64 arg)
{
	events_.push({us, seq_++, call, object, arg});
}

// A pointer in two ints: all that makecontext() promises to pass.
void Engine::entry(u32 high, u32 low)
{
	auto *engine = reinterpret_cast<Engine *>(uintptr_t{(u64{high} << 32) | low});
	engine->loop();
	abort(); // the loop never returns
}

void Engine::prepare(Fiber &f)
{
	const u64 self = reinterpret_cast<uintptr_t>(this);

	f.stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
	getcontext(&f.context);
	f.context.uc_stack.ss_sp = f.stack.get();
	f.context.uc_stack.ss_size = kStackBytes;
	f.context.uc_link = nullptr;
	makecontext(&f.context, reinterpret_cast<void (*)()>(&Engine::entry), 2, u32(self >> 32), u32(self));
}

// One that runs nothing now.
Engine::Fiber *Engine::spare()
{
	if (spare_.empty()) {
		fibers_.push_back(std::make_unique<Fiber>());
		prepare(*fibers_.back());
		return fibers_.back().get();
	}
	Fiber *f = spare_.back();
	spare_.pop_back();
	return f;
}

// Each fiber runs this. One that is woken is gone on with before time passes.
void Engine::loop()
{
	for (;;) {
		if (!ready_.empty()) {
			Fiber *self = current_, *to = ready_.front();
			ready_.pop_front();
			spare_.push_back(self);
			current_ = to;
			swapcontext(&self->context, &to->context);
			continue;
		}
		u64 event = events_.empty() ? ~u64{0} : events_.top().at;
		u64 arrival = more_ ? next_.at_us : ~u64{0};
		if (event >= until_us_ && arrival >= until_us_) {
			Fiber *self = current_;
			now_us_ = until_us_;
			over_ = true;
			spare_.push_back(self);
			current_ = nullptr;
			swapcontext(&self->context, &home_);
			continue;
		}
		if (event <= arrival) {
			Event e = events_.top();
			events_.pop();
			now_us_ = e.at;
			e.call(e.object, e.arg);
		} else {
			Arrival a = next_;
			more_ = source_->next(&next_);
			now_us_ = a.at_us;
			source_->arrive(a);
		}
	}
}

void Engine::run(u64 until_us, Source *source)
{
	until_us_ = until_us;
	if (source != source_) {
		source_ = source;
		more_ = source && source->next(&next_);
	}
	over_ = false;
	current_ = spare();
	swapcontext(&home_, &current_->context);
}

void Engine::park()
{
	Fiber *self = current_;
	parked_++;
	current_ = spare();
	swapcontext(&self->context, &current_->context);
	parked_--;
}

void Engine::sleep(u64 us)
{
	struct Nap {
		Engine *engine;
		Fiber *fiber;
	} nap = {this, current_};
	auto over = [](void *object, u64) {
		auto *n = static_cast<Nap *>(object);
		n->engine->wake(n->fiber);
	};
	at(now_us_ + us, over, &nap, 0);
	park();
}
