// SPDX-License-Identifier: GPL-2.0
#include "core/cover.hpp"

namespace core {

namespace {

// A window lies inside its page.
static_assert(LLB_CELLS_OFFSET % kCoverChunksMax == 0 && kPageBytes % kCoverChunksMax == 0);

bool is_fresh(u8 raw)
{
	return dirty_like(state_of(raw)) && !(raw & kDirtyOnDisk);
}

// How many cells of [from, from + size) are written: size is a power of two, from a
// multiple of it.
u32 count_dirty(const Cell *cells, u32 from, u32 size)
{
	u32 n = 0;

	if (size < 8) {
		for (u32 i = from; i < from + size; i++)
			n += dirty_like(state_of(cells[i].load_relaxed()));
		return n;
	}
	for (u32 i = from; i < from + size; i += 8)
		n += eight::count_dirty(base::load_eight_acquire(&cells[i]));
	return n;
}

// What a first touch at this byte of the page covers. A lone one: its chunk. Where others are
// written beside it, the aligned window that they share; where a run of them lies right
// behind it, or before it, half as much again on the other side. The cells are the
// evidence, so that no state and no clock is needed. Hints: what they say a moment later
// does not matter.
Span cover_of(const Table *t, u32 page, u32 at, const Reach &reach)
{
	const u32 window = reach.window(), ahead = reach.ahead();
	const Cell *cells = t->pages[page];
	const u64 start = u64{page} << kPageShift;
	const u32 first = u32(t->page_first(page) + LLB_CELLS_OFFSET - start);
	const u32 end = u32(t->page_end(page) + LLB_CELLS_OFFSET - start);
	Span span = {u16(at), u16(at + 1)};
	u32 dirty = 1;

	if (!ahead)
		return span;
	for (u32 size = 2; size <= window; size *= 2) {
		u32 from = at & ~(size - 1);
		// the half of the window that was not counted yet
		dirty += count_dirty(cells, from + (at & (size / 2) ? 0 : size / 2), size / 2);
		if (dirty > 1 && (reach.near() || dirty * kCoverDensity >= size))
			span = {u16(from), u16(from + size)};
	}
	u32 low = at, high = at + 1;
	while (low > first && dirty_like(state_of(cells[low - 1].load_relaxed())))
		low--;
	while (high < end && dirty_like(state_of(cells[high].load_relaxed())))
		high++;
	if (low < at && high == at + 1)
		span.to = u16(base::max<u32>(span.to, at + 1 + base::min((at - low) / 2, ahead)));
	if (low == at && high > at + 1)
		span.from = u16(
			base::min<u32>(span.from, at - base::min(at, base::min((high - at - 1) / 2, ahead))));
	// All of the run, so that none of it is looked at again.
	return {u16(base::max<u32>(base::min<u32>(span.from, low), first)),
		u16(base::min<u32>(base::max<u32>(span.to, high), end))};
}

} // namespace

u32 Reach::window() const
{
	u64 most = base::min<u64>(kCoverChunksMax, base::max<u64>(kCoverSectorsMax >> chunk_shift_, 1));
	u64 chunks = left();

	return chunks ? u32(base::min(most, u64{1} << base::log2(chunks))) : 1;
}

Span cover_touches(const Table *t, u32 page, u8 *buf, Span words, Reach *far)
{
	Span all = words;
	Span span = {0, 0};

	for (u32 at = words.from; at < words.to; at++) {
		// What became fresh after the copy is the next commit's.
		if (!is_fresh(t->pages[page][at].load_relaxed()) || !dirty_like(static_cast<State>(buf[at])))
			continue;
		u32 took = 1;
		if (at < span.from || at >= span.to) {
			span = cover_of(t, page, at, *far);
			for (u32 i = span.from; i < span.to; i++) {
				if (buf[i] == LLB_UNWRITTEN || buf[i] == LLB_CLEAN) {
					buf[i] = LLB_DIRTY;
					took++;
				}
			}
		}
		far->took(took);
		all = {base::min(all.from, span.from), base::max(all.to, span.to)};
	}
	return all;
}

} // namespace core
