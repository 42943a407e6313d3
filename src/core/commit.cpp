// SPDX-License-Identifier: GPL-2.0
// Group commit. A writer that made a cell dirty flags its page and takes a number
// (requested). One holder of the leader lock at a time writes all flagged pages to all
// members, and then says up to which number everything is durable.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

namespace {

u64 get_eight(const u8 *buf)
{
	u64 bytes;
	__builtin_memcpy(&bytes, buf, sizeof(bytes));
	return bytes;
}

void put_eight(u8 *buf, u64 bytes)
{
	__builtin_memcpy(buf, &bytes, sizeof(bytes));
}

// The first bytes of eight, in memory; what lies behind them may be from a larger table.
u64 keep(u64 eight, u32 count)
{
	u8 bytes[8];

	if (count >= 8)
		return eight;
	put_eight(bytes, eight);
	for (u32 i = count; i < 8; i++)
		bytes[i] = 0;
	return get_eight(bytes);
}

// Pages for a batch: the bitmap's own, and more while they are to be had at once.
class BatchBuffers {
    public:
	BatchBuffers(u8 *own, BatchItem *batch)
		: batch_{batch}
	{
		batch_[0].buf = own;
	}
	~BatchBuffers()
	{
		while (have_ > 1)
			plat_page_free(batch_[--have_].buf);
	}
	BatchBuffers(const BatchBuffers &) = delete;
	BatchBuffers &operator=(const BatchBuffers &) = delete;
	// Returns how many of count there are; one at least, if count is not 0.
	u32 get(u32 count)
	{
		while (have_ < count && (batch_[have_].buf = static_cast<u8 *>(plat_page_alloc(0))))
			have_++;
		return base::min(have_, count);
	}

    private:
	BatchItem *batch_;
	u32 have_ = 1;
};

constexpr u32 kRecordPoll_ms = 20;
constexpr u32 kRecordTries = 250; // five seconds

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

} // namespace

// ---- the leader lock ----

bool Bitmap::leader_trylock()
{
	// full: what the last leader did is seen; pairs with leader_unlock()
	return !leader_.load_relaxed() && !leader_.exchange_full(1);
}

void Bitmap::leader_lock()
{
	while (!leader_trylock())
		plat_wait(host_, this, PLAT_WAIT_LEADER, kNoLimit);
}

void Bitmap::leader_unlock()
{
	// release: pairs with leader_trylock(). Then a full fence before waiters are looked
	// for: in another order one of them sleeps for ever.
	leader_.store_release(0);
	base::fence_full();
	plat_wake(host_);
}

bool Bitmap::wait_done(u32 kind, u64 arg)
{
	switch (kind) {
	case PLAT_WAIT_DURABLE:
		// acquire: pairs with the store of durable in commit_once() step 6
		return durable_.load_acquire() >= arg ||
		       recorded_.load_acquire(); // pairs with record_failure()
	case PLAT_WAIT_LEADER:
		return !leader_.load_acquire() || durable_.load_acquire() >= arg;
	case PLAT_WAIT_BEHIND:
		return behind_.load_acquire() == 0; // pairs with end_behind()
	case PLAT_WAIT_DAEMON:
		return !daemon_busy_.load_acquire(); // pairs with daemon_give()
	case PLAT_WAIT_THAW:
		// pairs with publish() and with the thaw in relayout()
		return reinterpret_cast<u64>(table()) != arg || !table()->frozen.load_acquire();
	}
	return true;
}

// ---- what callers ask ----

// Make everything up to target durable. False: cannot now (suspended) or never.
bool Bitmap::commit_upto(u64 target, Hold hold)
{
	for (;;) {
		// acquire: pairs with the store in commit_once() step 6
		if (durable_.load_acquire() >= target)
			return true;
		if (broken_.load_acquire())
			return false;
		if (!leader_trylock()) {
			plat_wait(host_, this, PLAT_WAIT_LEADER, target);
			continue;
		}
		Result r = Result::ok();
		if (durable_.load_acquire() < target && !broken_.load_relaxed())
			r = commit(hold);
		leader_unlock();
		if (r.failed())
			return false;
	}
}

