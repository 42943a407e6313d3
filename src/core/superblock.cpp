// SPDX-License-Identifier: GPL-2.0
#include "core/superblock.hpp"

#include "core/geometry.hpp"

using base::Result;

namespace core {

namespace {

u32 get32(const u8 *p)
{
	return u32(p[0]) | u32(p[1]) << 8 | u32(p[2]) << 16 | u32(p[3]) << 24;
}

u64 get64(const u8 *p)
{
	return u64(get32(p)) | u64(get32(p + 4)) << 32;
}

void put32(u8 *p, u32 v)
{
	for (int i = 0; i < 4; i++)
		p[i] = u8(v >> (8 * i));
}

void put64(u8 *p, u64 v)
{
	put32(p, u32(v));
	put32(p + 4, u32(v >> 32));
}

template <class... Args>
void say(plat_array *h, u32 level, const char *fmt, Args... args)
{
	if (level)
		plat_log(h, level, fmt, args...);
}

void say(plat_array *h, u32 level, const char *text)
{
	say(h, level, "%s", text);
}

} // namespace

BitmapSuper super_decode(const u8 *buf)
{
	BitmapSuper sb;
	sb.magic = get32(buf + LLB_SB_MAGIC);
	sb.version = get32(buf + LLB_SB_VERSION);
	for (u32 i = 0; i < sizeof(sb.uuid); i++)
		sb.uuid[i] = buf[LLB_SB_UUID + i];
	sb.events = get64(buf + LLB_SB_EVENTS);
	sb.events_cleared = get64(buf + LLB_SB_EVENTS_CLEARED);
	sb.sync_size = get64(buf + LLB_SB_SYNC_SIZE);
	// runtime bits of another life mean nothing now
	sb.state = get32(buf + LLB_SB_STATE) & (LLB_SB_STALE | LLB_SB_FIRST_USE | LLB_SB_CLEAN);
	sb.chunksize = get32(buf + LLB_SB_CHUNKSIZE);
	sb.daemon_sleep_s = get32(buf + LLB_SB_DAEMON_SLEEP);
	sb.write_behind = get32(buf + LLB_SB_WRITE_BEHIND);
	sb.sectors_reserved = get32(buf + LLB_SB_SECTORS_RESERVED);
	sb.nodes = get32(buf + LLB_SB_NODES);
	sb.resync_budget = get32(buf + LLB_SB_RESYNC_BUDGET);
	return sb;
}

void super_encode(const BitmapSuper &sb, u8 *buf)
{
	for (u32 i = 0; i < LLB_SB_BYTES; i++)
		buf[i] = 0;
	put32(buf + LLB_SB_MAGIC, sb.magic);
	put32(buf + LLB_SB_VERSION, sb.version);
	for (u32 i = 0; i < sizeof(sb.uuid); i++)
		buf[LLB_SB_UUID + i] = sb.uuid[i];
	put64(buf + LLB_SB_EVENTS, sb.events);
	put64(buf + LLB_SB_EVENTS_CLEARED, sb.events_cleared);
	put64(buf + LLB_SB_SYNC_SIZE, sb.sync_size);
	put32(buf + LLB_SB_STATE, sb.state);
	put32(buf + LLB_SB_CHUNKSIZE, sb.chunksize);
	put32(buf + LLB_SB_DAEMON_SLEEP, sb.daemon_sleep_s);
	put32(buf + LLB_SB_WRITE_BEHIND, sb.write_behind);
	put32(buf + LLB_SB_SECTORS_RESERVED, sb.sectors_reserved);
	put32(buf + LLB_SB_NODES, sb.nodes);
	put32(buf + LLB_SB_RESYNC_BUDGET, sb.resync_budget);
}

Result super_validate(plat_array *h, const BitmapSuper &sb, const plat_array_info &array, u32 level)
{
	if (sb.magic != LLB_MAGIC) {
		say(h, level, "bitmap superblock: magic is 0x%x, not 0x%x: no bitmap here, or a damaged one",
		    sb.magic, LLB_MAGIC);
		return Result::error(LLB_EINVAL);
	}
	if (sb.version != LLB_VERSION) {
		say(h, level, "bitmap superblock: version is %u, not %u: not a lockless bitmap", sb.version,
		    LLB_VERSION);
		return Result::error(LLB_EINVAL);
	}
	for (u32 i = 0; i < sizeof(sb.uuid); i++) {
		if (sb.uuid[i] != array.uuid[i]) {
			say(h, level, "bitmap superblock: uuid is another array's");
			return Result::error(LLB_EINVAL);
		}
	}
	if (sb.nodes != 0) {
		say(h, level,
		    "bitmap superblock: made for a cluster of %u nodes, which a lockless bitmap does not support",
		    sb.nodes);
		return Result::error(LLB_EINVAL);
	}
	if (sb.sectors_reserved > kSpaceSectorsMax) {
		say(h, level, "bitmap superblock: sectors_reserved is %u, more than the possible %llu",
		    sb.sectors_reserved, static_cast<unsigned long long>(kSpaceSectorsMax));
		return Result::error(LLB_EINVAL);
	}
	u64 space = sb.reserved(array);
	if (space * 512 < LLB_CELLS_OFFSET + 1) {
		say(h, level, "bitmap superblock: sectors_reserved is %llu, too small for a lockless bitmap",
		    static_cast<unsigned long long>(space));
		return Result::error(LLB_EINVAL);
	}
	if (sb.first_use())
		return Result::ok(); // geometry is ours to choose
	if (sb.sync_size == 0) {
		say(h, level, "bitmap superblock: sync_size is 0");
		return Result::error(LLB_EINVAL);
	}
	u32 shift = chunk_shift_from_disk(sb.sync_size, space, sb.chunksize);
	if (shift == 0) {
		say(h, level, "bitmap superblock: chunksize %u does not suit an array of %llu sectors",
		    sb.chunksize, static_cast<unsigned long long>(sb.sync_size));
		return Result::error(LLB_EINVAL);
	}
	return Result::ok();
}

} // namespace core
