// SPDX-License-Identifier: GPL-2.0
// Where the bitmap lies on the members: whether there is room, and members that come later. [rm]
#include "core/bitmap.hpp"

using base::Result;

namespace core {

// Sectors where the bitmap may lie, by what else lies on the members. spares: those without a
// slot count, too: they may get one. [rm]
u64 Bitmap::room_now(const plat_array_info &a, bool spares) const
{
	u64 least = kNoLimit;
	plat_member m;

	for (u32 i = 0; plat_member_get(host_, i, &m) == 0; i++) {
		if (m.slot < 0)
			m.bbl_entries = 0; // asked when it gets a slot, and then only it fails
		if (spares ? may_take_bitmap(m) : takes_bitmap(m))
			least = base::min(least, room(a, m));
	}
	return least;
}

// Would a load find this geometry in a header that reserves so much?
bool Bitmap::reads_back(const Geometry &geo, u64 space_sectors) const
{
	return chunk_shift_from_disk(geo.sync_size, space_sectors, u32(geo.chunk_sectors())) ==
	       geo.chunk_shift;
}

// What the header says that the bitmap may use: the truth, unless that made the chunk size
// be taken for bytes.
u64 Bitmap::reserve_for(const Geometry &geo) const
{
	return reads_back(geo, space_sectors_) ? space_sectors_ : claimed_sectors_;
}

// Every member with a slot must have room for a bitmap of so many bytes. One that has not:
// the caller is refused; or the member fails, if it has come to a running array. Under
// the leader lock, or before any I/O. [rm]
Result Bitmap::check_members(u64 bytes, Unfit unfit)
{
	plat_array_info a;
	plat_member m;
	u32 align = io_align_;

	plat_array_get(host_, &a);
	// All members are written in the largest logical block of any. Spares count: a reshape
	// gives them a slot some time before it is told here.
	for (u32 i = 0; plat_member_get(host_, i, &m) == 0; i++) {
		if (may_take_bitmap(m) && m.logical_block <= kPageBytes)
			align = base::max(align, m.logical_block);
	}
	space_sectors_ = claimed_sectors_;
	for (u32 i = 0; plat_member_get(host_, i, &m) == 0; i++) {
		if (!takes_bitmap(m))
			continue;
		Result r = check_member(host_, a, m, base::round_up(bytes, align), claimed_sectors_);
		if (r.failed() && unfit == Unfit::Refuse)
			return r;
		if (r.failed()) {
			plat_log(host_, PLAT_LOG_ERR,
				 "slot %d: its member cannot take the bitmap and is failed", m.slot);
			plat_member_fail(host_, i);
			continue;
		}
		space_sectors_ = base::min(space_sectors_, room(a, m));
		if (bad_log_inside(a, m, bytes, claimed_sectors_) && !m.bbl_entries) {
			plat_log(
				host_, PLAT_LOG_NOTICE,
				"slot %d: its empty bad-block log lies inside the bitmap's space and is switched off: a bad block fails the member",
				m.slot);
			plat_bbl_disable(host_, i);
		}
	}
	io_align_ = align;
	return Result::ok();
}

// Members that are to be recovered now and were away when the bitmap's knowledge became void.
// md asks for events_cleared when a member is bound; not when one that was bound then gets
// its slot back later, or one that had failed is taken back through its state file. [rm]
void Bitmap::distrust_members()
{
	plat_member m;

	for (u32 i = 0; plat_member_get(host_, i, &m) == 0; i++) {
		if (!takes_bitmap(m) || (m.flags & PLAT_MEMBER_IN_SYNC) || !(m.flags & PLAT_MEMBER_MISSED))
			continue;
		plat_member_distrust(host_, i);
		recover_all();
	}
}

void Bitmap::write_all()
{
	leader_lock();
	(void)check_members(table()->geo.bytes(), Unfit::Fail).failed(); // never refuses
	distrust_members();
	write_header_later();
	leader_unlock();
	flag_all(table());
	request();
	sync_waits_for_now();
	plat_leader_queue(host_);
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_write_all(llb_bitmap *b)
{
	of(b).write_all();
}
}