// A worker's commit_upto(): whoever waits inside submit_bio holds the members in place, but only
// until what it waits for is durable. So each commit looks anew, under the leader lock: then nobody
// else makes that durable.
bool Bitmap::commit_upto_for_bios(u64 target)
{
	while (durable_.load_acquire() < target) { // pairs with commit_once() step 6
		if (broken_.load_acquire())
			return false;
		if (!leader_trylock()) {
			plat_wait(host_, this, PLAT_WAIT_LEADER, target);
			continue;
		}
		u64 durable = durable_.load_acquire();
		Result r = Result::ok();
		if (durable < target && !broken_.load_relaxed())
			r = commit(Hold{bio_target_.load_seq_cst() > durable});
		leader_unlock();
		if (r.failed())
			return false;
	}
	return true;
}

void Bitmap::unplug(bool may_submit)
{
	// acquire: the caller's own request is in program order before this
	u64 target = requested_.load_acquire();

	if (durable_.load_acquire() >= target)
		return;
	if (may_submit) {
		// a writer of the caller is under way, so members stay
		if (!commit_upto(target, Hold{true}) && broken_.load_acquire()) // pairs with give_up()
			record_failure();
		return;
	}
	// Inside submit_bio our bios would wait behind ourselves: a worker leads.
	u64 before = bio_target_.load_relaxed();
	while (before < target && !bio_target_.cas_full(before, target))
		; // full, before the queueing: commit_upto_for_bios() reads it
	plat_leader_queue(host_);
	plat_wait(host_, this, PLAT_WAIT_DURABLE, target);
}

void Bitmap::leader_work()
{
	if (!commit_upto_for_bios(requested_.load_acquire()) &&
	    broken_.load_acquire()) // pairs with give_up()
		record_failure();
}

// No member took what a writer waits for, so its data goes to the members with nothing on
// disk that says so. Before that, the next assembly must know: give_up() may have marked
// the header; else md's superblock gets a newer event count than the bitmap has. Whoever
// holds md's mutex may be waiting for this very writer (to freeze the array): then md
// writes the superblock when it is let go, and the wait ends here. [sleep]
void Bitmap::record_failure()
{
	for (u32 i = 0; i < kRecordTries && !recorded_.load_acquire(); i++) {
		if (plat_superblock_write(host_) == 0)
			break;
		plat_sleep_ms(kRecordPoll_ms);
	}
	tell_recorded();
}

void Bitmap::tell_recorded()
{
	recorded_.store_release(1); // pairs with wait_done(DURABLE)
	base::fence_full(); // before the waiters are looked for, as in leader_unlock()
	plat_wake(host_);
}

void Bitmap::flag_all(Table *t)
{
	for (u32 b = 0; b < t->geo.pages; b++)
		page_info_[b].flagged.fetch_or_full(kFlagWrite); // before request(), as in flag()
}

void Bitmap::write_all()
{
	leader_lock();
	(void)check_members(table()->geo.bytes(), Unfit::Fail).failed(); // never refuses
	distrust_members();
	header_dirty_ = true;
	leader_unlock();
	flag_all(table());
	request();
	sync_floor_seq_.store_release(requested_.load_acquire()); // pairs with close_sync()
	plat_leader_queue(host_);
}

// Members that are to be recovered now and were away when the bitmap's knowledge became void.
// md asks for events_cleared when a member is bound; not when one that was bound then gets
// its slot back later, or one that had failed is taken back through its state file. [rm]
void Bitmap::distrust_members()
{
	plat_member m;

	for (u32 i = 0; plat_member_get(host_, i, &m) == 0; i++) {
		if (m.slot < 0 || !(m.flags & PLAT_MEMBER_MISSED) ||
		    (m.flags & (PLAT_MEMBER_IN_SYNC | PLAT_MEMBER_FAULTY | PLAT_MEMBER_JOURNAL)))
			continue;
		plat_member_distrust(host_, i);
		recover_all_.exchange_full(1); // pairs with start_sync(); until a recovery is done
	}
}

