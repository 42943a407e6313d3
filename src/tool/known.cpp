// SPDX-License-Identifier: GPL-2.0
#include "tool/known.hpp"

namespace tool {

Known Known::nothing(u64 sync_size)
{
	Known k;
	k.parts_.push_back({0, sync_size, false});
	return k;
}

bool Known::all_clean() const
{
	bool clean = true;
	each_dirty([&](u64, u64) { clean = false; });
	return clean;
}

Known Known::of(const Array &a)
{
	Known k;
	const MdSuper &s = a.super();
	k.sync_size_ = s.sync_size();
	if (s.has(kFeatureBitmap)) {
		k.learn(a);
		return k;
	}
	u64 synced = std::min(s.resync_offset, k.sync_size_);
	if (synced)
		k.parts_.push_back({0, synced, true});
	if (synced < k.sync_size_)
		k.parts_.push_back({synced, k.sync_size_, false});
	k.from = synced == k.sync_size_ ? "no bitmap, in sync"
					: "no bitmap, not in sync from sector " + std::to_string(synced);
	return k;
}

void Known::learn(const Array &a)
{
	std::vector<const Member *> current;
	const Bitmap *any = nullptr;
	bool mixed = false, marked_stale = false;
	for (const Member *m : active_of(a)) {
		const Bitmap &b = m->bitmap;
		if (!b.usable())
			continue;
		mixed |= any && any->kind != b.kind;
		any = &b;
		// Marked so, though it is as new as the array: who knows of what.
		marked_stale |= b.stale && b.head.events >= m->super.events;
		if (!b.stale && (b.first_use || b.head.sync_size == sync_size_))
			current.push_back(m);
	}
	kind = any && !mixed ? any->kind : Kind::Unknown;
	from = any && !mixed ? kind_text(kind) : "damaged";
	auto nothing = [&](const char *why) {
		from += why;
		parts_.push_back({0, sync_size_, false});
	};
	if (!any || mixed)
		return nothing("");
	if (current.empty() || marked_stale)
		return nothing(" (stale)");
	const Bitmap &b = current[0]->bitmap;
	for (const Member *m : current) {
		const Bitmap &other = m->bitmap;
		if (other.first_use != b.first_use || other.chunk_sectors != b.chunk_sectors ||
		    other.chunks != b.chunks || other.head.state != b.head.state)
			return nothing(" (members disagree)");
		// mdadm leaves 0, and the first start takes the mark away.
		if (other.first_use && other.head.events)
			return nothing(" (marked as never started, but written to)");
	}
	if (b.first_use) {
		from += " (never started)";
		parts_.push_back({0, sync_size_, bool(b.head.state & LLB_SB_CLEAN)});
		return;
	}
	chunk_sectors_ = b.chunk_sectors;
	chunks_ = b.chunks;
	fold(current);
	u64 count = 0;
	for (u8 bits : dirty_)
		count += u64(__builtin_popcount(bits));
	from += " (" + std::to_string(count) + " of " + std::to_string(chunks_) + " chunks not clean)";
}

// A chunk is clean if all members that have a current bitmap say so alike.
void Known::fold(const std::vector<const Member *> &current)
{
	dirty_.assign(base::div_up(chunks_, 8), 0);
	// Clean and CleanUnwritten are both good, but not one beside the other.
	Bytes unwritten(kind == Kind::Lockless ? dirty_.size() : 0);
	for (const Member *m : current) {
		bool first_member = m == current[0];
		m->each_cells([&](u64 first, const Bytes &cells) {
			for (u64 i = 0; i < cells.size(); i++) {
				u64 at = (first + i) / 8;
				u8 bit = u8(1 << (first + i) % 8);
				u8 cell = cells[i];
				bool clean = kind == Kind::Classic
						     ? cell == 0
						     : cell == LLB_CLEAN || cell == LLB_CLEAN_UNWRITTEN;
				// Never written: raid4/5/6 have no parity there, the others no equal copies.
				if (!clean)
					dirty_[at] |= bit;
				if (kind != Kind::Lockless)
					continue;
				bool is = cell == LLB_CLEAN_UNWRITTEN;
				if (first_member)
					unwritten[at] |= is ? bit : 0;
				else if (is != bool(unwritten[at] & bit))
					dirty_[at] |= bit;
			}
		});
	}
}

} // namespace tool
