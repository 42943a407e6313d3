// SPDX-License-Identifier: GPL-2.0
/*
 * Is the running md the one this module was built for?
 *
 * md's types are private: without MODVERSIONS nothing else stops a module that
 * was built for another layout of struct mddev from being loaded. So the BTF of
 * the running md is walked, and a hash of each type's members, offsets and
 * prototypes is compared with the one that scripts/build/mdheader.py put into
 * LLB_LAYOUT_TABLE. The walk must stay the same here and there. It names types
 * rather than following them: only md's own layout and interface count, and the
 * static asserts in md_types.h already cover what they embed.
 *
 * A module's BTF is split: its type ids and string offsets continue those of
 * vmlinux, so both are read. They are about 7 MB, freed before this returns.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/btf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/unaligned.h>

#include "layout.h"
#include "md_types.h"

#define BASE_BTF	"/sys/kernel/btf/vmlinux"
#define MD_BTF		"/sys/kernel/btf/md_mod"

/* Types nest by name, so a walk is only as deep as one declaration. */
#define DEPTH_MAX	24

struct llb_layout_type {
	u32 kind;
	const char *name;
	u32 size;
	u64 hash;
};

static const struct llb_layout_type built_for[] __initconst = {
	LLB_LAYOUT_TABLE
};

/* One blob, or a module's blob that continues its base. */
struct blob {
	const struct blob *base;
	void *data;
	const u8 *types;
	const char *strings;
	u32 str_first;		/* offset of our first string */
	u32 str_len;
	u32 first;		/* id of our first type */
	u32 count;
	u32 *at;		/* where each type begins in @types */
};

struct walk {
	const struct blob *btf;
	u64 hash;
	int depth;
	bool bad;
};

/* Bytes that follow struct btf_type, or -1 for a kind that we do not know. */
static s64 __init extra_bytes(const struct btf_type *t)
{
	s64 vlen = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return sizeof(u32);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return vlen * (s64)sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return vlen * (s64)sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return vlen * (s64)sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return vlen * (s64)sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return vlen * (s64)sizeof(struct btf_var_secinfo);
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return 0;
	}
	return -1;
}

static void __init blob_close(struct blob *b)
{
	kvfree(b->at);
	kvfree(b->data);
}

/*
 * Not kernel_read_file(): the IPE security module warns about a reader that is
 * none of the kernel's own (firmware, modules, policies, ...).
 */
static int __init read_all(const char *path, void **data, size_t *len)
{
	struct file *file = filp_open(path, O_RDONLY, 0);
	loff_t pos = 0, size;
	ssize_t n = 0;
	int err = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	size = i_size_read(file_inode(file));
	if (size < sizeof(struct btf_header) || size > SZ_64M) {
		err = -EINVAL;
		goto out;
	}
	*data = kvmalloc(size, GFP_KERNEL);
	if (!*data) {
		err = -ENOMEM;
		goto out;
	}
	while (pos < size) {
		n = kernel_read(file, *data + pos, size - pos, &pos);
		if (n <= 0)
			break;
	}
	if (pos < size)
		err = n < 0 ? n : -EINVAL;
	*len = size;
out:
	filp_close(file, NULL);
	return err;
}

/* -ENOENT: no such file. -EINVAL: BTF that we do not understand. */
static int __init blob_open(struct blob *b, const char *path, const struct blob *base)
{
	const struct btf_header *h;
	u32 pos = 0, types_len;
	size_t len;
	int err;

	memset(b, 0, sizeof(*b));
	b->base = base;
	b->first = base ? base->first + base->count : 1;
	b->str_first = base ? base->str_first + base->str_len : 0;

	err = read_all(path, &b->data, &len);
	if (err)
		return err;
	h = b->data;
	if (h->magic != BTF_MAGIC || h->hdr_len > len ||
	    (u64)h->hdr_len + h->type_off + h->type_len > len ||
	    (u64)h->hdr_len + h->str_off + h->str_len > len ||
	    !IS_ALIGNED(h->hdr_len + h->type_off, sizeof(u32)) || !h->str_len)
		return -EINVAL;

	b->types = b->data + h->hdr_len + h->type_off;
	b->strings = b->data + h->hdr_len + h->str_off;
	b->str_len = h->str_len;
	if (b->strings[b->str_len - 1])
		return -EINVAL;

	types_len = h->type_len;
	b->at = kvmalloc_array(types_len / sizeof(struct btf_type) + 1, sizeof(u32), GFP_KERNEL);
	if (!b->at)
		return -ENOMEM;
	while (pos < types_len) {
		s64 extra;

		if (types_len - pos < sizeof(struct btf_type))
			return -EINVAL;
		extra = extra_bytes((const void *)(b->types + pos));
		if (extra < 0 || extra > types_len - pos - sizeof(struct btf_type))
			return -EINVAL;
		b->at[b->count++] = pos;
		pos += sizeof(struct btf_type) + extra;
	}
	return 0;
}

