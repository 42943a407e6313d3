// SPDX-License-Identifier: GPL-2.0
// Damaged superblocks and cells, the same on every machine that runs the same seeds: what
// the core makes of them is folded into a number, and printed. A byte order or an alignment
// that matters gives another number than on another machine, or a crash.
//
//   fuzz [--seeds N] [--from SEED]
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "core/superblock.hpp"
#include "rig.hpp"

namespace {

class Random {
    public:
	explicit Random(u64 seed)
		: x_(seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull)
	{}
	u64 next()
	{
		x_ ^= x_ << 13, x_ ^= x_ >> 7, x_ ^= x_ << 17;
		return x_;
	}
	u32 below(u32 n) { return u32((next() >> 32) % n); }
	bool one_in(u32 n) { return below(n) == 0; }

    private:
	u64 x_;
};

// FNV-1a over values, lowest byte first, whatever this machine's order.
class Digest {
    public:
	void put(u64 v, u32 bytes)
	{
		for (u32 i = 0; i < bytes; i++)
			h_ = (h_ ^ u8(v >> (8 * i))) * 0x100000001b3ull;
	}
	void bytes(const u8 *p, size_t n)
	{
		for (size_t i = 0; i < n; i++)
			put(p[i], 1);
	}
	void text(const std::string &s)
	{
		for (char c : s)
			put(u8(c), 1);
		put(0, 1);
	}
	u64 value() const { return h_; }

    private:
	u64 h_ = 0xcbf29ce484222325ull;
};

struct Seen {
	u64 valid = 0, refused = 0; // superblocks
	u64 created = 0, loaded = 0, turned_away = 0; // arrays
};

// Where fields begin, and a few values that lie on a border.
constexpr u32 kFields[] = {LLB_SB_MAGIC,	LLB_SB_VERSION,		 LLB_SB_UUID,
			   LLB_SB_EVENTS,	LLB_SB_EVENTS_CLEARED,	 LLB_SB_SYNC_SIZE,
			   LLB_SB_STATE,	LLB_SB_CHUNKSIZE,	 LLB_SB_DAEMON_SLEEP,
			   LLB_SB_WRITE_BEHIND, LLB_SB_SECTORS_RESERVED, LLB_SB_NODES};
constexpr u64 kValues[] = {0,	  1,	   2,	    3,	      8,   16,		 128,	       255,  256,
			   65536, 1 << 17, 1 << 24, 1u << 31, ~0u, u64{1} << 45, u64{1} << 63, ~0ull};

void damage(Random &rnd, u8 *page, u32 size)
{
	for (u32 n = 1 + rnd.below(4); n > 0; n--) {
		u32 at = kFields[rnd.below(std::size(kFields))];
		u64 v = rnd.one_in(3) ? rnd.next() : kValues[rnd.below(std::size(kValues))];
		u32 bytes = rnd.one_in(2) ? 4 : rnd.one_in(2) ? 8 : 1;
		switch (rnd.below(4)) {
		case 0: // one bit
			at += rnd.below(8);
			page[at] ^= u8(1u << rnd.below(8));
			break;
		case 1: // anywhere
			at = rnd.below(size);
			page[at] = u8(rnd.next());
			break;
		default: // a field, lowest byte first as on the disk
			for (u32 i = 0; i < bytes; i++)
				page[at + i] = u8(v >> (8 * i));
		}
	}
}

void fields(Digest &out, const core::BitmapSuper &sb)
{
	out.put(sb.magic, 4), out.put(sb.version, 4), out.bytes(sb.uuid, sizeof(sb.uuid));
	out.put(sb.events, 8), out.put(sb.events_cleared, 8), out.put(sb.sync_size, 8);
	out.put(sb.state, 4), out.put(sb.chunksize, 4), out.put(sb.daemon_sleep_s, 4);
	out.put(sb.write_behind, 4), out.put(sb.sectors_reserved, 4), out.put(sb.nodes, 4);
}

// Bytes <-> fields, by themselves.
bool header(Random &rnd, Digest &out, Seen &seen)
{
	rig::Rig r;
	// odd on purpose: bytes of a page lie at any address
	u8 room[LLB_SB_BYTES + 8], again[LLB_SB_BYTES];
	u8 *page = room + rnd.below(8);
	for (u32 i = 0; i < LLB_SB_BYTES; i++)
		page[i] = r.h.members[0]->at(i);
	damage(rnd, page, LLB_SB_BYTES);

	core::BitmapSuper sb = core::super_decode(page);
	fields(out, sb);
	bool valid = !core::super_validate(&r.h, sb, r.h.array, PLAT_LOG_ERR).failed();
	(valid ? seen.valid : seen.refused)++;
	out.put(valid, 1);
	out.text(r.h.log_text());

	core::super_encode(sb, again);
	out.bytes(again, sizeof(again));
	// All but the state's bits of another life, and what belongs to no field.
	constexpr u32 end = LLB_SB_NODES + 4;
	page[LLB_SB_STATE] &= LLB_SB_STALE | LLB_SB_FIRST_USE | LLB_SB_CLEAN;
	memset(page + LLB_SB_STATE + 1, 0, 3);
	if (memcmp(page, again, end)) {
		printf("encoded bytes are not those that were decoded\n");
		return false;
	}
	return true;
}

// An array of two members, each damaged in its own way: made, loaded, used, stopped.
void array(Random &rnd, Digest &out, Seen &seen)
{
	static const s32 levels[] = {1, 5, 10};
	rig::Rig r({.level = levels[rnd.below(3)], .chunks = 1 + rnd.below(300), .fill = LLB_CLEAN});
	bool alike = rnd.one_in(2);
	std::vector<u8> page(LLB_SB_BYTES);
	for (u32 m = 0; m < 2; m++) {
		if (m == 0 || !alike) {
			for (u32 i = 0; i < page.size(); i++)
				page[i] = r.h.members[m]->at(i);
			// past magic, version and uuid as often as not, so that it gets far
			damage(rnd, page.data(), u32(page.size()));
			for (u32 i = 0; i < LLB_SB_EVENTS && !rnd.one_in(40); i++)
				page[i] = r.h.members[m]->at(i);
		}
		for (u32 i = 0; i < page.size(); i++)
			r.h.members[m]->put(i, page[i]);
		for (u32 n = rnd.below(40); n > 0; n--) {
			u32 cell = rnd.below(300); // before the byte: one order on all compilers
			r.h.members[m]->put(LLB_CELLS_OFFSET + cell, u8(rnd.below(10)));
		}
	}

	int err = r.create();
	out.put(u64(s64(err)), 8);
	if (!err) {
		seen.created++;
		err = r.load();
		out.put(u64(s64(err)), 8);
	} else {
		seen.turned_away++;
	}
	if (r.h.bitmap && !err) {
		seen.loaded++;
		llb_metadata m;
		llb_metadata_get(r.b(), &m);
		out.put(m.chunk_sectors, 8), out.put(m.daemon_sleep_s, 4);
		for (u64 n : r.counts())
			out.put(n, 8);
		for (u32 n = rnd.below(6); n > 0; n--) {
			u64 chunk = rnd.below(u32(r.o.chunks));
			if (chunk * r.chunk_sectors() + 16 <= r.o.sync_size)
				r.write(chunk);
		}
		llb_update_sb(r.b());
		for (u64 n : r.counts())
			out.put(n, 8);
	}
	if (r.h.bitmap)
		r.stop();
	out.text(r.h.log_text());
	for (const auto &m : r.h.members) {
		for (u32 i = 0; i < r.h.space_bytes; i++)
			out.put(m->at(i), 1);
	}
}

} // namespace

