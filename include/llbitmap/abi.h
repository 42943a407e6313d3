/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The border between the kernel shim (C) and the core (freestanding C++20).
 *
 * llb_*: entry points of the core, called by the shim.
 * plat_*: kernel services, implemented by the shim (or by a test's platform).
 *
 * Units: "sectors" are 512 bytes, times are milliseconds or seconds as the name
 * ends in _ms or _s, byte offsets are counted from the start of the bitmap on a
 * member. Functions return 0 or a negative LLB_E* number unless said otherwise.
 *
 * Context words: [any] hard interrupt upwards; [task] may not sleep, process
 * context; [sleep] may sleep, allocations are NOIO; [rm] also holds md's
 * reconfig_mutex.
 */
#ifndef LLBITMAP_ABI_H
#define LLBITMAP_ABI_H

#include "llbitmap/format.h"

#if defined(__KERNEL__) && !defined(__cplusplus)
#include <linux/types.h>
typedef u8 llb_u8;
typedef u32 llb_u32;
typedef s32 llb_s32;
typedef u64 llb_u64;
typedef s64 llb_s64;
#else
typedef __UINT8_TYPE__ llb_u8;
typedef __UINT32_TYPE__ llb_u32;
typedef __INT32_TYPE__ llb_s32;
typedef __UINT64_TYPE__ llb_u64;
typedef __INT64_TYPE__ llb_s64;
#endif

#ifdef __cplusplus
#define LLB_STATIC_ASSERT(cond) static_assert(cond, #cond)
extern "C" {
#else
#define LLB_STATIC_ASSERT(cond) _Static_assert(cond, #cond)
#endif

/* On the way of every write: the compiler puts these beside each other, in one page of code. */
#define LLB_HOT __attribute__((hot))

#define LLB_EIO 5
#define LLB_ENOMEM 12
#define LLB_EBUSY 16
#define LLB_EINVAL 22
#define LLB_ENOSPC 28
#define LLB_ERANGE 34
#define LLB_EROFS 30
#define LLB_EOPNOTSUPP 95

struct llb_bitmap; /* the core's object: one per array */
struct plat_array; /* the shim's object: one per array */
struct plat_counters; /* per-CPU counters */

/* What the core may know of the array. A snapshot: any field may be old by the
 * time it is read, so it decides nothing that a later check must not repeat. */
#define PLAT_ARRAY_RDWR (1u << 0) /* neither read-only nor auto-read-only */
#define PLAT_ARRAY_FROZEN (1u << 1) /* no sync may start */
#define PLAT_ARRAY_RUNNING (1u << 2) /* a sync thread runs or is about to */
#define PLAT_ARRAY_SYNC (1u << 3) /* it is a resync, check or repair */
#define PLAT_ARRAY_REQUESTED (1u << 4) /* check or repair */
#define PLAT_ARRAY_CHECK (1u << 5)
#define PLAT_ARRAY_RESHAPE (1u << 6) /* the sync thread reshapes */
#define PLAT_ARRAY_INTR (1u << 7) /* the sync thread is told to stop */
#define PLAT_ARRAY_RESHAPE_PENDING (1u << 8) /* a reshape is not finished */
#define PLAT_ARRAY_BROKEN (1u << 9) /* md fails all writes */
#define PLAT_ARRAY_LIVE (1u << 10) /* the array is running and stays so */
#define PLAT_ARRAY_CLUSTERED (1u << 11)
#define PLAT_ARRAY_DM (1u << 12) /* dm-raid */
#define PLAT_ARRAY_BITMAP_FILE (1u << 13)
#define PLAT_ARRAY_BARE (1u << 14) /* runs without a bitmap: one would be added now */
#define PLAT_ARRAY_OTHER_META (1u << 15) /* metadata other than 1.2 */
#define PLAT_ARRAY_SUSPENDED (1u << 17) /* no write is under way, and none begins */
#define PLAT_ARRAY_RESYNC_DUE (1u << 18) /* by md's own mark */
#define PLAT_ARRAY_SNAPSHOT (1u << 16) /* hibernation: memory is, or will be, an image that comes back */
struct plat_array_info {
	llb_u64 events;
	llb_u64 sync_size; /* sectors that the bitmap must cover */
	llb_s64 bitmap_offset; /* sectors from the member's superblock */
	llb_u64 bitmap_space; /* sectors; 0 = md does not know */
	llb_s32 level;
	llb_s32 raid_disks;
	llb_s32 degraded;
	llb_u32 flags;
	llb_u32 raid_chunk; /* sectors; 0: none */
	llb_u8 uuid[16];
};
LLB_STATIC_ASSERT(sizeof(struct plat_array_info) == 72);

#define PLAT_MEMBER_IN_SYNC (1u << 0)
#define PLAT_MEMBER_FAULTY (1u << 1)
#define PLAT_MEMBER_JOURNAL (1u << 2)
#define PLAT_MEMBER_OLD (1u << 3) /* being re-added: its bitmap is not current */
#define PLAT_MEMBER_BBL (1u << 4) /* has an enabled bad-block log */
#define PLAT_MEMBER_MISSED (1u << 5) /* not in sync, and was not at a plat_absent_missed, or is new */
struct plat_member {
	llb_u64 sb_start; /* sectors on the metadata device */
	llb_u64 data_offset; /* sectors */
	llb_u64 new_data_offset; /* sectors; another one only in a reshape that moves data there */
	llb_u64 data_sectors;
	llb_u64 ppl_start; /* sectors on the metadata device: the partial parity log */
	llb_u64 ppl_sectors; /* 0: none */
	llb_s64 bbl_offset; /* sectors from sb_start */
	llb_u32 bbl_sectors;
	llb_u32 bbl_entries;
	llb_u32 logical_block; /* bytes */
	llb_u32 separate_meta; /* metadata on a device of its own */
	llb_s32 slot; /* -1: a spare */
	llb_u32 flags;
};
LLB_STATIC_ASSERT(sizeof(struct plat_member) == 80);

/* Is every slot filled? Taken after a flush: see plat_flush. */
struct plat_slots {
	llb_u32 slots; /* raid_disks */
	llb_u32 in_sync; /* slots with an in-sync, non-faulty member */
	llb_u32 flushed; /* of these: all in-sync members were flushed, without error */
	llb_s32 degraded; /* md's own count */
	llb_u32 replacing; /* of in_sync: another member is being made to replace that one */
};

struct plat_io_result {
	llb_u32 in_sync_ok; /* in-sync members that took all of it */
};

/* ---- memory [sleep] ---- */
void *plat_alloc(llb_u64 bytes); /* zeroed */
void plat_free(void *p);
/* 4096 bytes, aligned, zeroed, fit for I/O. Without may_wait only what is there at once. [sleep] */
void *plat_page_alloc(llb_u32 may_wait);
void plat_page_free(void *p);

/* ---- this-CPU counters ---- */
struct plat_counters *plat_counters_alloc(llb_u32 count); /* [sleep] zeroed */
void plat_counters_free(struct plat_counters *c);
/* Enter a section that an RCU grace period waits for, and add one to this CPU's
 * copy of a counter, in that order. [task] No sleep until plat_section_leave. */
LLB_HOT void plat_section_enter(struct plat_counters *c, llb_u32 index);
LLB_HOT void plat_section_leave(void);
LLB_HOT void plat_counter_inc(struct plat_counters *c, llb_u32 index); /* [any] */
llb_u32 plat_counter_sum(struct plat_counters *c, llb_u32 index); /* modulo 2^32 */
void plat_grace_period(void); /* [sleep] all sections entered before have left */

/* ---- time, work, waiting ---- */
llb_u64 plat_now_ms(void); /* monotonic [any] */
void plat_daemon_arm(struct plat_array *h, llb_u32 delay_ms); /* [any] llb_daemon in delay_ms, unless sooner */
void plat_leader_queue(struct plat_array *h); /* [any] llb_leader_work on a worker */
void plat_md_wake(struct plat_array *h); /* [any] wakes mdX: llb_daemon_work follows */
void plat_relax(void); /* [sleep] let others run */
void plat_sleep_ms(llb_u32 ms); /* [sleep] */
/* Sleep until llb_wait_done(b, kind, arg) says 1; woken by plat_wake. [sleep] */
#define PLAT_WAIT_DURABLE 0
#define PLAT_WAIT_LEADER 1
#define PLAT_WAIT_BEHIND 2
#define PLAT_WAIT_DAEMON 3
#define PLAT_WAIT_THAW 4
void plat_wait(struct plat_array *h, struct llb_bitmap *b, llb_u32 kind, llb_u64 arg);
void plat_wake(struct plat_array *h); /* [any] */

/* ---- the array ---- */
void plat_array_get(struct plat_array *h, struct plat_array_info *out); /* [any] */
void plat_slots_get(struct plat_array *h, struct plat_slots *out); /* [task] flushed is 0 */
llb_u64 plat_events(struct plat_array *h); /* [any] */
/* The index-th member, spares included; 0 or -LLB_ERANGE past the last. [rm] */
int plat_member_get(struct plat_array *h, llb_u32 index, struct plat_member *out);
void plat_bbl_disable(struct plat_array *h, llb_u32 index); /* [rm] */
void plat_member_fail(struct plat_array *h, llb_u32 index); /* [rm] as if it had failed a write */
/* Members that are not in sync now miss something that no bitmap will tell: they are marked
 * PLAT_MEMBER_MISSED until they are; by the holder of reconfig_mutex they are also not given their
 * old slot back as if they were known. Those in sync lose the mark. Under the leader lock, or
 * before anybody else has the bitmap. [any] */
void plat_absent_missed(struct plat_array *h);
/* This one is recovered wholly, also by a later assembly. [rm] */
void plat_member_distrust(struct plat_array *h, llb_u32 index);
/* Write-behind: how many writes may be under way on write-mostly members when their master
 * write has ended; 0: none. Once, in llb_load. [rm] */
void plat_write_behind_set(struct plat_array *h, llb_u32 writes);
/* raid4/5/6: the member sectors that md will name for a write of [*sector, *sector +
 * *sectors) of the array. The personality is there: in llb_load or later. [sleep] */
void plat_map_write(struct plat_array *h, llb_u64 *sector, llb_u64 *sectors);
/* The bitmap begins so many sectors behind md's superblock, on each member. [rm], in llb_create */
void plat_bitmap_place(struct plat_array *h, llb_s64 offset);
void plat_chunk_bytes_set(struct plat_array *h, llb_u64 bytes, llb_u32 daemon_sleep_s); /* [rm] for /proc/mdstat */
void plat_resync_request(struct plat_array *h); /* resync from 0; mdX thread, or no sync can run */
void plat_broken_set(struct plat_array *h); /* md fails further writes [any] */
/* Have md write its superblock, with a newer event count; calls llb_update_sb. Not by the
 * holder of the leader lock. 0, or -LLB_EBUSY: another task holds reconfig_mutex now, and may be
 * waiting for the caller. [sleep] */
int plat_superblock_write(struct plat_array *h);
void plat_recovery_wait(struct plat_array *h); /* sync thread: all sync I/O issued so far is done */
void plat_checkpoint(struct plat_array *h, llb_u64 sector); /* sync thread */
/* Raid4/5/6: empty md's cache of stripes, so that blocks are read from the members again;
 * 0 or a negative error. Waits for all I/O under way. Sync thread [sleep] */
int plat_stripes_forget(struct plat_array *h);
/* Raid4/5/6: a recovery begins. Sync thread */
void plat_recovery_begin(struct plat_array *h);
/* Of what that recovery made, nothing from that member sector on counts as in sync, until md writes its
 * superblock the next time. [task] */
void plat_recovery_back(struct plat_array *h, llb_u64 sector);
/* Before plat_recover: nothing from that member sector on counts as in sync, whatever made it, also
 * when md writes its superblock. Sync thread */
void plat_recovery_again(struct plat_array *h, llb_u64 sector);
/* The recovery that was told to stop counts to there, and the next one begins there. In
 * llb_close_sync */
void plat_recovery_stopped(struct plat_array *h, llb_u64 sector);
/* Raid4/5/6: recover these member sectors (a multiple of 8), which the recovery that runs has
 * passed, perhaps once more. Calls llb_start_sync, as md does for each step. Their I/O ends by
 * plat_recovery_wait(). 0, or a negative error if told to stop. Sync thread [sleep] */
int plat_recover(struct plat_array *h, llb_u64 sector, llb_u64 sectors);
__attribute__((format(printf, 3, 4))) void plat_log(struct plat_array *h, llb_u32 level, const char *fmt, ...);
#define PLAT_LOG_ERR 3
#define PLAT_LOG_WARN 4
#define PLAT_LOG_NOTICE 5

/* ---- member I/O [sleep], never with a bio list of submit_bio open ---- */
/* May members be picked now? hold = 1: the caller knows that they stay (it holds
 * reconfig_mutex, or a write of its own is under way). hold = 0: take a reference,
 * which fails (0) while the array is suspended. Each 1 needs a plat_members_put. */
llb_u32 plat_members_get(struct plat_array *h, llb_u32 hold);
void plat_members_put(struct plat_array *h, llb_u32 hold);
int plat_read(struct plat_array *h, llb_u32 index, llb_u64 offset_bytes, void *page, llb_u32 bytes); /* [rm] */
/* Write to every member with a slot that is not faulty, through its cache (FUA).
 * A buffer must not change until plat_io_wait returns. Neighbours in a batch, added one
 * after the other, are one write. A member that fails is handed to md_error. One batch at
 * a time per host, of PLAT_IO_ADDS_MAX at most. */
#define PLAT_IO_ADDS_MAX 128
void plat_io_begin(struct plat_array *h);
void plat_io_add(struct plat_array *h, llb_u64 offset_bytes, const void *buf, llb_u32 bytes);
void plat_io_wait(struct plat_array *h, struct plat_io_result *out);
/* Flush the caches of all members with a slot, wait, and only then look at the
 * slots: a member counts as flushed if this call flushed it. Takes and gives
 * back its own reference for issuing; -LLB_EBUSY if the array is suspended. */
int plat_flush(struct plat_array *h, llb_u32 hold, struct plat_slots *out);

/* ==== entry points ==== */
int llb_create(struct plat_array *h, struct llb_bitmap **out); /* [rm] */
int llb_load(struct llb_bitmap *b); /* [rm] */
void llb_destroy(struct llb_bitmap *b); /* [rm] no I/O, work or timer left; NULL is fine */
void llb_remove_live(struct llb_bitmap *b); /* [rm] before llb_destroy when the array goes on without */
int llb_resize(struct llb_bitmap *b, llb_u64 sync_size); /* [rm] sectors */
void llb_flush(struct llb_bitmap *b); /* [rm] */
void llb_write_all(struct llb_bitmap *b); /* [rm] */
void llb_dirty_bits(struct llb_bitmap *b, llb_u64 first, llb_u64 last); /* [rm] chunks, unchecked */
void llb_unplug(struct llb_bitmap *b, llb_u32 may_submit); /* [sleep] */
void llb_daemon_work(struct llb_bitmap *b); /* mdX thread [sleep] */
int llb_daemon_work_due(struct llb_bitmap *b); /* mdX thread: 0: it would do nothing [any] */
void llb_daemon(struct llb_bitmap *b); /* worker [sleep] */
void llb_leader_work(struct llb_bitmap *b); /* worker [sleep] */
int llb_wait_done(struct llb_bitmap *b, llb_u32 kind, llb_u64 arg); /* [task] */

LLB_HOT void llb_start_write(struct llb_bitmap *b, llb_u64 sector, llb_u64 sectors); /* [sleep] */
LLB_HOT void llb_end_write(struct llb_bitmap *b, llb_u64 sector, llb_u64 sectors); /* [any] */
void llb_start_discard(struct llb_bitmap *b, llb_u64 sector, llb_u64 sectors); /* [sleep] */
void llb_end_discard(struct llb_bitmap *b, llb_u64 sector, llb_u64 sectors); /* [any] */
void llb_start_behind(struct llb_bitmap *b); /* [task] */
void llb_end_behind(struct llb_bitmap *b); /* [any] */
void llb_wait_behind(struct llb_bitmap *b); /* [sleep] */
llb_u32 llb_behind_idle(struct llb_bitmap *b); /* [any] 1: no write-behind under way */

llb_u64 llb_skip_sync(struct llb_bitmap *b, llb_u64 sector); /* sync thread [sleep]; sectors, 0 = do not skip */
LLB_HOT bool llb_blocks_synced(struct llb_bitmap *b, llb_u64 sector); /* [any] */
llb_u32 llb_start_sync(struct llb_bitmap *b, llb_u64 sector, llb_u64 *sectors, llb_u32 degraded); /* [task] */
void llb_end_sync(struct llb_bitmap *b, llb_u64 sector, llb_u64 *sectors); /* [any] */
void llb_cond_end_sync(struct llb_bitmap *b, llb_u64 sector, llb_u32 force); /* sync thread [sleep] */
void llb_close_sync(struct llb_bitmap *b); /* sync thread [sleep] */
void llb_update_sb(struct llb_bitmap *b); /* [rm] or md's superblock writer */
/* Something requested is not durable yet: data may have to wait for llb_unplug. Asked for
 * each write to a member, after its llb_start_write. [any] */
LLB_HOT bool llb_pending(struct llb_bitmap *b);

#define LLB_PAGE_BYTES 4096ull /* of the bitmap, on disk and in memory */
struct llb_stats {
	llb_u64 events_cleared;
	llb_u64 sync_size; /* sectors */
	llb_u64 pages; /* 4096-byte pages on disk, header included */
	llb_s32 behind_writes;
	llb_u32 behind_wait;
	llb_u64 crash_bytes; /* that would have to be resynchronised after a power cut now */
	/* Chunks, on the members, since this load. */
	llb_u64 dirtied_chunks; /* first touches, and neighbours that they cover */
	llb_u64 cleaned_chunks;
	llb_u64 loaded_dirty_chunks; /* what it found to be resynchronised */
};
void llb_stats_get(struct llb_bitmap *b, struct llb_stats *out); /* [any] */

struct llb_metadata {
	llb_u64 chunk_sectors;
	llb_u64 chunks;
	llb_u32 chunk_shift; /* of sectors */
	llb_u32 daemon_sleep_s;
	llb_u32 barrier_idle_s;
	llb_u64 resync_budget_mib; /* 0: none */
};
void llb_metadata_get(struct llb_bitmap *b, struct llb_metadata *out); /* [any] */
void llb_bits_count(struct llb_bitmap *b, llb_u64 counts[LLB_STATES]); /* [sleep] by state */
/* The states of chunks from first on, as memory has them, up to count; how many there were. [task] */
llb_u64 llb_cells_copy(struct llb_bitmap *b, llb_u64 first, llb_u8 *out, llb_u64 count);
#define LLB_TUNE_DAEMON_SLEEP 0
#define LLB_TUNE_BARRIER_IDLE 1
#define LLB_TUNE_RESYNC_BUDGET 2
/* value: seconds, 1 to a day; of the budget MiB, 0: none. 0, -LLB_EINVAL or -LLB_ERANGE. [sleep] */
int llb_tune(struct llb_bitmap *b, llb_u32 what, llb_u64 value);
int llb_proactive_sync(struct llb_bitmap *b); /* [sleep] */

#ifdef __cplusplus
}
#endif
#endif
