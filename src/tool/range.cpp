// SPDX-License-Identifier: GPL-2.0
#include "tool/range.hpp"

#include "tool/error.hpp"
#include "tool/screen.hpp"
#include "tool/system.hpp"
#include "tool/text.hpp"

namespace tool {

RangeWords::RangeWords(const std::optional<std::string> &words)
	: words_(words.value_or(""))
{
	if (!words)
		return;
	size_t dash = words_.find('-');
	first_ = end_of(words_.substr(0, dash));
	if (dash != words_.npos)
		last_ = end_of(words_.substr(dash + 1));
	if (last_ && ((last_->bytes && !last_->value) ||
		      (first_->bytes == last_->bytes && first_->value + last_->bytes > last_->value)))
		throw Error(kUsage, "--range " + words_ + ": ends before it begins");
}

RangeWords::End RangeWords::end_of(const std::string &text) const
{
	constexpr std::pair<const char *, u32> units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
	for (auto [unit, shift] : units) {
		std::optional<u64> value;
		if (text.ends_with(unit))
			value = number(trimmed(text.substr(0, text.size() - 3)));
		if (value && *value <= ~u64{0} >> shift)
			return {*value << shift, true};
	}
	if (std::optional<u64> value = number(text))
		return {*value, false};
	throw Error(kUsage, "--range " + words_ + ": FIRST-LAST, in chunks or with KiB, MiB, GiB, TiB");
}

Range RangeWords::of(u64 chunks, u64 chunk_bytes) const
{
	if (!first_)
		return {0, chunks - 1};
	u64 first = first_->bytes ? first_->value / chunk_bytes : first_->value;
	u64 last = !last_ ? first : last_->bytes ? (last_->value - 1) / chunk_bytes : last_->value;
	if (first > last || last >= chunks)
		throw Error(kUsage, "--range " + words_ + ": the array has chunks 0 to " +
					    std::to_string(chunks - 1) + " of " + bytes_text(chunk_bytes));
	return {first, last};
}

} // namespace tool
