// SPDX-License-Identifier: GPL-2.0
// Integer types and small helpers that the freestanding core is written in.
#pragma once

#if __SIZEOF_POINTER__ != 8
#error "llbitmap needs a 64-bit kernel: its counters are 64-bit atomics"
#endif

using u8 = __UINT8_TYPE__;
using u16 = __UINT16_TYPE__;
using u32 = __UINT32_TYPE__;
using u64 = __UINT64_TYPE__;
using s32 = __INT32_TYPE__;
using s64 = __INT64_TYPE__;

namespace base {

template <class T>
constexpr T min(T a, T b)
{
	return b < a ? b : a;
}

template <class T>
constexpr T max(T a, T b)
{
	return a < b ? b : a;
}

constexpr u64 div_up(u64 a, u64 b)
{
	return a / b + (a % b != 0);
}

constexpr u64 round_up(u64 a, u64 step)
{
	return div_up(a, step) * step;
}

constexpr bool is_power_of_two(u64 v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

// floor(log2(v)), v > 0
constexpr u32 log2(u64 v)
{
	u32 n = 0;
	while (v >>= 1)
		n++;
	return n;
}

} // namespace base
