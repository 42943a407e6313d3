// SPDX-License-Identifier: GPL-2.0
#include "rig.hpp"

#include <stdexcept>

struct core::Peek {
	static core::Table *table(core::Bitmap &b) { return b.table(); }
};

namespace rig {

Rig::Rig(const Options &options)
	: o(options)
	, h(options.members, options.space, options.guard)
{
	live_before_ = fake::live_allocations();
	h.array.level = o.level;
	if (!o.sync_size)
		o.sync_size = o.chunks * kChunk;
	h.array.sync_size = o.sync_size;
	h.array.raid_chunk = o.raid_chunk;
	for (u32 i = 0; i < o.members; i++)
		format(i, o);
}

Rig::~Rig()
{
	if (h.bitmap)
		stop();
	for (const auto &v : h.violations)
		ADD_FAILURE() << "platform: " << v;
	EXPECT_EQ(h.refs.load(), 0) << "references to the members are left";
	EXPECT_FALSE(h.batch_open) << "a batch was begun and not waited for";
	if (check_leaks) {
		EXPECT_EQ(fake::live_allocations(), live_before_) << "memory is left";
	}
}

void Rig::put32(u32 member, u32 offset, u32 value)
{
	for (u32 i = 0; i < 4; i++)
		h.members[member]->put(offset + i, u8(value >> (8 * i)));
}

void Rig::put64(u32 member, u32 offset, u64 value)
{
	put32(member, offset, u32(value));
	put32(member, offset + 4, u32(value >> 32));
}

u32 Rig::get32(u32 member, u32 offset) const
{
	u32 v = 0;
	for (u32 i = 0; i < 4; i++)
		v |= u32(h.members[member]->at(offset + i)) << (8 * i);
	return v;
}

u64 Rig::get64(u32 member, u32 offset) const
{
	return get32(member, offset) | u64(get32(member, offset + 4)) << 32;
}

void Rig::format(u32 member, const Options &f)
{
	auto &m = *h.members[member];
	for (u32 i = 0; i < h.space_bytes; i++)
		m.put(i, 0);
	put32(member, 0, LLB_MAGIC);
	put32(member, 4, LLB_VERSION);
	for (u32 i = 0; i < 16; i++)
		m.put(8 + i, h.array.uuid[i]);
	put64(member, 24, f.state & LLB_SB_FIRST_USE ? 0 : f.disk_events); // mdadm's has none
	put64(member, 32, 0);
	put64(member, 40, f.sync_size);
	put32(member, 48, f.state);
	u32 field = f.chunksize;
	if (!field) {
		core::Geometry geo;
		if (!core::geometry_for(f.sync_size, f.space, core::kChunkShiftMin, &geo).failed())
			field = u32(geo.chunk_sectors());
	}
	put32(member, 52, field);
	put32(member, 56, 30);
	put32(member, 60, 0);
	put32(member, 64, f.space);
	u64 bytes = core::chunks_of(f.sync_size, base::log2(field ? field : 128));
	for (u64 c = 0; c < bytes && LLB_CELLS_OFFSET + c < m.bytes.size(); c++)
		m.put(LLB_CELLS_OFFSET + c, c < f.cells.size() ? f.cells[c] : f.fill);
}

int Rig::create()
{
	llb_bitmap *b = nullptr;
	int err = llb_create(&h, &b);
	h.bitmap = b;
	return err;
}

int Rig::load()
{
	return llb_load(h.bitmap);
}

void Rig::start()
{
	if (int err = create())
		throw std::runtime_error("create: " + std::to_string(err) + "\n" + h.log_text());
	if (int err = load())
		throw std::runtime_error("load: " + std::to_string(err) + "\n" + h.log_text());
}

void Rig::stop()
{
	llb_destroy(h.bitmap);
	h.bitmap = nullptr;
	h.daemon_due = ~0ull;
	h.lead_queued = false;
}

core::Table *Rig::table()
{
	return core::Peek::table(core::of(h.bitmap));
}

u8 Rig::raw(u64 chunk)
{
	return table()->cell(chunk).load_relaxed();
}

void Rig::set_raw(u64 chunk, u8 raw_byte)
{
	table()->cell(chunk).store_relaxed(raw_byte);
}

u8 Rig::disk(u64 chunk) const
{
	int found = -1;
	for (u32 i = 0; i < h.members.size(); i++) {
		if (!h.members[i]->working())
			continue;
		if (found >= 0 && disk(i, chunk) != found)
			return 0xEE;
		found = disk(i, chunk);
	}
	return u8(found);
}

std::vector<u64> Rig::counts()
{
	std::vector<u64> n(LLB_STATES);
	llb_bits_count(b(), reinterpret_cast<llb_u64 *>(n.data()));
	return n;
}

u64 Rig::chunk_sectors()
{
	llb_metadata m;
	llb_metadata_get(b(), &m);
	return m.chunk_sectors;
}

Image Rig::image() const
{
	Image all;
	for (const auto &m : h.members) {
		std::vector<u8> bytes(m->bytes.size());
		for (size_t i = 0; i < bytes.size(); i++)
			bytes[i] = m->at(i);
		all.push_back(bytes);
	}
	return all;
}

void Rig::restore(const Image &image)
{
	for (size_t i = 0; i < image.size(); i++) {
		for (size_t at = 0; at < image[i].size(); at++)
			h.members[i]->put(at, image[i][at]);
	}
}

Image Rig::replay(const Image &base, size_t n) const
{
	Image all = base;
	for (size_t i = 0; i < n; i++) {
		const auto &w = h.writes[i];
		memcpy(&all[w.member][w.offset], w.data, sizeof(w.data));
	}
	return all;
}

std::vector<Image> Rig::cuts(const Image &base) const
{
	std::vector<Image> all = {base};
	Image whole = base;
	auto put = [&](Image &to, size_t i) {
		const auto &w = h.writes[i];
		memcpy(&to[w.member][w.offset], w.data, sizeof(w.data));
	};
	for (size_t from = 0, to; from < h.writes.size(); from = to) {
		for (to = from; to < h.writes.size() && h.writes[to].batch == h.writes[from].batch;)
			to++;
		Image part = whole;
		for (size_t i = to; i-- > from;) {
			put(part, i);
			all.push_back(part);
		}
		for (size_t i = from; i < to; i++) {
			put(whole, i);
			all.push_back(whole);
		}
	}
	return all;
}

const char *name(State s)
{
#define NAME(name, byte, text) #name,
	static const char *const names[] = {LLB_STATE_LIST(NAME)};
#undef NAME
	return s == State::None ? "-" : names[static_cast<u8>(s)];
}

} // namespace rig
