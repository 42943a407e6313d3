// SPDX-License-Identifier: GPL-2.0
#include "core/geometry.hpp"

using base::Result;

namespace core {

namespace {

constexpr s64 kSuperblockSectors = 8;

bool overlap(s64 a, s64 a_len, s64 b, s64 b_len)
{
	return a < b + b_len && b < a + a_len;
}

s64 sectors_needed(u64 bytes)
{
	return s64(base::div_up(bytes, 1u << kSectorShift));
}

} // namespace

bool may_take_bitmap(const plat_member &m)
{
	return !(m.flags & (PLAT_MEMBER_FAULTY | PLAT_MEMBER_JOURNAL));
}

bool takes_bitmap(const plat_member &m)
{
	return m.slot >= 0 && may_take_bitmap(m);
}

bool is_believed(const plat_member &m)
{
	return takes_bitmap(m) && (m.flags & PLAT_MEMBER_IN_SYNC) && !(m.flags & PLAT_MEMBER_OLD);
}

u32 chunk_shift_from_disk(u64 sync_size, u64 space_sectors, u32 field)
{
	if (!base::is_power_of_two(field))
		return 0;
	u32 shift = base::log2(field);
	// The in-tree driver does not count the header, so its chunk may be the one
	// that fits into 1024 bytes more: 2 sectors.
	u64 generous = space_sectors + LLB_CELLS_OFFSET / 512;
	Geometry least;
	if (geometry_for(sync_size, generous, kChunkShiftMin, &least).failed())
		return 0;
	if (shift == least.chunk_shift + kSectorShift && shift > kChunkShiftMin + kSectorShift - 1)
		return least.chunk_shift;
	if (shift < least.chunk_shift || shift > kChunkShiftMax)
		return 0;
	return shift;
}

bool bad_log_inside(const plat_array_info &array, const plat_member &m, u64 bytes, u64 space_sectors)
{
	if (!(m.flags & PLAT_MEMBER_BBL))
		return false;
	s64 len = base::max(sectors_needed(bytes), s64(space_sectors));
	return overlap(array.bitmap_offset, len, m.bbl_offset, m.bbl_sectors);
}

u64 room(const plat_array_info &array, const plat_member &m)
{
	const s64 start = s64(m.sb_start) + array.bitmap_offset;
	u64 least = ~u64{0};
	auto thing = [&](s64 at, s64 sectors) {
		if (sectors && at >= start)
			least = base::min(least, u64(at - start));
		else if (sectors && at + sectors > start)
			least = 0;
	};

	thing(s64(m.sb_start), kSuperblockSectors);
	if (!m.separate_meta) {
		thing(s64(m.data_offset), s64(m.data_sectors));
		thing(s64(m.new_data_offset), s64(m.data_sectors));
	}
	if ((m.flags & PLAT_MEMBER_BBL) && m.bbl_entries)
		thing(s64(m.sb_start) + m.bbl_offset, m.bbl_sectors);
	thing(s64(m.ppl_start), s64(m.ppl_sectors));
	return least;
}

Result check_member(plat_array *h, const plat_array_info &array, const plat_member &m, u64 bytes,
		    u64 space_sectors)
{
	s64 start = s64(m.sb_start) + array.bitmap_offset;
	s64 len = sectors_needed(bytes);

	if (m.logical_block > kPageBytes) {
		plat_log(
			h, PLAT_LOG_ERR,
			"a member has %u-byte logical blocks, the bitmap works with 4096 at most; leave that device out",
			m.logical_block);
		return Result::error(LLB_EINVAL);
	}
	if (start < 0 || (u64(start) << kSectorShift) % m.logical_block) {
		plat_log(
			h, PLAT_LOG_ERR,
			"the bitmap at sector %lld is not aligned to a member's %u-byte blocks; remove it with mdadm --grow --bitmap=none and use another",
			static_cast<long long>(start), m.logical_block);
		return Result::error(LLB_EINVAL);
	}
	if (overlap(start, len, s64(m.sb_start), kSuperblockSectors)) {
		plat_log(
			h, PLAT_LOG_ERR,
			"the bitmap at sector %lld, %lld sectors long, would overlap the superblock at %llu; it is not used",
			static_cast<long long>(start), static_cast<long long>(len),
			static_cast<unsigned long long>(m.sb_start));
		return Result::error(LLB_EINVAL);
	}
	const u64 data_at[] = {m.data_offset, m.new_data_offset};
	for (u64 data : data_at) {
		if (m.separate_meta || !overlap(start, len, s64(data), s64(m.data_sectors)))
			continue;
		plat_log(
			h, PLAT_LOG_ERR,
			"the bitmap at sector %lld, %lld sectors long, would overlap data that begins at %llu; it is not used",
			static_cast<long long>(start), static_cast<long long>(len),
			static_cast<unsigned long long>(data));
		return Result::error(LLB_EINVAL);
	}
	if (m.ppl_sectors && overlap(start, len, s64(m.ppl_start), s64(m.ppl_sectors))) {
		plat_log(
			h, PLAT_LOG_ERR,
			"the bitmap at sector %lld, %lld sectors long, would overlap the partial parity log at %llu; it is not used",
			static_cast<long long>(start), static_cast<long long>(len),
			static_cast<unsigned long long>(m.ppl_start));
		return Result::error(LLB_EINVAL);
	}
	if (bad_log_inside(array, m, bytes, space_sectors) && m.bbl_entries) {
		plat_log(
			h, PLAT_LOG_ERR,
			"a member's bad-block log lies inside the bitmap's space and has %u entries; clear them (mdadm --assemble --update=force-no-bbl) and start again",
			m.bbl_entries);
		return Result::error(LLB_EINVAL);
	}
	return Result::ok();
}

} // namespace core
