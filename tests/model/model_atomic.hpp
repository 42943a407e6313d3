// SPDX-License-Identifier: GPL-2.0
// The model checker's atomics policy: every access is a scheduling point and goes
// through the memory model of memory.cpp. Included by base/atomic.hpp. The *_relaxed
// read-modify-writes and fence_acquire are for mutants only.
#pragma once

namespace mm {
enum Order : u8 { Relaxed, Acquire, Release, Full };
enum Rmw : u8 { Exchange, Add, Sub, Or };
u64 load(const void *at, u32 size, Order o);
void store(void *at, u32 size, u64 v, Order o);
u64 rmw(void *at, u32 size, Rmw op, u64 v, Order o);
bool cas(void *at, u32 size, u64 *expected, u64 desired, Order o);
void fence(Order o);
} // namespace mm

namespace base {

template <class T>
class Atomic {
    public:
	constexpr Atomic() = default;
	constexpr explicit Atomic(T v)
		: v_(v)
	{}
	Atomic(const Atomic &) = delete;
	Atomic &operator=(const Atomic &) = delete;

	T load_relaxed() const { return from(mm::load(&v_, sizeof(T), mm::Relaxed)); }
	T load_acquire() const { return from(mm::load(&v_, sizeof(T), mm::Acquire)); }
	T load_seq_cst() const { return from(mm::load(&v_, sizeof(T), mm::Full)); }
	void store_relaxed(T v) { mm::store(&v_, sizeof(T), to(v), mm::Relaxed); }
	void store_release(T v) { mm::store(&v_, sizeof(T), to(v), mm::Release); }
	T exchange_full(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Exchange, to(v), mm::Full)); }
	T exchange_relaxed(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Exchange, to(v), mm::Relaxed)); }
	T fetch_add_full(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Add, to(v), mm::Full)); }
	T fetch_add_relaxed(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Add, to(v), mm::Relaxed)); }
	T fetch_sub_full(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Sub, to(v), mm::Full)); }
	T fetch_or_full(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Or, to(v), mm::Full)); }
	T fetch_or_release(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Or, to(v), mm::Release)); }
	T fetch_or_relaxed(T v) { return from(mm::rmw(&v_, sizeof(T), mm::Or, to(v), mm::Relaxed)); }
	bool cas_full(T &expected, T desired) { return cas(expected, desired, mm::Full); }
	bool cas_relaxed(T &expected, T desired) { return cas(expected, desired, mm::Relaxed); }

    private:
	bool cas(T &expected, T desired, mm::Order o)
	{
		u64 e = to(expected);
		bool done = mm::cas(&v_, sizeof(T), &e, to(desired), o);
		expected = from(e);
		return done;
	}
	static u64 to(T v)
	{
		u64 r = 0;
		__builtin_memcpy(&r, &v, sizeof(T));
		return r;
	}
	static T from(u64 r)
	{
		T v;
		__builtin_memcpy(&v, &r, sizeof(T));
		return v;
	}
	T v_{};
};

// Eight loads, between which others may come in: more than one load may see.
inline u64 load_eight_acquire(const Atomic<u8> *at)
{
	u8 bytes[8];
	u64 all;
	for (u32 i = 0; i < 8; i++)
		bytes[i] = at[i].load_acquire();
	__builtin_memcpy(&all, bytes, sizeof(all));
	return all;
}

inline void fence_full()
{
	mm::fence(mm::Full);
}

inline void fence_release()
{
	mm::fence(mm::Release);
}

inline void fence_acquire()
{
	mm::fence(mm::Acquire);
}

} // namespace base
