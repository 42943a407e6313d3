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

bool usable(const kx_member &m)
{
	return m.slot >= 0 && (m.flags & KX_MEMBER_IN_SYNC) &&
	       !(m.flags & (KX_MEMBER_FAULTY | KX_MEMBER_OLD | KX_MEMBER_JOURNAL));
}

// What a state byte becomes when it is loaded.
u8 reloaded(u8 byte)
{
	if (byte >= LLB_STATES)
		return LLB_NEED_SYNC;
	State to = next(static_cast<State>(byte), Event::Reload, {});
	return to == State::None ? byte : static_cast<u8>(to);
}

// Two members' bytes of a chunk, both reloaded. They differ after a cut in the
// middle of a round, or if one missed a write: believe the worse.
u8 merged(u8 a, u8 b)
{
	if (a == b)
		return a;
	bool no_data = (a == LLB_UNWRITTEN || a == LLB_CLEAN_UNWRITTEN) &&
		       (b == LLB_UNWRITTEN || b == LLB_CLEAN_UNWRITTEN);
	return no_data ? LLB_UNWRITTEN : LLB_NEED_SYNC;
}

// The events that a header speaks of. It is written before md's superblock of the same event,
// so that it may be one ahead; more is damage, and says nothing.
u64 events_of(const Super &sb, const kx_array &a)
{
	return sb.events > a.events + 1 ? 0 : sb.events;
}

// As new as the array, or as the newest of its bitmaps: it missed no write of the bitmap.
bool is_current(const Super &sb, const kx_array &a, u64 newest)
{
	return events_of(sb, a) >= base::min(a.events, newest);
}

// Two current superblocks. They differ after a cut in the middle of a header's write, or
// if one is damaged: for each field the one that resynchronises more, or promises less.
Super merged(const Super &a, const Super &b)
{
	// A used bitmap says more than one that calls itself new.
	bool take_a = a.first_use() == b.first_use() ? a.events >= b.events : !a.first_use();
	Super m = take_a ? a : b;
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

} // namespace

// ---- create ----

Result Bitmap::create(kx_host *h, Bitmap **out)
{
	kx_array a;
	kx_array_get(h, &a);
	if (a.flags & KX_ARRAY_DM) {
		kx_log(h, KX_LOG_ERR, "dm-raid arrays are not supported; use the classic bitmap");
		return Result::error(LLB_EOPNOTSUPP);
	}
	if (a.flags & KX_ARRAY_CLUSTERED) {
		kx_log(h, KX_LOG_ERR, "clustered arrays are not supported; use --bitmap=clustered");
		return Result::error(LLB_EOPNOTSUPP);
	}
	if ((a.flags & KX_ARRAY_BITMAP_FILE) || a.bitmap_offset == 0) {
		kx_log(h, KX_LOG_ERR,
		       "a lockless bitmap lives on the members, not in a file; use --bitmap=lockless");
		return Result::error(LLB_EINVAL);
	}
	if (a.flags & KX_ARRAY_OTHER_META) {
		// mdadm refuses 1.0 and 1.1 itself; for 0.90 it writes a header that no array
		// of that size could have.
		kx_log(h, KX_LOG_ERR,
		       "a lockless bitmap needs metadata 1.2; create the array with --metadata=1.2");
		return Result::error(LLB_EOPNOTSUPP);
	}
	if (a.flags & KX_ARRAY_BARE) {
		// md would put the classic bitmap's sysfs files over it, which read and
		// write in what they take for theirs.
		kx_log(h, KX_LOG_ERR,
		       "a lockless bitmap cannot be added to a running array; stop it and use llbitmap convert");
		return Result::error(LLB_EOPNOTSUPP);
	}

	Bitmap *b = allocate<Bitmap>();
	if (!b)
		return Result::error(LLB_ENOMEM);
	b->host_ = h;
	b->parity_.store_relaxed(is_parity(a.level)); // not shared yet
	b->level_seen_ = a.level;
	b->page_ = static_cast<u8 *>(kx_page_alloc(1));
	Result r = b->page_ ? b->read_superblocks(a) : Result::error(LLB_ENOMEM);
	Geometry geo;
	if (!r.failed())
		r = b->choose_geometry(a, &geo);
	if (!r.failed())
		r = b->make_parts(geo);
	if (!r.failed())
		r = b->check_members(geo.bytes(), Unfit::Refuse);
	if (!r.failed())
		r = b->read_state(a);
	if (r.failed()) {
		b->destroy();
		return r;
	}
	if (b->space_sectors_ < b->claimed_sectors_)
		kx_log(h, KX_LOG_WARN,
		       "the bitmap's header reserves %llu sectors, but on a member only %llu are free: these are used",
		       static_cast<unsigned long long>(b->claimed_sectors_),
		       static_cast<unsigned long long>(b->space_sectors_));
	kx_chunk_bytes_set(h, geo.chunk_sectors() << kSectorShift, b->daemon_sleep_s_.load_relaxed());
	*out = b;
	return Result::ok();
}

