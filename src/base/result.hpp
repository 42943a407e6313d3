// SPDX-License-Identifier: GPL-2.0
// What a fallible function of the core returns: 0, or a negative error number of
// abi.h. Nodiscard: the compiler refuses a call that ignores it.
#pragma once

#include "base/types.hpp"

namespace base {

class [[nodiscard]] Result {
    public:
	static constexpr Result ok() { return Result(0); }
	static constexpr Result error(int number) { return Result(-number); }
	constexpr bool failed() const { return value_ != 0; }
	constexpr int value() const { return value_; }

    private:
	explicit constexpr Result(int value)
		: value_(value)
	{}
	int value_;
};

} // namespace base
