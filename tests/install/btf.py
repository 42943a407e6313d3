# SPDX-License-Identifier: GPL-2.0
"""BTF and ELF files of kernels that are none: small, of either byte order, or damaged."""

import struct

(INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC,
 PROTO) = range(1, 14)


class Btf:
    """Types with ids from 1 on, or after those of a base."""

    def __init__(self, order='<', base=None):
        self.order = order
        self.first_string = base.first_string + len(base.strings) if base else 0
        self.next_id = base.next_id if base else 1
        self.types = b''
        self.strings = b'' if base else b'\0'

    def string(self, text):
        if not text:
            return 0
        at = self.first_string + len(self.strings)
        self.strings += text.encode() + b'\0'
        return at

    def words(self, *values):
        return struct.pack(f'{self.order}{len(values)}I', *(value & 0xffffffff for value in values))

    def add(self, kind, name='', ref=0, each=(), kflag=0):
        """A type that is followed by the words of each; returns its id."""
        self.types += self.words(self.string(name), kflag << 31 | kind << 24 | len(each), ref)
        for words in each:
            self.types += self.words(*words)
        self.next_id += 1
        return self.next_id - 1

    def integer(self, name, size):
        made = self.add(INT, name, size)
        self.types += self.words(size * 8)
        return made

    def struct(self, name, size, members, kind=STRUCT):
        """members: (name, type id, offset in bytes)."""
        return self.add(kind, name, size, [(self.string(member), ref, offset * 8)
                                           for member, ref, offset in members])

    def enum(self, name, constants):
        return self.add(ENUM, name, 4, [(self.string(constant), value)
                                        for constant, value in constants],
                        kflag=any(value < 0 for _, value in constants))

    def proto(self, returns, *params):
        return self.add(PROTO, '', returns, [(0, param) for param in params])

    def blob(self):
        return (struct.pack(f'{self.order}HBBIIIII', 0xeb9f, 1, 0, 24, 0, len(self.types),
                            len(self.types), len(self.strings)) + self.types + self.strings)


def vmlinux(order='<'):
    """A kernel without md."""
    btf = Btf(order)
    btf.integer('int', 4)
    return btf


def md(btf, groups='groups', selectable=True, destroy='md_bitmap_destroy_nosysfs', more=()):
    """md's types, added to btf (a vmlinux, or split over one): the least that mdheader asks for."""
    number = btf.integer('unsigned int', 4)
    size = btf.add(TYPEDEF, 'sector_t', number)
    kind = btf.enum('md_submodule_id', [('ID_RAID0', 0), ('ID_LINEAR', -1)] +
                    [('ID_LLBITMAP', 12)] * selectable)
    head = btf.struct('md_submodule_head', 8, [('id', kind, 0), ('type', number, 4)])
    mddev = btf.add(FWD, 'mddev_before')
    to_mddev = btf.add(PTR, '', mddev)
    array = btf.add(ARRAY)
    btf.types += btf.words(number, number, 7)
    wait = btf.add(PTR, '', btf.proto(0, to_mddev))
    members = [('head', head, 0), ('wait_behind_writes', wait, 8)]
    if groups:
        members.append((groups, btf.add(PTR, '', btf.add(FWD, 'attribute_group')), 16))
    members += [(name, wait, 24 + 8 * n) for n, name in enumerate(more)]
    ops = btf.struct('bitmap_operations', 24 + 8 * len(more), members)
    info = btf.struct('', 32, [('offset', size, 0), ('spare', array, 4)])
    btf.struct('mddev', 64, [('bitmap_ops', btf.add(PTR, '', ops), 0), ('bitmap_info', info, 8)])
    btf.add(FUNC, 'md_error', btf.proto(0, to_mddev))
    btf.add(FUNC, destroy, btf.proto(0, to_mddev))
    btf.add(FUNC, 'rdev_set_badblocks', btf.proto(number, to_mddev, size, number))
    return btf


def elf(order, sections, bits=64):
    """An ELF file with these sections (name to bytes)."""
    names = b'\0'
    heads, data = [(0, 0, 0, 0, 0, 0)], b''
    at = 64
    for name, content in [*sections.items(), ('.shstrtab', None)]:
        start = len(names)
        names += name.encode() + b'\0'
        content = names if content is None else content
        heads.append((start, 1, 0, 0, at + len(data), len(content)))
        data += content
    table = b''.join(struct.pack(f'{order}IIQQQQ', *head) + bytes(24) for head in heads)
    ident = b'\x7fELF' + bytes([bits // 32, 1 if order == '<' else 2, 1]) + bytes(9)
    return ident + struct.pack(f'{order}HHIQQQIHHHHHH', 1, 0, 1, 0, 0, at + len(data), 0, 64, 0, 0,
                               64, len(heads), len(heads) - 1) + data + table
