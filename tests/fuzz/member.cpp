// SPDX-License-Identifier: GPL-2.0
// The tool's reader of members (src/tool/member.cpp) over a member in memory: md's
// superblock, the bitmap's, state bytes and a bad-block log, as the input has them, each at the
// place where mdadm puts it; the rest is zero. What commands do with members that were
// read is for tests/tool/fuzz.cpp.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#include "input.hpp"
#include "tool/error.hpp"
#include "tool/member.hpp"

namespace {

using fuzz::need;
using tool::Bytes;
using tool::Member;

// The input: a byte of choices, then these.
constexpr u32 kSuper = 320, kHead = 256, kCells = 64, kLog = 64;
constexpr u32 kSum = 216, kDevices = 220; // offsets in md's superblock
constexpr u64 kSmall = 1 << 20, kLarge = u64{9} << 40; // bytes of the member
constexpr u64 kLook = 1 << 16; // chunks: of larger bitmaps the bytes are not read

enum Choice : u8 { RawSum = 8, AtTheStart = 16, AtTheEnd = 32, LongLog = 64 };

u64 little(const u8 *p, u32 bytes)
{
	return fuzz::Source(p, bytes).little(bytes);
}

// md's sum over the superblock, its own field left out.
u32 sum_of(const u8 *raw, u64 bytes)
{
	u64 sum = 0;
	for (u64 at = 0; at + 4 <= bytes; at += 4)
		sum += at == kSum ? 0 : little(raw + at, 4);
	if (bytes % 4)
		sum += little(raw + bytes - 2, 2);
	return u32(sum + (sum >> 32));
}

// A member: memory that has a path.
class Image {
    public:
	explicit Image(u64 bytes)
		: bytes(bytes)
		, fd_(memfd_create("member", 0))
	{
		void *at = ftruncate(fd_, off_t(bytes)) ? MAP_FAILED
							: mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
							       MAP_SHARED | MAP_NORESERVE, fd_, 0);
		need(at != MAP_FAILED, "no memory for a member");
		at_ = static_cast<u8 *>(at);
	}
	std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }
	void put(u64 at, const u8 *data, size_t length)
	{
		memcpy(at_ + at, data, length);
		used_[count_++] = {at, length};
	}
	// All is zero again.
	void clear()
	{
		while (count_)
			memset(at_ + used_[count_ - 1].first, 0, used_[count_ - 1].second), count_--;
	}

	const u64 bytes;

    private:
	int fd_;
	u8 *at_;
	std::pair<u64, size_t> used_[4];
	u32 count_ = 0;
};

Image &make(const u8 *data, size_t bytes)
{
	static Image small(kSmall), large(kLarge);
	u8 in[1 + kSuper + kHead + kCells + kLog] = {}, super[4096] = {};
	memcpy(in, data, std::min(bytes, sizeof(in)));
	memcpy(super, in + 1, kSuper);
	Image &image = (in[0] & 7) == 7 ? large : small;
	const u64 size = image.bytes;
	u64 start = in[0] & AtTheStart ? 0 : in[0] & AtTheEnd ? size / 512 - 16 : 8;
	if (!(in[0] & LongLog))
		super[187] = 0; // reading 32 MiB takes as long as a thousand cases
	if (!(in[0] & RawSum)) { // what is behind the check is reached
		u32 devices = u32(little(super + kDevices, 4));
		u32 sum = sum_of(super, 256 + 2 * std::min(devices, 1920u));
		for (u32 i = 0; i < 4; i++) {
			super[kSum + i] = u8(sum >> (8 * i));
			super[4 + i] = i == 0;
		}
		for (u32 i = 0; i < 8; i++)
			super[144 + i] = u8(start >> (8 * i));
	}
	const u8 *head = in + 1 + kSuper;
	s64 bitmap = s64(start) + s32(little(super + 96, 4)); // where it says that it is
	if (bitmap < 0 || bitmap > s64(size / 512 - 8))
		bitmap = 16;
	image.put(u64(bitmap) * 512, head, kHead);
	image.put(u64(bitmap) * 512 + LLB_CELLS_OFFSET, head + kHead, kCells);
	image.put(24 * 512, head + kHead + kCells, kLog);
	image.put(start * 512, super, sizeof(super));
	return image;
}

// What is said of it can be relied on.
void judge(const Member &m)
{
	const auto &b = m.bitmap;
	const u64 sectors = m.device.sectors();
	if (b.usable()) {
		// of an array of no size, whose bitmap has no layout yet, it is for others to say
		need((b.chunks && b.chunk_sectors) || (b.first_use && !m.super.sync_size()),
		     "a bitmap of no chunk");
		need(b.sector < sectors, "a bitmap off the member");
	}
	if (b.kind == tool::Kind::Lockless && b.usable() && !b.first_use) {
		u64 end = b.sector + base::div_up(LLB_CELLS_OFFSET + b.chunks, 512u);
		need(end <= sectors, "a bitmap that reaches beyond the member");
		need(b.sector >= m.super.start + 8 || end <= m.super.start, "a bitmap over the superblock");
		need(end <= m.super.data_offset || b.sector >= m.super.data_offset || !m.super.data_size,
		     "a bitmap that reaches into data");
	}
	need(m.room(b.sector) <= sectors, "room beyond the member");
	if (b.read && b.chunks <= kLook) {
		u64 next = 0;
		m.each_cells([&](u64 first, const Bytes &cells) {
			need(first == next && !cells.empty(), "cells at %llu, not at %llu",
			     (unsigned long long)first, (unsigned long long)next);
			next += cells.size();
		});
		need(next == b.chunks, "%llu cells of %llu", (unsigned long long)next,
		     (unsigned long long)b.chunks);
	}
	Bytes other =
		edited(m.super, {.events = 7, .resync_offset = 5, .bitmap_offset = 8, .drop_bad_log = true});
	need(other.size() == m.super.raw.size() &&
		     sum_of(other.data(), other.size()) == little(&other[kSum], 4),
	     "an edited superblock with a wrong sum");
	(void)m.place_faults(s64(little(m.super.raw.data(), 4)), b.head.sectors_reserved, b.chunks + 1);
	(void)m.super.uuid_text();
	(void)m.super.level_text();
}

void member(const u8 *data, size_t bytes)
{
	Image &image = make(data, bytes);
	try {
		judge(Member::read(tool::Device(image.path(), tool::Device::Use::Look)));
	} catch (const tool::Error &error) {
		need(error.status == tool::kUnreadable && error.what()[0], "status %d: %s", error.status,
		     error.what());
	}
	image.clear();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
	try {
		member(data, bytes);
	} catch (const std::exception &wrong) {
		fprintf(stderr, "WRONG: %s\n", wrong.what());
		abort();
	}
	return 0;
}
