// SPDX-License-Identifier: GPL-2.0
// Create (read, believe or not, allocate: nothing is written), load (make it
// durable, ask for a resync), removal.
#include "core/bitmap.hpp"
#include "core/new.hpp"

using base::Result;

namespace core {

namespace {

constexpr u32 kMappedStripes = 16; // check_mapping()
constexpr u64 kMappedSectors = 8; // a page, what raid4/5/6 works with

// Two members' bytes of a chunk, both reloaded. They differ after a cut in the
// middle of a commit, or if one missed a write: believe the worse.
u8 merged(u8 a, u8 b)
{
	if (a == b)
		return a;
	bool no_data = (a == LLB_UNWRITTEN || a == LLB_CLEAN_UNWRITTEN) &&
		       (b == LLB_UNWRITTEN || b == LLB_CLEAN_UNWRITTEN);
	return no_data ? LLB_UNWRITTEN : LLB_NEED_SYNC;
}

// Two current superblocks. They differ after a cut in the middle of a header's write, or
// if one is damaged: for each field the one that resynchronises more, or promises less.
BitmapSuper merged(const BitmapSuper &a, const BitmapSuper &b)
{
	// A used bitmap says more than one that calls itself new.
	bool take_a = a.first_use() == b.first_use() ? a.events >= b.events : !a.first_use();
	BitmapSuper m = take_a ? a : b;
	m.state = ((a.state | b.state) & LLB_SB_STALE) | (a.state & b.state & ~LLB_SB_STALE);
	m.events_cleared = base::max(a.events_cleared, b.events_cleared);
	if (a.first_use() != b.first_use())
		return m;
	if (a.chunksize != b.chunksize)
		m.state |= LLB_SB_STALE; // the bytes of one mean something else
	m.sync_size = base::min(a.sync_size, b.sync_size); // beyond, one knows nothing
	if (a.sectors_reserved && b.sectors_reserved)
		m.sectors_reserved = base::min(a.sectors_reserved, b.sectors_reserved);
	return m;
}

// A bitmap for an array that runs without one. md's SET_ARRAY_INFO puts it into what is left of
// the 4 KiB of its superblock, with all writes suspended, and makes our files. Its bitmap/location
// would put files over ours that take our object for the classic bitmap: it says no room.
Result can_begin_live(plat_array *h, const plat_array_info &a)
{
	if (!(a.flags & PLAT_ARRAY_SUSPENDED) || a.bitmap_offset != kLiveOffset ||
	    a.bitmap_space != kLiveSpace) {
		plat_log(
			h, PLAT_LOG_ERR,
			"a lockless bitmap is not added to a running array like this; use llbitmap convert --to lockless");
		return Result::error(LLB_EOPNOTSUPP);
	}
	if (a.degraded || (a.flags & (PLAT_ARRAY_RESYNC_DUE | PLAT_ARRAY_RESHAPE_PENDING)) ||
	    !(a.flags & PLAT_ARRAY_RDWR)) {
		plat_bitmap_place(h, kLiveOffset); // md would leave the room that it said
		plat_log(
			h, PLAT_LOG_ERR,
			"a lockless bitmap can be added to a running array when it is whole, in sync and not read-only");
		return Result::error(LLB_EINVAL); // not busy: trying again is no use
	}
	return Result::ok();
}

// What no bitmap of this kind can be for.
Result possible(plat_array *h, const plat_array_info &a)
{
	const struct {
		bool is;
		int error;
		const char *why;
	} refusals[] = {
		{(a.flags & PLAT_ARRAY_DM) != 0, LLB_EOPNOTSUPP,
		 "dm-raid arrays are not supported; use the classic bitmap"},
		{(a.flags & PLAT_ARRAY_CLUSTERED) != 0, LLB_EOPNOTSUPP,
		 "clustered arrays are not supported; use --bitmap=clustered"},
		{(a.flags & PLAT_ARRAY_BITMAP_FILE) || a.bitmap_offset == 0, LLB_EINVAL,
		 "a lockless bitmap lives on the members, not in a file; use --bitmap=lockless"},
		// mdadm refuses 1.0 and 1.1 itself; for 0.90 it writes a header that no array of
		// that size could have.
		{(a.flags & PLAT_ARRAY_OTHER_META) != 0, LLB_EOPNOTSUPP,
		 "a lockless bitmap needs metadata 1.2; create the array with --metadata=1.2"},
	};

	for (const auto &refusal : refusals) {
		if (!refusal.is)
			continue;
		plat_log(h, PLAT_LOG_ERR, "%s", refusal.why);
		return Result::error(refusal.error);
	}
	return Result::ok();
}

} // namespace

// What the members say of the bitmap: each superblock is read once, before anything is believed.
struct Bitmap::Found {
	struct Of {
		BitmapSuper sb;
		bool read, valid;
		bool current; // it missed no write: its bytes count
	};

