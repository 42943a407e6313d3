// SPDX-License-Identifier: GPL-2.0
// Group commit. A writer that made a cell dirty flags its block and takes a number
// (requested). One holder of LEAD at a time writes all flagged blocks to all
// members, and then says up to which number everything is durable.
#include "core/bitmap.hpp"

using base::Result;

namespace core {

namespace {

u64 get_eight(const u8 *page)
{
	u64 bytes;
	__builtin_memcpy(&bytes, page, sizeof(bytes));
	return bytes;
}

void put_eight(u8 *page, u64 bytes)
{
	__builtin_memcpy(page, &bytes, sizeof(bytes));
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
class BatchPages {
    public:
	BatchPages(u8 *own, BatchItem *batch)
		: batch_{batch}
	{
		batch_[0].page = own;
	}
	~BatchPages()
	{
		while (have_ > 1)
			kx_page_free(batch_[--have_].page);
	}
	BatchPages(const BatchPages &) = delete;
	BatchPages &operator=(const BatchPages &) = delete;
	// Returns how many of count there are; one at least, if count is not 0.
	u32 get(u32 count)
	{
		while (have_ < count && (batch_[have_].page = static_cast<u8 *>(kx_page_alloc(0))))
			have_++;
		return base::min(have_, count);
	}

    private:
	BatchItem *batch_;
	u32 have_ = 1;
};

constexpr u32 kRecordPoll_ms = 20;
constexpr u32 kRecordTries = 250; // five seconds

// A window lies inside its block.
static_assert(LLB_CELLS_OFFSET % kCoverChunksMax == 0 && kBlockBytes % kCoverChunksMax == 0);

bool is_fresh(u8 raw)
{
	return dirty_like(state_of(raw)) && !(raw & kCovered);
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

// ---- LEAD ----

bool Bitmap::try_lead()
{
	// full: what the last leader did is seen; pairs with lead_give()
	return !lead_.load_relaxed() && !lead_.exchange_full(1);
}

void Bitmap::lead_take()
{
	while (!try_lead())
		kx_wait(host_, this, KX_WAIT_LEAD, kNoLimit);
}

void Bitmap::lead_give()
{
	// release: pairs with try_lead(). Then a full fence before waiters are looked
	// for: in another order one of them sleeps for ever.
	lead_.store_release(0);
	base::fence_full();
	kx_wake(host_);
}

bool Bitmap::wait_done(u32 kind, u64 arg)
{
	switch (kind) {
	case KX_WAIT_DURABLE:
		// acquire: pairs with the store of durable in round_once() step 6
		return durable_.load_acquire() >= arg ||
		       recorded_.load_acquire(); // pairs with record_failure()
	case KX_WAIT_LEAD:
		return !lead_.load_acquire() || durable_.load_acquire() >= arg;
	case KX_WAIT_BEHIND:
		return behind_.load_acquire() == 0; // pairs with end_behind()
	case KX_WAIT_DAEMON:
		return !daemon_busy_.load_acquire(); // pairs with daemon_give()
	case KX_WAIT_THAW:
		// pairs with publish() and with the thaw in relayout()
		return reinterpret_cast<u64>(table()) != arg || !table()->frozen.load_acquire();
	}
	return true;
}

// ---- what callers ask ----

// Make everything up to target durable. False: cannot now (suspended) or never.
bool Bitmap::settle(u64 target, Hold hold)
{
	for (;;) {
		// acquire: pairs with the store in round_once() step 6
		if (durable_.load_acquire() >= target)
			return true;
		if (broken_.load_acquire())
			return false;
		if (!try_lead()) {
			kx_wait(host_, this, KX_WAIT_LEAD, target);
			continue;
		}
		Result r = Result::ok();
		if (durable_.load_acquire() < target && !broken_.load_relaxed())
			r = round(hold);
		lead_give();
		if (r.failed())
			return false;
	}
}

// A worker's settle(): whoever waits inside submit_bio holds the members in place, but only
// until what it waits for is durable. So each round looks anew, under LEAD: then nobody
// else makes that durable.
bool Bitmap::settle_for_bios(u64 target)
{
	while (durable_.load_acquire() < target) { // pairs with round_once() step 6
		if (broken_.load_acquire())
			return false;
		if (!try_lead()) {
			kx_wait(host_, this, KX_WAIT_LEAD, target);
			continue;
		}
		u64 durable = durable_.load_acquire();
		Result r = Result::ok();
		if (durable < target && !broken_.load_relaxed())
			r = round(Hold{bio_target_.load_seq_cst() > durable});
		lead_give();
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
		if (!settle(target, Hold{true}) && broken_.load_acquire()) // pairs with give_up()
			record_failure();
		return;
	}
	// Inside submit_bio our bios would wait behind ourselves: a worker leads.
	u64 before = bio_target_.load_relaxed();
	while (before < target && !bio_target_.cas_full(before, target))
		; // full, before the queueing: settle_for_bios() reads it
	kx_lead_queue(host_);
	kx_wait(host_, this, KX_WAIT_DURABLE, target);
}

void Bitmap::lead_work()
{
	if (!settle_for_bios(requested_.load_acquire()) && broken_.load_acquire()) // pairs with give_up()
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
		if (kx_superblock_write(host_) == 0)
			break;
		kx_sleep_ms(kRecordPoll_ms);
	}
	tell_recorded();
}

void Bitmap::tell_recorded()
{
	recorded_.store_release(1); // pairs with wait_done(DURABLE)
	base::fence_full(); // before the waiters are looked for, as in lead_give()
	kx_wake(host_);
}

void Bitmap::flag_all(Table *t)
{
	for (u32 b = 0; b < t->geo.blocks; b++)
		blocks_[b].flagged.fetch_or_full(kFlagWrite); // before request(), as in flag()
}

void Bitmap::write_all()
{
	lead_take();
	(void)check_members(table()->geo.bytes(), Unfit::Fail).failed(); // never refuses
	distrust_members();
	header_dirty_ = true;
	lead_give();
	flag_all(table());
	request();
	spare_seq_.store_release(requested_.load_acquire()); // pairs with close_sync()
	kx_lead_queue(host_);
}

// Members that are to be recovered now and were away when the bitmap's knowledge became void.
// md asks for events_cleared when a member is bound; not when one that was bound then gets
// its slot back later, or one that had failed is taken back through its state file. [rm]
void Bitmap::distrust_members()
{
	kx_member m;

	for (u32 i = 0; kx_member_get(host_, i, &m) == 0; i++) {
		if (m.slot < 0 || !(m.flags & KX_MEMBER_MISSED) ||
		    (m.flags & (KX_MEMBER_IN_SYNC | KX_MEMBER_FAULTY | KX_MEMBER_JOURNAL)))
			continue;
		kx_member_distrust(host_, i);
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
	kx_array a;

	kx_array_get(host_, &a);
	bool moving = a.flags & KX_ARRAY_RESHAPE_PENDING;
	lead_take();
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
		kx_absent_missed(host_);
	events_due_ = !broken; // else the old ones, and the stale mark
	// W5: what a stale bitmap, or one of a first use, became is durable first: a
	// round, and its header takes them. All is flagged.
	header_dirty_ = header_dirty_ || begins;
	Result r = (first && !broken) || begins ? wide_round(held) : write_header(held);
	events_due_ = false;
	absent_void_ = false;
	if (!r.failed()) {
		moving_ = moving;
		level_seen_ = a.level;
	}
	events_cleared_.store_relaxed(sb_.events_cleared); // md asks under reconfig_mutex
	lead_give();
}

// ---- rounds: the holder of LEAD only ----

Result Bitmap::round(Hold hold)
{
	if (!kx_members_get(host_, hold.held))
		return Result::error(LLB_EBUSY);
	Result r = round_once();
	for (u32 i = 1; r.failed() && i < kWriteTries; i++)
		r = round_once();
	if (r.failed())
		give_up();
	kx_members_put(host_, hold.held);
	return r;
}

// W7: no member takes the bitmap. What md writes from now on would be unknown. The header
// lies in sectors of its own, and may still be taken: then the next assembly sees there
// that all must be resynchronised. Under LEAD; the caller keeps the members in place.
void Bitmap::give_up()
{
	if (broken_.exchange_full(1))
		return;
	sb_.state |= LLB_SB_STALE;
	kx_broken_set(host_);
	events_due_ = false; // the old events, older than md's next superblock
	kx_members_get(host_, 1);
	bool taken = !write_header_once().failed();
	kx_members_put(host_, 1);
	if (taken)
		tell_recorded();
	kx_log(host_, KX_LOG_ERR,
	       "no member takes writes of the bitmap: the array accepts no more writes; repair a member and assemble again, it will be resynchronised");
	kx_wake(host_);
}

// Writes what is flagged, batch by batch.
Result Bitmap::write_flagged(BatchItem *batch, u32 most)
{
	Table *t = table();
	BatchPages pages(page_, batch);
	u32 next = 0;
	bool more = true;

	while (more) {
		u32 room = pages.get(flagged_from(t, next, most));
		u32 n = gather(t, next, room, batch, &next);
		if (n == 0)
			break;
		// Who flags a block from here on waits for the next round; those who wait for this
		// one do not wait for his. What requested stands for is taken, or seen here.
		more = flagged_from(t, next, 1) > 0;
		u32 write = 0; // of them, the first so many
		for (u32 i = 0; i < n; i++) {
			Flagged b = batch[i].block;
			// What all of a bitmap is written for is no touch.
			Span fresh = copy_block(t, b.block, batch[write].page, b.flags & kFlagFresh); // 3
			// A writer that found its chunk dirty and not yet durable has flagged the
			// block once more. The round that it met has made that durable.
			if (b.flags == kFlagFresh && !fresh.to)
				continue;
			batch[write].block = b;
			batch[write++].fresh = fresh;
		}
		if (!write)
			continue;
		kx_io_result io;
		kx_io_begin(host_);
		for (u32 i = 0; i < write; i++)
			add_block_io(t, batch[i].block.block, batch[i].page);
		kx_io_wait(host_, &io); // 4
		if (io.in_sync_ok == 0) {
			for (u32 i = 0; i < write; i++)
				blocks_[batch[i].block.block].flagged.fetch_or_full(kFlagWrite);
			return Result::error(LLB_EIO);
		}
		for (u32 i = 0; i < write; i++)
			confirm_block(t, batch[i].block.block, batch[i].page, batch[i].fresh); // 5
		if (wide_)
			kx_relax();
	}
	return Result::ok();
}

// In a function of its own, so that its batch is on the stack only where it is used.
[[gnu::noinline]] Result Bitmap::write_narrow()
{
	BatchItem batch[kBatch];
	return write_flagged(batch, kBatch);
}

Result Bitmap::round_once()
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
	// 6: release, pairs with (d) and with settle()
	durable_.store_release(seq);
	return Result::ok();
}

// A round over most blocks of a bitmap that may be large: in few, large writes, if there is
// memory. The caller has LEAD, and may wait for memory.
Result Bitmap::wide_round(Hold hold)
{
	if (table()->geo.blocks > kBatch)
		wide_ = static_cast<BatchItem *>(kx_alloc(kBatchWide * sizeof(BatchItem)));
	Result r = round(hold);
	kx_free(wide_);
	wide_ = nullptr;
	return r;
}

// How many blocks are flagged, up to most. Relaxed: request()'s number was read after
// the flags that it stands for.
u32 Bitmap::flagged_from(const Table *t, u32 from, u32 most) const
{
	u32 n = 0;

	for (u32 b = from; b < t->geo.blocks && n < most; b++)
		n += blocks_[b].flagged.load_relaxed() != 0;
	return n;
}

// 2: take the flags of up to room blocks, before they are copied.
u32 Bitmap::gather(Table *t, u32 from, u32 room, BatchItem *batch, u32 *next_block)
{
	u32 n = 0;
	u32 b = from;

	for (; b < t->geo.blocks && n < room; b++) {
		// full: pairs with (a) and flag(): either we copy the new cell, or the
		// flag is set again after this
		if (!blocks_[b].flagged.load_relaxed())
			continue;
		u8 flags = blocks_[b].flagged.exchange_full(0);
		if (flags)
			batch[n++].block = {b, flags};
	}
	*next_block = b;
	return n;
}

// How far first touches may reach now: as far as the budget allows that more is called dirty
// than is written, and never over half of what is left of it. [LEAD]
Reach Bitmap::reach(const Table *t) const
{
	const u32 shift = t->geo.chunk_shift;
	u64 window = base::min<u64>(kCoverChunksMax, base::max<u64>(kCoverSectorsMax >> shift, 1));
	u64 budget = budget_bytes();
	u64 crash = crash_bytes();

	if (budget == kNoLimit)
		return {true, u32(window), kBlockBytes};
	u64 left = crash < budget ? (budget - crash) / 2 >> shift >> kSectorShift : 0;
	if (!left)
		return {false, 1, 0};
	return {crash < budget / 4, u32(base::min(window, u64{1} << base::log2(left))),
		u32(base::min<u64>(left, kBlockBytes))};
}

// What a first touch at this byte of the block covers. A lone one: its chunk. Where others are
// written beside it, the aligned window that they share; where a run of them lies right
// behind it, or before it, half as much again on the other side. The cells are the
// evidence, so that no state and no clock is needed. Hints: what they say a moment later
// does not matter.
Span Bitmap::cover_of(const Table *t, u32 block, u32 at, Reach reach) const
{
	const Cell *cells = t->pages[block];
	const u64 start = u64{block} << kBlockShift;
	const u32 first = u32(t->block_first(block) + LLB_CELLS_OFFSET - start);
	const u32 end = u32(t->block_end(block) + LLB_CELLS_OFFSET - start);
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
Span Bitmap::cover_touches(const Table *t, u32 block, u8 *page, Span words) const
{
	const Reach far = reach(t);
	Span all = words;
	Span span = {0, 0};

	for (u32 at = words.from; at < words.to; at++) {
		// What became fresh after the copy is the next round's.
		if ((at >= span.from && at < span.to) || !is_fresh(t->pages[block][at].load_relaxed()) ||
		    !dirty_like(static_cast<State>(page[at])))
			continue;
		span = cover_of(t, block, at, far);
		for (u32 i = span.from; i < span.to; i++) {
			if (page[i] == LLB_UNWRITTEN || page[i] == LLB_CLEAN)
				page[i] = LLB_DIRTY;
		}
		all = {base::min(all.from, span.from), base::max(all.to, span.to)};
	}
	return all;
}

// 3: the bytes to write. A first touch covers neighbours: clean and unwritten ones are
// called dirty on disk, while memory keeps the truth. Returns where these lie, or nothing
// if no cell of the block is fresh: elsewhere all that is written as dirty is COVERED
// already, and only the holder of LEAD takes that off.
Span Bitmap::copy_block(Table *t, u32 block, u8 *page, bool may_cover)
{
	const u64 start = u64{block} << kBlockShift;
	const u32 first = u32(t->block_first(block) + LLB_CELLS_OFFSET - start);
	const u32 end = u32(t->block_end(block) + LLB_CELLS_OFFSET - start);
	const Cell *cells = t->pages[block];
	Span fresh = {kBlockBytes, 0};
	u64 raw = 0, bytes = 0, touched = 0;

	for (u32 i = 0; i < first; i++)
		page[i] = 0;
	if (block == 0)
		super_encode(sb_, page);
	for (u32 at = first; at < end; at += 8) {
		// acquire: pairs with (a); the cells are at least as new as their flag
		u64 now = base::load_eight_acquire(&cells[at]);
		if (now != raw) { // else as the eight before them, as most are
			raw = now;
			bytes = eight::disk_bytes(raw);
			touched = eight::fresh(raw);
		}
		put_eight(page + at, bytes);
		if (touched && eight::fresh(keep(raw, end - at)))
			fresh = {base::min(fresh.from, u16(at)), u16(base::min(at + 8, end))};
	}
	if (fresh.to && may_cover)
		fresh = cover_touches(t, block, page, fresh);
	for (u32 i = end; i < kBlockBytes; i++)
		page[i] = 0;
	return fresh;
}

// 5: what was written as dirty may be written without asking. Only the bytes as
// written count: a cell may have changed meanwhile.
void Bitmap::confirm_block(Table *t, u32 block, const u8 *page, Span fresh)
{
	Cell *cells = t->pages[block];
	u64 more = 0;

	for (u32 at = fresh.from; at < fresh.to; at++) {
		if (!dirty_like(static_cast<State>(page[at])) || (cells[at].load_relaxed() & kCovered))
			continue;
		cells[at].fetch_or_release(kCovered); // pairs with start()'s load
		more++;
	}
	covered_.store_relaxed(covered_.load_relaxed() + more);
	u16 due = blocks_[block].due.load_relaxed();
	if (due) { // what was cleared in memory is clean on disk
		blocks_[block].due.store_relaxed(0);
		due_.store_relaxed(due_.load_relaxed() - due);
	}
}

// The part of a block that is written: the header's own sectors only with the
// header, the tail only as far as there are cells.
void Bitmap::add_block_io(Table *t, u32 block, u8 *page)
{
	u32 from = block == 0 && header_bytes() == LLB_CELLS_OFFSET ? LLB_CELLS_OFFSET : 0;
	u64 start = u64{block} << kBlockShift;
	u64 end = base::min(start + kBlockBytes, base::round_up(t->geo.bytes(), io_align_));

	if (from >= end - start)
		return; // all of it lies in the header's sectors
	kx_io_add(host_, start + from, page + from, u32(end - start - from));
}

// ---- what a crash costs ----

// Chunks that are dirty on disk, in bytes of the array. [any]
u64 Bitmap::crash_bytes() const
{
	const Table *t = table();
	u64 chunks = init_pending_.load_relaxed() ? loaded_dirty_.load_relaxed()
						  : covered_.load_relaxed() + due_.load_relaxed();

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

// Then the daemon looks each second. [LEAD]
void Bitmap::watch_budget()
{
	if (!over_half() || hurried_.load_relaxed())
		return;
	hurried_.exchange_full(1);
	armed_.exchange_full(1); // as in arm(); perhaps earlier than what is armed
	kx_daemon_arm(host_, base::min(kHurry_ms, sleep_ms()));
}

// After another table was published. [LEAD]
void Bitmap::recount(const Table *t)
{
	u64 covered = 0, due = 0;

	for (u32 b = 0; b < t->geo.blocks; b++) {
		for (u64 c = t->block_first(b); c < t->block_end(b); c++)
			covered += (t->cell(c).load_relaxed() & kCovered) != 0;
		due += blocks_[b].due.load_relaxed();
		kx_relax();
	}
	covered_.store_relaxed(covered);
	due_.store_relaxed(due);
}

// ---- header ----

Result Bitmap::write_header_once()
{
	const u64 before = sb_.events, cleared = sb_.events_cleared;
	kx_io_result io;

	if (events_due_) {
		u64 events = kx_events(host_);
		// md takes the last event back when an array becomes clean again. A cut
		// before it wrote that must not find a bitmap older than the array.
		if (sb_.events != events + 1)
			sb_.events = events;
		sb_.events_cleared = absent_void_ ? events : base::min(sb_.events_cleared, events);
	}
	// cells behind the header in the same logical block go along, as they are
	copy_block(table(), 0, page_, false);
	kx_io_begin(host_);
	kx_io_add(host_, 0, page_, header_bytes());
	kx_io_wait(host_, &io);
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
	if (!kx_members_get(host_, hold.held))
		return Result::error(LLB_EBUSY);
	Result r = write_header_once();
	for (u32 i = 1; r.failed() && i < kWriteTries; i++)
		r = write_header_once();
	if (r.failed())
		give_up();
	kx_members_put(host_, hold.held);
	return r;
}

} // namespace core
