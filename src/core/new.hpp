// SPDX-License-Identifier: GPL-2.0
// Objects from plat_alloc: zeroed memory, then the constructor.
#pragma once

#include "base/types.hpp"
#include "llbitmap/abi.h"

#ifdef LLB_HOSTED
#include <new>
#else
inline void *operator new(__SIZE_TYPE__, void *p) noexcept
{
	return p;
}
#endif

namespace core {

template <class T, class... Args>
[[nodiscard]] static inline T *allocate(Args... args)
{
	void *p = plat_alloc(sizeof(T));
	return p ? new (p) T(args...) : nullptr;
}

} // namespace core