int main(int argc, char **argv)
{
	u64 seeds = 2000, from = 1;
	testing::InitGoogleTest(&argc, argv); // the rig says with it what it finds
	for (int i = 1; i + 1 < argc; i += 2) {
		if (std::string(argv[i]) == "--seeds")
			seeds = strtoull(argv[i + 1], nullptr, 10);
		else if (std::string(argv[i]) == "--from")
			from = strtoull(argv[i + 1], nullptr, 10);
	}

	Seen seen;
	Digest all;
	bool good = true;
	for (u64 seed = from; seed < from + seeds; seed++) {
		Random rnd(seed);
		Digest one;
		bool same = header(rnd, one, seen);
		array(rnd, one, seen);
		good = good && same && !testing::Test::HasFailure();
		all.put(one.value(), 8);
		if (!good) {
			printf("FAILED: seed %" PRIu64 "\n", u64(seed));
			break;
		}
		if ((seed - from) % 100 == 99)
			printf("up to seed %llu: %016llx\n", (unsigned long long)seed,
			       (unsigned long long)all.value());
	}
	printf("superblocks: %llu valid, %llu refused; arrays: %llu turned away, %llu made, %llu loaded\n",
	       (unsigned long long)seen.valid, (unsigned long long)seen.refused,
	       (unsigned long long)seen.turned_away, (unsigned long long)seen.created,
	       (unsigned long long)seen.loaded);
	printf("all: %016llx\n", (unsigned long long)all.value());
	// What never gets anywhere finds nothing.
	if (!seen.valid || !seen.refused || !seen.loaded || !seen.turned_away) {
		printf("FAILED: a kind of outcome was not seen\n");
		return 1;
	}
	return good ? 0 : 1;
}