// md writes its superblocks next. It does so when a reshape starts, before its first stripe
// moves; at each of its checkpoints; for each member that fails or comes; and when it is over.
// A reshape moves data, so that what the bitmap knows of members that are away is about
// other places: each of these headers says that nothing is known of who has not seen this
// event. One more follows when a reshape is over. Another level is like a reshape.
// Members that it adds are in sync from its start, and md does not call write_all() for them:
// they get the check, the header and all cells here.
void Bitmap::update_sb()
{
	const Hold held{true};
	Table *t = table();
	plat_array_info a;

	plat_array_get(host_, &a);
	bool moving = a.flags & PLAT_ARRAY_RESHAPE_PENDING;
	leader_lock();
	bool first = init_pending_.load_relaxed();
	bool broken = broken_.load_relaxed();
	bool begins = moving && !moving_ && !broken;
	if (begins) // chunks may have come since the last one
		written_marked_.exchange_full(0);
	if (begins) {
		(void)check_members(t->geo.bytes(), Unfit::Fail).failed(); // never refuses
		flag_all(t);
	}
	absent_void_ = moving || moving_ || a.level != level_seen_;
	if (absent_void_)
		plat_absent_missed(host_);
	events_due_ = !broken; // else the old ones, and the stale mark
	// W5: what a stale bitmap, or one of a first use, became is durable first: a
	// commit, and its header takes them. All is flagged.
	header_dirty_ = header_dirty_ || begins;
	Result r = (first && !broken) || begins ? commit_wide(held) : write_header(held);
	events_due_ = false;
	absent_void_ = false;
	if (!r.failed()) {
		moving_ = moving;
		level_seen_ = a.level;
	}
	events_cleared_.store_relaxed(sb_.events_cleared); // md asks under reconfig_mutex
	leader_unlock();
}

// ---- commits: the holder of the leader lock only ----

Result Bitmap::commit(Hold hold)
{
	if (!plat_members_get(host_, hold.held))
		return Result::error(LLB_EBUSY);
	Result r = commit_once();
	for (u32 i = 1; r.failed() && i < kWriteTries; i++)
		r = commit_once();
	if (r.failed())
		give_up();
	plat_members_put(host_, hold.held);
	return r;
}

// W7: no member takes the bitmap. What md writes from now on would be unknown. The header
// lies in sectors of its own, and may still be taken: then the next assembly sees there
// that all must be resynchronised. Under the leader lock; the caller keeps the members in place.
void Bitmap::give_up()
{
	if (broken_.exchange_full(1))
		return;
	sb_.state |= LLB_SB_STALE;
	plat_broken_set(host_);
	events_due_ = false; // the old events, older than md's next superblock
	plat_members_get(host_, 1);
	bool taken = !write_header_once().failed();
	plat_members_put(host_, 1);
	if (taken)
		tell_recorded();
	plat_log(
		host_, PLAT_LOG_ERR,
		"no member takes writes of the bitmap: the array accepts no more writes; repair a member and assemble again, it will be resynchronised");
	plat_wake(host_);
}

// Writes what is flagged, batch by batch.
Result Bitmap::write_flagged(BatchItem *batch, u32 most)
{
	Table *t = table();
	BatchBuffers buffers(io_buf_, batch);
	u32 next = 0;
	bool more = true;

	while (more) {
		u32 room = buffers.get(flagged_from(t, next, most));
		u32 n = gather(t, next, room, batch, &next);
		if (n == 0)
			break;
		// Who flags a page from here on waits for the next commit; those who wait for this
		// one do not wait for his. What requested stands for is taken, or seen here.
		more = flagged_from(t, next, 1) > 0;
		u32 write = 0; // of them, the first so many
		for (u32 i = 0; i < n; i++) {
			Flagged b = batch[i].flagged;
			// What all of a bitmap is written for is no touch.
			Span fresh = copy_page(t, b.page, batch[write].buf, b.flags & kFlagFresh); // 3
			// A writer that found its chunk dirty and not yet durable has flagged the
			// page once more. The commit that it met has made that durable.
			if (b.flags == kFlagFresh && !fresh.to)
				continue;
			batch[write].flagged = b;
			batch[write++].fresh = fresh;
		}
		if (!write)
			continue;
		plat_io_result io;
		plat_io_begin(host_);
		for (u32 i = 0; i < write; i++)
			add_page_io(t, batch[i].flagged.page, batch[i].buf);
		plat_io_wait(host_, &io); // 4
		if (io.in_sync_ok == 0) {
			for (u32 i = 0; i < write; i++)
				page_info_[batch[i].flagged.page].flagged.fetch_or_full(kFlagWrite);
			return Result::error(LLB_EIO);
		}
		for (u32 i = 0; i < write; i++)
			confirm_page(t, batch[i].flagged.page, batch[i].buf, batch[i].fresh); // 5
		if (wide_)
			plat_relax();
	}
	return Result::ok();
}

// In a function of its own, so that its batch is on the stack only where it is used.
[[gnu::noinline]] Result Bitmap::write_narrow()
{
	BatchItem batch[kBatch];
	return write_flagged(batch, kBatch);
}

