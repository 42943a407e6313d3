// SPDX-License-Identifier: GPL-2.0
#include "tool/member.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "tool/error.hpp"

// What the core says is collected here.
struct plat_array {
	std::vector<std::string> lines;
};

extern "C" void plat_log(plat_array *h, llb_u32, const char *fmt, ...)
{
	char line[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	h->lines.emplace_back(line);
}

namespace tool {

namespace {

constexpr u32 kMagic = 0xa92b4efc;
constexpr u32 kSuperMax = 4096; // bytes
constexpr u32 kRoles = 256; // byte offset of the roles
constexpr u64 kClassicHeader = 256; // bytes before the classic bitmap's bits
constexpr u64 kPageLogSectors = 8; // the longest bad-block log of kernels with 4 KiB pages
constexpr s64 kSuperSectors = 8;

template <class T>
T get(const Bytes &raw, u32 at)
{
	u64 v = 0;
	for (u32 i = 0; i < sizeof(T); i++)
		v |= u64{raw[at + i]} << (8 * i);
	return static_cast<T>(v);
}

template <class T>
void put(Bytes &raw, u32 at, T value)
{
	for (u32 i = 0; i < sizeof(T); i++)
		raw[at + i] = u8(u64(value) >> (8 * i));
}

// md's sum over the little-endian words, the checksum's own taken as 0.
u32 checksum(const Bytes &raw)
{
	u64 sum = 0;
	u32 size = u32(raw.size());
	for (u32 at = 0; at + 4 <= size; at += 4)
		sum += at == 216 ? 0 : get<u32>(raw, at);
	if (size % 4 == 2)
		sum += get<u16>(raw, size - 2);
	return u32(sum) + u32(sum >> 32);
}

// The superblock at that sector, if there is one that says it belongs there. A damaged
// one is passed over, since another may be elsewhere; why is added to the warnings.
std::optional<MdSuper> super_at(const Device &d, u64 sector, u32 minor, std::vector<std::string> &warnings)
{
	if (!d.holds(s64(sector), kSuperSectors))
		return {};
	Bytes raw = d.read(sector * kSector, kSuperMax);
	if (get<u32>(raw, 0) != kMagic || get<u32>(raw, 4) != 1 || get<u64>(raw, 144) != sector)
		return {};
	MdSuper s{};
	s.minor = minor;
	s.max_dev = get<u32>(raw, 220);
	if (s.max_dev > (kSuperMax - kRoles) / 2) {
		warnings.push_back("md superblock at sector " + std::to_string(sector) + ": max_dev is " +
				   std::to_string(s.max_dev) + ": damaged");
		return {};
	}
	raw.resize(kRoles + 2 * s.max_dev);
	s.checksum_ok = get<u32>(raw, 216) == checksum(raw);
	s.features = get<u32>(raw, 8);
	memcpy(s.uuid, &raw[16], sizeof(s.uuid));
	s.name.assign(reinterpret_cast<const char *>(&raw[32]),
		      strnlen(reinterpret_cast<const char *>(&raw[32]), 32));
	s.created = get<u64>(raw, 64);
	s.level = get<s32>(raw, 72);
	s.layout = get<u32>(raw, 76);
	s.size = get<u64>(raw, 80);
	s.chunk = get<u32>(raw, 88);
	s.raid_disks = get<u32>(raw, 92);
	s.bitmap_offset = get<s32>(raw, 96);
	s.data_offset = get<u64>(raw, 128);
	s.data_size = get<u64>(raw, 136);
	// Capped at what no device reaches, so that sums of a few do not overflow.
	s.new_data_offset = s64(std::min(s.data_offset, u64{1} << 60));
	if (s.has(kFeatureNewOffset))
		s.new_data_offset += get<s32>(raw, 124);
	s.start = sector;
	s.number = get<u32>(raw, 160);
	s.bad_log_shift = raw[185];
	s.bad_log_sectors = get<u16>(raw, 186);
	s.bad_log_offset = get<s32>(raw, 188);
	s.events = get<u64>(raw, 200);
	s.resync_offset = get<u64>(raw, 208);
	s.logical_block = get<u32>(raw, 224);
	s.padding = get<u32>(raw, 12) != 0 ||
		    std::any_of(raw.data() + 228, raw.data() + 256, [](u8 b) { return b; });
	s.role = s.number < s.max_dev ? get<u16>(raw, kRoles + 2 * s.number) : kRoleSpare;
	s.raw = std::move(raw);
	return s;
}

// mdadm: the one that was created last, if old ones are left.
MdSuper find_super(const Device &d, std::vector<std::string> &warnings, bool *several)
{
	std::optional<MdSuper> found;
	u64 sectors = d.bytes() / kSector;
	if (sectors < 24)
		throw Error(kUnreadable, d.path() + ": too small for a member of an array");
	const std::pair<u64, u32> places[] = {{8, 2}, {0, 1}, {(sectors - 16) / 8 * 8, 0}};
	for (auto [sector, minor] : places) {
		auto s = super_at(d, sector, minor, warnings);
		if (!s)
			continue;
		*several |= found.has_value();
		if (found)
			warnings.push_back("several md superblocks (1." + std::to_string(found->minor) +
					   " and 1." + std::to_string(minor) +
					   "): the one created last counts");
		if (!found || s->created > found->created)
			found = s;
	}
	if (found)
		return *found;
	if (!warnings.empty())
		throw Error(kUnreadable, d.path() + ": " + warnings[0]);
	u64 old = sectors / 128 * 128 - 128; // 64 KiB before the end, to 64 KiB
	if (sectors >= 256 && get<u32>(d.read(old * kSector, 512), 0) == kMagic)
		throw Error(kUnreadable, d.path() + ": 0.90 metadata; only 1.x is supported");
	throw Error(kUnreadable, d.path() + ": no md superblock (1.x metadata)");
}

BadLog read_bad_log(Member &m)
{
	const MdSuper &s = m.super;
	BadLog log;
	log.there = s.bad_log_offset != 0;
	if (log.there && !m.log_in_place())
		m.warnings.push_back("bad-block log: lies over data, over md's superblock or off the member");
	if (!s.has(kFeatureBadBlocks))
		return log;
	auto lost = [&](const std::string &why) {
		log.known = false;
		m.warnings.push_back("bad-block log: " + why + ": md does not take this member");
	};
	s64 at = s64(s.start) + s.bad_log_offset;
	if (!log.there || !m.device.holds(at, s.bad_log_sectors)) {
		lost("superblock " + std::string(s.bad_log_offset < 0 ? "" : "+") +
		     std::to_string(s.bad_log_offset) + ", " + std::to_string(s.bad_log_sectors) +
		     " sectors, is not on the member");
		return log;
	}
	if (s.bad_log_sectors > kPageLogSectors)
		m.warnings.push_back("bad-block log: " + std::to_string(s.bad_log_sectors) +
				     " sectors: a kernel with pages of 4 KiB does not take this member");
	try {
		bool end = false;
		m.device.each_piece(u64(at) * kSector, u64{s.bad_log_sectors} * kSector,
				    [&](u64, const Bytes &piece) {
					    for (u32 i = 0; !end && i < piece.size(); i += 8) {
						    end = get<u64>(piece, i) == ~u64{0};
						    log.entries += !end;
					    }
				    });
	} catch (const Error &error) {
		lost(error.what());
	}
	return log;
}

void read_lockless(Member &m, Bitmap &b)
{
	plat_array h;
	plat_array_info a = m.as_array();
	if (super_validate(&h, b.head, a, PLAT_LOG_ERR).failed()) {
		b.faults = h.lines;
		return;
	}
	u64 space = b.head.sectors_reserved;
	b.first_use = b.head.first_use();
	b.stale = core::is_stale(b.head, m.super.events);
	core::Geometry geo;
	if (b.first_use) {
		// The module chooses when the array starts. Other members may have less room.
		u64 more = core::space_wanted(a.sync_size, space, m.room(b.sector));
		u32 from = core::chunk_shift_wanted(a.sync_size, space);
		if (core::geometry_for(a.sync_size, std::max(space, more), from, &geo).failed())
			b.faults.push_back("the array does not fit into the bitmap's space");
	} else {
		u32 shift = core::chunk_shift_from_disk(b.head.sync_size, space, b.head.chunksize);
		geo = core::geometry_at(b.head.sync_size, shift);
		b.bytes_unit = b.head.chunksize != geo.chunk_sectors();
	}
	b.chunks = geo.chunks;
	b.chunk_sectors = geo.chunk_sectors();
	for (const std::string &fault : m.place_faults(a.bitmap_offset, space, geo.bytes()))
		b.faults.push_back(fault);
	if (!b.first_use && !m.device.holds(s64(b.sector), base::div_up(geo.bytes(), kSector)))
		b.faults.push_back("bitmap superblock: the bitmap would reach beyond the member's end");
	b.read = b.faults.empty() && !b.first_use;
}

void read_classic(Member &m, Bitmap &b)
{
	auto bad = [&](const std::string &why) { b.faults.push_back("bitmap superblock: " + why); };
	if (memcmp(b.head.uuid, m.super.uuid, 16))
		return bad("uuid is another array's");
	if (b.head.chunksize < kSector || !base::is_power_of_two(b.head.chunksize))
		return bad("chunksize is " + std::to_string(b.head.chunksize));
	if (b.head.sync_size == 0)
		return bad("sync_size is 0");
	b.stale = (b.head.state & LLB_SB_STALE) || b.head.events < m.super.events;
	b.chunk_sectors = b.head.chunksize / kSector;
	b.chunks = base::div_up(b.head.sync_size, b.chunk_sectors);
	if (b.kind == Kind::Clustered)
		return; // a bitmap for each node
	u64 bytes = base::div_up(b.chunks, 8);
	if (bytes > kClassicBytesMax)
		return bad("sync_size and chunksize make a bitmap of " + std::to_string(bytes >> 20) +
			   " MiB, more than the possible " + std::to_string(kClassicBytesMax >> 20));
	if (base::div_up(kClassicHeader + bytes, kSector) > m.room(b.sector))
		return bad("sync_size and chunksize make a bitmap that would reach into what lies behind it");
	b.read = true;
}

// What else of its fields is out of range, and how much room there is.
void judge_head(Member &m, const Bitmap &b)
{
	auto warn = [&](const std::string &why) { m.warnings.push_back("bitmap superblock: " + why); };
	if (b.kills_mdadm)
		warn("chunksize is 0: mdadm 4.6 dies of it (divide error) in --examine and --assemble; "
		     "llbitmap mend, with all members, writes it anew");
	if (b.kind != Kind::Lockless && b.kind != Kind::Classic)
		return;
	u64 room = m.room(b.sector);
	if (b.head.sectors_reserved > room)
		warn("sectors_reserved is " + std::to_string(b.head.sectors_reserved) + ", but only " +
		     std::to_string(room) + " sectors lie before what comes next");
	if (b.head.daemon_sleep_s < 1 || b.head.daemon_sleep_s > core::kDaemonSleepMax_s)
		warn("daemon_sleep is " + std::to_string(b.head.daemon_sleep_s) + " s");
	if (b.head.write_behind > core::kWriteBehindMax)
		warn("write_behind is " + std::to_string(b.head.write_behind));
	// mdadm leaves 0 there, and whoever starts the array takes the mark away.
	if (b.first_use && b.head.events)
		warn("marked as never used, but written at events " + std::to_string(b.head.events) +
		     ": the mark is not believed by convert");
}

Bitmap read_bitmap(Member &m)
{
	Bitmap b;
	const MdSuper &s = m.super;
	if (!s.has(kFeatureBitmap))
		return b;
	b.kind = Kind::Unknown;
	s64 sector = s64(s.start) + s.bitmap_offset;
	if (s.bitmap_offset == 0 || !m.device.holds(sector, 8)) {
		b.faults.push_back("bitmap_offset " + std::to_string(s.bitmap_offset) +
				   " is not on the member");
		return b;
	}
	b.sector = u64(sector);
	Bytes head;
	try {
		head = m.device.read(b.sector * kSector, kSector);
	} catch (const Error &error) {
		b.unreadable = true;
		b.faults.push_back(std::string("bitmap superblock: ") + error.what());
		return b;
	}
	b.head = core::super_decode(head.data());
	b.kills_mdadm = b.head.magic == LLB_MAGIC && !memcmp(b.head.uuid, s.uuid, 16) &&
			b.head.chunksize == 0 && s.minor && s.bitmap_offset > 0;
	if (b.head.magic == LLB_MAGIC && b.head.version == LLB_VERSION) {
		b.kind = Kind::Lockless;
		read_lockless(m, b);
	} else if (b.head.magic == LLB_MAGIC && b.head.version >= 3 && b.head.version <= 5) {
		b.kind = b.head.version == 5 ? Kind::Clustered : Kind::Classic;
		read_classic(m, b);
	} else {
		read_lockless(m, b); // says what is wrong
	}
	return b;
}

} // namespace

u64 MdSuper::sync_size() const
{
	if (raid_disks == 0 || raid_disks > (kSuperMax - kRoles) / 2 || size > data_size)
		return 0;
	if (level == 1)
		return size;
	if (chunk == 0)
		return 0;
	if (level != 10)
		return size / chunk * chunk;
	// as raid10 lays its copies out
	u64 near = layout & 255, far = layout >> 8 & 255, copies = near * far;
	if (copies == 0 || copies > raid_disks)
		return 0;
	u64 used = base::div_up(size / chunk / far * raid_disks / near * copies, raid_disks);
	return used / far * raid_disks / near * chunk;
}

bool MdSuper::slot_taken(u32 slot) const
{
	for (u32 i = 0; i < max_dev; i++) {
		if (get<u16>(raw, kRoles + 2 * i) == slot)
			return true;
	}
	return false;
}

std::string MdSuper::uuid_text() const
{
	char text[40], *at = text;
	for (u32 i = 0; i < 16; i++)
		at += snprintf(at, 4, i % 4 || !i ? "%02x" : ":%02x", uuid[i]);
	return text;
}

std::string MdSuper::level_text() const
{
	return level == -1 ? "linear" : "raid" + std::to_string(level);
}

Bytes edited(const MdSuper &s, const SuperEdit &edit)
{
	Bytes raw = s.raw;
	u32 features = s.features & ~kFeatureBitmap;
	if (edit.bitmap_offset)
		features |= kFeatureBitmap;
	put<u32>(raw, 8, features);
	put<u32>(raw, 96, u32(edit.bitmap_offset.value_or(0)));
	if (edit.drop_bad_log) {
		raw[185] = 0;
		put<u16>(raw, 186, 0);
		put<u32>(raw, 188, 0);
	}
	put<u64>(raw, 200, edit.events.value_or(s.events));
	put<u64>(raw, 208, edit.resync_offset);
	put<u32>(raw, 216, checksum(raw));
	return raw;
}

const char *kind_text(Kind k)
{
	switch (k) {
	case Kind::None:
		return "none";
	case Kind::Lockless:
		return "lockless";
	case Kind::Classic:
		return "internal";
	case Kind::Clustered:
		return "clustered";
	case Kind::Unknown:
		break;
	}
	return "unknown";
}

Member Member::read(Device device)
{
	Member m{.device = std::move(device),
		 .super = {},
		 .bitmap = {},
		 .bad_log = {},
		 .other_supers = false,
		 .warnings = {},
		 .notes = {}};
	m.super = find_super(m.device, m.warnings, &m.other_supers);
	const MdSuper &s = m.super;
	auto warn = [&](const std::string &why) { m.warnings.push_back("md superblock: " + why); };
	if (!s.checksum_ok)
		warn("wrong checksum: md does not take this member");
	if (s.features & ~kFeatures)
		warn("unknown features: md does not take this member");
	if (s.padding)
		warn("a field is set that Linux 7.2 does not know: it takes this member with md_mod's check_new_feature=N at best");
	if (s.minor && (s.data_offset < s.start + base::div_up(s.raw.size(), kSector) ||
			s.new_data_offset < s64(s.start + base::div_up(s.raw.size(), kSector))))
		warn("data_offset is inside the superblock");
	if (s.data_offset > m.device.sectors() || s.data_size > m.device.sectors() - s.data_offset)
		m.warnings.push_back("the device is smaller than the member that it holds");
	if (s.logical_block && (!base::is_power_of_two(s.logical_block) || s.logical_block < kSector))
		warn("logical_block_size is " + std::to_string(s.logical_block));
	m.bad_log = read_bad_log(m);
	m.bitmap = read_bitmap(m);
	for (const std::string &fault : m.bitmap.faults)
		m.warnings.push_back(fault);
	judge_head(m, m.bitmap);
	if (s.logical_block)
		m.notes.push_back(
			"md's superblock records logical_block_size " + std::to_string(s.logical_block) +
			": Linux 6.19 is the oldest that takes this member (6.18 at best with md_mod's check_new_feature=N)");
	return m;
}

plat_array_info Member::as_array() const
{
	plat_array_info a{};
	a.events = super.events;
	a.sync_size = super.sync_size();
	a.bitmap_offset = super.bitmap_offset;
	a.level = super.level;
	a.raid_disks = s32(super.raid_disks);
	memcpy(a.uuid, super.uuid, sizeof(a.uuid));
	return a;
}

plat_member Member::as_member() const
{
	plat_member k{};
	k.sb_start = super.start;
	// Off the device or not: its sums must not overflow.
	k.data_offset = std::min(super.data_offset, u64{1} << 60);
	k.new_data_offset = u64(std::max(super.new_data_offset, s64{0}));
	k.data_sectors = std::min(super.data_size, u64{1} << 60);
	k.bbl_offset = super.bad_log_offset;
	k.bbl_sectors = super.bad_log_sectors;
	k.bbl_entries = bad_log.entries;
	k.logical_block = device.logical_block();
	k.slot = super.active() ? s32(super.role) : -1;
	k.flags = super.bad_log_offset ? PLAT_MEMBER_BBL : 0;
	return k;
}

std::vector<std::string> Member::place_faults(s64 offset, u64 sectors, u64 bytes) const
{
	plat_array h;
	plat_array_info a = as_array();
	plat_member k = as_member();
	a.bitmap_offset = offset;
	return core::check_member(&h, a, k, base::round_up(bytes, k.logical_block), sectors).failed()
		       ? h.lines
		       : std::vector<std::string>{};
}

u64 Member::room(u64 sector) const
{
	plat_array_info a = as_array();
	plat_member k = as_member();
	a.bitmap_offset = s64(sector) - s64(super.start);
	if (!bad_log.known)
		k.bbl_entries = 1; // who knows
	u64 end = device.sectors() > sector ? device.sectors() - sector : 0;
	return std::min(end, core::room(a, k));
}

bool Member::log_in_place() const
{
	s64 at = s64(super.start) + super.bad_log_offset, end = at + super.bad_log_sectors;
	s64 data = s64(std::min(super.data_offset, u64{1} << 60));
	s64 data_end = data + s64(std::min(super.data_size, u64{1} << 60));
	return device.holds(at, super.bad_log_sectors) &&
	       (end <= s64(super.start) || at >= s64(super.start) + kSuperSectors) &&
	       (end <= data || at >= data_end);
}

void Member::each_cells(const std::function<void(u64 first, const Bytes &cells)> &f) const
{
	u64 start = bitmap.sector * kSector;
	if (bitmap.kind == Kind::Lockless)
		return device.each_piece(start + LLB_CELLS_OFFSET, bitmap.chunks, f);
	device.each_piece(start + kClassicHeader, base::div_up(bitmap.chunks, 8),
			  [&](u64 done, const Bytes &bits) {
				  Bytes cells(std::min(bits.size() * 8, bitmap.chunks - done * 8));
				  for (u64 i = 0; i < cells.size(); i++)
					  cells[i] = bits[i / 8] >> (i % 8) & 1;
				  f(done * 8, cells);
			  });
}

} // namespace tool