static const struct btf_type * __init type_of(const struct blob *b, u32 id)
{
	while (b && id < b->first)
		b = b->base;
	if (!b || id - b->first >= b->count)
		return NULL;
	return (const void *)(b->types + b->at[id - b->first]);
}

static const char * __init string_of(const struct blob *b, u32 off)
{
	while (b && off < b->str_first)
		b = b->base;
	if (!b || off - b->str_first >= b->str_len)
		return NULL;
	return b->strings + (off - b->str_first);
}

/* In the blob itself, not in its base. */
static const struct btf_type * __init find_type(const struct blob *b, u32 kind, const char *name)
{
	u32 i;

	for (i = 0; i < b->count; i++) {
		const struct btf_type *t = (const void *)(b->types + b->at[i]);
		const char *s;

		if (BTF_INFO_KIND(t->info) != kind)
			continue;
		s = string_of(b, t->name_off);
		if (s && !strcmp(s, name))
			return t;
	}
	return NULL;
}

/* FNV-1a, 64 bits */
static void __init put(struct walk *w, const void *data, size_t len)
{
	const u8 *p = data;

	while (len--)
		w->hash = (w->hash ^ *p++) * 0x100000001b3ULL;
}

static void __init put_u32(struct walk *w, u32 v)
{
	u8 le[4];

	put_unaligned_le32(v, le);
	put(w, le, sizeof(le));
}

static void __init put_mark(struct walk *w, char mark)
{
	put(w, &mark, 1);
}

static void __init put_name(struct walk *w, u32 off)
{
	const char *s = string_of(w->btf, off);

	if (s)
		put(w, s, strlen(s) + 1);
	else
		w->bad = true;
}

static void __init walk_id(struct walk *w, u32 id);

static void __init walk_body(struct walk *w, const struct btf_type *t)
{
	u32 i, vlen = BTF_INFO_VLEN(t->info);
	const struct btf_member *m = (const void *)(t + 1);
	const struct btf_enum *e = (const void *)(t + 1);
	const struct btf_enum64 *e64 = (const void *)(t + 1);

	put_mark(w, '{');
	put_u32(w, t->size);
	put_u32(w, vlen);
	for (i = 0; i < vlen && !w->bad; i++) {
		switch (BTF_INFO_KIND(t->info)) {
		case BTF_KIND_ENUM:
			put_name(w, e[i].name_off);
			put_u32(w, e[i].val);
			break;
		case BTF_KIND_ENUM64:
			put_name(w, e64[i].name_off);
			put_u32(w, e64[i].val_lo32);
			put_u32(w, e64[i].val_hi32);
			break;
		default:
			put_name(w, m[i].name_off);
			put_u32(w, m[i].offset);
			walk_id(w, m[i].type);
		}
	}
}

/* A type with a name stands for itself. */
static void __init walk_tagged(struct walk *w, const struct btf_type *t, char mark)
{
	const char *s = string_of(w->btf, t->name_off);

	if (s && !*s) {
		walk_body(w, t);
		return;
	}
	put_mark(w, mark);
	put_name(w, t->name_off);
}

