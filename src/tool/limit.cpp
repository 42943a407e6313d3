// SPDX-License-Identifier: GPL-2.0
#include "tool/limit.hpp"

#include "tool/error.hpp"
#include "tool/health.hpp"

namespace tool {

Limit limit_of(const std::string &option, const std::string &words)
{
	constexpr struct {
		const char *name;
		u64 factor;
		bool time;
	} units[] = {{"KiB", u64{1} << 10, false},
		     {"MiB", u64{1} << 20, false},
		     {"GiB", u64{1} << 30, false},
		     {"TiB", u64{1} << 40, false},
		     {"min", 60, true},
		     {"s", 1, true},
		     {"h", 3600, true}};

	Limit limit;
	limit.words = words;
	if (words.empty())
		return limit;
	for (const auto &unit : units) {
		if (!words.ends_with(unit.name))
			continue;
		std::optional<u64> n = number(words.substr(0, words.size() - std::string(unit.name).size()));
		if (!n || *n > ~u64{0} / unit.factor)
			break;
		(unit.time ? limit.seconds : limit.bytes) = *n * unit.factor;
		return limit;
	}
	throw Error(kUsage, option + " is a number with KiB, MiB, GiB, TiB, or with s, min, h (20GiB, 5min)");
}

std::optional<u64> known_cost(const Running &a)
{
	return a.cost_is_all() ? a.member_bytes : a.cost();
}

Over over(const Limit &limit, const Running &a)
{
	std::optional<u64> cost = known_cost(a);
	if (!limit.given() || !cost)
		return Over::No;
	if (limit.bytes)
		return *cost > *limit.bytes ? Over::Yes : Over::No;
	u64 speed = pace(a).bytes_per_second;
	if (!speed && *cost)
		return Over::Unknown;
	return seconds_for(*cost, speed) > *limit.seconds ? Over::Yes : Over::No;
}

} // namespace tool