Result Bitmap::commit_once()
{
	// 1: acquire, before any flag is taken: pairs with (b) in request()
	u64 seq = requested_.load_acquire();
	Result r = wide_ ? write_flagged(wide_, kBatchWide) : write_narrow();

	if (r.failed())
		return r;
	if (init_pending_.load_relaxed()) {
		// The whole bitmap is durable as load() made it. Before a write relies on
		// that, the header stops saying that it is not to be read.
		sb_.state &= ~(LLB_SB_FIRST_USE | LLB_SB_CLEAN | LLB_SB_STALE);
		header_dirty_ = true;
	}
	if (header_dirty_) {
		r = write_header_once();
		if (r.failed())
			return r;
	}
	init_pending_.store_release(0); // pairs with skip_sync()
	watch_budget();
	// 6: release, pairs with (d) and with commit_upto()
	durable_.store_release(seq);
	return Result::ok();
}

// A commit over most pages of a bitmap that may be large: in few, large writes, if there is
// memory. The caller has the leader lock, and may wait for memory.
Result Bitmap::commit_wide(Hold hold)
{
	if (table()->geo.pages > kBatch)
		wide_ = static_cast<BatchItem *>(plat_alloc(kBatchWide * sizeof(BatchItem)));
	Result r = commit(hold);
	plat_free(wide_);
	wide_ = nullptr;
	return r;
}

// How many pages are flagged, up to most. Relaxed: request()'s number was read after
// the flags that it stands for.
u32 Bitmap::flagged_from(const Table *t, u32 from, u32 most) const
{
	u32 n = 0;

	for (u32 b = from; b < t->geo.pages && n < most; b++)
		n += page_info_[b].flagged.load_relaxed() != 0;
	return n;
}

// 2: take the flags of up to room pages, before they are copied.
u32 Bitmap::gather(Table *t, u32 from, u32 room, BatchItem *batch, u32 *next_page)
{
	u32 n = 0;
	u32 b = from;

	for (; b < t->geo.pages && n < room; b++) {
		// full: pairs with (a) and flag(): either we copy the new cell, or the
		// flag is set again after this
		if (!page_info_[b].flagged.load_relaxed())
			continue;
		u8 flags = page_info_[b].flagged.exchange_full(0);
		if (flags)
			batch[n++].flagged = {b, flags};
	}
	*next_page = b;
	return n;
}

// How far first touches may reach now: as far as the budget allows that more is called dirty
// than is written, and never over half of what is left of it. [the leader lock]
Reach Bitmap::reach(const Table *t) const
{
	const u32 shift = t->geo.chunk_shift;
	u64 window = base::min<u64>(kCoverChunksMax, base::max<u64>(kCoverSectorsMax >> shift, 1));
	u64 budget = budget_bytes();
	u64 crash = crash_bytes();

	if (budget == kNoLimit)
		return {true, u32(window), kPageBytes};
	u64 left = crash < budget ? (budget - crash) / 2 >> shift >> kSectorShift : 0;
	if (!left)
		return {false, 1, 0};
	return {crash < budget / 4, u32(base::min(window, u64{1} << base::log2(left))),
		u32(base::min<u64>(left, kPageBytes))};
}

// What a first touch at this byte of the page covers. A lone one: its chunk. Where others are
// written beside it, the aligned window that they share; where a run of them lies right
// behind it, or before it, half as much again on the other side. The cells are the
// evidence, so that no state and no clock is needed. Hints: what they say a moment later
// does not matter.
Span Bitmap::cover_of(const Table *t, u32 page, u32 at, Reach reach) const
{
	const Cell *cells = t->pages[page];
	const u64 start = u64{page} << kPageShift;
	const u32 first = u32(t->page_first(page) + LLB_CELLS_OFFSET - start);
	const u32 end = u32(t->page_end(page) + LLB_CELLS_OFFSET - start);
	Span span = {u16(at), u16(at + 1)};
	u32 dirty = 1;

	if (!reach.ahead)
		return span;
	for (u32 size = 2; size <= reach.window; size *= 2) {
		u32 from = at & ~(size - 1);
		// the half of the window that was not counted yet
		dirty += count_dirty(cells, from + (at & (size / 2) ? 0 : size / 2), size / 2);
		if (dirty > 1 && (reach.near || dirty * kCoverDensity >= size))
			span = {u16(from), u16(from + size)};
	}
	u32 low = at, high = at + 1;
	while (low > first && dirty_like(state_of(cells[low - 1].load_relaxed())))
		low--;
	while (high < end && dirty_like(state_of(cells[high].load_relaxed())))
		high++;
	if (low < at && high == at + 1)
		span.to = u16(base::max<u32>(span.to, at + 1 + base::min((at - low) / 2, reach.ahead)));
	if (low == at && high > at + 1)
		span.from = u16(base::min<u32>(
			span.from, at - base::min(at, base::min((high - at - 1) / 2, reach.ahead))));
	// All of the run, so that none of it is looked at again.
	return {u16(base::max<u32>(base::min<u32>(span.from, low), first)),
		u16(base::min<u32>(base::max<u32>(span.to, high), end))};
}

