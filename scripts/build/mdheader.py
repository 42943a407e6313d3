#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Write md_types.h: md's private types, as the kernel that is built for has them.

  mdheader [--check] [--cc=COMMAND] KVER KDIR [MD_HEADERS]
  mdheader --cxx COMMAND

Kernel header packages ship no drivers/md/*.h. The types come from the BTF of
md-mod.ko on top of the kernel's own BTF; a kernel without BTF needs the folder
MD_HEADERS with its md.h and md-bitmap.h instead. Either way the header also
says, in LLB_HAVE_* and similar macros, what moved between kernels: probed from
the types found, never from a version number.

From BTF, every member's offset becomes a static_assert (the <linux/*> headers
must agree with the md that was built), and every type gets a line in
LLB_LAYOUT_TABLE, which src/shim/layout.c compares with the running md.

--check writes nothing and also looks for the compilers (--cc: others than those
of the kernel). Failures are one line that names all that is missing and how to
get it. --cxx prints the C++ compiler to go with the C compiler COMMAND.

Both byte orders are read, whichever this machine has; 32-bit kernels are refused.
CC in the environment means nothing here: dkms exports it, and Kbuild ignores it.
"""
import os
import re
import struct
import subprocess
import sys

STRUCTS = ["md_submodule_head", "md_rdev", "md_personality", "md_sysfs_entry",
           "md_thread", "rdev_sysfs_entry", "mddev", "md_bitmap_stats", "bitmap_operations"]
ENUMS = ["md_submodule_type", "md_submodule_id", "sync_action", "flag_bits",
         "mddev_flags", "mddev_sb_flags", "recovery_flags", "md_ro_state"]
TYPEDEFS = ["md_bitmap_fn"]
FUNCS = ["register_md_submodule", "unregister_md_submodule", "sync_page_io",
         "md_error", "__md_wakeup_thread", "md_wakeup_thread",
         "md_update_sb", "mddev_unlock"]
# An enum without a name is found by one of its constants.
ANON_ENUM = "MD_RESYNC_NONE"

# Operations that some kernels ask for and others do not.
MEMBERS = ["prepare_range"]
# All that md's bitmap is known to have: those of src/shim/ops.c, and those that md asks for
# only if they are there. Of one more nobody knows whether md calls it without asking.
OPERATIONS = set("""head groups enabled create resize load destroy flush write_all dirty_bits
    prepare_range reshape_finish reshape_can_start reshape_mark unplug daemon_work
    start_behind_write end_behind_write wait_behind_writes start_write end_write start_discard
    end_discard skip_sync_blocks blocks_synced start_sync end_sync cond_end_sync close_sync
    update_sb get_stats sync_with_cluster get_from_slot copy_from_slot set_pages free""".split())
ANY_OPERATIONS = "LLB_ANY_OPERATIONS"  # of the environment: 1 builds for an md with more

ONLY_64 = ("this kernel has 32 bits, and llbitmap is for 64-bit kernels only (its words of "
           "state and its sector numbers have 64)")


def which(name):
    """As shutil.which, but yes or no; python3-minimal has no shutil."""
    if "/" in name:
        return os.access(name, os.X_OK)
    return any(os.access(os.path.join(d, name), os.X_OK) for d in path_folders())


def path_folders():
    return os.environ.get("PATH", "").split(":")


class Missing(Exception):
    """Things that are missing, as (what, Debian's packages that bring it)."""

    def __init__(self, *things):
        self.things = list(things)

    def line(self, kver):
        packages = []
        for _, names in self.things:
            packages += [n for n in names.split() if n not in packages]
        how = "apt-get install " if which("apt-get") else "install (names are Debian's) "
        line = "missing for kernel %s: %s" % (kver, ", ".join(what for what, _ in self.things))
        if packages:
            line += ": " + how + " ".join(packages)
        if any("BTF" in what or "md-mod" in what for what, _ in self.things):
            line += ", or give MD_HEADERS=<kernel source>/drivers/md"
        return line


class Never(Exception):
    """Why nothing that could be installed beside this kernel would help: one line."""


# ---------------------------------------------------------------- BTF

(INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT,
 FUNC, PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64) = range(1, 20)

# Bytes that follow a type: fixed part, and for each of its vlen elements.
EXTRA = {INT: (4, 0), ARRAY: (12, 0), STRUCT: (0, 12), UNION: (0, 12),
         ENUM: (0, 8), PROTO: (0, 8), VAR: (4, 0), DATASEC: (0, 12),
         DECL_TAG: (4, 0), ENUM64: (0, 12)}

TAG = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum"}


class Type:
    __slots__ = ("id", "name_off", "kind", "vlen", "kflag", "ref", "at")


# In the byte order of the kernel that it describes.
MAGIC = {b"\x9f\xeb": "<", b"\xeb\x9f": ">"}


class Btf:
    """One BTF blob, or a module's blob split over its base.

    What is cut off, or of a kind that we do not know, is a ValueError.
    """

    def __init__(self, blob, base=None):
        try:
            self.parse(blob, base)
        except struct.error:
            raise ValueError("cut off")

    def parse(self, blob, base):
        self.order = MAGIC.get(blob[:2])
        if not self.order:
            raise ValueError("not BTF")
        if base and base.order != self.order:
            raise ValueError("byte order differs")
        _, _, _, hdr, toff, tlen, soff, slen = self.unpack("HBBIIIII", blob, 0)
        if max(toff + tlen, soff + slen) > len(blob) - hdr:
            raise ValueError("cut off")
        self.base = base
        self.blob = blob
        self.strings = blob[hdr + soff:hdr + soff + slen]
        self.str_base = base.str_end if base else 0
        self.str_end = self.str_base + slen
        self.first = base.end if base else 1
        self.types = []
        at, end = hdr + toff, hdr + toff + tlen
        while at < end:
            t = Type()
            t.name_off, info, t.ref = self.unpack("III", blob, at)
            # Kernels before 7.2 use fewer bits for both and leave the rest 0.
            t.kind, t.vlen, t.kflag = info >> 24 & 0x7f, info & 0xffffff, info >> 31
            if not 1 <= t.kind <= ENUM64:
                raise ValueError("BTF kind %d is unknown" % t.kind)
            t.id, t.at = self.first + len(self.types), at + 12
            fixed, each = EXTRA.get(t.kind, (0, 0))
            at = t.at + fixed + each * t.vlen
            self.types.append(t)
        if at > end:
            raise ValueError("cut off")
        self.end = self.first + len(self.types)

    def unpack(self, layout, blob, at):
        return struct.unpack_from(self.order + layout, blob, at)

    def type(self, tid):
        if tid < self.first and self.base:
            return self.base.type(tid)
        if not self.first <= tid < self.end:
            raise ValueError("there is no type %d" % tid)
        return self.types[tid - self.first]

    def owner(self, t):
        return self if t.id >= self.first else self.base

    def string(self, off):
        if off < self.str_base and self.base:
            return self.base.string(off)
        off -= self.str_base
        return self.strings[off:self.strings.index(b"\0", off)].decode()

    def name(self, t):
        return self.string(t.name_off)

    def elements(self, t, layout, skip=0):
        size = struct.calcsize("=" + layout)
        blob = self.owner(t).blob
        return [self.unpack(layout, blob, t.at + skip + i * size) for i in range(t.vlen)]

    def members(self, t):
        """[(name, type id, offset word)]"""
        return [(self.string(n), ref, off) for n, ref, off in self.elements(t, "III")]

    def params(self, t):
        return [ref for _, ref in self.elements(t, "II")]

    def constants(self, t):
        if t.kind == ENUM64:
            return [(self.string(n), lo | hi << 32) for n, lo, hi in self.elements(t, "III")]
        return [(self.string(n), v) for n, v in self.elements(t, "II")]

    def array(self, t):
        elem, _, count = self.unpack("III", self.owner(t).blob, t.at)
        return elem, count

    def find(self, kinds, name):
        for t in self.types:
            if t.kind in kinds and self.name(t) == name:
                return t
        return None


def elf_section(data, wanted):
    """A section of an ELF64 file of either byte order; None if it is not there."""
    if data[:4] != b"\x7fELF":
        raise ValueError("neither BTF nor ELF")
    if data[4] == 1:
        raise Never(ONLY_64)
    order = {1: "<", 2: ">"}[data[5]]
    shoff, = struct.unpack_from(order + "Q", data, 0x28)
    shentsize, shnum, shstrndx = struct.unpack_from(order + "HHH", data, 0x3A)
    heads = [struct.unpack_from(order + "IIQQQQ", data, shoff + i * shentsize)
             for i in range(shnum)]
    names = heads[shstrndx][4]
    for name, _, _, _, off, size in heads:
        start = names + name
        if data[start:data.index(b"\0", start)] == wanted.encode():
            return data[off:off + size]
    return None


UNPACK = {".xz": ("xz", "xz-utils"), ".zst": ("zstd", "zstd"), ".gz": ("gzip", "gzip")}


def read_file(path):
    """A file's bytes, unpacked if its name says that it is packed."""
    tool, package = UNPACK.get(os.path.splitext(path)[1], (None, None))
    if not tool:
        with open(path, "rb") as f:
            return f.read()
    if not which(tool):
        raise Missing(("%s to unpack %s" % (tool, os.path.basename(path)), package))
    done = subprocess.run([tool, "-dc", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise ValueError("%s cannot unpack it" % tool)
    return done.stdout


def read_btf(path):
    """The raw BTF in a file: sysfs blob, vmlinux, or a compressed module. None: it has none."""
    try:
        data = read_file(path)
        return data if data[:2] in MAGIC else elf_section(data, ".BTF")
    except OSError as why:
        raise Never("cannot read %s: %s" % (path, why.strerror))
    except (ValueError, IndexError, KeyError, struct.error) as why:
        raise Never("cannot read the types (BTF) in %s: %s" % (path, why))


def first_btf(paths):
    for path in paths:
        if os.path.exists(path):
            blob = read_btf(path)
            if blob:
                return path, blob
    return None, None


# How the kernel in an image for x86 is packed, by its first bytes.
PACKED = {b"\x28\xb5\x2f\xfd": ("zstd", "zstd"), b"\xfd7zXZ\0": ("xz", "xz-utils"),
          b"\x1f\x8b": ("gzip", "gzip"), b"\x02\x21\x4c\x18": ("lz4", "lz4")}


def image_btf(path):
    """The raw BTF in a boot image (bzImage); None if this is none, or it has none.

    For distributions whose headers come without vmlinux. It is the image's own
    BTF, so md must be built in, or its module be there.
    """
    try:
        with open(path, "rb") as f:
            image = f.read()
    except PermissionError:
        raise Missing(("leave to read %s, which has its BTF (so: sudo make)" % path, ""))
    if image[0x202:0x206] != b"HdrS":
        return None
    start, length = struct.unpack_from("<II", image, 0x248)
    start += 512 * (image[0x1f1] + 1)
    payload = image[start:start + length]
    for magic, (tool, package) in PACKED.items():
        if payload.startswith(magic):
            if not which(tool):
                raise Missing(("%s to unpack %s" % (tool, path), package))
            # Its size follows, about which they complain when all is written.
            vmlinux = subprocess.run([tool, "-dc"], input=payload, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL).stdout
            return elf_section(vmlinux, ".BTF") if vmlinux[:4] == b"\x7fELF" else None
    return None


def load_btf(kver, kdir):
    running = kver == os.uname().release
    lib = "/lib/modules/" + kver
    image, headers = "linux-image-" + kver, "linux-headers-" + kver
    missing = Missing()
    base_path, blob = first_btf([kdir + "/vmlinux", "/usr/lib/debug/boot/vmlinux-" + kver]
                                + ["/sys/kernel/btf/vmlinux"] * running)
    for path in ["/boot/vmlinuz-" + kver, lib + "/vmlinuz", kdir + "/arch/x86/boot/bzImage"]:
        if not blob and os.path.exists(path):
            try:
                base_path, blob = path, image_btf(path)
            except Missing as why:
                missing.things += why.things
    if blob:
        try:
            base = Btf(blob)
        except (ValueError, IndexError) as why:
            raise Never("cannot read the types (BTF) in %s: %s" % (base_path, why))
        if base.find([STRUCT], "mddev"):
            return base                     # md is built into this kernel
    elif not missing.things:
        missing.things.append(("its BTF (vmlinux in %s)" % kdir, headers))
    ko = ["%s/drivers/md/md-mod.ko%s" % (d, x) for d in (kdir, lib + "/kernel", lib)
          for x in [""] + sorted(UNPACK)]
    path = None
    try:
        path, blob = first_btf(ko + ["/sys/kernel/btf/md_mod"] * running)
        if not blob and not (missing.things and md_is_built_in(lib)):
            some = next((p for p in ko if os.path.exists(p)), None)
            missing.things.append(("BTF in %s" % some if some else "its md-mod.ko", image))
    except Missing as why:
        missing.things += why.things
    if missing.things:
        raise missing
    stale = Missing(("a pair of one build, for %s and %s are none (md-mod, BTF)" % (path, base_path),
                     image + " " + headers))
    try:
        btf = Btf(blob, base)
        mddev = btf.find([STRUCT], "mddev")
        if not mddev or "bitmap_info" not in [m[0] for m in btf.members(mddev)]:
            raise stale
    except (ValueError, IndexError, UnicodeDecodeError):
        raise stale
    return btf


def md_is_built_in(lib):
    try:
        with open(lib + "/modules.builtin") as f:
            return "/drivers/md/md-mod.ko" in f.read()
    except OSError:
        return False


# ---------------------------------------------------------------- C from BTF

class Printer:
    def __init__(self, btf):
        self.btf = btf
        self.forward = set()

    def declare(self, tid, inner, depth=1):
        """C declaration of `inner` (a name, possibly wrapped) as type tid."""
        pad = " " if inner and not inner.startswith(" ") else ""
        if tid == 0:
            return "void" + pad + inner
        b, t = self.btf, self.btf.type(tid)
        if t.kind == PTR:
            to = b.type(t.ref).kind if t.ref else 0
            while to in (TYPE_TAG,):
                to = b.type(b.type(t.ref).ref).kind
            return self.declare(t.ref, "(*%s)" % inner if to in (PROTO, ARRAY)
                                else "*" + inner, depth)
        if t.kind == ARRAY:
            elem, count = b.array(t)
            return self.declare(elem, "%s[%d]" % (inner, count), depth)
        if t.kind == PROTO:
            args = ", ".join(self.declare(p, "") if p else "..." for p in b.params(t))
            return self.declare(t.ref, "%s(%s)" % (inner, args or "void"), depth)
        if t.kind in (CONST, VOLATILE, RESTRICT):
            word = {CONST: "const", VOLATILE: "volatile", RESTRICT: "restrict"}[t.kind]
            if t.ref and b.type(t.ref).kind == PTR:
                return self.declare(t.ref, word + pad + inner, depth)
            return word + " " + self.declare(t.ref, inner, depth)
        if t.kind in (TYPE_TAG, DECL_TAG):
            return self.declare(t.ref, inner, depth)
        if t.kind == FWD:
            word = "union" if t.kflag else "struct"
            self.forward.add("%s %s" % (word, b.name(t)))
            return "%s %s%s%s" % (word, b.name(t), pad, inner)
        if t.kind in TAG:
            if not b.name(t):
                return self.body(t, depth) + pad + inner
            if t.kind in (STRUCT, UNION):
                self.forward.add("%s %s" % (TAG[t.kind], b.name(t)))
            return "%s %s%s%s" % (TAG[t.kind], b.name(t), pad, inner)
        return b.name(t) + pad + inner   # INT, FLOAT, TYPEDEF

    def body(self, t, depth=1):
        tabs, name = "\t" * depth, self.btf.name(t)
        head = TAG[t.kind] + (" " + name if name else "") + " {\n"
        lines = []
        if t.kind in (ENUM, ENUM64):
            signed = t.kflag or 0
            for const, value in self.btf.constants(t):
                if signed and t.kind == ENUM and value >> 31:
                    value -= 1 << 32
                lines.append("%s%s = %d,\n" % (tabs, const, value))
        else:
            for member, ref, off in self.btf.members(t):
                bits = off >> 24 if t.kflag else 0
                lines.append("%s%s%s;\n" % (tabs, self.declare(ref, member, depth + 1),
                                            ": %d" % bits if bits else ""))
        return head + "".join(lines) + "\t" * (depth - 1) + "}"


class Layout:
    """FNV-1a over a canonical walk of a type; src/shim/layout.c does the same."""

    def __init__(self, btf):
        self.btf = btf

    def hash(self, t):
        self.h = 0xcbf29ce484222325
        if t.kind in (TYPEDEF, FUNC):
            self.type(t.ref)
        else:
            self.body(t)
        return self.h

    def put(self, data):
        for byte in data:
            self.h = (self.h ^ byte) * 0x100000001b3 & 0xffffffffffffffff

    def u32(self, value):
        self.put(struct.pack("<I", value))

    def named(self, mark, t):
        self.put(mark + self.btf.name(t).encode() + b"\0")

    def type(self, tid):
        if tid == 0:
            return self.put(b"v")
        b, t = self.btf, self.btf.type(tid)
        if t.kind in (INT, FLOAT):
            return self.named(b"i", t)
        if t.kind == TYPEDEF:
            return self.named(b"t", t)
        if t.kind == FWD:
            return self.named(b"u" if t.kflag else b"s", t)
        if t.kind in TAG:
            if not b.name(t):
                return self.body(t)
            return self.named(TAG[t.kind][:1].encode(), t)
        if t.kind == ARRAY:
            elem, count = b.array(t)
            self.put(b"[")
            self.u32(count)
            return self.type(elem)
        if t.kind == PROTO:
            self.put(b"(")
            self.u32(t.vlen)
            self.type(t.ref)
            for p in b.params(t):
                self.type(p)
            return None
        mark = {PTR: b"*", CONST: b"c", VOLATILE: b"V", RESTRICT: b"r", TYPE_TAG: b""}
        self.put(mark[t.kind])
        return self.type(t.ref)

    def body(self, t):
        self.put(b"{")
        self.u32(t.ref)
        self.u32(t.vlen)
        if t.kind in (STRUCT, UNION):
            for name, ref, off in self.btf.members(t):
                self.put(name.encode() + b"\0")
                self.u32(off)
                self.type(ref)
            return
        for name, value in self.btf.constants(t):
            self.put(name.encode() + b"\0")
            self.u32(value & 0xffffffff)
            if t.kind == ENUM64:
                self.u32(value >> 32)


class BtfFacts:
    """What a kernel's md has, read from BTF."""

    def __init__(self, btf):
        self.btf = btf
        self.printer = Printer(btf)
        self.names = {n for t in btf.types if t.kind in (ENUM, ENUM64)
                      for n, _ in btf.constants(t)}

    def has_const(self, name):
        return name in self.names

    def member(self, struct_name, member):
        """The member's C declaration, or None."""
        t = self.btf.find([STRUCT], struct_name)
        for name, ref, _ in self.btf.members(t) if t else []:
            if name == member:
                return self.printer.declare(ref, name)
        return None

    def members(self, struct_name):
        """The names of all its members."""
        t = self.btf.find([STRUCT], struct_name)
        return [name for name, _, _ in self.btf.members(t)] if t else []

    def function(self, name):
        t = self.btf.find([FUNC], name)
        return self.printer.declare(t.ref, name) if t else None


class TextFacts:
    """The same, read from md.h and md-bitmap.h."""

    def __init__(self, folder):
        self.text = ""
        for name in ("md.h", "md-bitmap.h"):
            try:
                with open(os.path.join(folder, name)) as f:
                    self.text += f.read()
            except OSError:
                raise Never("MD_HEADERS=%s has no %s: give the drivers/md folder of the "
                            "kernel's source (Debian: apt-get install linux-source-<version>)"
                            % (folder, name))
        self.text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", self.text, flags=re.S)
        self.text = re.sub(r"\s+", " ", self.text.replace("__must_check ", ""))

    def has_const(self, name):
        return re.search(r"\b%s\b" % name, self.text) is not None

    def lines(self, struct_name):
        """The declarations of its members, as text."""
        m = re.search(r"\bstruct %s \{" % struct_name, self.text)
        if not m:
            return []
        at, level = m.end(), 1
        while level:
            level += {"{": 1, "}": -1}.get(self.text[at], 0)
            at += 1
        return re.split(r"[;{}]", self.text[m.end():at])

    def members(self, struct_name):
        found = [re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(|(\w+)\s*(?:\[\w*\]\s*)*$", line.strip())
                 for line in self.lines(struct_name)]
        return [m.group(1) or m.group(2) for m in found if m]

    def member(self, struct_name, member):
        for line in self.lines(struct_name):
            if re.search(r"\b%s\b\s*(\)\s*\(|\[|,|$)" % member, line.strip()):
                return " ".join(line.split()).replace("( *", "(*")
        return None

    def function(self, name):
        m = re.search(r"[;}] (?:extern )?([\w \*]*?\b%s\([^)]*\))(?= ;|;)" % name, self.text)
        return m.group(1) if m else None


def probes(facts):
    """The macros that say what moved, each with the declaration it was seen in."""
    out = []

    def define(macro, seen=None):
        out.append("#define %-32s 1%s" % (macro, "\t/* %s */" % seen if seen else ""))

    seen = facts.member("bitmap_operations", "wait_behind_writes") or ""
    if seen:
        returns = "BOOL" if seen.startswith("bool") else "VOID"
        nowait = "_NOWAIT" if "," in seen else ""
        define("LLB_WAIT_BEHIND_%s%s" % (returns, nowait), seen)
    for member in MEMBERS:
        seen = facts.member("bitmap_operations", member)
        if seen:
            define("LLB_HAVE_%s" % member.upper(), seen)
    return out


