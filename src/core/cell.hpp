// SPDX-License-Identifier: GPL-2.0
// A cell: what memory knows of one chunk, in one atomic byte.
//
//   bits 0-2  state, as on disk (format.h)
//   bit 3     DIRTY_ON_DISK: every write of this cell's disk byte that completed since
//             it was set carried a byte that reloads to NeedSync, on all working
//             members. The chunk may then be written without bitmap I/O.
//   bit 4     CLEANING: marked by the daemon; any other transition takes it off,
//             so what still carries it was not written since.
//   bit 5     TRIM: all that was written since the last Clean was one discard of
//             the whole chunk: ends as Unwritten instead of Clean.
//   bit 6     ENDED: SyncingUnwritten whose parity is built, waiting for the
//             daemon's flush before it may be called CleanUnwritten.
//
// A 32-bit cell with an in-flight count was the alternative: every write would
// store to a shared line.
#pragma once

#include "base/atomic.hpp"
#include "llbitmap/format.h"

namespace core {

enum class State : u8 {
#define LLB_STATE(name, byte, text) name = byte,
	LLB_STATE_LIST(LLB_STATE)
#undef LLB_STATE
		None = 255, // as a result of next(): no transition
};

enum class Event : u8 {
	StartWrite,
	StartSync,
	EndSync,
	AbortSync,
	Reload,
	Daemon,
	Discard,
	Stale,
	ProactiveSync,
	ClearUnwritten,
};
constexpr u32 kEvents = 10;

constexpr u8 kStateMask = 0x07;
constexpr u8 kDirtyOnDisk = 0x08;
constexpr u8 kCleaning = 0x10;
constexpr u8 kTrim = 0x20;
constexpr u8 kEnded = 0x40;

using Cell = base::Atomic<u8>;
static_assert(sizeof(Cell) == 1);

// What the array is like when an event comes.
struct Context {
	bool parity = false; // raid4/5/6
	bool degraded = false; // a slot has no in-sync member
};

constexpr State state_of(u8 raw)
{
	return static_cast<State>(raw & kStateMask);
}

// Reloads to NeedSync: a chunk that may be written.
constexpr bool dirty_like(State s)
{
	return s == State::Dirty || s == State::NeedSync || s == State::Syncing;
}

// No data was ever written: nothing to resync, recover or compare.
constexpr bool never_written(State s)
{
	return s == State::Unwritten || s == State::NeedSyncUnwritten || s == State::SyncingUnwritten;
}

// The sync thread has, or had, work here.
constexpr bool wants_sync(State s)
{
	return s == State::NeedSync || s == State::Syncing || s == State::NeedSyncUnwritten ||
	       s == State::SyncingUnwritten;
}

constexpr bool parity_valid(State s)
{
	return s == State::Clean || s == State::Dirty || s == State::CleanUnwritten;
}

// The byte that a commit writes for a cell.
constexpr u8 disk_byte(u8 raw)
{
	return !dirty_like(state_of(raw)) && (raw & kDirtyOnDisk) ? u8{LLB_DIRTY} : u8(raw & kStateMask);
}

// The same for eight cells at once, as they lie in memory. A state plus 6, or plus 3,
// stays below 16: no byte reaches into the next. Static: an inline function whose address is
// taken would have sections of its own, which a module must not have.
namespace eight {
static constexpr u64 each(u8 byte)
{
	return 0x0101010101010101 * byte;
}

// kDirtyOnDisk in each byte whose state is dirty_like(): 2, 3 and 4.
static constexpr u64 dirty_like(u64 bytes)
{
	u64 states = bytes & each(kStateMask);
	return (states + each(6)) & ~(states + each(3)) & each(kDirtyOnDisk);
}
static_assert(kDirtyOnDisk == 8 && kStateMask == 7 && LLB_DIRTY == 2);

// How many of these cells are dirty_like().
static constexpr u32 count_dirty(u64 raw)
{
	return u32((dirty_like(raw) >> 3) * each(1) >> 56);
}

// 0: none of these cells can become clean. Dirty, or dirty on disk only, or built parity.
static constexpr u64 cleanable(u64 raw)
{
	return dirty_like(raw) | (raw & each(kDirtyOnDisk | kEnded));
}

// 0: none of these cells wants_sync(): 3 to 6.
static constexpr u64 wants_sync(u64 raw)
{
	u64 states = raw & each(kStateMask);
	return (states + each(5)) & ~(states + each(1)) & each(8);
}

// Not 0: at least one of these cells is written and not yet durable as that.
static constexpr u64 fresh(u64 raw)
{
	return dirty_like(raw) & ~raw;
}

static constexpr u64 disk_bytes(u64 raw)
{
	u64 hidden = (raw & ~dirty_like(raw) & each(kDirtyOnDisk)) >> 3;
	return (raw & each(kStateMask) & ~(hidden * kStateMask)) | hidden * LLB_DIRTY;
}
} // namespace eight

namespace table {
constexpr State U = State::Unwritten, C = State::Clean, D = State::Dirty, N = State::NeedSync,
		S = State::Syncing, NU = State::NeedSyncUnwritten, SU = State::SyncingUnwritten,
		CU = State::CleanUnwritten, _ = State::None;

// Rows are states in the order of their numbers, columns are events.
constexpr State kNext[LLB_STATES][kEvents] = {
	// write sync end abort reload daemon discard stale proactive clear
	{D, _, _, _, _, _, _, _, NU, _}, // Unwritten
	{D, _, _, _, _, _, U, N, _, _}, // Clean
	{_, _, _, _, N, C, U, N, _, _}, // Dirty
	{_, S, _, _, _, _, U, _, _, _}, // NeedSync
	{_, S, D, N, N, _, U, N, _, _}, // Syncing
	{N, SU, _, U, U, _, U, U, _, U}, // NeedSyncUnwritten
	{S, SU, CU, U, U, _, U, U, _, U}, // SyncingUnwritten
	{D, _, _, _, _, _, U, U, _, U}, // CleanUnwritten
};
} // namespace table

// The table with its footnotes; State::None where nothing happens.
constexpr State next(State s, Event e, Context ctx)
{
	if (e == Event::StartWrite) {
		// parity was never built here
		if (s == State::Unwritten && ctx.parity)
			return State::NeedSync;
		// A member that comes back or is added needs this chunk. A recovery of
		// raid4/5/6 computes it from parity, which is valid here and stays so: Dirty
		// tells that as well, and lets md update parity instead of making it anew.
		if (ctx.degraded && !ctx.parity &&
		    (s == State::Unwritten || s == State::Clean || s == State::CleanUnwritten))
			return State::NeedSync;
	}
	if (e == Event::StartSync && s == State::Dirty && ctx.degraded)
		return State::Syncing; // so that a new member receives it
	if (e == Event::Daemon && ctx.degraded)
		return State::None;
	return table::kNext[static_cast<u8>(s)][static_cast<u8>(e)];
}

// What a byte of the disk becomes when it is loaded.
constexpr u8 reloaded(u8 byte)
{
	if (byte >= LLB_STATES)
		return LLB_NEED_SYNC;
	State to = next(static_cast<State>(byte), Event::Reload, {});
	return to == State::None ? byte : static_cast<u8>(to);
}

constexpr u8 with_state(u8 raw, State s)
{
	return u8((raw & ~kStateMask) | static_cast<u8>(s));
}

// Apply an event that is not a write's and not the daemon's. Takes CLEANING off.
// Returns the state left behind, None if there was no transition. [any context]
static inline State apply(Cell &cell, Event e, Context ctx)
{
	u8 raw = cell.load_relaxed();
	for (;;) {
		State to = next(state_of(raw), e, ctx);
		if (to == State::None)
			return State::None;
		u8 want = u8(with_state(raw, to) & ~(kCleaning | kEnded | kTrim));
		if (to == state_of(raw) && want == raw)
			return to;
		// full: a lost update is data loss; pairs with every other cas on the cell
		if (cell.cas_full(raw, want))
			return to;
	}
}

} // namespace core
