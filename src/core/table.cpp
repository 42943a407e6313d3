// SPDX-License-Identifier: GPL-2.0
#include "core/table.hpp"

#include "core/new.hpp"

namespace core {

Table *Table::make(const Geometry &geo, u32 lane_shift, Table *keep)
{
	Table *t = allocate<Table>();
	if (!t)
		return nullptr;
	t->geo = geo;
	t->piece_mask = (u64{1} << base::min(geo.chunk_shift, lane_shift)) - 1;
	t->pages = static_cast<Cell **>(kx_alloc(u64{geo.blocks} * sizeof(Cell *)));
	if (!t->pages) {
		kx_free(t);
		return nullptr;
	}
	t->owned_from = keep ? keep->geo.blocks : 0;
	for (u32 i = 0; i < t->owned_from && i < geo.blocks; i++)
		t->pages[i] = keep->pages[i];
	for (u32 i = t->owned_from; i < geo.blocks; i++) {
		t->pages[i] = static_cast<Cell *>(kx_alloc(kBlockBytes)); // zero: Unwritten
		if (!t->pages[i]) {
			destroy(t);
			return nullptr;
		}
	}
	return t;
}

void Table::destroy(Table *t)
{
	while (t) {
		Table *older = t->retired;
		for (u32 i = t->owned_from; i < t->geo.blocks; i++)
			kx_free(t->pages[i]);
		kx_free(t->pages);
		kx_free(t);
		t = older;
	}
}

} // namespace core
