/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints llbitmap:*, of what the bitmap does beside the writes of data, none on their way
 * while nothing waits. ns: how long it took, by the monotonic clock.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM llbitmap

#if !defined(LLB_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define LLB_TRACE_H

#include <linux/tracepoint.h>

/* Pages of the bitmap, or its header, were written to all members at once. in_sync: how many
 * members in sync took them; 0: the bitmap is broken if the next ones are not taken, either.
 */
TRACE_EVENT(llbitmap_write,
	TP_PROTO(const char *array, u32 pages, u64 bytes, u32 members, u32 in_sync, u64 ns),
	TP_ARGS(array, pages, bytes, members, in_sync, ns),
	TP_STRUCT__entry(
		__string(array, array)
		__field(u64, bytes)
		__field(u64, ns)
		__field(u32, pages)
		__field(u32, members)
		__field(u32, in_sync)
	),
	TP_fast_assign(
		__assign_str(array);
		__entry->bytes = bytes;
		__entry->ns = ns;
		__entry->pages = pages;
		__entry->members = members;
		__entry->in_sync = in_sync;
	),
	TP_printk("%s pages=%u bytes=%llu members=%u in_sync=%u ns=%llu", __get_str(array),
		  __entry->pages, __entry->bytes, __entry->members, __entry->in_sync, __entry->ns)
);

/* The caches of all members were flushed, before chunks are called clean. */
TRACE_EVENT(llbitmap_flush,
	TP_PROTO(const char *array, u32 slots, u32 flushed, u64 ns),
	TP_ARGS(array, slots, flushed, ns),
	TP_STRUCT__entry(
		__string(array, array)
		__field(u64, ns)
		__field(u32, slots)
		__field(u32, flushed)
	),
	TP_fast_assign(
		__assign_str(array);
		__entry->ns = ns;
		__entry->slots = slots;
		__entry->flushed = flushed;
	),
	TP_printk("%s slots=%u flushed=%u ns=%llu", __get_str(array), __entry->slots,
		  __entry->flushed, __entry->ns)
);

/* Somebody, most often a writer, slept until what it needs was durable; who wrote it itself did not. */
TRACE_EVENT(llbitmap_wait,
	TP_PROTO(const char *array, u64 ns),
	TP_ARGS(array, ns),
	TP_STRUCT__entry(
		__string(array, array)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(array);
		__entry->ns = ns;
	),
	TP_printk("%s ns=%llu", __get_str(array), __entry->ns)
);

/* The daemon has been round. cleaned, dirtied: chunks, on disk, since the bitmap was loaded. */
TRACE_EVENT(llbitmap_daemon,
	TP_PROTO(const char *array, u64 dirtied, u64 cleaned, u64 crash_bytes, u64 ns),
	TP_ARGS(array, dirtied, cleaned, crash_bytes, ns),
	TP_STRUCT__entry(
		__string(array, array)
		__field(u64, dirtied)
		__field(u64, cleaned)
		__field(u64, crash_bytes)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(array);
		__entry->dirtied = dirtied;
		__entry->cleaned = cleaned;
		__entry->crash_bytes = crash_bytes;
		__entry->ns = ns;
	),
	TP_printk("%s dirtied=%llu cleaned=%llu crash_bytes=%llu ns=%llu", __get_str(array),
		  __entry->dirtied, __entry->cleaned, __entry->crash_bytes, __entry->ns)
);

/* A bitmap was read from the members. need_sync: chunks that are to be resynchronised. */
TRACE_EVENT(llbitmap_load,
	TP_PROTO(const char *array, int err, u64 chunks, u64 need_sync, u64 ns),
	TP_ARGS(array, err, chunks, need_sync, ns),
	TP_STRUCT__entry(
		__string(array, array)
		__field(u64, chunks)
		__field(u64, need_sync)
		__field(u64, ns)
		__field(int, err)
	),
	TP_fast_assign(
		__assign_str(array);
		__entry->chunks = chunks;
		__entry->need_sync = need_sync;
		__entry->ns = ns;
		__entry->err = err;
	),
	TP_printk("%s err=%d chunks=%llu need_sync=%llu ns=%llu", __get_str(array), __entry->err,
		  __entry->chunks, __entry->need_sync, __entry->ns)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE llb_trace
#include <trace/define_trace.h>
