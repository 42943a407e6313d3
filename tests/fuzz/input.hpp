// SPDX-License-Identifier: GPL-2.0
// One input, whatever made it (libFuzzer here, a seed in tests/arch): bytes, from which a
// case takes its choices one after the other. At the end of the input all are 0, which
// is the plain case everywhere: what is short is simple.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <string>

#include "base/types.hpp"
#include "llbitmap/format.h"

namespace fuzz {

// Values that lie on a border of something.
constexpr u64 kValues[] = {0,
			   1,
			   2,
			   3,
			   7,
			   8,
			   15,
			   16,
			   128,
			   255,
			   256,
			   4096,
			   16383,
			   16384,
			   65535,
			   65536,
			   1 << 17,
			   1 << 24,
			   1 << 30,
			   1u << 31,
			   ~0u,
			   u64{1} << 33,
			   u64{1} << 45,
			   u64{1} << 55,
			   u64{1} << 63,
			   ~0ull};

class Source {
    public:
	Source(const u8 *data, size_t bytes)
		: at_(data)
		, end_(data + bytes)
	{}
	bool done() const { return at_ == end_; }
	u8 byte() { return done() ? u8{0} : *at_++; }
	u64 little(u32 bytes)
	{
		u64 v = 0;
		for (u32 i = 0; i < bytes; i++)
			v |= u64{byte()} << (8 * i);
		return v;
	}
	// 0 to n - 1.
	u32 below(u32 n) { return u32(little(n <= 256 ? 1 : n <= 65536 ? 2 : 4) % n); }
	bool one_in(u32 n) { return below(n) == 1; }
	// Any number, most of them such as matter.
	u64 number()
	{
		switch (below(4)) {
		case 0:
			return kValues[below(std::size(kValues))];
		case 1:
			return little(2);
		case 2:
			return little(4);
		}
		return little(8);
	}

    private:
	const u8 *at_, *end_;
};

// What became of it, as one number that is the same on every machine: FNV-1a over values,
// lowest byte first.
class Digest {
    public:
	explicit Digest(bool wanted = true)
		: wanted_(wanted)
	{}
	void put(u64 v, u32 bytes)
	{
		for (u32 i = 0; wanted_ && i < bytes; i++)
			h_ = (h_ ^ u8(v >> (8 * i))) * 0x100000001b3ull;
	}
	void bytes(const u8 *p, size_t n)
	{
		for (size_t i = 0; wanted_ && i < n; i++)
			put(p[i], 1);
	}
	void text(const std::string &s)
	{
		bytes(reinterpret_cast<const u8 *>(s.data()), s.size());
		put(0, 1);
	}
	u64 value() const { return h_; }

    private:
	bool wanted_;
	u64 h_ = 0xcbf29ce484222325ull;
};

// What was found wrong: the end of the case.
struct Wrong : std::runtime_error {
	using std::runtime_error::runtime_error;
};

[[gnu::format(printf, 2, 3)]] inline void need(bool good, const char *fmt, ...)
{
	if (good)
		return;
	char text[600];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	throw Wrong(text);
}

// Where the fields of the bitmap's superblock begin.
constexpr u32 kFields[] = {
	LLB_SB_EVENTS,	  LLB_SB_EVENTS_CLEARED, LLB_SB_SYNC_SIZE,    LLB_SB_STATE,
	LLB_SB_CHUNKSIZE, LLB_SB_DAEMON_SLEEP,	 LLB_SB_WRITE_BEHIND, LLB_SB_SECTORS_RESERVED,
	LLB_SB_NODES,	  LLB_SB_RESYNC_BUDGET,	 LLB_SB_MAGIC,	      LLB_SB_VERSION,
	LLB_SB_UUID};

// One change of those bytes, which at(offset) and put(offset, byte) reach.
template <class At, class Put>
void damage(Source &in, At at, Put put)
{
	u32 how = in.below(4), offset, bytes = 1;
	u64 value;
	if (how == 0) { // one bit
		offset = in.below(LLB_SB_BYTES);
		value = at(offset) ^ u64 { 1 } << in.below(8);
	} else if (how == 1) { // anything anywhere
		offset = in.below(LLB_SB_BYTES);
		value = in.byte();
	} else { // a field; of the last one more than that lies outside
		offset = kFields[in.below(std::size(kFields))];
		bytes = how == 2 ? 4 : 8;
		value = in.number();
	}
	for (u32 i = 0; i < bytes && offset + i < LLB_SB_BYTES; i++)
		put(offset + i, u8(value >> (8 * i)));
}

} // namespace fuzz
