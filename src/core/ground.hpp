// SPDX-License-Identifier: GPL-2.0
// What all parts of the bitmap stand on: the array, its cells, and what is said of all of them.
#pragma once

#include "core/cell.hpp"
#include "core/superblock.hpp"
#include "core/table.hpp"

// What the shim holds; empty, so that the border needs no cast of types.
struct llb_bitmap {};

namespace core {

struct Peek; // a test's, which may look at each part's state

constexpr u64 kNoLimit = ~u64{0};
constexpr u32 kRelaxEvery = 64; // pages between two offers to the scheduler

constexpr bool is_parity(s32 level)
{
	return level >= 4 && level <= 6;
}

// Who does the bitmap's I/O, and may members be picked without a reference?
struct Hold {
	bool held;
};

class Ground : public llb_bitmap {
    protected:
	Ground(plat_array *h, s32 level)
		: host_{h}
		, parity_{is_parity(level)}
	{}
	// pairs with the release in publish(); a reader may keep what it got: tables
	// live until destroy
	Table *table() const { return table_.load_acquire(); }
	void publish(Table *t)
	{
		t->retired = table();
		table_.store_release(t); // pairs with table()
	}
	// The states were made for raid4/5/6.
	bool parity() const { return parity_.load_acquire(); } // pairs with set_parity()
	void set_parity(bool now) { parity_.store_release(now); } // after the cells
	// No chunk is Unwritten: a reshape runs (reshape.cpp). Full: before the cells that follow.
	bool written_marked() const { return written_marked_.load_relaxed(); }
	void set_written_marked(bool now) { written_marked_.exchange_full(now); }

	plat_array *const host_;

    private:
	friend struct Peek;

	base::Atomic<Table *> table_{nullptr};
	base::Atomic<u8> parity_;
	base::Atomic<u8> written_marked_{0};
};

} // namespace core
