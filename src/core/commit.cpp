// SPDX-License-Identifier: GPL-2.0
// Group commit. A writer that made a cell dirty flags its page and takes a number
// (requested). One holder of the leader lock at a time writes all flagged pages to all
// members, and then says up to which number everything is durable.
#include "core/commit.hpp"

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

} // namespace

bool Commit::make_commit(const Geometry &geo, u64 space_sectors)
{
	page_capacity_ =
		u32(base::max<u64>(base::div_up(space_sectors << kSectorShift, kPageBytes), geo.pages));
	flags_ = static_cast<base::Atomic<u8> *>(plat_alloc(page_capacity_));
	return flags_ && make_due(page_capacity_);
}

void Commit::free_commit()
{
	free_due();
	plat_free(flags_);
	plat_page_free(io_buf_);
}

// ---- the leader lock ----

bool Commit::leader_trylock()
{
	// full: what the last leader did is seen; pairs with leader_unlock()
	return !leader_.load_relaxed() && !leader_.exchange_full(1);
}

void Commit::leader_lock()
{
	while (!leader_trylock())
		plat_wait(host_, this, PLAT_WAIT_LEADER, kNoLimit);
}

void Commit::leader_unlock()
{
	// release: pairs with leader_trylock(). Then a full fence before waiters are looked
	// for: in another order one of them sleeps for ever.
	leader_.store_release(0);
	base::fence_full();
	plat_wake(host_);
}

// ---- what callers ask ----

// Make everything up to target durable. False: cannot now (suspended) or never.
bool Commit::commit_upto(u64 target, Hold hold)
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
bool Commit::commit_upto_for_bios(u64 target)
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

void Commit::unplug(bool may_submit)
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

void Commit::leader_work()
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
void Commit::record_failure()
{
	for (u32 i = 0; i < kRecordTries && !recorded_.load_acquire(); i++) {
		if (plat_superblock_write(host_) == 0)
			break;
		plat_sleep_ms(kRecordPoll_ms);
	}
	tell_recorded();
}

void Commit::tell_recorded()
{
	recorded_.store_release(1); // pairs with wait_done(DURABLE)
	base::fence_full(); // before the waiters are looked for, as in leader_unlock()
	plat_wake(host_);
}

void Commit::flag_all(const Table *t)
{
	for (u32 b = 0; b < t->geo.pages; b++)
		flag(b, kFlagWrite); // before request()
}

// ---- commits: the holder of the leader lock only ----

Result Commit::once(Write what)
{
	switch (what) {
	case Write::Flagged:
		return commit_once();
	case Write::Header:
		return write_header_once();
	case Write::DirtyHeader:
		break;
	}
	return mark_header_on_disk();
}

// Until some member takes it, kWriteTries times at most.
Result Commit::tried(Write what)
{
	Result r = once(what);
	for (u32 i = 1; r.failed() && i < kWriteTries; i++)
		r = once(what);
	return r;
}

// What members are there stays while it is written.
Result Commit::on_members(Write what, Hold hold)
{
	if (!plat_members_get(host_, hold.held))
		return Result::error(LLB_EBUSY);
	Result r = tried(what);
	if (r.failed())
		give_up();
	plat_members_put(host_, hold.held);
	return r;
}

Result Commit::commit(Hold hold)
{
	return on_members(Write::Flagged, hold);
}

