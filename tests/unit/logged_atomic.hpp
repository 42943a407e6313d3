// SPDX-License-Identifier: GPL-2.0
// The atomics policy that writes down every access: kind and address.
#pragma once

#include <vector>

#include "base/types.hpp"

namespace base {

enum class Access : u8 { Load, Store, Rmw, FailedCas, FullFence, ReleaseFence };
struct LoggedAccess {
	Access kind;
	const void *address;
};
inline thread_local bool log_accesses;
inline thread_local std::vector<LoggedAccess> logged_accesses;

inline void logged(Access kind, const void *address)
{
	if (log_accesses)
		logged_accesses.push_back({kind, address});
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

	T load_relaxed() const { return load(__ATOMIC_RELAXED); }
	T load_acquire() const { return load(__ATOMIC_ACQUIRE); }
	T load_seq_cst() const { return load(__ATOMIC_SEQ_CST); }
	void store_relaxed(T v) { store(v); }
	void store_release(T v) { store(v); }
	T exchange_full(T v)
	{
		logged(Access::Rmw, &v_);
		return __atomic_exchange_n(&v_, v, __ATOMIC_SEQ_CST);
	}
	T fetch_add_full(T v)
	{
		logged(Access::Rmw, &v_);
		return __atomic_fetch_add(&v_, v, __ATOMIC_SEQ_CST);
	}
	T fetch_sub_full(T v)
	{
		logged(Access::Rmw, &v_);
		return __atomic_fetch_sub(&v_, v, __ATOMIC_SEQ_CST);
	}
	T fetch_or_full(T v)
	{
		logged(Access::Rmw, &v_);
		return __atomic_fetch_or(&v_, v, __ATOMIC_SEQ_CST);
	}
	T fetch_or_release(T v)
	{
		logged(Access::Rmw, &v_);
		return __atomic_fetch_or(&v_, v, __ATOMIC_RELEASE);
	}
	bool cas_full(T &expected, T desired)
	{
		bool done = __atomic_compare_exchange_n(&v_, &expected, desired, false, __ATOMIC_SEQ_CST,
							__ATOMIC_RELAXED);
		logged(done ? Access::Rmw : Access::FailedCas, &v_);
		return done;
	}

    private:
	T load(int order) const
	{
		logged(Access::Load, &v_);
		return __atomic_load_n(&v_, order);
	}
	void store(T v)
	{
		logged(Access::Store, &v_);
		__atomic_store_n(&v_, v, __ATOMIC_SEQ_CST);
	}
	T v_{};
};

inline u64 load_eight_acquire(const Atomic<u8> *at)
{
	logged(Access::Load, at);
	return __atomic_load_n(reinterpret_cast<const u64 *>(at), __ATOMIC_ACQUIRE);
}

inline void fence_full()
{
	logged(Access::FullFence, nullptr);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

inline void fence_release()
{
	logged(Access::ReleaseFence, nullptr);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

} // namespace base
