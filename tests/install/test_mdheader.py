#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""scripts/build/mdheader.py on BTF of both byte orders, and on what it must refuse in one line."""

import gzip
import lzma
import os
import random
import re
import shutil
import struct
import sys
import unittest

import btf
from kit import KVER, TOP, Case

MDHEADER = (sys.executable, os.path.join(TOP, 'scripts', 'build', 'mdheader.py'))


class Mdheader(Case):
    def mdheader(self, kdir, *options):
        return self.run_it(*MDHEADER, *options, KVER, kdir)

    def header(self, kdir):
        status, text, errors = self.mdheader(kdir)
        self.assertEqual((status, errors), (0, ''))
        return text

    def test_both_byte_orders_give_the_same_header(self):
        texts = []
        for order in '<>':
            kdir = self.headers(order)
            texts.append(self.header(kdir))
        self.assertEqual(*texts)
        self.assertIn('static_assert(offsetof(struct mddev, bitmap_info) == 8);', texts[0])
        self.assertIn('ID_LINEAR = -1,', texts[0])
        self.assertIn('unsigned int spare[7];', re.sub(r'\s+', ' ', texts[0]))
        self.assertIn('/* void (*wait_behind_writes)(struct mddev_before *) */', texts[0])
        self.assertRegex(texts[0], r'\{ 4, "bitmap_operations", 24, 0x[0-9a-f]{16}ULL \}')

    def test_built_in_md_of_both_byte_orders(self):
        texts = []
        for order in '<>':
            kdir = self.headers(order, vmlinux=btf.md(btf.vmlinux(order)).blob(), md_mod=b'')
            texts.append(self.header(kdir))
        self.assertEqual(*texts)

    def test_raw_btf(self):
        """As sysfs has it, not in an ELF file."""
        for order in '<>':
            kdir = self.headers(order, md_mod=b'')
            self.write('headers/vmlinux', btf.md(btf.vmlinux(order)).blob())
            self.assertIn('struct mddev {', self.header(kdir))

    def image(self, payload, head=b'HdrS'):
        """A headers folder without vmlinux, but with a boot image for x86."""
        kdir = self.headers(md_mod=b'')
        os.remove(self.path('headers/vmlinux'))
        setup = bytearray(1024)
        setup[0x1f1] = 1
        setup[0x202:0x206] = head
        setup[0x248:0x250] = struct.pack('<II', 0, len(payload))
        self.write('headers/arch/x86/boot/bzImage', bytes(setup) + payload + bytes(99))
        return kdir

    def test_boot_image(self):
        vmlinux = btf.elf('<', {'.text': bytes(5000), '.BTF': btf.md(btf.vmlinux()).blob()})
        for packed in (gzip.compress(vmlinux), lzma.compress(vmlinux) + struct.pack('<I', len(vmlinux))):
            self.assertIn('struct mddev {', self.header(self.image(packed)))
            for damaged in (packed[:-40], packed[:20], b'odd' + packed):
                self.refused(self.mdheader(self.image(damaged)))
            self.refused(self.mdheader(self.image(packed, head=b'zImg')), 'its BTF (vmlinux')
        self.refused(self.mdheader(self.image(gzip.compress(btf.elf('<', {'.text': b'x'})))),
                     'its BTF (vmlinux')

    def test_boot_image_that_only_root_may_read(self):
        kdir = self.image(b'')
        os.chmod(self.path('headers/arch/x86/boot/bzImage'), 0)
        os.chmod(self.folder, 0o755)
        nobody = 65534 if os.geteuid() == 0 else None
        # this one's python3, and the tree, may be where nobody may not go
        shutil.copy(MDHEADER[1], self.path('mdheader'))
        line = self.refused(self.run_it('/usr/bin/python3', self.path('mdheader'), KVER, kdir,
                                        user=nobody),
                            'headers/arch/x86/boot/bzImage', 'sudo make', 'its md-mod.ko',
                            f'apt-get install linux-image-{KVER}')
        self.assertNotIn('linux-headers', line)

    def test_two_byte_orders_at_once(self):
        other = btf.md(btf.Btf('>', btf.vmlinux('>'))).blob()
        self.refused(self.mdheader(self.headers('<', md_mod=other)), 'one build')

    def test_cut_off(self):
        whole = btf.md(btf.vmlinux('>')).blob()
        for length in range(2, len(whole), len(whole) // 12):
            self.refused(self.mdheader(self.headers('>', vmlinux=whole[:length], md_mod=b'')), 'BTF')

    def test_module_cut_off(self):
        whole = btf.md(btf.Btf('<', btf.vmlinux())).blob()
        for length in range(2, len(whole), len(whole) // 8):
            self.refused(self.mdheader(self.headers('<', md_mod=whole[:length])))

    def test_unknown_kind(self):
        odd = btf.vmlinux()
        odd.add(77, 'new')
        self.refused(self.mdheader(self.headers(vmlinux=odd.blob())), 'BTF kind 77 is unknown')

    def test_damage_is_one_line_or_nothing(self):
        whole = btf.md(btf.vmlinux()).blob()
        dice = random.Random(13)
        for _ in range(24):
            at, value = dice.randrange(len(whole)), dice.randrange(256)
            damaged = whole[:at] + bytes([value]) + whole[at + 1:]
            said = self.mdheader(self.headers(vmlinux=damaged, md_mod=b''))
            if said[0]:
                self.refused(said)

    def test_not_elf_and_not_btf(self):
        kdir = self.headers()
        self.write('headers/vmlinux', b'MZ' * 100)
        self.refused(self.mdheader(kdir), 'vmlinux', 'neither BTF nor ELF')

    def test_packed_module_that_cannot_be_unpacked(self):
        kdir = self.headers(ko='md-mod.ko.xz')
        self.refused(self.mdheader(kdir), 'md-mod.ko.xz', 'xz cannot unpack it')

    def test_32_bits_by_configuration(self):
        kdir = self.headers()
        self.write('headers/include/config/auto.conf', 'CONFIG_ARM=y\n')
        for options in ([], ['--check']):
            line = self.refused(self.mdheader(kdir, *options), '32 bits', '64-bit kernels only')
            self.assertNotIn('apt-get', line)

    def test_32_bits_by_vmlinux(self):
        kdir = self.headers()
        os.remove(self.path('headers/include/config/auto.conf'))
        self.write('headers/vmlinux', btf.elf('<', {'.BTF': btf.vmlinux().blob()}, bits=32))
        self.refused(self.mdheader(kdir), '32 bits')

    def test_md_without_bitmap_type(self):
        old = btf.md(btf.Btf('<', btf.vmlinux()), selectable=False).blob()
        for options in ([], ['--check']):
            self.refused(self.mdheader(self.headers(md_mod=old), *options),
                         'no selectable bitmap_type', '7.2 or newer')

    def test_md_without_groups(self):
        """It destroys a bitmap while sysfs and its thread may use it: Linux 6.18 to 7.1."""
        for name in ('group', ''):
            old = btf.md(btf.Btf('<', btf.vmlinux()), groups=name).blob()
            for options in ([], ['--check']):
                self.refused(self.mdheader(self.headers(md_mod=old), *options),
                             'no bitmap_operations.groups', '7.2 or newer')

    def test_md_with_groups_and_the_old_order(self):
        old = btf.md(btf.Btf('<', btf.vmlinux()), destroy='md_bitmap_destroy').blob()
        self.refused(self.mdheader(self.headers(md_mod=old)), 'no md_bitmap_destroy_nosysfs',
                     '7.2 or newer')

    def test_md_without_groups_from_source(self):
        kdir = self.headers()
        declared = 'void md_bitmap_destroy_nosysfs(struct mddev *mddev);\n'
        head = ('struct mddev {\n\tstruct bitmap_operations *bitmap_ops;\n};\n'
                'enum { ID_LLBITMAP };\n')
        text = ('struct bitmap_operations {\n\tstruct md_submodule_head head;\n'
                '\tconst struct attribute_group **groups;\n};\n')
        for md_h, bitmap_h, lacks in ((head + declared, text, ''),
                                      (head, text, 'no md_bitmap_destroy_nosysfs'),
                                      (head + declared, text.replace('**groups', '*group'),
                                       'no bitmap_operations.groups')):
            self.write('md/md.h', md_h)
            self.write('md/md-bitmap.h', bitmap_h)
            said = self.run_it(*MDHEADER, KVER, kdir, self.path('md'))
            if lacks:
                self.refused(said, lacks)
            else:
                self.assertEqual((said[0], said[2]), (0, ''))

    def test_md_that_asks_for_more(self):
        """An operation that md may call and the module does not have."""
        new = btf.md(btf.Btf('<', btf.vmlinux()), more=('free', 'brand_new')).blob()
        kdir = self.headers(md_mod=new)
        for options in ([], ['--check']):
            self.refused(self.mdheader(kdir, *options), '(brand_new)', 'LLB_ANY_OPERATIONS=1')
        said = self.run_it(*MDHEADER, KVER, kdir, LLB_ANY_OPERATIONS='1')
        self.assertEqual((said[0], said[2]), (0, ''))
        self.write('md/md.h', 'struct mddev {\n\tstruct bitmap_operations *bitmap_ops;\n};\n'
                              'enum { ID_LLBITMAP };\n'
                              'void md_bitmap_destroy_nosysfs(struct mddev *mddev);\n')
        text = ('struct bitmap_operations {\n\tstruct md_submodule_head head;\n%s'
                '\tint (*copy_from_slot)(struct mddev *mddev, sector_t *lo);\n'
                '\tmd_bitmap_fn *start_write;\n\tconst struct attribute_group **groups;\n};\n')
        for more in '', '\tint (*brand_new)(struct mddev *mddev);\n', '\tmd_bitmap_fn *brand_new;\n':
            self.write('md/md-bitmap.h', text % more)
            said = self.run_it(*MDHEADER, KVER, kdir, self.path('md'))
            if more:
                self.refused(said, '(brand_new)')
            else:
                self.assertEqual((said[0], said[2]), (0, ''))

    def test_byte_order_of_the_test_itself(self):
        """The blobs here are what they say: the magic number's two bytes differ."""
        self.assertEqual([btf.vmlinux(order).blob()[:2] for order in '<>'],
                         [struct.pack(order + 'H', 0xeb9f) for order in '<>'])


if __name__ == '__main__':
    unittest.main()