// The newest valid superblock of the in-sync members, merged with others that are as new.
Result Bitmap::read_superblocks(const kx_array &a)
{
	Result worst = Result::error(LLB_EIO);
	bool found = false;
	u64 newest = 0;

	// First without a word, for the newest; then those as new are merged, with a warning
	// for each bad one, or, if no member has a good one, one error.
	bool merging = false;
	for (int pass = 0; pass < 2; pass++) {
		u32 level = pass == 0 ? 0 : found ? KX_LOG_WARN : KX_LOG_ERR;
		kx_member m;
		for (u32 i = 0; kx_member_get(host_, i, &m) == 0; i++) {
			if (!usable(m) || m.logical_block > kBlockBytes)
				continue;
			if (kx_read(host_, i, 0, page_, base::max(512u, m.logical_block)))
				continue;
			Super sb = super_decode(page_);
			Result r = super_validate(host_, sb, a, level);
			if (r.failed()) {
				worst = r;
				if (level == KX_LOG_ERR)
					return worst;
				continue;
			}
			if (pass == 0) {
				newest = base::max(newest, events_of(sb, a));
				found = true;
			} else if (is_current(sb, a, newest)) {
				sb_ = merging ? merged(sb_, sb) : sb;
				merging = true;
			}
		}
	}
	if (!merging) {
		kx_log(host_, KX_LOG_ERR, "the bitmap superblock could not be read from any in-sync member");
		return worst;
	}
	events_cleared_.store_relaxed(sb_.events_cleared); // not shared yet
	return Result::ok();
}