	[[gnu::always_inline]] explicit Found(plat_array *h)
	{
		plat_member m;

		while (plat_member_get(h, members, &m) == 0)
			members++;
		of = static_cast<Of *>(plat_alloc(members * sizeof(Of)));
	}
	[[gnu::always_inline]] ~Found() { plat_free(of); }
	Found(const Found &) = delete;
	Found &operator=(const Found &) = delete;

	u32 members = 0;
	Of *of;
	u64 invalid_bytes = 0; // state bytes that are none
};

// ---- create ----

Result Bitmap::create(plat_array *h, Bitmap **out)
{
	plat_array_info a;
	plat_array_get(h, &a);
	Result r = possible(h, a);
	if (r.failed())
		return r;
	const bool live = a.flags & PLAT_ARRAY_BARE;
	if (live)
		r = can_begin_live(h, a);
	if (r.failed())
		return r;

	Bitmap *b = allocate<Bitmap>(h, a.level);
	if (!b)
		return Result::error(LLB_ENOMEM);
	b->not_shared();
	b->io_buf_ = static_cast<u8 *>(plat_page_alloc(1));
	Found found{h};
	r = b->io_buf_ && found.of ? b->read_superblocks(a, &found) : Result::error(LLB_ENOMEM);
	if (!r.failed() && live)
		r = b->begin_live(&a);
	Geometry geo;
	if (!r.failed())
		r = b->choose_geometry(a, &geo);
	if (!r.failed())
		r = b->make_parts(a, geo);
	if (!r.failed())
		r = b->check_members(geo.bytes(), Unfit::Refuse);
	if (!r.failed())
		r = b->read_state(a, &found);
	if (live)
		b->clear_past(a.events);
	if (r.failed()) {
		b->destroy();
		return r;
	}
	if (b->space_sectors_ < b->claimed_sectors_)
		plat_log(
			h, PLAT_LOG_WARN,
			"the bitmap's header reserves %llu sectors, but on a member only %llu are free: these are used",
			static_cast<unsigned long long>(b->claimed_sectors_),
			static_cast<unsigned long long>(b->space_sectors_));
	plat_chunk_bytes_set(h, geo.chunk_sectors() << kSectorShift, b->sleep_s());
	*out = b;
	return Result::ok();
}

// The newest valid superblock of the in-sync members, merged with others that are as new. A warning
// for each bad one; or, if no member has a good one, one error.
Result Bitmap::read_superblocks(const plat_array_info &a, Found *found)
{
	bool any_read = false, any_valid = false, merging = false;
	u64 newest = 0;

	for (u32 i = 0; i < found->members; i++) {
		Found::Of &of = found->of[i];
		plat_member m;
		if (plat_member_get(host_, i, &m) || !is_believed(m) || m.logical_block > kPageBytes ||
		    plat_read(host_, i, 0, io_buf_, base::max(512u, m.logical_block)))
			continue;
		of.sb = super_decode(io_buf_);
		of.read = true;
		of.valid = !super_validate(host_, of.sb, a, 0).failed();
		if (of.valid)
			newest = base::max(newest, events_seen(of.sb, a.events));
		any_read = true;
		any_valid |= of.valid;
	}
	for (u32 i = 0; i < found->members; i++) {
		const Found::Of &of = found->of[i];
		if (of.read && !of.valid) {
			Result r = super_validate(host_, of.sb, a, any_valid ? PLAT_LOG_WARN : PLAT_LOG_ERR);
			if (!any_valid)
				return r;
		} else if (of.read && is_current(of.sb, a.events, newest)) {
			sb_ = merging ? merged(sb_, of.sb) : of.sb;
			merging = true;
		}
	}
	if (!any_read) {
		plat_log(host_, PLAT_LOG_ERR,
			 "the bitmap superblock could not be read from any in-sync member");
		return Result::error(LLB_EIO);
	}
	// One that is behind the chosen superblock and the array missed writes.
	for (u32 i = 0; i < found->members; i++) {
		Found::Of &of = found->of[i];
		of.current = of.valid && of.sb.chunksize == sb_.chunksize &&
			     is_current(of.sb, a.events, events_seen(sb_, a.events));
	}
	show_events_cleared();
	return Result::ok();
}

// What md found behind its superblock only made it ask us, and tells how the bitmap is to be set:
// it lies where mdadm puts it, so that nothing is there before writes are suspended. The array is
// in sync, and no write is under way: all is Clean once the members' caches are flushed, before a
// header says so.
Result Bitmap::begin_live(plat_array_info *a)
{
	plat_slots slots;

	if (!sb_.first_use()) {
		plat_log(host_, PLAT_LOG_ERR,
			 "there is an old bitmap behind md's superblock; use llbitmap convert --to lockless");
		return Result::error(LLB_EINVAL);
	}
	plat_bitmap_place(host_, kPlace);
	plat_array_get(host_, a);
	Result r = check_mapping(*a); // before a bad-block log is given up
	if (r.failed())
		return r;
	if (plat_flush(host_, 1, &slots) || !whole(slots, true)) {
		plat_log(host_, PLAT_LOG_ERR,
			 "not all members could be flushed: no lockless bitmap is added");
		return Result::error(LLB_EIO);
	}
	plat_absent_missed(host_); // one that is still bound comes back without a look at its events
	sb_.events = sb_.events_cleared = 0;
	sb_.state |= LLB_SB_CLEAN;
	sb_.sectors_reserved = u32(base::min(kReserved, room_now(*a, true)));
	return Result::ok();
}

// Who was away before this event has missed writes that no bitmap knows of. In create.
void Bitmap::clear_past(u64 events)
{
	sb_.events_cleared = events;
	show_events_cleared();
}

Result Bitmap::choose_geometry(const plat_array_info &a, Geometry *out)
{
	claimed_sectors_ = sb_.reserved(a);
	u32 from = kChunkShiftMin;
	if (sb_.first_use()) {
		// As large as it takes for small chunks, if every member has the room.
		from = chunk_shift_wanted(a.sync_size, claimed_sectors_);
		claimed_sectors_ = space_wanted(a.sync_size, claimed_sectors_, room_now(a, true));
	}
	space_sectors_ = base::min(claimed_sectors_, room_now(a, sb_.first_use()));
	if (!sb_.first_use()) {
		from = chunk_shift_from_disk(sb_.sync_size, claimed_sectors_, sb_.chunksize);
		// raid10 that grows by disks, assembled in the middle: md speaks of the new size
		// only when it is there, and does not resize the bitmap then.
		if (from && a.level == 10 && (a.flags & PLAT_ARRAY_RESHAPE_PENDING) &&
		    sb_.sync_size > a.sync_size) {
			*out = geometry_at(sb_.sync_size, from);
			return Result::ok();
		}
		if (from && sb_.sync_size == a.sync_size) {
			// as it is, even if the in-tree driver let it overrun by its header
			*out = geometry_at(a.sync_size, from);
			return Result::ok();
		}
	}
	Result r = geometry_for(a.sync_size, space_sectors_, from, out);
	if (r.failed()) // check_members() says what lies there
		r = geometry_for(a.sync_size, claimed_sectors_, from, out);
	if (r.failed())
		plat_log(host_, PLAT_LOG_ERR,
			 "an array of %llu sectors does not fit a bitmap of %llu sectors",
			 static_cast<unsigned long long>(a.sync_size),
			 static_cast<unsigned long long>(claimed_sectors_));
	return r;
}

Result Bitmap::make_parts(const plat_array_info &a, const Geometry &geo)
{
	bool chosen = !sb_.first_use() || sb_.daemon_sleep_s != kMdadmDelayDefault_s;
	if (chosen && sb_.daemon_sleep_s >= 1 && sb_.daemon_sleep_s <= kDaemonSleepMax_s)
		set_sleep_s(sb_.daemon_sleep_s);

	bool made = make_groups(geo, is_parity(a.level) ? a.raid_chunk : 0);
	made = make_commit(geo, claimed_sectors_) && made;
	Table *t = Table::make(geo, group_shift(), nullptr);
	if (t)
		publish(t);
	if (!t || !made)
		return Result::error(LLB_ENOMEM);
	set_budget_mib(sb_.resync_budget);
	write_behind_ = sb_.write_behind;
	return Result::ok();
}

void Bitmap::destroy()
{
	not_shared();
	Table::destroy(table());
	free_groups();
	free_commit();
	plat_free(this);
}

// What the cells are, in memory. md may write its superblock between create and
// load, so that all that update_sb() needs is decided here: what the bytes became is
// pending until a commit has made it durable.
Result Bitmap::read_state(const plat_array_info &a, Found *found)
{
	Table *t = table();
	bool first = sb_.first_use();
	// mdadm makes such a header with no event in it, and the first load takes the mark off.
	bool used = first && (sb_.events || sb_.events_cleared);
	bool stale = is_stale(sb_, a.events);

	if (stale)
		plat_log(
			host_, PLAT_LOG_WARN,
			"the bitmap is not current, or marked stale (events %llu, array %llu): everything is resynchronised",
			static_cast<unsigned long long>(sb_.events),
			static_cast<unsigned long long>(a.events));
	if (used) {
		plat_log(host_, PLAT_LOG_WARN,
			 "the bitmap calls itself new, but has seen event %llu: everything is resynchronised",
			 static_cast<unsigned long long>(base::max(sb_.events, sb_.events_cleared)));
		set_all(t, State::NeedSync);
	} else if (first) {
		set_all(t, sb_.state & LLB_SB_CLEAN ? State::Clean : State::Unwritten);
	} else {
		u32 disk_shift = chunk_shift_from_disk(sb_.sync_size, claimed_sectors_, sb_.chunksize);
		if (disk_shift != t->geo.chunk_shift) {
			plat_log(host_, PLAT_LOG_WARN,
				 "the array's size changed without its bitmap: everything is resynchronised");
			set_all(t, State::NeedSync);
		} else {
			u64 known = chunks_of(sb_.sync_size, disk_shift);
			if (sb_.sync_size < t->geo.sync_size && sb_.sync_size % t->geo.chunk_sectors())
				known--; // the last one covered less
			Result r = read_cells(t, found, stale, known);
			if (r.failed())
				return r;
		}
	}
	u64 counts[LLB_STATES];
	count_bits(counts);
	const u64 dirty = counts[LLB_DIRTY] + counts[LLB_NEED_SYNC];
	if (first) // it knows of all there is until now
		sb_.events = a.events;
	sb_.sync_size = t->geo.sync_size;
	sb_.chunksize = u32(t->geo.chunk_sectors());
	sb_.daemon_sleep_s = sleep_s();
	sb_.sectors_reserved = u32(reserve_for(t->geo));
	loaded(dirty);
	flag_all(t);
	request();
	sync_waits_for_now();
	return Result::ok();
}

// ---- load ----

Result Bitmap::load()
{
	Table *t = table();
	plat_array_info a;

	plat_array_get(host_, &a);
	Result mapped = check_mapping(a);
	if (mapped.failed())
		return mapped;
	set_write_behind(a);
	// A read-only array is not written: the commit waits for its first write.
	if (a.flags & PLAT_ARRAY_RDWR) {
		leader_lock(); // md may have had it written
		bool failed = broken() || (pending() && commit_wide(Hold{true}).failed());
		leader_unlock();
		if (failed)
			return Result::error(LLB_EIO);
	}
	if (anything_to_sync(t)) {
		plat_slots slots;
		plat_slots_get(host_, &slots);
		if (whole(slots, false) && !put_off_by_replacement(a.level, slots) &&
		    !(a.flags & PLAT_ARRAY_RESHAPE_PENDING))
			plat_resync_request(host_); // no sync can run yet
		want_sync();
	}
	if (anything_to_clean(t))
		arm(pass_ms());
	return Result::ok();
}

// Some kernels' raid4/5/6 (6.14 until a fix of 2026) divide by masks: where the number of
// data disks is no power of two, they name chunks that a write does not touch, and not
// those that it does. Seen by asking for the begin of each raid chunk of some stripes.
Result Bitmap::check_mapping(const plat_array_info &a)
{
	if (!is_parity(a.level) || !a.raid_chunk || (a.flags & PLAT_ARRAY_RESHAPE_PENDING))
		return Result::ok();
	const u32 data_disks = u32(a.raid_disks) - (a.level == 6 ? 2 : 1);
	for (u32 number = 0; number < kMappedStripes * data_disks; number++) {
		u64 member_sector = u64{number / data_disks} * a.raid_chunk;
		u64 sector = u64{number} * a.raid_chunk;
		u64 sectors = kMappedSectors;
		plat_map_write(host_, &sector, &sectors);
		if (sector <= member_sector && sector + sectors >= member_sector + kMappedSectors)
			continue;
		plat_log(
			host_, PLAT_LOG_ERR,
			"md of this kernel names the wrong chunks for writes to an array of %u data disks; use a newer kernel, or the classic bitmap",
			data_disks);
		return Result::error(LLB_EOPNOTSUPP);
	}
	return Result::ok();
}

void Bitmap::set_write_behind(const plat_array_info &a)
{
	if (!write_behind_ || a.level != 1)
		return;
	if (write_behind_ > kWriteBehindMax)
		plat_log(host_, PLAT_LOG_WARN,
			 "the bitmap's write_behind is %u, more than the possible %u: write-behind is off",
			 write_behind_, kWriteBehindMax);
	else
		plat_write_behind_set(host_, write_behind_);
}

void Bitmap::set_all(Table *t, State s)
{
	for (u64 c = 0; c < t->geo.chunks; c++)
		t->cell(c).store_relaxed(static_cast<u8>(s)); // nobody else has the table yet
}

// One page from all members that know it, merged. False: none could be read.
bool Bitmap::read_page(u32 page, Found *found, u8 *into, u8 *scratch)
{
	bool any = false;
	u64 cells_from = table()->page_first(page) + LLB_CELLS_OFFSET - (u64{page} << kPageShift);
	u64 cells_to = table()->page_end(page) + LLB_CELLS_OFFSET - (u64{page} << kPageShift);

	for (u32 i = 0; i < found->members; i++) {
		if (!found->of[i].current ||
		    plat_read(host_, i, u64{page} << kPageShift, scratch, kPageBytes))
			continue;
		for (u32 at = 0; at < kPageBytes; at++) {
			u8 byte = reloaded(scratch[at]);
			into[at] = any ? merged(into[at], byte) : byte;
		}
		for (u64 at = cells_from; at < cells_to; at++)
			found->invalid_bytes += scratch[at] >= LLB_STATES;
		any = true;
	}
	return any;
}

// known_chunks: what the superblock speaks of; beyond, nothing is known.
Result Bitmap::read_cells(Table *t, Found *found, bool stale, u64 known_chunks)
{
	u8 *scratch = static_cast<u8 *>(plat_page_alloc(1));

	if (!scratch)
		return Result::error(LLB_ENOMEM);
	Result r = Result::ok();
	for (u32 b = 0; b < t->geo.pages && !r.failed(); b++) {
		if (!read_page(b, found, io_buf_, scratch)) {
			plat_log(host_, PLAT_LOG_ERR, "the bitmap could not be read from any in-sync member");
			r = Result::error(LLB_EIO);
			break;
		}
		for (u64 c = t->page_first(b); c < t->page_end(b); c++) {
			u8 byte = io_buf_[c + LLB_CELLS_OFFSET - (u64{b} << kPageShift)];
			// Stale: writes went on without the bitmap, so that what it calls
			// unwritten may not be.
			if (stale || c >= known_chunks)
				byte = LLB_NEED_SYNC;
			t->cell(c).store_relaxed(byte); // not shared yet
		}
		plat_relax();
	}
	if (found->invalid_bytes)
		plat_log(host_, PLAT_LOG_WARN,
			 "%llu state bytes are invalid: these chunks are resynchronised",
			 static_cast<unsigned long long>(found->invalid_bytes));
	plat_page_free(scratch);
	return r;
}

// The array goes on without the bitmap: plain md trusts parity everywhere, and
// knows of no chunk that still waits for a resync.
void Bitmap::remove_live()
{
	Table *t = table();

	for (u64 c = 0; c < t->geo.chunks; c++) {
		State s = state_of(t->cell(c).load_relaxed());
		if (s != State::Clean && s != State::Dirty) {
			plat_resync_request(host_);
			return;
		}
	}
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

int llb_create(plat_array *h, llb_bitmap **out)
{
	core::Bitmap *b = nullptr;
	int err = core::Bitmap::create(h, &b).value();
	*out = b;
	return err;
}

int llb_load(llb_bitmap *b)
{
	return of(b).load().value();
}

void llb_destroy(llb_bitmap *b)
{
	if (b)
		of(b).destroy();
}

void llb_remove_live(llb_bitmap *b)
{
	of(b).remove_live();
}
}
