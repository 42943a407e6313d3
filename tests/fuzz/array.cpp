// SPDX-License-Identifier: GPL-2.0
// An array whose members carry damaged superblocks and state bytes: created, loaded, used,
// stopped, and loaded again. What must hold is said in words of what lies on the members, as
// include/llbitmap/README.md has it; what the platform sees (writes beyond the space, W6,
// leaks) it says itself.
#include "cases.hpp"

#include <algorithm>
#include <vector>

#include "rig.hpp"

namespace fuzz {

namespace {

constexpr u32 kCells = 320; // more than an array has here
constexpr u32 kSync = PLAT_ARRAY_RUNNING | PLAT_ARRAY_SYNC;

// What a member says of the bitmap.
struct Head {
	bool known = false; // it is in sync, was not away, and can be read
	bool valid = false, first_use, stale, clean;
	bool used; // it has seen an event
	u64 events, sync_size;
	u32 chunksize;
	std::vector<u8> cells;
};

bool to_sync(u8 byte)
{
	return rig::Rig::reloads_to_sync(byte) || byte >= LLB_STATES;
}

// One case: its array.
class Array {
    public:
	Array(Source &in, Digest &out)
		: in_(in)
		, out_(out)
		, r_(options(in))
	{
		r_.h.keep_log = false;
		if (r_.o.level != 1) {
			r_.h.array.raid_chunk = 128;
			r_.h.keep_last = false;
		}
		damage_members();
		if (in.one_in(6))
			r_.h.flags &= ~PLAT_ARRAY_RDWR;
	}

	void run(Seen &seen)
	{
		look();
		int err = r_.create();
		out_.put(u64(s64(err)), 8);
		if (err) {
			seen.turned_away++;
			turned_away();
			return;
		}
		seen.made++;
		need(r_.h.io_batches == 0, "create wrote");
		said(0);
		judge();
		err = r_.load();
		out_.put(u64(s64(err)), 8);
		need(!err, "load: %d", err);
		seen.loaded++;
		judge();
		on_disk();
		while (!in_.done() && steps_ < 40 && !broken())
			step();
		finish();
	}

    private:
	static rig::Options options(Source &in)
	{
		constexpr s32 levels[] = {1, 5, 10, 6};
		constexpr u32 spaces[] = {16, 8, 24, 32, 64};
		rig::Options o;
		o.level = levels[in.below(4)];
		o.members = o.level == 6 ? 4 : o.level == 5 ? 3 : 2 + in.below(2);
		o.space = spaces[in.below(5)];
		o.chunks = 1 + in.below(300);
		o.sync_size = o.chunks * rig::kChunk - in.below(8) * 8;
		o.guard = LLB_PAGE_BYTES;
		o.fill = u8(LLB_CLEAN - in.below(2));
		if (in.one_in(8))
			o.state = LLB_SB_FIRST_USE | (in.below(2) ? u32{LLB_SB_CLEAN} : 0);
		return o;
	}

	void damage_members()
	{
		bool alike = in_.below(2);
		for (u32 i = 0; i < r_.o.members; i++) {
			auto &m = *r_.h.members[i];
			if (i && alike) {
				for (u32 at = 0; at < LLB_CELLS_OFFSET + kCells; at++)
					m.put(at, r_.h.members[0]->at(at));
			} else {
				for (u32 n = in_.below(5); n > 0; n--)
					damage(
						in_, [&](u32 at) { return m.at(at); },
						[&](u32 at, u8 v) { m.put(at, v); });
			}
			for (u32 n = in_.below(16); n > 0; n--) {
				u32 cell = in_.below(kCells); // before the byte: one order on all compilers
				m.put(LLB_CELLS_OFFSET + cell, u8(in_.one_in(8) ? in_.byte() : in_.below(9)));
			}
			state_of(i, in_.below(16));
		}
	}

