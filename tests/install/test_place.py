#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""scripts/build/place.sh in roots made for it: with the host's depmod and modprobe, and, for what it
does to the system that it runs in, under chroot with busybox and stubs."""

import os
import re
import shutil
import unittest

from kit import KVER, TOP, Case

PLACE = os.path.join(TOP, 'scripts', 'build', 'place.sh')
PACKAGING = os.path.join(TOP, 'scripts', 'packaging')
SIGNATURE = b'\x30\x82 a signature' + bytes(12) + b'~Module signature appended~\n'
APPLETS = ('sh', 'cat', 'sed', 'ls', 'cp', 'rm', 'mkdir', 'tail', 'grep', 'chmod', 'find', 'true',
           'rmdir', 'sort', 'head', 'uname')


class Root(Case):
    def setUp(self):
        super().setUp()
        self.root = self.path('root')
        self.lib = f'root/lib/modules/{KVER}'
        self.write(f'{self.lib}/modules.builtin', 'kernel/drivers/md/md-mod.ko\n')
        self.write(f'{self.lib}/modules.builtin.modinfo', b'md_mod.license=GPL\0')
        self.write(f'{self.lib}/modules.order', '')
        self.ko = self.module('llbitmap', 'softdep=pre: md_mod')

    def module(self, name, *info):
        """The least that depmod takes for a module, with debug information."""
        strings = ''.join(f'.asciz "{line}"\n' for line in (f'name={name}', 'license=GPL', *info))
        source = self.write('a.s', f'.section .modinfo,"a"\n{strings}\n'
                            '.section .debug_info,""\n.quad 0\n.data\n.quad 0\n')
        made = self.run_it('as', '-o', self.path(f'{name}.ko'), source)
        self.assertEqual(made[0], 0, made[2])
        return self.path(f'{name}.ko')


class Place(Root):
    def add(self, ko, where):
        path = self.path(self.lib, where, os.path.basename(ko))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(ko, path)

    def place(self, *args):
        status, said, errors = self.run_it(PLACE, *args, self.root)
        self.assertEqual(status, 0, errors)
        return said, errors

    def install(self):
        return self.place('install', KVER, self.ko)[1]

    def installed(self):
        with open(self.path(self.lib, 'updates/llbitmap.ko'), 'rb') as file:
            return file.read()

    def show_depends(self, module):
        """What modprobe would do for it: [kind module]."""
        status, said, errors = self.run_it('modprobe', '-d', self.root, '-S', KVER, '-C',
                                           self.path('root/usr/lib/modprobe.d'), '--show-depends', module)
        self.assertEqual(status, 0, errors)
        return re.findall(r'^(insmod|builtin) (?:.*/)?([\w-]+)', said, re.M)

    def test_built_in_md_loads_it_with_each_personality(self):
        for name in ('raid1', 'raid10', 'raid456'):
            self.add(self.module(name), 'kernel/drivers/md')
        self.install()
        for name in ('raid1', 'raid10', 'raid456'):
            self.assertEqual(self.show_depends(name), [('builtin', 'md_mod'), ('insmod', 'llbitmap'),
                                                       ('insmod', name)])

    def test_modular_md_loads_it(self):
        self.write(f'{self.lib}/modules.builtin', '')
        self.add(self.module('md-mod'), 'kernel/drivers/md')
        self.add(self.module('raid1'), 'kernel/drivers/md')
        self.install()
        for name, last in (('md_mod', []), ('raid1', [('insmod', 'raid1')])):
            self.assertEqual(list(dict.fromkeys(self.show_depends(name))),
                             [('insmod', 'md-mod'), ('insmod', 'llbitmap'), *last])

    def test_udev_loads_it_before_members_are_put_together(self):
        self.install()
        folder = self.path('root/usr/lib/udev/rules.d')
        self.assertEqual(os.listdir(folder), ['63-llbitmap.rules'])  # mdadm's is 64
        with open(f'{folder}/63-llbitmap.rules', encoding='utf-8') as file:
            rule = file.read()
        self.assertRegex(rule, r'(?m)^SUBSYSTEM=="block", .*"linux_raid_member", '
                         r'IMPORT\{program\}="/sbin/modprobe -q llbitmap"\n\Z')

    def test_debug_information_goes(self):
        self.install()
        self.assertNotIn(b'.debug_info', self.installed())
        self.assertIn(b'name=llbitmap', self.installed())

    def test_signature_stays(self):
        with open(self.ko, 'ab') as file:
            file.write(SIGNATURE)
        self.install()
        with open(self.ko, 'rb') as file:
            self.assertEqual(self.installed(), file.read())

    def test_alone_says_nothing(self):
        self.assertEqual(self.install(), '')

    def test_beside_another_says_which_wins(self):
        for folder in ('updates/dkms', 'extra'):
            self.add(self.ko, folder)
            said = self.install()
            with open(self.path(self.lib, 'modules.dep'), encoding='utf-8') as file:
                wins = re.search(r'^(\S*llbitmap\.ko):', file.read(), re.M).group(1)
            self.assertEqual(len(said.splitlines()), 1, said)
            self.assertIn(f'has another: {folder}/llbitmap.ko; modprobe takes {wins}', said)
            self.assertEqual('NOT updates/llbitmap.ko' in said, wins != 'updates/llbitmap.ko')
            os.remove(self.path(self.lib, folder, 'llbitmap.ko'))

    def test_one_that_wins(self):
        """dkms's does, in Debian's order as in that of kmod itself."""
        self.add(self.ko, 'updates/dkms')
        self.assertIn('modprobe takes updates/dkms/llbitmap.ko and NOT', self.install())

    def test_remove_leaves_nothing(self):
        before = self.files()
        self.install()
        self.assertEqual(len(self.files() - before), 6)
        self.place('remove', KVER)
        self.assertEqual(self.files() - before, set())

    def test_remove_leaves_the_folders_of_others(self):
        """Empty, as packages ship them; what is only ours goes."""
        for folder in ('etc/initramfs-tools/hooks', 'usr/lib/modprobe.d', 'usr/lib/udev/rules.d',
                       'usr/lib/dracut/modules.d'):
            os.makedirs(self.path('root', folder))
        before = self.folders()
        self.install()
        self.place('remove', KVER)
        self.assertEqual(self.folders() - {self.path(self.lib, 'updates')}, before)

    def test_leaves_the_packages_files_alone(self):
        """The same files, where the package has them: not written, not taken away."""
        self.write('root/usr/share/initramfs-tools/hooks/llbitmap', '')
        self.write('root/usr/lib/modprobe.d/llbitmap.conf', "the package's")
        before = self.files()
        self.assertIn('if that is removed, make install', self.place('install', KVER, self.ko)[0])
        self.assertEqual({os.path.basename(path) for path in self.files() - before}, {'llbitmap.ko'})
        self.place('remove', KVER)
        self.assertEqual(self.files(), before)
        with open(self.path('root/usr/lib/modprobe.d/llbitmap.conf'), encoding='utf-8') as file:
            self.assertEqual(file.read(), "the package's")

    def test_takes_away_what_earlier_versions_placed(self):
        old = self.write('root/etc/dracut.conf.d/llbitmap.conf', 'add_drivers+=" llbitmap "')
        self.install()
        self.assertFalse(os.path.exists(old))

    def folders(self):
        return {folder for folder, _, _ in os.walk(self.root)}

    def files(self):
        return {os.path.join(folder, name) for folder, _, names in os.walk(self.root)
                for name in names if not name.startswith('modules.')}


class Inside(Root):
    """What it does in the system that it runs in, and what that then does."""

    def setUp(self):
        super().setUp()
        os.remove(self.path(self.lib, 'modules.builtin'))  # no depmod in there
        for name in ('busybox', *APPLETS):
            self.write(f'root/bin/{name}', b'')
        shutil.copy(shutil.which('busybox'), self.path('root/bin/busybox'))
        for name in APPLETS:
            os.remove(self.path('root/bin', name))
            os.symlink('busybox', self.path('root/bin', name))
        self.write('root/bin/strip', '#!/bin/sh\n', 0o755)
        os.makedirs(self.path('root/dev'))
        self.write('root/dev/null', b'')
        shutil.copy(PLACE, self.path('root/place'))
        shutil.copytree(PACKAGING, self.path('root/packaging'))
        shutil.copy(self.ko, self.path('root/llbitmap.ko'))
        for folder in ('usr/share/initramfs-tools', 'usr/lib/dracut', 'boot'):
            os.makedirs(self.path('root', folder), exist_ok=True)
        self.write('root/usr/share/initramfs-tools/hook-functions',
                   'manual_add_modules() { echo "adds $*"; }\n'
                   'copy_exec() { echo "copies $*"; }\n')

    def inside(self, *command, **environment):
        own = [] if os.geteuid() == 0 else ['unshare', '--map-root-user']
        return self.run_it(*own, shutil.which('chroot', path='/usr/sbin:/sbin'), self.root,
                           *command, **{**environment, 'PATH': os.environ['PATH'] + ':/bin'})

    def install_inside(self):
        status, said, errors = self.inside('/bin/sh', '/place', 'install', KVER, '/llbitmap.ko')
        self.assertEqual((status, errors), (0, ''))
        return said

    def test_no_initramfs_to_make_anew(self):
        self.write('root/bin/update-initramfs', '#!/bin/sh\nexit 1\n', 0o755)
        said = self.install_inside()
        self.assertIn(f'kernel {KVER} has no initramfs', said)

    def test_initramfs_is_made_anew(self):
        self.write('root/bin/update-initramfs', '#!/bin/sh\necho "update-initramfs $*"\n', 0o755)
        self.write(f'root/boot/initrd.img-{KVER}', '')
        self.assertEqual(self.install_inside(), f'update-initramfs -u -k {KVER}\n')

    def test_an_initramfs_that_fails_is_an_error(self):
        self.write('root/bin/update-initramfs', '#!/bin/sh\nexit 3\n', 0o755)
        self.write(f'root/boot/initrd.img-{KVER}', '')
        self.assertEqual(self.inside('/bin/sh', '/place', 'install', KVER, '/llbitmap.ko')[0], 3)

    def initramfs_tools(self, kver):
        return self.inside('/bin/sh', '-e', '/etc/initramfs-tools/hooks/llbitmap', version=kver,
                           DESTDIR='/initramfs')

    def dracut(self, kver, does='check', mdraid='true'):
        return self.inside('/bin/sh', '-c', f'kernel={kver}; dracut_module_included() {{ {mdraid}; }}; '
                           'instmods() { echo "adds $*"; }; '
                           f'. /usr/lib/dracut/modules.d/99llbitmap/module-setup.sh; {does}')

    def dracut_kernel(self, kver):
        return self.dracut(kver, 'installkernel')

    def test_dracut_takes_it_where_it_takes_md(self):
        self.install_inside()
        self.assertEqual(self.dracut(KVER)[0], 0)
        self.assertEqual(self.dracut(KVER, mdraid='false')[0], 255)  # if another module asks for it

    def test_initramfs_gets_the_rule_and_the_command(self):
        self.install_inside()
        self.write('root/usr/lib/llbitmap/llbitmap', '', 0o755)
        self.assertEqual(self.initramfs_tools(KVER)[1],
                         'adds llbitmap\ncopies /usr/lib/llbitmap/llbitmap /sbin/llbitmap\n')
        self.assertTrue(os.path.exists(self.path('root/initramfs/usr/lib/udev/rules.d/63-llbitmap.rules')))

    def test_initramfs_without_the_module_says_so(self):
        self.install_inside()
        does = 'adds llbitmap\n'
        for make in (self.initramfs_tools, self.dracut_kernel):
            self.assertEqual(make(KVER), (0, does, ''))
            status, said, errors = make('7.3.0-other')
            self.assertEqual((status, said, len(errors.splitlines())), (0, does, 1), errors)
            self.assertIn('kernel 7.3.0-other has no llbitmap.ko', errors)
            self.write('root/lib/modules/7.3.0-other/updates/dkms/llbitmap.ko.xz', '')
            self.assertEqual(make('7.3.0-other'), (0, does, ''))
            shutil.rmtree(self.path('root/lib/modules/7.3.0-other'))
            self.write('root/boot/config-7.3.0-other', 'CONFIG_MD_LLBITMAP=y\n')
            self.assertEqual(make('7.3.0-other'), (0, does, ''))
            os.remove(self.path('root/boot/config-7.3.0-other'))

    def test_an_initramfs_that_would_leave_an_array_inactive_is_not_made(self):
        """What is there, and may have the module, stays; both programs stop where this fails."""
        self.install_inside()
        self.write('root/sys/block/md0/md/bitmap_type', 'none bitmap [llbitmap]\n')
        self.write('root/boot/vmlinuz-7.3.0-other', '')
        for make in (self.initramfs_tools, self.dracut_kernel):
            status, _, errors = make('7.3.0-other')
            self.assertEqual(status, 1, errors)
            self.assertIn('E: kernel 7.3.0-other has no llbitmap.ko', errors)
            self.assertEqual(make('7.2.9-older')[0], 0)
            self.write('root/lib/modules/7.3.0-other/updates/dkms/llbitmap.ko.xz', '')
            self.assertEqual(make('7.3.0-other'), (0, 'adds llbitmap\n', ''))
            shutil.rmtree(self.path('root/lib/modules/7.3.0-other'))
        os.remove(self.path('root/usr/lib/llbitmap/boot'))  # as it is when the package went
        self.assertEqual(self.initramfs_tools(KVER)[0], 0)


if __name__ == '__main__':
    unittest.main()