// Sectors where the bitmap may lie, by what else lies on the members. spares: those without a
// slot count, too: they may get one. [rm]
u64 Bitmap::room_now(const kx_array &a, bool spares) const
{
	u64 least = kNoLimit;
	kx_member m;

	for (u32 i = 0; kx_member_get(host_, i, &m) == 0; i++) {
		if (m.slot < 0)
			m.bad_log_entries = 0; // asked when it gets a slot, and then only it fails
		if ((m.slot >= 0 || spares) && !(m.flags & (KX_MEMBER_FAULTY | KX_MEMBER_JOURNAL)))
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

Result Bitmap::choose_geometry(const kx_array &a, Geometry *out)
{
	claimed_sectors_ = sb_.sectors_reserved ? sb_.sectors_reserved : a.bitmap_space;
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
		if (from && a.level == 10 && (a.flags & KX_ARRAY_RESHAPE_PENDING) &&
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
		kx_log(host_, KX_LOG_ERR, "an array of %llu sectors does not fit a bitmap of %llu sectors",
		       static_cast<unsigned long long>(a.sync_size),
		       static_cast<unsigned long long>(claimed_sectors_));
	return r;
}

Result Bitmap::make_parts(const Geometry &geo)
{
	bool chosen = !sb_.first_use() || sb_.daemon_sleep_s != kMdadmDelayDefault_s;
	if (chosen && sb_.daemon_sleep_s >= 1 && sb_.daemon_sleep_s <= kDaemonSleepMax_s)
		daemon_sleep_s_.store_relaxed(sb_.daemon_sleep_s);

	// Neighbours are in different lanes: one that is never quiet keeps few others dirty, and
	// those are far from it.
	lane_shift_ = geo.chunk_shift;
	lanes_ = 1;
	while (lanes_ < kLanesMax && lanes_ < geo.chunks)
		lanes_ *= 2;
	counters_ = kx_counters_alloc(lanes_ * 2);
	quiet_ = static_cast<u8 *>(kx_alloc(lanes_));
	block_capacity_ =
		u32(base::max<u64>(base::div_up(claimed_sectors_ << kSectorShift, kBlockBytes), geo.blocks));
	blocks_ = static_cast<BlockInfo *>(kx_alloc(u64{block_capacity_} * sizeof(BlockInfo)));
	Table *t = Table::make(geo, lane_shift_, nullptr);
	if (t)
		table_.store_release(t);
	if (!t || !counters_ || !quiet_ || !blocks_)
		return Result::error(LLB_ENOMEM);
	budget_mib_.store_relaxed(sb_.resync_budget); // not shared yet
	return Result::ok();
}

// Every member with a slot must have room for a bitmap of so many bytes. One that has not:
// the caller is refused; or the member fails, if it has come to a running array. Under
// LEAD, or before any I/O. [rm]
Result Bitmap::check_members(u64 bytes, Unfit unfit)
{
	kx_array a;
	kx_member m;
	u32 align = io_align_;

	kx_array_get(host_, &a);
	auto present = [&m] { return !(m.flags & (KX_MEMBER_FAULTY | KX_MEMBER_JOURNAL)); };
	// All members are written in the largest logical block of any. Spares count: a reshape
	// gives them a slot some time before it is told here.
	for (u32 i = 0; kx_member_get(host_, i, &m) == 0; i++) {
		if (present() && m.logical_block <= kBlockBytes)
			align = base::max(align, m.logical_block);
	}
	space_sectors_ = claimed_sectors_;
	for (u32 i = 0; kx_member_get(host_, i, &m) == 0; i++) {
		if (m.slot < 0 || !present())
			continue;
		Result r = check_member(host_, a, m, base::round_up(bytes, align), claimed_sectors_);
		if (r.failed() && unfit == Unfit::Refuse)
			return r;
		if (r.failed()) {
			kx_log(host_, KX_LOG_ERR, "slot %d: its member cannot take the bitmap and is failed",
			       m.slot);
			kx_member_fail(host_, i);
			continue;
		}
		space_sectors_ = base::min(space_sectors_, room(a, m));
		if (bad_log_inside(a, m, bytes, claimed_sectors_) && !m.bad_log_entries) {
			kx_log(host_, KX_LOG_NOTICE,
			       "slot %d: its empty bad-block log lies inside the bitmap's space and is switched off: a bad block fails the member",
			       m.slot);
			kx_bad_log_disable(host_, i);
		}
	}
	io_align_ = align;
	return Result::ok();
}

void Bitmap::destroy()
{
	Table::destroy(table());
	if (counters_)
		kx_counters_free(counters_);
	kx_free(quiet_);
	kx_free(blocks_);
	kx_page_free(page_);
	kx_free(this);
}

// What the cells are, in memory. md may write its superblock between create and
// load, so that all that update_sb() needs is decided here: what the bytes became is
// pending until a round has made it durable.
Result Bitmap::read_state(const kx_array &a)
{
	Table *t = table();
	bool first = sb_.first_use();
	// mdadm makes such a header with no event in it, and the first load takes the mark off.
	bool used = first && (sb_.events || sb_.events_cleared);
	bool stale = !first && ((sb_.state & LLB_SB_STALE) || events_of(sb_, a) < a.events);

	if (stale)
		kx_log(host_, KX_LOG_WARN,
		       "the bitmap is older than the array (events %llu, array %llu): everything is resynchronised",
		       static_cast<unsigned long long>(sb_.events),
		       static_cast<unsigned long long>(a.events));
	if (used) {
		kx_log(host_, KX_LOG_WARN,
		       "the bitmap calls itself new, but has seen event %llu: everything is resynchronised",
		       static_cast<unsigned long long>(base::max(sb_.events, sb_.events_cleared)));
		set_all(t, State::NeedSync);
	} else if (first) {
		set_all(t, sb_.state & LLB_SB_CLEAN ? State::Clean : State::Unwritten);
	} else {
		u32 disk_shift = chunk_shift_from_disk(sb_.sync_size, claimed_sectors_, sb_.chunksize);
		if (disk_shift != t->geo.chunk_shift) {
			kx_log(host_, KX_LOG_WARN,
			       "the array's size changed without its bitmap: everything is resynchronised");
			set_all(t, State::NeedSync);
		} else {
			u64 known = chunks_of(sb_.sync_size, disk_shift);
			if (known < t->geo.chunks && sb_.sync_size % t->geo.chunk_sectors())
				known--; // the last one covered less
			Result r = read_cells(t, stale, known);
			if (r.failed())
				return r;
		}
	}
	u64 counts[LLB_STATES];
	count_bits(counts);
	loaded_dirty_.store_relaxed(counts[LLB_DIRTY] + counts[LLB_NEED_SYNC]); // not shared yet
	if (first) // it knows of all there is until now
		sb_.events = a.events;
	sb_.sync_size = t->geo.sync_size;
	sb_.chunksize = u32(t->geo.chunk_sectors());
	sb_.daemon_sleep_s = daemon_sleep_s_.load_relaxed();
	sb_.sectors_reserved = u32(reserve_for(t->geo));
	init_pending_.exchange_full(1);
	flag_all(t);
	request();
	spare_seq_.store_release(requested_.load_relaxed()); // pairs with skip_sync()
	return Result::ok();
}

// ---- load ----

Result Bitmap::load()
{
	Table *t = table();
	kx_array a;

	kx_array_get(host_, &a);
	Result mapped = check_mapping(a);
	if (mapped.failed())
		return mapped;
	set_write_behind(a);
	// A read-only array is not written: the round waits for its first write.
	if (a.flags & KX_ARRAY_RDWR) {
		lead_take(); // acquire below: pairs with round_once(); md may have had it written
		bool durable = durable_.load_acquire() >= requested_.load_relaxed();
		bool failed = broken_.load_relaxed() || (!durable && wide_round(Hold{true}).failed());
		lead_give();
		if (failed)
			return Result::error(LLB_EIO);
	}
	if (anything_to_sync(t)) {
		kx_slots slots;
		kx_slots_get(host_, &slots);
		if (whole(slots, false) && !(a.flags & KX_ARRAY_RESHAPE_PENDING))
			kx_resync_request(host_); // no sync can run yet
		want_sync();
	}
	if (anything_to_clean(t))
		arm(pass_ms());
	return Result::ok();
}

// Some kernels' raid4/5/6 (6.14 until a fix of 2026) divide by masks: where the number of
// data disks is no power of two, they name chunks that a write does not touch, and not
// those that it does. Seen by asking for the begin of each raid chunk of some stripes.
Result Bitmap::check_mapping(const kx_array &a)
{
	if (!is_parity(a.level) || !a.raid_chunk || (a.flags & KX_ARRAY_RESHAPE_PENDING))
		return Result::ok();
	const u32 data_disks = u32(a.raid_disks) - (a.level == 6 ? 2 : 1);
	for (u32 number = 0; number < kMappedStripes * data_disks; number++) {
		u64 member_sector = u64{number / data_disks} * a.raid_chunk;
		u64 sector = u64{number} * a.raid_chunk;
		u64 sectors = kMappedSectors;
		kx_map_write(host_, &sector, &sectors);
		if (sector <= member_sector && sector + sectors >= member_sector + kMappedSectors)
			continue;
		kx_log(host_, KX_LOG_ERR,
		       "md of this kernel names the wrong chunks for writes to an array of %u data disks; use a newer kernel, or the classic bitmap",
		       data_disks);
		return Result::error(LLB_EOPNOTSUPP);
	}
	return Result::ok();
}

void Bitmap::set_write_behind(const kx_array &a)
{
	if (!sb_.write_behind || a.level != 1)
		return;
	if (sb_.write_behind > kWriteBehindMax)
		kx_log(host_, KX_LOG_WARN,
		       "the bitmap's write_behind is %u, more than the possible %u: write-behind is off",
		       sb_.write_behind, kWriteBehindMax);
	else
		kx_write_behind_set(host_, sb_.write_behind);
}

void Bitmap::set_all(Table *t, State s)
{
	for (u64 c = 0; c < t->geo.chunks; c++)
		t->cell(c).store_relaxed(static_cast<u8>(s)); // nobody else has the table yet
}

// One block from all members that know it, merged. False: none could be read.
bool Bitmap::read_block(u32 block, const u8 *fresh, u32 members, u8 *into, u8 *scratch)
{
	bool any = false;
	u64 cells_from = table()->block_first(block) + LLB_CELLS_OFFSET - (u64{block} << kBlockShift);
	u64 cells_to = table()->block_end(block) + LLB_CELLS_OFFSET - (u64{block} << kBlockShift);

	for (u32 i = 0; i < members; i++) {
		if (!fresh[i] || kx_read(host_, i, u64{block} << kBlockShift, scratch, kBlockBytes))
			continue;
		for (u32 at = 0; at < kBlockBytes; at++) {
			u8 byte = reloaded(scratch[at]);
			into[at] = any ? merged(into[at], byte) : byte;
		}
		for (u64 at = cells_from; at < cells_to; at++)
			invalid_bytes_ += scratch[at] >= LLB_STATES;
		any = true;
	}
	return any;
}

// known_chunks: what the superblock speaks of; beyond, nothing is known.
Result Bitmap::read_cells(Table *t, bool stale, u64 known_chunks)
{
	kx_member m;
	kx_array a;
	u32 members = 0;

	invalid_bytes_ = 0;
	kx_array_get(host_, &a);
	while (kx_member_get(host_, members, &m) == 0)
		members++;
	u8 *fresh = static_cast<u8 *>(kx_alloc(members));
	u8 *scratch = static_cast<u8 *>(kx_page_alloc(1));
	if (!fresh || !scratch) {
		kx_free(fresh);
		kx_page_free(scratch);
		return Result::error(LLB_ENOMEM);
	}
	for (u32 i = 0; i < members; i++) {
		if (kx_member_get(host_, i, &m) || !usable(m))
			continue;
		if (kx_read(host_, i, 0, page_, base::max(512u, m.logical_block)))
			continue;
		Super sb = super_decode(page_);
		// one that is behind the chosen superblock and the array missed writes
		fresh[i] = !super_validate(host_, sb, a, 0).failed() && sb.chunksize == sb_.chunksize &&
			   is_current(sb, a, events_of(sb_, a));
	}

	Result r = Result::ok();
	for (u32 b = 0; b < t->geo.blocks && !r.failed(); b++) {
		if (!read_block(b, fresh, members, page_, scratch)) {
			kx_log(host_, KX_LOG_ERR, "the bitmap could not be read from any in-sync member");
			r = Result::error(LLB_EIO);
			break;
		}
		for (u64 c = t->block_first(b); c < t->block_end(b); c++) {
			u8 byte = page_[c + LLB_CELLS_OFFSET - (u64{b} << kBlockShift)];
			// Stale: writes went on without the bitmap, so that what it calls
			// unwritten may not be.
			if (stale || c >= known_chunks)
				byte = LLB_NEED_SYNC;
			t->cell(c).store_relaxed(byte); // not shared yet
		}
		kx_relax();
	}
	if (invalid_bytes_)
		kx_log(host_, KX_LOG_WARN, "%llu state bytes are invalid: these chunks are resynchronised",
		       static_cast<unsigned long long>(invalid_bytes_));
	kx_free(fresh);
	kx_page_free(scratch);
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
			kx_resync_request(host_);
			return;
		}
	}
}

// ---- observation ----

void Bitmap::stats(llb_stats *out) const
{
	Table *t = table();

	out->events_cleared = events_cleared_.load_relaxed();
	out->sync_size = t->geo.sync_size;
	out->pages = t->geo.blocks;
	out->behind_writes = behind_.load_relaxed();
	out->behind_wait = behind_waiters_.load_relaxed() > 0;
	out->crash_bytes = crash_bytes();
}

void Bitmap::metadata(llb_metadata *out) const
{
	Table *t = table();

	out->chunk_sectors = t->geo.chunk_sectors();
	out->chunks = t->geo.chunks;
	out->chunk_shift = t->geo.chunk_shift;
	out->daemon_sleep_s = daemon_sleep_s_.load_relaxed();
	out->barrier_idle_s = barrier_idle_s_.load_relaxed();
	u32 mib = budget_mib_.load_relaxed();
	if (mib == 0)
		mib = u32(base::min<u64>(base::div_up(t->geo.sync_size, 2048), kBudgetDefault_mib));
	out->resync_budget_mib = mib == LLB_BUDGET_NONE ? 0 : mib;
}

void Bitmap::count_bits(u64 counts[LLB_STATES]) const
{
	Table *t = table();

	for (u32 i = 0; i < LLB_STATES; i++)
		counts[i] = 0;
	for (u64 c = 0; c < t->geo.chunks; c++)
		counts[t->cell(c).load_relaxed() & kStateMask]++;
}

} // namespace core