	// What md says of a member. Raid1's and raid10's md would not start without any.
	void state_of(u32 i, u32 what)
	{
		auto &m = *r_.h.members[i];
		switch (what) {
		case 1:
			m.flags = PLAT_MEMBER_FAULTY;
			break;
		case 2:
			m.flags |= PLAT_MEMBER_OLD; // comes back
			m.flags &= ~PLAT_MEMBER_IN_SYNC;
			break;
		case 3:
			m.flags = 0;
			break;
		case 4:
			m.flags = 0;
			m.slot = -1;
			break;
		case 5:
			m.fail_reads = -1;
			return;
		case 6:
			m.m.logical_block = 4096;
			return;
		default:
			return;
		}
		r_.h.degraded++;
	}

	// ---- what the members say, before anything is written ----

	void look()
	{
		for (u32 i = 0; i < r_.o.members; i++) {
			const auto &m = *r_.h.members[i];
			Head h;
			auto field = [&](u32 at, u32 bytes) {
				u64 v = 0;
				for (u32 n = 0; n < bytes; n++)
					v |= u64{m.at(at + n)} << (8 * n);
				return v;
			};
			h.known = m.in_sync() && !m.has(PLAT_MEMBER_OLD) && !m.fail_reads;
			u8 page[LLB_SB_BYTES];
			for (u32 at = 0; at < LLB_SB_BYTES; at++)
				page[at] = m.at(at);
			// which are valid is what the case "superblock" asks
			h.valid = h.known &&
				  !core::super_validate(&r_.h, core::super_decode(page), r_.h.array, 0)
					   .failed();
			u64 state = field(LLB_SB_STATE, 4);
			h.first_use = state & LLB_SB_FIRST_USE;
			h.stale = state & LLB_SB_STALE;
			h.clean = state & LLB_SB_CLEAN;
			h.events = field(LLB_SB_EVENTS, 8);
			h.used = h.events || field(LLB_SB_EVENTS_CLEARED, 8);
			h.sync_size = field(LLB_SB_SYNC_SIZE, 8);
			h.chunksize = u32(field(LLB_SB_CHUNKSIZE, 4));
			if (h.events > r_.h.events + 1)
				h.events = 0; // damage: it says nothing
			h.cells.resize(kCells);
			for (u32 cell = 0; cell < kCells; cell++)
				h.cells[cell] = m.at(LLB_CELLS_OFFSET + cell);
			heads_.push_back(h);
		}
	}

	void said(int errors)
	{
		int found = r_.h.count_log(PLAT_LOG_ERR);
		need(found == errors, "%d lines of an error, not %d:\n%s", found, errors,
		     r_.h.log_text().c_str());
	}

	void turned_away()
	{
		need(!r_.h.bitmap, "refused, and there is a bitmap");
		need(r_.h.io_batches == 0, "refused, and written");
		said(1);
	}

	std::vector<u8> states()
	{
		llb_metadata m;
		llb_metadata_get(r_.b(), &m);
		std::vector<u8> all(m.chunks + 1);
		need(llb_cells_copy(r_.b(), 0, all.data(), all.size()) == m.chunks, "cells are missing");
		all.pop_back();
		return all;
	}