static void __init walk_type(struct walk *w, const struct btf_type *t)
{
	const struct btf_array *a = (const void *)(t + 1);
	const struct btf_param *p = (const void *)(t + 1);
	u32 i, vlen = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_FLOAT:
		put_mark(w, 'i');
		put_name(w, t->name_off);
		break;
	case BTF_KIND_TYPEDEF:
		put_mark(w, 't');
		put_name(w, t->name_off);
		break;
	case BTF_KIND_FWD:
		put_mark(w, BTF_INFO_KFLAG(t->info) ? 'u' : 's');
		put_name(w, t->name_off);
		break;
	case BTF_KIND_STRUCT:
		walk_tagged(w, t, 's');
		break;
	case BTF_KIND_UNION:
		walk_tagged(w, t, 'u');
		break;
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		walk_tagged(w, t, 'e');
		break;
	case BTF_KIND_ARRAY:
		put_mark(w, '[');
		put_u32(w, a->nelems);
		walk_id(w, a->type);
		break;
	case BTF_KIND_FUNC_PROTO:
		put_mark(w, '(');
		put_u32(w, vlen);
		walk_id(w, t->type);
		for (i = 0; i < vlen && !w->bad; i++)
			walk_id(w, p[i].type);
		break;
	case BTF_KIND_PTR:
		put_mark(w, '*');
		walk_id(w, t->type);
		break;
	case BTF_KIND_CONST:
		put_mark(w, 'c');
		walk_id(w, t->type);
		break;
	case BTF_KIND_VOLATILE:
		put_mark(w, 'V');
		walk_id(w, t->type);
		break;
	case BTF_KIND_RESTRICT:
		put_mark(w, 'r');
		walk_id(w, t->type);
		break;
	case BTF_KIND_TYPE_TAG:
		walk_id(w, t->type);
		break;
	default:
		w->bad = true;
	}
}

static void __init walk_id(struct walk *w, u32 id)
{
	const struct btf_type *t = type_of(w->btf, id);

	if (!id) {
		put_mark(w, 'v');
		return;
	}
	if (!t || w->depth >= DEPTH_MAX) {
		w->bad = true;
		return;
	}
	w->depth++;
	walk_type(w, t);
	w->depth--;
}

static bool __init same_layout(const struct blob *btf, const struct btf_type *t, u64 hash)
{
	struct walk w = { .btf = btf, .hash = 0xcbf29ce484222325ULL };
	u32 kind = BTF_INFO_KIND(t->info);

	if (kind == BTF_KIND_TYPEDEF || kind == BTF_KIND_FUNC)
		walk_id(&w, t->type);
	else
		walk_body(&w, t);
	return !w.bad && w.hash == hash;
}

static const char * __init kind_word(u32 kind)
{
	switch (kind) {
	case BTF_KIND_STRUCT:
		return "struct";
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return "enum";
	case BTF_KIND_FUNC:
		return "function";
	}
	return "type";
}

static int __init refuse(const struct llb_layout_type *b, const struct btf_type *t)
{
	const char *word = kind_word(b->kind);
	char what[96];

	if (!t)
		snprintf(what, sizeof(what), "there is no %s %s", word, b->name);
	else if (b->size && t->size != b->size)
		snprintf(what, sizeof(what), "%s %s is %u bytes, built for %u",
			 word, b->name, t->size, b->size);
	else
		snprintf(what, sizeof(what), "%s %s is declared in another way", word, b->name);
	pr_err("md of this kernel differs from the one this module was built for (%s); rebuild with 'make' and load again\n",
	       what);
	return -ENOEXEC;
}

static int __init compare(const struct blob *btf)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(built_for); i++) {
		const struct llb_layout_type *b = &built_for[i];
		const struct btf_type *t = find_type(btf, b->kind, b->name);

		if (!t || !same_layout(btf, t, b->hash))
			return refuse(b, t);
	}
	return 0;
}

/* There is nothing to compare with, or it cannot be read. */
static int __init not_compared(const char *path, int err, bool unchecked)
{
	if (err == -ENOMEM)
		return err;
	if (unchecked) {
		pr_warn("no type information of md (%s: %d): its layout is not compared, as layout_unchecked says\n",
			path, err);
		return 0;
	}
	pr_err("no type information of md (%s: %d), so its layout cannot be compared with the one this module was built for; layout_unchecked=1 loads it nevertheless, which is safe only if it was built for exactly this kernel\n",
	       path, err);
	return -ENOEXEC;
}

int __init llb_layout_check(bool unchecked)
{
	struct blob base, md = {};
	int err;

	if (!ARRAY_SIZE(built_for)) {
		pr_warn("built from md's headers: no layout to compare with the running md\n");
		return 0;
	}
	err = blob_open(&base, BASE_BTF, NULL);
	if (err) {
		err = not_compared(BASE_BTF, err, unchecked);
		goto out;
	}
	if (find_type(&base, BTF_KIND_STRUCT, "mddev")) {
		err = compare(&base);	/* md is built into this kernel */
		goto out;
	}
	err = blob_open(&md, MD_BTF, &base);
	err = err ? not_compared(MD_BTF, err, unchecked) : compare(&md);
out:
	blob_close(&md);
	blob_close(&base);
	return err;
}
