// SPDX-License-Identifier: GPL-2.0
// A reshape, as the bitmap sees it: what md calls when, and what is made durable before data moves.
//
// md writes its superblocks when a reshape starts, before its first stripe moves; at each of its
// checkpoints; for each member that fails or comes; and when it is over. It calls update_sb()
// before each. A reshape moves data, so that what the bitmap knows of members that are away is
// about other places: each of these headers says that nothing is known of who has not seen this
// event, and one more does when it is over. Another level is like a reshape.
// Members that it adds are in sync from its start, and md does not call write_all() for them:
// they get the check, the header and all cells when update_sb() sees it for the first time.
//
// Of raid4/5/6 it moves data to member sectors that were never written, in the order of the
// array. The sync thread asks skip_sync() first, which lets no stripe move before all chunks are
// durable as written: mark_everything_written(). The mark that this was done falls when a chunk
// becomes Unwritten again (a discard while it runs), and when the next reshape begins, for chunks
// may have come since.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

void Bitmap::update_sb()
{
	const Hold held{true};
	Table *t = table();
	plat_array_info a;

	u64 recovered = recovered_to();
	if (recovered != kNoLimit) // at once: md has just raised that
		plat_recovery_back(host_, recovered);
	plat_array_get(host_, &a);
	bool moving = a.flags & PLAT_ARRAY_RESHAPE_PENDING;
	leader_lock();
	bool first = init_pending();
	bool lost = broken();
	bool begins = moving && !moving_ && !lost;
	if (begins) // chunks may have come since the last one
		set_written_marked(false);
	if (begins) {
		(void)check_members(t->geo.bytes(), Unfit::Fail).failed(); // never refuses
		flag_all(t);
	}
	Header says = Header::Events;
	if (moving || moving_ || a.level != level_seen_) {
		says = Header::EventsOnly;
		plat_absent_missed(host_);
	}
	if (lost) // the old ones, and the stale mark
		says = Header::Same;
	// W5: what a stale bitmap, or one of a first use, became is durable first: a
	// commit, and its header takes them. All is flagged.
	if (begins)
		write_header_later();
	Result r = (first && !lost) || begins ? commit_wide(held, says) : write_header(held, says);
	if (!r.failed()) {
		moving_ = moving;
		level_seen_ = a.level;
	}
	show_events_cleared(); // md asks under reconfig_mutex
	leader_unlock();
}

void Resync::mark_everything_written()
{
	Table *t = table();

	set_written_marked(true); // before the cells: pairs with clear_cells()
	for (u64 c = 0; c < t->geo.chunks; c++) {
		Cell &cell = t->cell(c);
		u8 raw = cell.load_relaxed();
		for (;;) {
			State s = state_of(raw);
			bool unwritten = never_written(s) || s == State::CleanUnwritten;
			if (!unwritten && !(raw & kTrim))
				break;
			u8 to = unwritten ? static_cast<u8>(State::NeedSync) : u8(s);
			if (cell.cas_full(raw, u8((raw & kDirtyOnDisk) | to)))
				break; // pairs with (a)
		}
	}
	flag_all(t);
	request();
	want_sync();
	commit_upto_in_sync_thread(requested());
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_update_sb(llb_bitmap *b)
{
	of(b).update_sb();
}
}