	// Nothing is called better than every member that counts calls it.
	void judge()
	{
		u64 newest = 0, events = r_.h.events;
		std::vector<const Head *> count;
		for (const Head &h : heads_) {
			if (h.valid)
				newest = std::max(newest, h.events);
		}
		for (const Head &h : heads_) {
			if (h.valid && h.events >= std::min(events, newest))
				count.push_back(&h);
		}
		need(!count.empty(), "nobody's bitmap was loaded");
		bool all_new = true, all_clean = true, any_event = false, distrust = newest < events;
		u64 known = ~0ull; // sectors
		for (const Head *h : count) {
			all_new = all_new && h->first_use;
			all_clean = all_clean && h->clean;
			any_event = any_event || h->used;
		}
		u32 size = 0;
		for (const Head *h : count) {
			if (h->first_use && !all_new)
				continue; // its header says less than the others'
			distrust = distrust || h->stale || (size && h->chunksize != size);
			size = h->chunksize;
			known = std::min(known, h->sync_size);
		}
		for (const Head *h : count)
			distrust = distrust || (h->stale && !all_new);
		llb_metadata m;
		llb_metadata_get(r_.b(), &m);
		auto is = states();
		for (u64 c = 0; c < is.size(); c++) {
			u8 s = is[c];
			out_.put(s, 1);
			if (all_new) {
				u8 as = any_event ? LLB_NEED_SYNC : all_clean ? LLB_CLEAN : LLB_UNWRITTEN;
				need(s == as, "new: chunk %llu is %u, not %u", (unsigned long long)c, s, as);
				continue;
			}
			need(s == LLB_NEED_SYNC || s == LLB_CLEAN || s == LLB_UNWRITTEN ||
				     s == LLB_CLEAN_UNWRITTEN,
			     "chunk %llu is %u after a load", (unsigned long long)c, s);
			if (s == LLB_NEED_SYNC)
				continue; // the worst there is
			need(!distrust, "chunk %llu of a bitmap that is not to be believed is %u",
			     (unsigned long long)c, s);
			u64 end = std::min((c + 1) * m.chunk_sectors, r_.o.sync_size);
			need((size == m.chunk_sectors || size == m.chunk_sectors * 512) && end <= known,
			     "chunk %llu ends at sector %llu and is %u, but the members speak of %llu",
			     (unsigned long long)c, (unsigned long long)end, s, (unsigned long long)known);
			for (const Head *h : count) {
				if (h->chunksize != size || c >= h->cells.size())
					continue;
				u8 byte = h->cells[c];
				need(!to_sync(byte) && (s != LLB_CLEAN || byte == LLB_CLEAN) &&
					     (s != LLB_CLEAN_UNWRITTEN || byte == LLB_CLEAN_UNWRITTEN) &&
					     (s != LLB_UNWRITTEN || byte != LLB_CLEAN),
				     "chunk %llu is %u, and a member says %u", (unsigned long long)c, s,
				     byte);
			}
		}
	}

	// ---- what is on the members, once something was written ----

	bool broken() const { return r_.h.flags & PLAT_ARRAY_BROKEN; }
	bool writable() const { return (r_.h.flags & PLAT_ARRAY_RDWR) && !broken(); }

	// What memory calls dirty, a cut resynchronises; nothing is called clean on disk only.
	void on_disk()
	{
		if (!writable())
			return;
		r_.wait_durable();
		if (broken())
			return;
		auto is = states();
		for (const auto &m : r_.h.members) {
			for (u64 c = 0; m->working() && c < is.size(); c++) {
				u8 byte = m->at(LLB_CELLS_OFFSET + c);
				need(!core::dirty_like(core::State(is[c])) || to_sync(byte),
				     "chunk %llu is %u, on a member %u", (unsigned long long)c, is[c], byte);
				need(byte != LLB_CLEAN || is[c] == LLB_CLEAN,
				     "chunk %llu is %u, on a member clean", (unsigned long long)c, is[c]);
			}
		}
	}

	void write(u64 chunk, u64 sectors)
	{
		u64 size = r_.chunk_sectors(), at = chunk * size;
		sectors = std::min(sectors, r_.o.sync_size - at);
		llb_start_write(r_.b(), at, sectors);
		r_.wait_durable();
		for (u64 c = chunk; !broken() && c * size < at + sectors; c++) {
			for (u32 i = 0; i < r_.o.members; i++)
				need(!r_.h.members[i]->working() || to_sync(r_.disk(i, c)),
				     "data goes to chunk %llu, and member %u has %u there",
				     (unsigned long long)c, i, r_.disk(i, c));
		}
		llb_end_write(r_.b(), at, sectors);
	}

	void resync()
	{
		r_.h.flags |= kSync;
		for (u64 s = 0; s < r_.o.sync_size;) {
			llb_u64 blocks = llb_skip_sync(r_.b(), s);
			if (!blocks) {
				llb_cond_end_sync(r_.b(), s, 0);
				llb_start_sync(r_.b(), s, &blocks, r_.h.degraded > 0);
				need(blocks, "a step of 0 sectors");
			}
			s += blocks;
		}
		llb_close_sync(r_.b());
		r_.h.flags &= ~kSync;
	}

	void event()
	{
		r_.h.events++;
		llb_update_sb(r_.b());
	}