NEWER = ("needs Linux 7.2 or newer (Debian: apt-get install linux-image-amd64 from forky or "
         "trixie-backports)")


def require(facts, kver):
    if not (facts.has_const("ID_LLBITMAP") and facts.member("mddev", "bitmap_ops")
            and facts.member("bitmap_operations", "head")):
        raise Never("the md of kernel %s has no selectable bitmap_type, so no bitmap can be "
                    "added to it: %s" % (kver, NEWER))
    # Some 6.18.y got groups; that the files go first, md had to take the two apart.
    for seen, name in ((facts.member("bitmap_operations", "groups"), "bitmap_operations.groups"),
                       (facts.function("md_bitmap_destroy_nosysfs"), "md_bitmap_destroy_nosysfs")):
        if not seen:
            raise Never("the md of kernel %s destroys a bitmap while its sysfs files and md's "
                        "thread may still use it (there is no %s): %s" % (kver, name, NEWER))
    more = [name for name in facts.members("bitmap_operations") if name not in OPERATIONS]
    if more and os.environ.get(ANY_OPERATIONS) != "1":
        raise Never("the md of kernel %s asks its bitmap for what this release does not know "
                    "(%s), and may crash where it is not there: get a newer llbitmap, or, if md "
                    "can do without, build with %s=1" % (kver, ", ".join(more), ANY_OPERATIONS))