// The first touches in these words of a copy: what each covers is called dirty on the page,
// where it is clean or unwritten. Returns where all that lies.
Span Bitmap::cover_touches(const Table *t, u32 page, u8 *buf, Span words) const
{
	const Reach far = reach(t);
	Span all = words;
	Span span = {0, 0};

	for (u32 at = words.from; at < words.to; at++) {
		// What became fresh after the copy is the next commit's.
		if ((at >= span.from && at < span.to) || !is_fresh(t->pages[page][at].load_relaxed()) ||
		    !dirty_like(static_cast<State>(buf[at])))
			continue;
		span = cover_of(t, page, at, far);
		for (u32 i = span.from; i < span.to; i++) {
			if (buf[i] == LLB_UNWRITTEN || buf[i] == LLB_CLEAN)
				buf[i] = LLB_DIRTY;
		}
		all = {base::min(all.from, span.from), base::max(all.to, span.to)};
	}
	return all;
}

// 3: the bytes to write. A first touch covers neighbours: clean and unwritten ones are
// called dirty on disk, while memory keeps the truth. Returns where these lie, or nothing
// if no cell of the page is fresh: elsewhere all that is written as dirty is DIRTY_ON_DISK
// already, and only the holder of the leader lock takes that off.
Span Bitmap::copy_page(Table *t, u32 page, u8 *buf, bool may_cover)
{
	const u64 start = u64{page} << kPageShift;
	const u32 first = u32(t->page_first(page) + LLB_CELLS_OFFSET - start);
	const u32 end = u32(t->page_end(page) + LLB_CELLS_OFFSET - start);
	const Cell *cells = t->pages[page];
	Span fresh = {kPageBytes, 0};
	u64 raw = 0, bytes = 0, touched = 0;

	for (u32 i = 0; i < first; i++)
		buf[i] = 0;
	if (page == 0)
		super_encode(sb_, buf);
	for (u32 at = first; at < end; at += 8) {
		// acquire: pairs with (a); the cells are at least as new as their flag
		u64 now = base::load_eight_acquire(&cells[at]);
		if (now != raw) { // else as the eight before them, as most are
			raw = now;
			bytes = eight::disk_bytes(raw);
			touched = eight::fresh(raw);
		}
		put_eight(buf + at, bytes);
		if (touched && eight::fresh(keep(raw, end - at)))
			fresh = {base::min(fresh.from, u16(at)), u16(base::min(at + 8, end))};
	}
	if (fresh.to && may_cover)
		fresh = cover_touches(t, page, buf, fresh);
	for (u32 i = end; i < kPageBytes; i++)
		buf[i] = 0;
	return fresh;
}

// 5: what was written as dirty may be written without asking. Only the bytes as
// written count: a cell may have changed meanwhile.
void Bitmap::confirm_page(Table *t, u32 page, const u8 *buf, Span fresh)
{
	Cell *cells = t->pages[page];
	u64 more = 0;

	for (u32 at = fresh.from; at < fresh.to; at++) {
		if (!dirty_like(static_cast<State>(buf[at])) || (cells[at].load_relaxed() & kDirtyOnDisk))
			continue;
		cells[at].fetch_or_release(kDirtyOnDisk); // pairs with start()'s load
		more++;
	}
	dirty_on_disk_.store_relaxed(dirty_on_disk_.load_relaxed() + more);
	u16 due = page_info_[page].due.load_relaxed();
	if (due) { // what was cleared in memory is clean on disk
		page_info_[page].due.store_relaxed(0);
		due_.store_relaxed(due_.load_relaxed() - due);
	}
}

// The part of a page that is written: the header's own sectors only with the
// header, the tail only as far as there are cells.
void Bitmap::add_page_io(Table *t, u32 page, u8 *buf)
{
	u32 from = page == 0 && header_bytes() == LLB_CELLS_OFFSET ? LLB_CELLS_OFFSET : 0;
	u64 start = u64{page} << kPageShift;
	u64 end = base::min(start + kPageBytes, base::round_up(t->geo.bytes(), io_align_));

	if (from >= end - start)
		return; // all of it lies in the header's sectors
	plat_io_add(host_, start + from, buf + from, u32(end - start - from));
}