	void step()
	{
		steps_++;
		u64 chunks = states().size();
		switch (u32 what = in_.below(16)) {
		case 0:
		case 1:
		case 2:
		case 3: {
			u64 chunk = in_.little(2) % chunks, sectors = 1 + in_.below(what < 3 ? 64 : 2048);
			r_.h.flags |= PLAT_ARRAY_RDWR;
			write(chunk, sectors);
			break;
		}
		case 4: {
			u64 from = in_.little(2) % chunks * r_.chunk_sectors(),
			    sectors = std::min<u64>(8 + in_.little(2), r_.o.sync_size - from);
			r_.h.flags |= PLAT_ARRAY_RDWR;
			llb_start_discard(r_.b(), from, sectors);
			r_.wait_durable();
			llb_end_discard(r_.b(), from, sectors);
			break;
		}
		case 5:
			event();
			break;
		case 6:
		case 7:
			r_.h.run_for(1000 * u64{in_.below(80)});
			break;
		case 8: {
			u32 knob = in_.below(4);
			int err = llb_tune(r_.b(), knob, in_.number());
			need(err == 0 || err == -LLB_EINVAL || err == -LLB_ERANGE, "tune: %d", err);
			break;
		}
		case 9: { // as md has looked: within the array, in order; kept only if it may be written
			r_.h.flags |= PLAT_ARRAY_RDWR;
			u64 first = in_.little(2) % chunks;
			llb_dirty_bits(r_.b(), first, first + in_.little(2) % (chunks - first));
			break;
		}
		case 10:
			if (writable())
				resync();
			break;
		case 11:
			llb_flush(r_.b());
			break;
		case 12: {
			int err = llb_proactive_sync(r_.b());
			need(err == 0 || (err < 0 && err > -1000), "proactive sync: %d", err);
			break;
		}
		case 13: // it fails with its next write, or now
			if (in_.below(2))
				r_.h.members[in_.below(r_.o.members)]->fail_writes = 1;
			else
				r_.h.fail_member(in_.below(r_.o.members));
			event();
			break;
		case 14:
			llb_write_all(r_.b());
			break;
		default: {
			u8 cells[64];
			u64 first = in_.number(), count = llb_cells_copy(r_.b(), first, cells, sizeof(cells));
			need(count == (first < chunks ? std::min<u64>(64, chunks - first) : 0),
			     "%llu cells at %llu", (unsigned long long)count, (unsigned long long)first);
		}
		}
		on_disk();
	}

	// It comes to rest; and what waits for a resync is not forgotten over a restart.
	void finish()
	{
		for (auto &m : r_.h.members)
			m->fail_writes = 0;
		bool whole = r_.h.degraded == 0 && writable();
		if (!broken()) {
			llb_tune(r_.b(), LLB_TUNE_DAEMON_SLEEP, 30);
			llb_tune(r_.b(), LLB_TUNE_BARRIER_IDLE, 5);
			r_.idle();
			r_.idle();
		}
		auto is = states();
		for (u64 c = 0; c < is.size(); c++) {
			out_.put(is[c], 1);
			need(!whole || is[c] != LLB_DIRTY, "chunk %llu rests, and stays dirty",
			     (unsigned long long)c);
		}
		r_.stop();
		out_.text(r_.h.log_text());
		for (const auto &m : r_.h.members) {
			for (u32 i = 0; i < LLB_CELLS_OFFSET + kCells; i++)
				out_.put(m->at(i), 1);
		}
		if (broken() || r_.create())
			return; // nobody is left
		need(!r_.load(), "load after a stop");
		auto now = states();
		need(now.size() == is.size(), "%zu chunks, there were %zu", now.size(), is.size());
		for (u64 c = 0; c < is.size(); c++)
			need(!core::dirty_like(core::State(is[c])) || now[c] == LLB_NEED_SYNC,
			     "chunk %llu was %u, and is %u after a restart", (unsigned long long)c, is[c],
			     now[c]);
	}

	Source &in_;
	Digest &out_;
	rig::Rig r_;
	std::vector<Head> heads_;
	u32 steps_ = 0;
};

} // namespace

void array(Source in, Digest &out, Seen &seen)
{
	Array(in, out).run(seen);
	need(!testing::Test::HasFailure(), "the platform found something, see above");
}

} // namespace fuzz
