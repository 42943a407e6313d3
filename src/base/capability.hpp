// SPDX-License-Identifier: GPL-2.0
// Locks as types: which lock guards a field, and which one a function wants, said so that
// clang compares it (-Wthread-safety, in `make check`). Nothing for other compilers.
#pragma once

#include "base/atomic.hpp"

#ifdef __clang__
#define LLB_ATTRIBUTE(x) __attribute__((x))
#else
#define LLB_ATTRIBUTE(x)
#endif

#define LLB_GUARDED_BY(lock) LLB_ATTRIBUTE(guarded_by(lock)) // a field
#define LLB_REQUIRES(lock) LLB_ATTRIBUTE(requires_capability(lock)) // the caller has it
#define LLB_EXCLUDES(lock) LLB_ATTRIBUTE(locks_excluded(lock)) // the caller has it not
#define LLB_ACQUIRES(lock) LLB_ATTRIBUTE(acquire_capability(lock))
#define LLB_TRY_ACQUIRES(lock) LLB_ATTRIBUTE(try_acquire_capability(true, lock)) // true: it has
#define LLB_RELEASES(lock) LLB_ATTRIBUTE(release_capability(lock))
#define LLB_ASSERTS(lock) LLB_ATTRIBUTE(assert_capability(lock)) // as good as held, for a reason that is said
#define LLB_IS_THE_LOCK LLB_ATTRIBUTE(no_thread_safety_analysis) // what takes it, or gives it back

namespace base {

// The word of a lock: 1 while somebody has it. How it is taken, and who sleeps, is its owner's.
class LLB_ATTRIBUTE(capability("lock")) LockWord : public Atomic<u8> {};

} // namespace base
