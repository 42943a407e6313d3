// SPDX-License-Identifier: GPL-2.0
// Resize while writes go on. With the same chunk size the new table shares the
// pages of the old one. Another chunk size is another meaning of every byte on
// disk, so first all of them are made dirty there: a cut between then and the end
// resynchronises everything, and forgets nothing.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

Result Bitmap::resize(u64 sync_size)
{
	Table *t = table();
	Geometry geo;

	if (sync_size == t->geo.sync_size)
		return Result::ok();
	// A spare may be about to get a slot: md grows an array and adds disks in one go.
	plat_array_info a;
	plat_array_get(host_, &a);
	leader_lock();
	space_sectors_ = base::min(claimed_sectors_, room_now(a, true));
	leader_unlock();
	Result r = geometry_for(sync_size, space_sectors_, t->geo.chunk_shift, &geo);
	// One that would be read back as bytes is not used: chunk_shift_from_disk().
	if (!r.failed() && !reads_back(geo, reserve_for(geo)))
		r = geometry_for(sync_size, space_sectors_, geo.chunk_shift + 1, &geo);
	if (r.failed() || !has_room(geo)) {
		plat_log(host_, PLAT_LOG_ERR,
			 "resize to %llu sectors refused: the bitmap's %llu sectors are too few",
			 static_cast<unsigned long long>(sync_size),
			 static_cast<unsigned long long>(space_sectors_));
		return r.failed() ? r : Result::error(LLB_ENOSPC);
	}
	leader_lock();
	u64 space = space_sectors_;
	r = check_members(geo.bytes(), Unfit::Refuse); // before anything is written
	space_sectors_ = base::min(space_sectors_, space);
	leader_unlock();
	if (r.failed())
		return r;
	daemon_take();
	r = geo.chunk_shift == t->geo.chunk_shift ? extend(geo) : relayout(geo);
	daemon_give();
	arm(pass_ms()); // also after a failure: what is on disk may be taken back
	if (r.failed())
		return r;
	plat_chunk_bytes_set(host_, geo.chunk_sectors() << kSectorShift, sleep_s());
	if (anything_to_sync(table()))
		want_sync();
	return Result::ok();
}

Result Bitmap::extend(const Geometry &geo)
{
	const Hold held{true};
	Table *old = table();
	Table *t = Table::make(geo, group_shift(), old);

	if (!t)
		return Result::error(LLB_ENOMEM);
	// what lies beyond the old end was never written in this array's life
	for (u64 c = old->geo.chunks; c < geo.chunks; c++)
		t->cell(c).store_relaxed(static_cast<u8>(State::Unwritten)); // nobody writes there yet
	leader_lock(); // no commit works with the old table now
	// A short last chunk becomes longer by a part that has no parity.
	if (parity() && geo.sync_size > old->geo.sync_size && old->geo.sync_size % geo.chunk_sectors())
		apply(t->cell(old->geo.chunks - 1), Event::Stale, Context{true, false});
	// The header speaks of cells that are there: of fewer before they go (and with
	// what lies behind it in a 4096-byte block as it was), of more after they came.
	// A load takes what it does not speak of as unknown.
	bool shrinks = geo.sync_size < old->geo.sync_size;
	u64 before = sb_.sync_size;
	u32 reserved = sb_.sectors_reserved;
	Result r = Result::ok();
	sb_.sectors_reserved = u32(reserve_for(geo));
	if (shrinks) {
		sb_.sync_size = geo.sync_size;
		r = write_header(held);
	}
	if (!r.failed()) {
		publish(t);
		for (u32 b = t->page_of(base::min(old->geo.chunks, geo.chunks) - 1); b < geo.pages; b++)
			flag(b, kFlagWrite); // before the commit: pairs with gather()
		recount(t);
		r = commit_wide(held);
	} else {
		Table::destroy(t);
	}
	if (!r.failed() && !shrinks) {
		sb_.sync_size = geo.sync_size;
		r = write_header(held);
	}
	if (r.failed()) {
		sb_.sync_size = before;
		sb_.sectors_reserved = reserved;
	}
	leader_unlock();
	return r;
}

void Bitmap::merge_cells(const Table *from, Table *to, bool parity)
{
	u32 up = to->geo.chunk_shift - from->geo.chunk_shift;

	for (u64 c = 0; c < to->geo.chunks; c++) {
		bool sync = false, dirty = false, clean = false, parity_only = false, unwritten = false;
		u64 end = base::min((c + 1) << up, from->geo.chunks);
		for (u64 o = c << up; o < end; o++) {
			State s = state_of(from->cell(o).load_acquire()); // frozen: nobody writes it
			sync |= s == State::NeedSync || s == State::Syncing;
			dirty |= s == State::Dirty;
			clean |= s == State::Clean;
			parity_only |= s == State::CleanUnwritten;
			unwritten |= never_written(s);
		}
		// what lies beyond the old end is unwritten
		unwritten |= ((c + 1) << up) > from->geo.chunks;
		State s = State::Unwritten;
		if (sync || (parity && unwritten && (dirty || clean)))
			s = State::NeedSync;
		else if (dirty)
			s = State::Dirty;
		else if (clean)
			s = State::Clean;
		else if (parity_only && !unwritten)
			s = State::CleanUnwritten;
		u8 raw = static_cast<u8>(s);
		to->cell(c).store_relaxed(dirty_like(s) ? u8(raw | kDirtyOnDisk) : raw); // not shared yet
	}
}

Result Bitmap::relayout(const Geometry &geo)
{
	const Hold held{true};
	Table *old = table();
	Table *t = Table::make(geo, group_shift(), nullptr);

	if (!t)
		return Result::error(LLB_ENOMEM);
	leader_lock();
	// Freeze, then wait until every section that did not see it has left: from then
	// on no cell changes. Pairs with start_slow().
	old->frozen.exchange_full(1);
	plat_grace_period();
	merge_cells(old, t, parity());
	u64 size = sb_.sync_size;
	u32 chunk = sb_.chunksize;
	u32 reserved = sb_.sectors_reserved;
	Result r = mark_all_on_disk(base::max(old->geo.bytes(), geo.bytes()));
	if (!r.failed()) {
		sb_.sync_size = geo.sync_size;
		sb_.chunksize = u32(geo.chunk_sectors());
		sb_.sectors_reserved = u32(reserve_for(geo));
		// cells in the header's logical block are dirty still: they have a new meaning
		r = mark_header_on_disk();
	}
	if (r.failed()) {
		sb_.sync_size = size;
		sb_.chunksize = chunk;
		sb_.sectors_reserved = reserved;
		// A write that failed may have landed. The old header first, over dirty
		// cells, and only then cells with the old meaning again; or none any more.
		take_back_header();
		old->frozen.store_release(0); // pairs with wait_done(THAW)
		flag_all(old);
		Table::destroy(t);
	} else {
		publish(t);
		flag_all(t);
		recount(t);
		r = commit_wide(held);
	}
	leader_unlock();
	plat_wake(host_);
	return r;
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

int llb_resize(llb_bitmap *b, u64 sync_size)
{
	return of(b).resize(sync_size).value();
}
}
