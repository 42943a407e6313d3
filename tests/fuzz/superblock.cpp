// SPDX-License-Identifier: GPL-2.0
// The 256 bytes of a bitmap's superblock, and where things lie on a member: what the core
// decides is decided here a second time, from include/llbitmap/README.md, with numbers
// that cannot overflow.
#include "cases.hpp"

#include <cstring>

#include "core/geometry.hpp"
#include "core/superblock.hpp"
#include "platform.hpp"

namespace fuzz {

namespace {

using Wide = __int128;

constexpr u64 kReservedMax = 131072;
constexpr u32 kShiftMin = 7, kShiftMax = 31;

u64 little(const u8 *p, u32 bytes)
{
	return Source(p, bytes).little(bytes);
}

Wide chunks(u64 sectors, u32 shift)
{
	Wide size = Wide{1} << shift;
	return (Wide{sectors} + size - 1) / size;
}

bool fit(u64 sectors, u32 shift, Wide space)
{
	return 1024 + chunks(sectors, shift) <= space * 512;
}

// The shift of the smallest chunk that fits, from that one on; 0: none.
u32 smallest(u64 sectors, Wide space, u32 from)
{
	for (u32 shift = std::max(from, kShiftMin); shift <= kShiftMax; shift++) {
		if (fit(sectors, shift, space))
			return shift;
	}
	return 0;
}

// The chunk size field, of sectors or bytes, as a shift of sectors; 0: of no use.
u32 shift_of(u64 sectors, u64 space, u32 field)
{
	u32 bits = 0, last = 0;
	for (u32 bit = 0; bit < 32; bit++) {
		if (field >> bit & 1)
			bits++, last = bit;
	}
	u32 least = smallest(sectors, Wide{space} + 2, kShiftMin);
	if (bits != 1 || !least)
		return 0;
	if (last == least + 9)
		return least;
	return last >= least && last <= kShiftMax ? last : 0;
}

// May it be used? Read from its bytes.
bool usable(const u8 *page, const plat_array_info &a)
{
	u64 reserved = little(page + LLB_SB_SECTORS_RESERVED, 4);
	u64 sync_size = little(page + LLB_SB_SYNC_SIZE, 8);
	if (memcmp(page, "bitm", 4) || little(page + LLB_SB_VERSION, 4) != 6 ||
	    memcmp(page + LLB_SB_UUID, a.uuid, 16) || little(page + LLB_SB_NODES, 4) ||
	    reserved > kReservedMax)
		return false;
	u64 space = reserved ? reserved : a.bitmap_space;
	if (space * 512 <= 1024)
		return false;
	if (page[LLB_SB_STATE] & LLB_SB_FIRST_USE)
		return true;
	return sync_size && shift_of(sync_size, space, u32(little(page + LLB_SB_CHUNKSIZE, 4)));
}

void header(Source &in, plat_array &h, const plat_array_info &a, Digest &out, Seen &seen)
{
	core::BitmapSuper sb{};
	sb.magic = LLB_MAGIC, sb.version = LLB_VERSION;
	memcpy(sb.uuid, a.uuid, sizeof(sb.uuid));
	sb.events = a.events, sb.sync_size = a.sync_size, sb.sectors_reserved = u32(a.bitmap_space);
	core::Geometry geo;
	if (!core::geometry_for(a.sync_size, a.bitmap_space, 0, &geo).failed())
		sb.chunksize = u32(geo.chunk_sectors());
	// odd on purpose: bytes of a page lie at any address
	u8 room[LLB_SB_BYTES + 8], again[LLB_SB_BYTES];
	u8 *page = room + in.below(8);
	core::super_encode(sb, page);
	for (u32 n = in.below(6); n > 0; n--)
		damage(
			in, [&](u32 i) { return page[i]; }, [&](u32 i, u8 v) { page[i] = v; });

	sb = core::super_decode(page);
	bool valid = !core::super_validate(&h, sb, a, PLAT_LOG_ERR).failed();
	(valid ? seen.valid : seen.refused)++;
	need(valid == usable(page, a), "valid: %d", valid);
	need(h.log.size() == (valid ? 0 : 1), "%zu lines for one that is %s", h.log.size(),
	     valid ? "valid" : "refused");
	need(core::super_validate(&h, sb, a, 0).failed() != valid && h.log.size() <= 1,
	     "asked without a word it says another thing, or a word");
	out.put(valid, 1);
	out.text(h.log_text());

	core::super_encode(sb, again);
	out.bytes(again, sizeof(again));
	// All but the state's bits of another life, and what belongs to no field.
	constexpr u32 end = LLB_SB_NODES + 4;
	u8 was[LLB_SB_BYTES];
	memcpy(was, page, sizeof(was));
	was[LLB_SB_STATE] &= LLB_SB_STALE | LLB_SB_FIRST_USE | LLB_SB_CLEAN;
	memset(was + LLB_SB_STATE + 1, 0, 3);
	memset(was + end, 0, LLB_SB_RESYNC_BUDGET - end);
	need(!memcmp(was, again, sizeof(was)), "encoded bytes are not those that were decoded");

	// one ahead is right, more is damage
	u64 known = sb.events > a.events && sb.events - a.events > 1 ? 0 : sb.events;
	need(core::events_seen(sb, a.events) == known, "events seen");
	need(core::is_stale(sb, a.events) ==
		     (!sb.first_use() && ((sb.state & LLB_SB_STALE) || known < a.events)),
	     "stale: %d", core::is_stale(sb, a.events));
	if (!valid || sb.first_use())
		return;
	u64 space = sb.reserved(a);
	u32 shift = core::chunk_shift_from_disk(sb.sync_size, space, sb.chunksize);
	geo = core::geometry_at(sb.sync_size, shift);
	need(geo.chunks == u64(chunks(sb.sync_size, shift)) && geo.bytes() <= (space + 2) * 512 &&
		     geo.pages == (geo.bytes() + 4095) / 4096,
	     "%llu chunks in %llu sectors", (unsigned long long)geo.chunks, (unsigned long long)space);
	out.put(geo.chunks, 8);
}

void geometry(Source &in, const plat_array_info &a, Digest &out)
{
	u64 sectors = in.one_in(2) ? in.number() : a.sync_size;
	u64 space = in.below(2) ? in.number() % (kReservedMax + 1) : a.bitmap_space;
	u64 room = in.number();
	u32 from = in.below(36);
	u32 least = smallest(sectors, space, from);
	core::Geometry geo;
	bool made = !core::geometry_for(sectors, space, from, &geo).failed();
	need(made == (least != 0) && (!made || geo.chunk_shift == least), "chunk 2^%u, not 2^%u",
	     geo.chunk_shift, least);
	u32 field = u32(in.number());
	u32 shift = core::chunk_shift_from_disk(sectors, space, field);
	need(shift == shift_of(sectors, space, field), "chunksize %u is 2^%u", field, shift);
	u64 wanted = core::space_wanted(sectors, space, room);
	need(wanted >= space && (wanted == space || (wanted <= room && wanted <= core::kSpaceSectorsWanted)),
	     "%llu sectors are wanted of %llu", (unsigned long long)wanted, (unsigned long long)room);
	u32 fine = core::chunk_shift_wanted(sectors, space);
	need(fine >= kShiftMin && fine <= core::kChunkShiftFine, "2^%u is wanted", fine);
	out.put(made, 1), out.put(shift, 4), out.put(wanted, 8), out.put(fine, 4);
}

bool meet(Wide a, Wide a_length, Wide b, Wide b_length)
{
	return a_length > 0 && b_length > 0 && a < b + b_length && b < a + a_length;
}

// Where the bitmap may lie beside what md says is on a member. md has looked that these
// numbers are on the device: below 2^54.
void place(Source &in, plat_array &h, plat_array_info a, Digest &out)
{
	auto sector = [&] { return in.number() >> 10; };
	plat_member m{};
	m.sb_start = in.one_in(2) ? sector() : 8;
	m.data_offset = in.one_in(2) ? sector() : 272;
	m.new_data_offset = in.one_in(2) ? sector() : m.data_offset;
	m.data_sectors = in.one_in(2) ? sector() : 1 << 20;
	m.ppl_start = sector(), m.ppl_sectors = in.one_in(4) ? in.little(2) : 0;
	m.bbl_offset = s32(in.number()), m.bbl_sectors = u32(in.little(2)), m.bbl_entries = in.below(3);
	m.logical_block = 512u << in.below(5);
	m.separate_meta = in.one_in(4);
	m.flags = in.below(256);
	a.bitmap_offset = in.one_in(2) ? s32(in.number()) : 8;
	u64 space = in.number() % (kReservedMax + 1), bytes = in.number() % (kReservedMax * 512) + 1;

	Wide start = Wide{m.sb_start} + a.bitmap_offset, length = (Wide{bytes} + 511) / 512;
	size_t before = h.log.size();
	bool good = !core::check_member(&h, a, m, bytes, space).failed();
	need(h.log.size() - before == (good ? 0 : 1), "%zu lines", h.log.size() - before);
	bool over = meet(start, length, m.sb_start, 8);
	if (!m.separate_meta)
		over = over || meet(start, length, m.data_offset, m.data_sectors) ||
		       meet(start, length, m.new_data_offset, m.data_sectors);
	over = over || meet(start, length, m.ppl_start, m.ppl_sectors);
	bool log = core::bad_log_inside(a, m, bytes, space);
	need(!good || !over, "a place over something else is taken");
	need(!good || (start >= 0 && start * 512 % m.logical_block == 0 && m.logical_block <= 4096),
	     "a place between blocks is taken");
	need(!good || !log || !m.bbl_entries, "a bad-block log with entries inside is taken");
	u64 room = core::room(a, m);
	need(room == ~0ull || start < 0 || !m.data_sectors || m.separate_meta ||
		     Wide{m.data_offset} < start || start + Wide{room} <= Wide{m.data_offset},
	     "room reaches into data");
	if (room && start >= 0 && room != ~0ull)
		need(!meet(start, room, m.sb_start, 8) && !meet(start, room, m.ppl_start, m.ppl_sectors),
		     "room reaches into something");
	out.put(good, 1), out.put(room, 8), out.put(log, 1);
}

} // namespace

void superblock(Source in, Digest &out, Seen &seen)
{
	plat_array h(0, 0);
	plat_array_info a = h.array;
	a.events = in.number() >> 1; // it counts, and will not get that far
	a.sync_size = in.one_in(2) ? in.number() >> 9 : 1 << 20;
	a.bitmap_space = in.one_in(2) ? in.number() % (kReservedMax + 1) : 256;
	header(in, h, a, out, seen);
	geometry(in, a, out);
	place(in, h, a, out);
}

} // namespace fuzz
