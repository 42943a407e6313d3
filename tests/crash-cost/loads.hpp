// SPDX-License-Identifier: GPL-2.0
// Synthetic writes to an array, open loop: they come when they come, however long those
// before them take. The same name, size and seed give the same writes, to the sector.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.hpp"

enum class Kind : u8 { Sparse, Burst, Stream, Other };

struct LoadInfo {
	const char *name;
	const char *title;
	const char *above, *below; // two short lines under a bar
	Kind kind;
	bool hot; // a working set that fits into the default budget: not in the report
};
const std::vector<LoadInfo> &loads();
const LoadInfo *load_named(const std::string &name);

class Load {
    public:
	virtual ~Load() = default;
	virtual bool next(Arrival *out) = 0;
	// device: sectors. Null: no load of that name.
	static std::unique_ptr<Load> make(const std::string &name, u64 device, u64 seed);
};
