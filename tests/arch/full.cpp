// SPDX-License-Identifier: GPL-2.0
// Each method of the atomics policy that must be a full barrier, as a function of its own:
// what fences.py looks for in the code.
#include "base/atomic.hpp"

using base::Atomic;

#define FULL(T)                                                                                              \
	extern "C" T full_exchange_##T(Atomic<T> *a, T v)                                                    \
	{                                                                                                    \
		return a->exchange_full(v);                                                                  \
	}                                                                                                    \
	extern "C" T full_add_##T(Atomic<T> *a, T v)                                                         \
	{                                                                                                    \
		return a->fetch_add_full(v);                                                                 \
	}                                                                                                    \
	extern "C" T full_sub_##T(Atomic<T> *a, T v)                                                         \
	{                                                                                                    \
		return a->fetch_sub_full(v);                                                                 \
	}                                                                                                    \
	extern "C" bool full_cas_##T(Atomic<T> *a, T *expected, T v)                                         \
	{                                                                                                    \
		return a->cas_full(*expected, v);                                                            \
	}                                                                                                    \
	extern "C" T full_or_##T(Atomic<T> *a, T v)                                                          \
	{                                                                                                    \
		return a->fetch_or_full(v);                                                                  \
	}                                                                                                    \
	extern "C" T release_or_##T(Atomic<T> *a, T v)                                                       \
	{                                                                                                    \
		return a->fetch_or_release(v);                                                               \
	}

FULL(u8)
FULL(u32)
FULL(u64)

extern "C" void fence()
{
	base::fence_full();
}
