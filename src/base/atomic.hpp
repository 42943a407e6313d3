// SPDX-License-Identifier: GPL-2.0
// The atomics policy. The memory order is part of each method's name, so that it
// is seen at the call; the comment there names the access it pairs with.
// One word is touched either by this policy or by the kernel's own primitives,
// never by both.
#pragma once

#include "base/types.hpp"

#ifdef LLB_ATOMICS
#include LLB_ATOMICS // a test's policy: the same names, watched or scheduled
#else
namespace base {

inline void fence_full()
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

inline void fence_release()
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

// A *_full method orders all that comes before it against all that comes after it, as
// the kernel's own value-returning atomics do. The C++ orders promise less: on arm64 and
// ppc64le a later load may be satisfied before the store of a SEQ_CST read-modify-write
// is seen. On x86 and s390 every atomic read-modify-write is such a barrier by itself.
#if defined(__x86_64__) || defined(__s390x__)
constexpr bool kRmwOrdersAll = true;
#else
constexpr bool kRmwOrdersAll = false;
#endif

inline void rmw_fence()
{
	if constexpr (!kRmwOrdersAll)
		fence_full();
}

template <class T>
class Atomic {
    public:
	constexpr Atomic() = default;
	constexpr explicit Atomic(T v)
		: v_(v)
	{}
	Atomic(const Atomic &) = delete;
	Atomic &operator=(const Atomic &) = delete;

	T load_relaxed() const { return __atomic_load_n(&v_, __ATOMIC_RELAXED); }
	T load_acquire() const { return __atomic_load_n(&v_, __ATOMIC_ACQUIRE); }
	T load_seq_cst() const { return __atomic_load_n(&v_, __ATOMIC_SEQ_CST); }
	void store_relaxed(T v) { __atomic_store_n(&v_, v, __ATOMIC_RELAXED); }
	void store_release(T v) { __atomic_store_n(&v_, v, __ATOMIC_RELEASE); }
	T exchange_full(T v)
	{
		rmw_fence();
		T old = __atomic_exchange_n(&v_, v, __ATOMIC_SEQ_CST);
		rmw_fence();
		return old;
	}
	T fetch_add_full(T v)
	{
		rmw_fence();
		T old = __atomic_fetch_add(&v_, v, __ATOMIC_SEQ_CST);
		rmw_fence();
		return old;
	}
	T fetch_sub_full(T v)
	{
		rmw_fence();
		T old = __atomic_fetch_sub(&v_, v, __ATOMIC_SEQ_CST);
		rmw_fence();
		return old;
	}
	T fetch_or_full(T v)
	{
		rmw_fence();
		T old = __atomic_fetch_or(&v_, v, __ATOMIC_SEQ_CST);
		rmw_fence();
		return old;
	}
	T fetch_or_release(T v) { return __atomic_fetch_or(&v_, v, __ATOMIC_RELEASE); }
	// On failure expected holds what was found, and nothing is ordered.
	bool cas_full(T &expected, T desired)
	{
		rmw_fence();
		bool done = __atomic_compare_exchange_n(&v_, &expected, desired, false, __ATOMIC_SEQ_CST,
							__ATOMIC_RELAXED);
		if (done)
			rmw_fence();
		return done;
	}

    private:
	T v_{};
};

// Eight bytes at once, at an address that is a multiple of eight. Each byte is what a
// load_acquire() of its own could have given: words are read by the policy only, and
// no processor tears a byte.
inline u64 load_eight_acquire(const Atomic<u8> *at)
{
	return __atomic_load_n(reinterpret_cast<const u64 *>(at), __ATOMIC_ACQUIRE);
}

} // namespace base
#endif