# ---------------------------------------------------------------- the header

HEAD = """/* SPDX-License-Identifier: GPL-2.0 */
/* Made by scripts/build/mdheader.py for kernel %s. Do not edit. */
#ifndef LLB_MD_TYPES_H
#define LLB_MD_TYPES_H

"""

INCLUDES = ["backing-dev.h", "badblocks.h", "bio.h", "blkdev.h", "kobject.h", "list.h",
            "mempool.h", "module.h", "mutex.h", "percpu-refcount.h", "raid/md_u.h",
            "sysfs.h", "timer.h", "types.h", "wait.h", "workqueue.h"]


def from_source(kver, folder, facts):
    folder = os.path.abspath(folder)
    return "".join([
        HEAD % kver,
        '#include "%s/md.h"\n#include "%s/md-bitmap.h"\n\n' % (folder, folder),
        "#define LLB_MD_FROM_SOURCE 1\n",
        "/* No BTF to compare with at load time. */\n#define LLB_LAYOUT_TABLE\n\n",
        "\n".join(probes(facts)),
        "\n\n#endif\n"])


def from_btf(kver, facts):
    btf = facts.btf
    printer, layout = facts.printer, Layout(btf)
    found = [btf.find([ENUM, ENUM64], n) for n in ENUMS]
    found.append(next((t for t in btf.types if t.kind == ENUM and not btf.name(t)
                       and ANON_ENUM in [c for c, _ in btf.constants(t)]), None))
    found += [btf.find([TYPEDEF], n) for n in TYPEDEFS]
    found += [btf.find([STRUCT], n) for n in STRUCTS]
    found = [t for t in found if t]
    funcs = [t for t in (btf.find([FUNC], n) for n in FUNCS) if t]

    types, asserts = [], []
    for t in found:
        name = btf.name(t)
        if t.kind == TYPEDEF:
            types.append("typedef %s;\n\n" % printer.declare(t.ref, name))
            continue
        types.append(printer.body(t) + ";\n\n")
        if t.kind != STRUCT:
            continue
        asserts.append("static_assert(sizeof(struct %s) == %d);\n" % (name, t.ref))
        for member, _, off in btf.members(t):
            if member and not (t.kflag and off >> 24):
                asserts.append("static_assert(offsetof(struct %s, %s) == %d);\n"
                               % (name, member, (off & 0xffffff if t.kflag else off) // 8))
    protos = ["%s;\n" % printer.declare(t.ref, btf.name(t)) for t in funcs]

    table = []
    for t in found + funcs:
        if btf.name(t):
            size = t.ref if t.kind in TAG else 0
            table.append('\t{ %d, "%s", %d, 0x%016xULL },' % (t.kind, btf.name(t), size,
                                                          layout.hash(t)))
    return "".join(
        [HEAD % kver]
        + ["#include <linux/%s>\n" % n for n in INCLUDES] + ["\n"]
        + ["%s;\n" % f for f in sorted(printer.forward)] + ["\n"]
        + types + protos
        + ["\n/* The kernel's public headers must give md's types the layout that md was built with. */\n"]
        + asserts
        + ["\n/* For layout.c: BTF kind, name, size in bytes, hash of the layout. */\n",
           "#define LLB_LAYOUT_TABLE \\\n", " \\\n".join(table), "\n\n",
           "\n".join(probes(facts)), "\n\n#endif\n"])


# ---------------------------------------------------------------- what a build needs

COMPILER = re.compile(r"((?:.*/)?(?:[\w.]+-)*)(gcc|clang)(?:-([\d.]+))?$")
HALF = {"gcc": "g++", "clang": "clang++"}


def config_of(kver, kdir):
    """The kernel's configuration, as text; "" if it is nowhere."""
    for path in (kdir + "/include/config/auto.conf", kdir + "/.config", "/boot/config-" + kver,
                 "/lib/modules/%s/config" % kver):
        try:
            with open(path) as f:
                return f.read()
        except OSError:
            pass
    return ""


def major_of(command):
    """Which GCC a command is; 0 if it does not say."""
    try:
        done = subprocess.run([command, "-dumpversion"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        return int(done.stdout.split(b".")[0])
    except (OSError, ValueError):
        return 0


def cxx_half(word):
    """The installed C++ compiler for the C compiler `word`, or None.

    Its own half; else the oldest newer g++. That knows the kernel's flags, which
    an older one need not, and it makes nothing that the rest is linked against.
    """
    prefix, kind, version = COMPILER.match(word).groups()
    own = prefix + HALF[kind] + ("-" + version if version else "")
    if which(own):
        return own
    least = int(version.split(".")[0]) if version else major_of(word)
    if kind != "gcc" or not least:
        return None
    folder, start = os.path.split(prefix + "g++")
    found = []
    for where in [folder] if folder else path_folders():
        for name in os.listdir(where) if os.path.isdir(where) else []:
            m = re.match(re.escape(start) + r"(?:-(\d+))?$", name)
            path = os.path.join(where, name)
            if m and os.access(path, os.X_OK):
                found.append((int(m.group(1) or 0) or major_of(path),
                              path if folder else name))
    return min([f for f in found if f[0] >= least], default=(0, None))[1]


def cxx_command(cc):
    """The C++ half of the command `cc`, which may begin with a wrapper; None: not installed."""
    words = [cxx_half(w) if COMPILER.match(w) else w for w in cc.split()]
    return None if None in words else " ".join(words)


def package_of(word, cxx):
    """Debian's name of the package with a compiler or its C++ half."""
    prefix, kind, version = COMPILER.match(word).groups()
    triplet, name = os.path.basename(prefix).rstrip("-"), kind
    if cxx and kind == "gcc":
        name = "g++"
    if version:
        name += "-" + version
    here = {"ppc64le": "powerpc64le"}.get(os.uname().machine, os.uname().machine)
    if triplet and triplet.split("-")[0] != here:
        name += "-" + triplet.replace("_", "-")
    return name


def compiler_lacks(config, cc, headers):
    """What is missing to compile with the command `cc`, "": with what built the kernel."""
    things = []
    if not cc:
        # clang's version text does not say what the command was called.
        m = re.search(r'^CONFIG_CC_VERSION_TEXT="?(\S*gcc\S*)', config, re.M)
        cc = m.group(1) if m else ""
    if not config and not headers and not cxx_command("gcc") and not some_gxx():
        return [("a C++ compiler", "g++")]
    for word in cc.split():
        m = COMPILER.match(word)
        if not m:
            continue
        if headers and not which(word):     # else they bring it
            things.append(("the compiler " + word, package_of(word, False)))
        if not cxx_half(word):
            version = m.group(3)
            what = HALF[m.group(2)]
            if version:
                what += " " + version + " or newer" * (m.group(2) == "gcc")
            things.append((what, package_of(word, True)))
    return things


def some_gxx():
    return any(re.match(r"(.*-)?g\+\+(-\d+)?$", name) for where in path_folders()
               if os.path.isdir(where) for name in os.listdir(where))


def facts_of(kver, kdir, folder):
    config = config_of(kver, kdir)
    if config and not re.search(r"^CONFIG_64BIT=y", config, re.M):
        raise Never(ONLY_64)
    if folder:
        facts = TextFacts(folder)
    else:
        facts = BtfFacts(load_btf(kver, kdir))
    require(facts, kver)
    return facts


def check(kver, kdir, folder, cc):
    """All that a build lacks, at once."""
    headers = os.path.exists(kdir + "/Makefile")
    missing = Missing()
    if not headers:
        missing.things.append(("its headers in " + kdir, "linux-headers-" + kver))
    try:
        facts_of(kver, kdir, folder)
    except Missing as why:
        named = [package for _, package in missing.things]
        missing.things += [t for t in why.things if t[1] not in named]
    missing.things += compiler_lacks(config_of(kver, kdir), cc, headers)
    if missing.things:
        raise missing


def main(args):
    if args[:1] == ["--cxx"]:
        cc = " ".join(args[1:])
        command = cxx_command(cc)
        if not command:
            raise Never("no C++ compiler to go with %s" % cc)
        return print(command)
    only_check, cc = False, ""
    while args[:1] and args[0].startswith("--"):
        option, args = args[0], args[1:]
        if option == "--check":
            only_check = True
        elif option.startswith("--cc="):
            cc = option[5:]
        else:
            sys.exit(__doc__)
    if len(args) not in (2, 3):
        sys.exit(__doc__)
    kver, kdir, folder = args if len(args) == 3 else args + [""]
    try:
        if only_check:
            return check(kver, kdir, folder, cc)
        facts = facts_of(kver, kdir, folder)
        return sys.stdout.write(from_source(kver, folder, facts) if folder
                                else from_btf(kver, facts))
    except Missing as why:
        raise Never(why.line(kver))
    except (ValueError, IndexError, KeyError, RecursionError, struct.error) as why:
        raise Never("cannot make sense of md's types in kernel %s: %s" % (kver, why))


try:
    main(sys.argv[1:])
except Never as why:
    sys.exit("llbitmap: %s" % why)
