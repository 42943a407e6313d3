// SPDX-License-Identifier: GPL-2.0
#include "core/table.hpp"

#include "core/new.hpp"

namespace core {

Table *Table::make(const Geometry &geo, u32 group_shift, Table *keep)
{
	Table *t = allocate<Table>();
	if (!t)
		return nullptr;
	t->geo = geo;
	t->piece_mask = (u64{1} << base::min(geo.chunk_shift, group_shift)) - 1;
	t->pages = static_cast<Cell **>(plat_alloc(u64{geo.pages} * sizeof(Cell *)));
	if (!t->pages) {
		plat_free(t);
		return nullptr;
	}
	t->owned_from = keep ? keep->geo.pages : 0;
	for (u32 i = 0; i < t->owned_from && i < geo.pages; i++)
		t->pages[i] = keep->pages[i];
	for (u32 i = t->owned_from; i < geo.pages; i++) {
		t->pages[i] = static_cast<Cell *>(plat_alloc(kPageBytes)); // zero: Unwritten
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
		for (u32 i = t->owned_from; i < t->geo.pages; i++)
			plat_free(t->pages[i]);
		plat_free(t->pages);
		plat_free(t);
		t = older;
	}
}

} // namespace core