// ---- what a crash costs ----

// Chunks that are dirty on disk, in bytes of what is synchronised: a member's, raid10's
// array's. [any]
u64 Bitmap::crash_bytes() const
{
	const Table *t = table();
	u64 chunks = init_pending_.load_relaxed() ? loaded_dirty_.load_relaxed()
						  : dirty_on_disk_.load_relaxed() + due_.load_relaxed();

	return base::min(chunks << t->geo.chunk_shift, t->geo.sync_size) << kSectorShift;
}

// What it may cost; kNoLimit: anything. An array that can be resynchronised in that time as
// a whole has no limit. [any]
u64 Bitmap::budget_bytes() const
{
	u32 mib = budget_mib_.load_relaxed();

	if (mib == 0)
		mib = table()->geo.sync_size >> 11 <= kBudgetDefault_mib ? LLB_BUDGET_NONE
									 : kBudgetDefault_mib;
	return mib == LLB_BUDGET_NONE ? kNoLimit : u64{mib} << 20;
}

// Is half of the budget spent, on what can be cleaned? What waits for a resync costs as much
// whatever the daemon does. [any]
bool Bitmap::over_half() const
{
	u64 budget = budget_bytes();

	return budget != kNoLimit &&
	       crash_bytes() > base::min(waiting_bytes_.load_relaxed(), kNoLimit - budget) + budget / 2;
}

// Then the daemon looks each second. [the leader lock]
void Bitmap::watch_budget()
{
	if (!over_half() || hurried_.load_relaxed())
		return;
	hurried_.exchange_full(1);
	armed_.exchange_full(1); // as in arm(); perhaps earlier than what is armed
	plat_daemon_arm(host_, base::min(kHurry_ms, sleep_ms()));
}

// After another table was published. [the leader lock]
void Bitmap::recount(const Table *t)
{
	u64 dirty = 0, due = 0;

	for (u32 b = 0; b < t->geo.pages; b++) {
		for (u64 c = t->page_first(b); c < t->page_end(b); c++)
			dirty += (t->cell(c).load_relaxed() & kDirtyOnDisk) != 0;
		due += page_info_[b].due.load_relaxed();
		plat_relax();
	}
	dirty_on_disk_.store_relaxed(dirty);
	due_.store_relaxed(due);
}

// ---- header ----

Result Bitmap::write_header_once()
{
	const u64 before = sb_.events, cleared = sb_.events_cleared;
	plat_io_result io;

	if (events_due_) {
		u64 events = plat_events(host_);
		// md takes the last event back when an array becomes clean again. A cut
		// before it wrote that must not find a bitmap older than the array.
		if (sb_.events != events + 1)
			sb_.events = events;
		sb_.events_cleared = absent_void_ ? events : base::min(sb_.events_cleared, events);
	}
	// cells behind the header in the same logical block go along, as they are
	copy_page(table(), 0, io_buf_, false);
	plat_io_begin(host_);
	plat_io_add(host_, 0, io_buf_, header_bytes());
	plat_io_wait(host_, &io);
	if (io.in_sync_ok == 0) {
		if (events_due_) {
			sb_.events = before;
			sb_.events_cleared = cleared;
		}
		return Result::error(LLB_EIO);
	}
	header_dirty_ = false;
	return Result::ok();
}

Result Bitmap::write_header(Hold hold)
{
	if (!plat_members_get(host_, hold.held))
		return Result::error(LLB_EBUSY);
	Result r = write_header_once();
	for (u32 i = 1; r.failed() && i < kWriteTries; i++)
		r = write_header_once();
	if (r.failed())
		give_up();
	plat_members_put(host_, hold.held);
	return r;
}

} // namespace core

// ---- entries: include/llbitmap/abi.h ----

using core::of;

extern "C" {

void llb_write_all(llb_bitmap *b)
{
	of(b).write_all();
}

void llb_unplug(llb_bitmap *b, u32 may_submit)
{
	of(b).unplug(may_submit);
}

void llb_leader_work(llb_bitmap *b)
{
	of(b).leader_work();
}

void llb_update_sb(llb_bitmap *b)
{
	of(b).update_sb();
}

bool llb_pending(llb_bitmap *b)
{
	return of(b).pending();
}

int llb_wait_done(llb_bitmap *b, u32 kind, u64 arg)
{
	return of(b).wait_done(kind, arg);
}
}
