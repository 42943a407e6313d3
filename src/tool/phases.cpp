// SPDX-License-Identifier: GPL-2.0
#include "tool/phases.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "llbitmap/release.h"
#include "tool/error.hpp"
#include "tool/target.hpp"

namespace tool {

Phase superblocks(Array &a, const char *what, const SuperEdit &edit, u64 space)
{
	Phase p{what, {}};
	for (Member &m : a.members) {
		SuperEdit own = edit;
		own.drop_bad_log = space && log_given_up(m, edit.bitmap_offset.value_or(0), space);
		p.writes.push_back({&m, m.super.start * kSector, edited(m.super, own)});
	}
	return p;
}

void print_json(const std::string &from, const std::vector<Phase> &phases)
{
	using Json = nlohmann::ordered_json;
	Json list = Json::array();
	for (const Phase &p : phases) {
		Json writes = Json::array();
		for (const Write &w : p.writes) {
			std::string hex;
			for (u8 byte : w.data) {
				hex += "0123456789abcdef"[byte >> 4];
				hex += "0123456789abcdef"[byte & 15];
			}
			writes.push_back(
				{{"device", w.member->device.path()}, {"offset", w.offset}, {"hex", hex}});
		}
		list.push_back({{"what", p.what}, {"writes", writes}});
	}
	printf("%s\n", Json{{"format", 1}, {"tool", LLB_RELEASE}, {"from", from}, {"phases", list}}
			       .dump(-1, ' ', true, Json::error_handler_t::replace)
			       .c_str());
}

void execute(std::vector<Phase> &phases, const std::string &then)
{
	for (const Phase &p : phases) {
		for (const Write &w : p.writes) {
			std::string fault = w.member->device.write_fault(w.offset, w.data.size());
			if (!fault.empty())
				refuse(fault);
		}
	}
	for (Phase &p : phases) {
		try {
			for (Write &w : p.writes)
				w.member->device.write(w.offset, w.data);
			for (Write &w : p.writes)
				w.member->device.sync();
			for (Write &w : p.writes) {
				if (w.member->device.read(w.offset, w.data.size()) != w.data)
					throw Error(kBroken, w.member->device.path() +
								     ": does not read back what was written");
			}
		} catch (const Error &error) {
			throw Error(kBroken,
				    std::string(error.what()) + " (in phase '" + p.what + "'; " + then + ")");
		}
	}
}

} // namespace tool