// W7: no member takes the bitmap. What md writes from now on would be unknown. The header
// lies in sectors of its own, and may still be taken: then the next assembly sees there
// that all must be resynchronised. Under the leader lock; the caller keeps the members in place.
void Commit::give_up()
{
	if (broken_.exchange_full(1))
		return;
	sb_.state |= LLB_SB_STALE;
	plat_broken_set(host_);
	says_ = Header::Same; // the old events, older than md's next superblock
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
Result Commit::write_flagged(BatchItem *batch, u32 most)
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
		Reach far = reach(t);
		for (u32 i = 0; i < n; i++) {
			Flagged b = batch[i].flagged;
			// What all of a bitmap is written for is no touch.
			Reach *touches = b.flags & kFlagFresh ? &far : nullptr;
			Span fresh = copy_page(t, b.page, batch[write].buf, touches); // 3
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
				flag(batch[i].flagged.page, kFlagWrite);
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
[[gnu::noinline]] Result Commit::write_narrow()
{
	BatchItem batch[kBatch];
	return write_flagged(batch, kBatch);
}

Result Commit::commit_once()
{
	// 1: acquire, before any flag is taken: pairs with (b) in request()
	u64 seq = requested_.load_acquire();
	Result r = wide_ ? write_flagged(wide_, kBatchWide) : write_narrow();

	if (r.failed())
		return r;
	if (init_pending()) {
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
	became_durable();
	watch_budget();
	// 6: release, pairs with (d) and with commit_upto()
	durable_.store_release(seq);
	return Result::ok();
}

// A commit over most pages of a bitmap that may be large: in few, large writes, if there is
// memory. The caller has the leader lock, and may wait for memory.
Result Commit::commit_wide(Hold hold, Header says)
{
	if (table()->geo.pages > kBatch)
		wide_ = static_cast<BatchItem *>(plat_alloc(kBatchWide * sizeof(BatchItem)));
	says_ = says;
	Result r = commit(hold);
	says_ = Header::Same;
	plat_free(wide_);
	wide_ = nullptr;
	return r;
}

// How many pages are flagged, up to most. Relaxed: request()'s number was read after
// the flags that it stands for.
u32 Commit::flagged_from(const Table *t, u32 from, u32 most) const
{
	u32 n = 0;

	for (u32 b = from; b < t->geo.pages && n < most; b++)
		n += flagged(b);
	return n;
}

// 2: take the flags of up to room pages, before they are copied.
u32 Commit::gather(Table *t, u32 from, u32 room, BatchItem *batch, u32 *next_page)
{
	u32 n = 0;
	u32 b = from;

	for (; b < t->geo.pages && n < room; b++) {
		// full: pairs with (a) and flag(): either we copy the new cell, or the
		// flag is set again after this
		if (!flagged(b))
			continue;
		u8 flags = flags_[b].exchange_full(0);
		if (flags)
			batch[n++].flagged = {b, flags};
	}
	*next_page = b;
	return n;
}

// 3: the bytes to write. A first touch covers neighbours: clean and unwritten ones are
// called dirty on disk, while memory keeps the truth. Returns where these lie, or nothing
// if no cell of the page is fresh: elsewhere all that is written as dirty is DIRTY_ON_DISK
// already, and only the holder of the leader lock takes that off. far: none: nothing is covered.
Span Commit::copy_page(Table *t, u32 page, u8 *buf, Reach *far)
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
	if (fresh.to && far)
		fresh = cover_touches(t, page, buf, fresh, far);
	for (u32 i = end; i < kPageBytes; i++)
		buf[i] = 0;
	return fresh;
}

// 5: what was written as dirty may be written without asking. Only the bytes as
// written count: a cell may have changed meanwhile.
void Commit::confirm_page(Table *t, u32 page, const u8 *buf, Span fresh)
{
	Cell *cells = t->pages[page];
	u64 more = 0;

	for (u32 at = fresh.from; at < fresh.to; at++) {
		if (!dirty_like(static_cast<State>(buf[at])) || (cells[at].load_relaxed() & kDirtyOnDisk))
			continue;
		cells[at].fetch_or_release(kDirtyOnDisk); // pairs with start()'s load
		more++;
	}
	became_dirty_on_disk(more);
	page_written(page);
}

// The part of a page that is written: the header's own sectors only with the
// header, the tail only as far as there are cells.
void Commit::add_page_io(Table *t, u32 page, u8 *buf)
{
	u32 from = page == 0 && header_bytes() == LLB_CELLS_OFFSET ? LLB_CELLS_OFFSET : 0;
	u64 start = u64{page} << kPageShift;
	u64 end = base::min(start + kPageBytes, base::round_up(t->geo.bytes(), io_align_));

	if (from >= end - start)
		return; // all of it lies in the header's sectors
	plat_io_add(host_, start + from, buf + from, u32(end - start - from));
}

// ---- header ----

Result Commit::write_header_once()
{
	const u64 before = sb_.events, cleared = sb_.events_cleared;
	plat_io_result io;

	if (says_ != Header::Same) {
		u64 events = plat_events(host_);
		sb_.events = events_next(sb_.events, events);
		sb_.events_cleared =
			says_ == Header::EventsOnly ? events : base::min(sb_.events_cleared, events);
	}
	// cells behind the header in the same logical block go along, as they are
	copy_page(table(), 0, io_buf_, nullptr);
	plat_io_begin(host_);
	plat_io_add(host_, 0, io_buf_, header_bytes());
	plat_io_wait(host_, &io);
	if (io.in_sync_ok == 0) {
		if (says_ != Header::Same) {
			sb_.events = before;
			sb_.events_cleared = cleared;
		}
		return Result::error(LLB_EIO);
	}
	header_dirty_ = false;
	return Result::ok();
}

Result Commit::write_header(Hold hold, Header says)
{
	says_ = says;
	Result r = on_members(Write::Header, hold);
	says_ = Header::Same;
	return r;
}

// The header as it is in sb_, and behind it, up to bytes, all cells dirty: on every
// member. Under the leader lock.
Result Commit::mark_all_on_disk(u64 bytes)
{
	plat_io_result io;
	Result r = Result::ok();

	if (!plat_members_get(host_, 1))
		return Result::error(LLB_EBUSY);
	super_encode(sb_, io_buf_);
	for (u32 i = LLB_SB_BYTES; i < LLB_CELLS_OFFSET; i++)
		io_buf_[i] = 0;
	for (u32 i = LLB_CELLS_OFFSET; i < kPageBytes; i++)
		io_buf_[i] = LLB_DIRTY;
	bytes = base::round_up(bytes, io_align_);
	for (u64 at = 0; at < bytes && !r.failed();) {
		// Behind the first page there is no header: all are this page.
		u32 most = at ? PLAT_IO_ADDS_MAX : 1;
		plat_io_begin(host_);
		for (u32 i = 0; i < most && at < bytes; i++, at += kPageBytes)
			plat_io_add(host_, at, io_buf_, u32(base::min<u64>(kPageBytes, bytes - at)));
		plat_io_wait(host_, &io);
		for (u32 i = 0; i < LLB_CELLS_OFFSET; i++)
			io_buf_[i] = LLB_DIRTY;
		if (io.in_sync_ok == 0)
			r = Result::error(LLB_EIO);
	}
	plat_members_put(host_, 1);
	return r;
}

// A header that was not taken may have landed: this one is, over dirty cells, or none any more.
void Commit::take_back_header()
{
	if (tried(Write::DirtyHeader).failed())
		give_up();
}

} // namespace core
