/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The on-disk format of the lockless write-intent bitmap (version 6), as facts
 * shared by the module, the tool and the tests. Interoperable with Linux >= 6.18
 * and mdadm >= 4.6. All integers are little endian.
 *
 * A bitmap lives at sb_start + bitmap_offset (sectors) of every member:
 *   byte 0      superblock, 256 bytes
 *   byte 1024   one state byte per chunk
 */
#ifndef LLBITMAP_FORMAT_H
#define LLBITMAP_FORMAT_H

#define LLB_MAGIC 0x6d746962u
#define LLB_VERSION 6u /* 3 and 4 are the classic bitmap, 5 the clustered one */

#define LLB_SB_BYTES 256u
#define LLB_CELLS_OFFSET 1024u /* bytes from the start of the bitmap */
#define LLB_CHUNK_SECTORS_MIN 128u /* 64 KiB */

/* byte offsets of the superblock's fields */
#define LLB_SB_MAGIC 0
#define LLB_SB_VERSION 4
#define LLB_SB_UUID 8 /* 16 bytes */
#define LLB_SB_EVENTS 24
#define LLB_SB_EVENTS_CLEARED 32
#define LLB_SB_SYNC_SIZE 40 /* sectors covered */
#define LLB_SB_STATE 48
#define LLB_SB_CHUNKSIZE 52 /* sectors; mdadm's first header: bytes, ignored */
#define LLB_SB_DAEMON_SLEEP 56 /* seconds */
#define LLB_SB_WRITE_BEHIND 60
#define LLB_SB_SECTORS_RESERVED 64 /* sectors the bitmap may use */
#define LLB_SB_NODES 68 /* clustered bitmaps only: 0 here */
/* Ours alone, in what others leave as it is: MiB that a crash may cost; 0: the default,
 * LLB_BUDGET_NONE: no limit */
#define LLB_SB_RESYNC_BUDGET 252
#define LLB_BUDGET_NONE 0xffffffffu

/* bits of the state field (LLB_SB_STATE) */
#define LLB_SB_STALE (1u << 1)
#define LLB_SB_WRITE_ERROR (1u << 2) /* runtime: ignored when found on disk */
#define LLB_SB_FIRST_USE (1u << 3) /* state bytes not initialised yet */
#define LLB_SB_CLEAN (1u << 4) /* made with --assume-clean */
#define LLB_SB_DAEMON_BUSY (1u << 5) /* runtime: ignored when found on disk */
#define LLB_SB_SHUTDOWN (1u << 6) /* runtime: ignored when found on disk */

/* state bytes */
#define LLB_UNWRITTEN 0
#define LLB_CLEAN 1
#define LLB_DIRTY 2
#define LLB_NEED_SYNC 3
#define LLB_SYNCING 4
#define LLB_NEED_SYNC_UNWRITTEN 5
#define LLB_SYNCING_UNWRITTEN 6
#define LLB_CLEAN_UNWRITTEN 7
#define LLB_STATES 8
/* All of them, in the order of their numbers: X(a name in C, the byte, as sysfs has it) */
#define LLB_STATE_TEXT(name, byte, text) text,
#define LLB_STATE_LIST(X) \
	X(Unwritten, LLB_UNWRITTEN, "unwritten") \
	X(Clean, LLB_CLEAN, "clean") \
	X(Dirty, LLB_DIRTY, "dirty") \
	X(NeedSync, LLB_NEED_SYNC, "need sync") \
	X(Syncing, LLB_SYNCING, "syncing") \
	X(NeedSyncUnwritten, LLB_NEED_SYNC_UNWRITTEN, "need sync unwritten") \
	X(SyncingUnwritten, LLB_SYNCING_UNWRITTEN, "syncing unwritten") \
	X(CleanUnwritten, LLB_CLEAN_UNWRITTEN, "clean unwritten")

#endif
