#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What the packages bring, without building them: one version, the files that dkms builds from,
which kernels it skips, and what the hooks do with a kernel, on roots made for it."""

import os
import re
import shutil
import struct
import unittest

from kit import KVER, TOP, Case

PACKAGING = os.path.join(TOP, 'scripts', 'packaging')
DEBIAN = os.path.join(PACKAGING, 'debian')
OLD, NEW = '7.2.0-old', '7.4.0-new'


def text(*names):
    with open(os.path.join(*names), encoding='utf-8') as file:
        return file.read()


def member(version=6, magic=0xa92b4efc, sectors=8):
    """The start of a device: md's superblock at 4 KiB, the bitmap's that many sectors behind."""
    data = bytearray(16384)
    struct.pack_into('<I', data, 4096, magic)
    struct.pack_into('<i', data, 4096 + 96, sectors)
    if sectors > 0:
        struct.pack_into('<4sI', data, 4096 + sectors * 512, b'bitm', version)
    return bytes(data)


class Tree(Case):
    def test_one_version(self):
        release = re.search(r'LLB_RELEASE "(.*)"', text(TOP, 'include/llbitmap/release.h')).group(1)
        self.assertRegex(text(DEBIAN, 'changelog'), rf'\Allbitmap \({re.escape(release)}\) ')
        for folder, _, names in os.walk(PACKAGING):
            for name in names:
                if name not in ('changelog', 'README.md'):
                    self.assertNotIn(release, text(folder, name), name)

    def test_dkms_has_all_that_is_included(self):
        """The rules' cp lines hold every file that Kbuild and the sources name."""
        rules = text(DEBIAN, 'rules')
        copied = set(re.search(r'cp -r (Kbuild.*) \$\(source\)/\n', rules).group(1).split() +
                     re.search(r'cp -r (src/.*) \$\(source\)/src/\n', rules).group(1).split() +
                     re.search(r'cp (scripts/.*) \$\(source\)/scripts/build/\n', rules).group(1).split())
        named = set(re.findall(r'\$\(src\)/([\w./]*\w)', text(TOP, 'Kbuild')))
        named |= {'Kbuild', 'Makefile'}
        for part in ('base', 'core', 'shim'):
            for name in os.listdir(os.path.join(TOP, 'src', part)):
                if not name.endswith('.md'):
                    for path in re.findall(r'#include "(.*)"', text(TOP, 'src', part, name)):
                        for folder in ('include', 'src', f'src/{part}'):
                            if os.path.exists(os.path.join(TOP, folder, path)):
                                named.add(f'{folder}/{path}')
        self.assertIn('src/core/bitmap.hpp', named)
        for path in named - {'src'}:
            self.assertTrue(any(path == one or path.startswith(one + '/') for one in copied), path)

    def skips(self, kver, modules):
        """What dkms.conf says to skip that kernel for, with that in /lib/modules."""
        conf = text(DEBIAN, 'llbitmap-dkms.dkms').replace('/lib/modules', self.path('modules'))
        conf = self.write('dkms.conf', conf)
        for name, data in modules.items():
            self.write(f'modules/{kver}/{name}', data)
        status, said, errors = self.run_it('bash', '-euc', f'kernelver={kver}; kernel_source_dir=/k; '
                                           f'. {conf}; echo "${{BUILD_EXCLUSIVE_KERNEL:-}}"')
        self.assertEqual((status, errors), (0, ''))
        return said.strip()

    def test_dkms_skips_a_kernel_without_md(self):
        self.assertIn('needs the md-mod.ko', self.skips('1', {'modules.builtin': 'kernel/fs/ext4/ext4.ko\n'}))
        self.assertEqual(self.skips('2', {'modules.builtin': 'kernel/drivers/md/md-mod.ko\n'}), '')
        self.assertEqual(self.skips('3', {'kernel/drivers/md/md-mod.ko.xz': ''}), '')
        self.assertEqual(self.skips('', {}), '')  # dkms reads it without a kernel, too

    def test_hooks_come_between_dkms_and_the_initramfs(self):
        hooks = re.findall(r'postinst\.d/(\S+)', text(DEBIAN, 'rules'))
        self.assertEqual(hooks, ['dkms-llbitmap', 'llbitmap'])
        self.assertEqual(sorted(['dkms', 'dracut', 'initramfs-tools', hooks[0]])[1], hooks[0])
        self.assertEqual(sorted(['dkms', hooks[1]])[1], hooks[1])


class Machine(Case):
    """scripts/packaging/boot/boot on a root of its own."""

    def setUp(self):
        super().setUp()
        self.stub('update-initramfs', 'echo "update-initramfs $*"')
        self.stub('blkid', f'cat {self.path("members")} 2>/dev/null || exit 2')
        self.stub('uname', 'echo 7.1.0-elsewhere')
        self.stub('dpkg-query', 'echo installed')
        os.makedirs(self.path('root/boot'))

    def boot(self, *args):
        return self.run_it(os.path.join(PACKAGING, 'boot', 'boot'), *args,
                           path=f'{self.stubs}:{os.environ["PATH"]}', LLBITMAP_ROOT=self.path('root'))

    def dkms(self):
        self.stub('dkms', f"""[ "$1 $2 $3" = "install llbitmap/1.0 -k" ] || exit 3
            echo "$4" >>{self.path("asked")}
            [ ! -e {self.path("breaks")}-"$4" ] || exit 10
            mkdir -p {self.path("root/lib/modules")}/"$4"/updates/dkms
            : >{self.path("root/lib/modules")}/"$4"/updates/dkms/llbitmap.ko.xz""")

    def kernel(self, kver, module=True):
        self.write(f'root/boot/vmlinuz-{kver}', '')
        self.write(f'root/lib/modules/{kver}/modules.builtin', '')
        if module:
            self.write(f'root/lib/modules/{kver}/updates/dkms/llbitmap.ko.xz', '')

    def array(self, kind='none bitmap [llbitmap]'):
        self.write('root/sys/block/md0/md/bitmap_type', kind + '\n')
        self.write('root/sys/block/md0/slaves/sda1', '')

    def members(self, **devices):
        self.write('members', ''.join(f'/dev/{name}\n' for name in devices))
        for name, data in devices.items():
            self.write(f'root/dev/{name}', data)


class Boot(Machine):
    def test_arrays(self):
        self.assertEqual(self.boot('arrays'), (0, '', ''))
        self.array('none [bitmap] llbitmap')
        self.assertEqual(self.boot('arrays')[:2], (0, ''))
        self.array()
        self.members(sda1=member(), sdb1=member(), sdc1=member(version=4), sdd1=member(magic=1),
                     sde1=member(sectors=-16), sdf1=member(sectors=0), sdg1=b'')
        self.assertEqual(self.boot('arrays'), (0, '/dev/md0\n/dev/sdb1 (a member)\n', ''))

    def test_has(self):
        self.kernel(KVER, module=False)
        self.assertEqual(self.boot('has', KVER)[0], 1)
        for what in (f'root/lib/modules/{KVER}/updates/llbitmap.ko', f'root/boot/config-{KVER}',
                     f'root/lib/modules/{KVER}/config'):
            path = self.write(what, 'CONFIG_MD_LLBITMAP=y\n')
            self.assertEqual(self.boot('has', KVER), (0, '', ''), what)
            os.remove(path)

    def test_a_kernel_with_it_is_fine(self):
        self.array()
        self.kernel(NEW)
        self.assertEqual(self.boot('kernel', NEW), (0, '', ''))

    def test_a_kernel_without_it_is_named_where_no_array_needs_it(self):
        self.kernel(NEW, module=False)
        status, _, errors = self.boot('kernel', NEW)
        self.assertEqual((status, len(errors.splitlines())), (0, 1), errors)
        self.assertIn(f'W: kernel {NEW} has no llbitmap.ko', errors)

    def test_a_kernel_that_would_leave_an_array_inactive_is_stopped(self):
        self.kernel(OLD)
        self.kernel(NEW, module=False)
        for needs in (self.array, lambda: self.members(sdb1=member())):
            needs()
            status, _, errors = self.boot('kernel', NEW)
            self.assertNotEqual(status, 0)
            self.assertIn(f'E: kernel {NEW} has no llbitmap.ko', errors)
            self.assertIn('Do not reboot', errors)  # the boot loader may take it already
            self.assertIn(f'make install KVER={NEW}', errors)
            self.assertIn(f'apt-get purge linux-image-{NEW}', errors)
            shutil.rmtree(self.path('root/sys'), ignore_errors=True)

    def test_an_older_kernel_is_not_stopped(self):
        """A security update of one that is not what boots must not stop apt."""
        self.array()
        self.kernel(OLD, module=False)
        self.kernel(NEW)
        status, _, errors = self.boot('kernel', OLD)
        self.assertEqual(status, 0)
        self.assertIn(f'W: {NEW} is newer', errors)

    def test_only_the_newest_is_what_boots(self):
        """A newer one that has it does not help if a still newer one, without it, boots."""
        self.array()
        self.kernel(OLD, module=False)
        self.kernel(NEW)
        self.kernel('7.10.0-none', module=False)
        status, _, errors = self.boot('kernel', OLD)
        self.assertEqual(status, 1, errors)
        self.assertNotIn('by default', errors)
        os.rename(self.path('root/boot/vmlinuz-7.10.0-none'), self.path(f'root/boot/vmlinuz-{NEW}.old'))
        self.assertEqual(self.boot('kernel', OLD)[0], 0)

    def test_an_initramfs_without_it(self):
        """Only of what the next boot may take, and where an array needs it, it is not made."""
        self.kernel(OLD, module=False)
        self.kernel(NEW, module=False)
        for running, arrays, refused in ((KVER, None, ()), (OLD, None, ()), (KVER, self.array, (NEW,)),
                                         (OLD, self.array, (OLD, NEW))):
            self.stub('uname', f'echo {running}')
            if arrays:
                arrays()
            for kver in (OLD, NEW):
                status, _, errors = self.boot('image', kver)
                self.assertEqual(status, int(kver in refused), (running, kver, errors))
                self.assertEqual(len(errors.splitlines()), 1, errors)
                self.assertIn('E: ' if kver in refused else 'W: ', errors)
        self.kernel(NEW)
        self.assertEqual(self.boot('image', NEW), (0, '', ''))

    def test_in_one_run_with_the_package(self):
        """The kernel's turn may be before the package's, which is only unpacked then: built on the spot."""
        self.array()
        self.kernel(NEW, module=False)
        self.write('root/usr/src/llbitmap-1.0/dkms.conf', '')
        self.write(f'root/lib/modules/{NEW}/build/include/x', '')
        self.dkms()
        for state, status in (('installed', 1), ('half-configured', 1), ('unpacked', 0)):
            self.stub('dpkg-query', f'[ "$*" = "-W -f \\${{db:Status-Status}} llbitmap-dkms" ] && echo {state}')
            self.assertEqual(self.boot('kernel', NEW)[0], status, state)
        self.assertEqual(self.boot('has', NEW)[0], 0)
        self.assertEqual(self.boot('kernel', NEW), (0, '', ''))
        shutil.rmtree(self.path('root/lib/modules', NEW, 'updates'))
        self.write(f'root/boot/initrd.img-{NEW}', '')  # for another package's postinst, too
        self.assertEqual(self.boot('image', NEW), (0, '', ''))
        self.assertEqual(self.boot('has', NEW)[0], 0)

    def test_in_one_run_with_the_package_and_not_to_be_built(self):
        """Then its own postinst, which is still to come, has the last word; but no good initramfs goes."""
        self.array()
        self.kernel(NEW, module=False)
        self.write('root/usr/src/llbitmap-1.0/dkms.conf', '')
        self.dkms()
        self.stub('dpkg-query', 'echo unpacked')
        for ask in ('kernel', 'image'):
            status, _, errors = self.boot(ask, NEW)
            self.assertEqual(status, 0, errors)
            self.assertIn(f'W: kernel {NEW} has no llbitmap.ko', errors)
        self.write(f'root/boot/initrd.img-{NEW}', '')
        self.assertEqual(self.boot('image', NEW)[0], 1)
        self.assertEqual(self.boot('next')[0], 1)

    def test_cures(self):
        self.kernel(NEW, module=False)
        self.write('root/usr/src/llbitmap-1/dkms.conf', '')
        self.assertIn(f'apt-get install linux-headers-{NEW}', self.boot('check', NEW)[2])
        self.kernel('6.12.1', module=False)
        self.assertIn('needs Linux 7.2', self.boot('check', '6.12.1')[2])

    def test_only_a_stale_initramfs_is_made_anew(self):
        for kver, built, made in ((OLD, 100, 200), (NEW, 300, 200)):
            self.kernel(kver)
            os.utime(self.path('root/lib/modules', kver, 'updates/dkms/llbitmap.ko.xz'), (built, built))
            image = self.write(f'root/boot/initrd.img-{kver}', '')
            os.utime(image, (made, made))
        self.kernel('7.3.0-no-initramfs')
        self.assertEqual(self.boot('stale'), (0, f'update-initramfs -u -k {NEW}\n', ''))
        self.assertEqual(self.boot('stale', OLD), (0, '', ''))
        self.assertEqual(self.boot('stale', NEW)[1], f'update-initramfs -u -k {NEW}\n')

    def test_secure_boot(self):
        var = 'root/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c'
        for state, enrolled, told in ((None, 'not enrolled', False), (0, 'not enrolled', False),
                                      (1, 'is already enrolled', False), (1, 'is not enrolled', True)):
            if state is not None:
                self.write(var, bytes((6, 0, 0, 0, state)))
            self.stub('mokutil', f'echo "$2 {enrolled}"')
            status, said, errors = self.boot('secure-boot')
            self.assertEqual((status, said), (0, ''))
            self.assertEqual('mokutil --import' in errors, told, errors)


class Configure(Machine):
    """The package's postinst, with a dkms that needs headers and may fail, and kernels that have lost
    their module, as an upgrade leaves them: dkms itself may build for the running and the newest one only."""
    A, B, C = '7.2.1-a', '7.2.2-b', '7.3.1-c'

    def setUp(self):
        super().setUp()
        self.write('root/usr/src/llbitmap-1.0/dkms.conf', '')
        for kver in (self.A, self.B, self.C):
            self.kernel(kver, module=False)
            self.write(f'root/lib/modules/{kver}/build/include/x', '')
        self.stub('uname', f'echo {self.B}')
        self.dkms()

    def postinst(self, dkms=(B, C)):
        boot = os.path.join(PACKAGING, 'boot', 'boot')
        script = text(DEBIAN, 'llbitmap-dkms.postinst').replace('/usr/lib/llbitmap/boot', boot)
        script = script.replace('/boot/vmlinu', self.path('root/boot/vmlinu'))
        script = script.replace('#DEBHELPER#', ''.join(f'dkms install llbitmap/1.0 -k {kver}\n' for kver in dkms))
        return self.run_it('sh', self.write('postinst', script), 'configure',
                           path=f'{self.stubs}:{os.environ["PATH"]}', LLBITMAP_ROOT=self.path('root'))

    def built(self):
        return [kver for kver in (self.A, self.B, self.C) if self.boot('has', kver)[0] == 0]

    def no_headers(self, kver):
        shutil.rmtree(self.path('root/lib/modules', kver, 'build'))

    def test_all_kernels_with_headers(self):
        self.array()
        self.assertEqual(self.postinst(), (0, '', ''))
        self.assertEqual(self.built(), [self.A, self.B, self.C])
        self.assertEqual(text(self.path('asked')).split(), [self.B, self.C, self.A])  # each once

    def test_only_what_can_be_built(self):
        """Not without headers, not before 7.2, not where the kernel has a driver of its own."""
        self.no_headers(self.A)
        self.kernel('6.12.1-d', module=False)
        self.write('root/lib/modules/6.12.1-d/build/include/x', '')
        self.write(f'root/boot/config-{self.C}', 'CONFIG_MD_LLBITMAP=y\n')
        status, _, errors = self.postinst(dkms=())
        self.assertEqual(text(self.path('asked')).split(), [self.B])
        self.assertEqual(status, 0)
        self.assertIn(f'W: kernel {self.A} has no llbitmap.ko', errors)

    def test_one_that_breaks_stops_no_other(self):
        self.array()
        self.write('breaks-' + self.A, '')
        status, _, errors = self.postinst(dkms=(self.C,))
        self.assertEqual((status, self.built()), (0, [self.B, self.C]))
        self.assertIn(f'W: kernel {self.A} has no llbitmap.ko', errors)

    def test_fails_if_what_boots_next_has_none_and_an_array_needs_it(self):
        self.no_headers(self.C)
        self.assertEqual(self.postinst(dkms=(self.B,))[0], 0)
        self.members(sdb1=member())
        status, _, errors = self.postinst(dkms=(self.B,))
        self.assertEqual(status, 1)
        self.assertIn(f'E: kernel {self.C} has no llbitmap.ko, and would leave inactive /dev/sdb1', errors)
        self.assertIn('Do not reboot', errors)
        self.assertIn(f'apt-get install linux-headers-{self.C}', errors)

    def test_fails_if_the_running_one_has_lost_it(self):
        """An array that runs says that it had it; a member that lies about does not."""
        self.no_headers(self.B)
        self.members(sdb1=member())
        self.assertEqual(self.postinst(dkms=(self.C,))[0], 0)
        self.array()
        status, _, errors = self.postinst(dkms=(self.C,))
        self.assertEqual(status, 1)
        self.assertIn(f'E: kernel {self.B} has no llbitmap.ko', errors)

    def test_dkms_fails(self):
        """What it did not come to is done; which arrays are at stake is said."""
        self.array()
        self.write('breaks-' + self.C, '')
        status, _, errors = self.postinst(dkms=(self.C,))
        self.assertEqual((status, self.built()), (1, [self.A, self.B]))
        self.assertIn(f'E: kernel {self.C} has no llbitmap.ko, and would leave inactive /dev/md0', errors)
        self.assertNotIn('E: kernel {self.B}', errors)
        shutil.rmtree(self.path('root/sys'))
        status, _, errors = self.postinst(dkms=(self.C,))
        self.assertEqual(status, 10)
        self.assertNotIn('E: ', errors)

    def test_no_autoinstall(self):
        """Nothing is built then, but that is not passed over in silence."""
        self.write('root/etc/dkms/no-autoinstall', '')
        self.assertEqual(self.postinst(dkms=())[0], 0)
        self.assertFalse(os.path.exists(self.path('asked')))
        self.array()
        status, _, errors = self.postinst(dkms=())
        self.assertEqual(status, 1)
        self.assertIn(f'dkms install llbitmap/1.0 -k {self.C}', errors)

    def test_all_is_done_though_an_initramfs_fails(self):
        self.stub('update-initramfs', 'echo "update-initramfs $*"; exit 1')
        for kver in (self.A, self.C):
            os.utime(self.write(f'root/boot/initrd.img-{kver}', ''), (100, 100))
        status, said, _ = self.postinst()
        self.assertEqual((status, said), (1, f'update-initramfs -u -k {self.A}\nupdate-initramfs -u -k {self.C}\n'))


class Remove(Case):
    """The package's prerm, with a debconf that answers."""

    def prerm(self, arrays, answer, action='remove'):
        self.stub('boot', f'echo "{arrays}"' if arrays else '')
        self.stub('rm')
        confmodule = self.write('confmodule', f'db_fset() {{ :; }}; db_reset() {{ :; }}; db_go() {{ :; }}\n'
                                'db_stop() { :; }; db_input() { :; }; db_subst() { echo "$3" >&2; }\n'
                                f'db_get() {{ RET={answer}; }}\n')
        script = text(DEBIAN, 'llbitmap-dkms.prerm').replace('/usr/lib/llbitmap/boot', self.path('stubs/boot'))
        script = script.replace('/usr/share/debconf/confmodule', confmodule)
        script = script.replace('/lib/modules', self.path('none')).replace('#DEBHELPER#', 'echo removed')
        return self.run_it('sh', self.write('prerm', script), action,
                           path=f'{self.stubs}:{os.environ["PATH"]}')

    def test_refused_unless_told_otherwise(self):
        status, said, errors = self.prerm('/dev/md0\n/dev/sdb1 (a member)', 'true')
        self.assertEqual((status, said), (1, ''))
        self.assertIn('/dev/md0, /dev/sdb1 (a member)', errors)
        self.assertIn('mdadm --grow --bitmap=none', errors)

    def test_removed_if_told(self):
        self.assertEqual(self.prerm('/dev/md0', 'false')[:2], (0, 'removed\n'))

    def test_nothing_to_ask(self):
        self.assertEqual(self.prerm('', 'true'), (0, 'removed\n', ''))
        self.assertEqual(self.prerm('/dev/md0', 'true', action='upgrade'), (0, 'removed\n', ''))

    def postrm(self, action='remove'):
        script = text(DEBIAN, 'llbitmap-dkms.postrm').replace('/run/', self.path('run') + '/')
        script = script.replace('/lib/modules', self.path('modules')).replace('#DEBHELPER#', 'echo removed')
        return self.run_it('sh', self.write('postrm', script), action)

    def test_an_initramfs_that_fails_does_not_fail_the_removal(self):
        self.write('run/llbitmap-removed', '7.3-x\n7.4-y\n')
        self.write('run/llbitmap-boot', '[ "$2" != 7.3-x ] || { echo no space; exit 1; }; echo "$*"\n')
        status, said, errors = self.postrm()
        self.assertEqual((status, said), (0, 'no space\ninitramfs 7.4-y\nremoved\n'))
        self.assertEqual(len(errors.splitlines()), 1, errors)
        self.assertIn('W: the initramfs of kernel 7.3-x', errors)
        self.assertEqual(os.listdir(self.path('run')), [])
        self.assertEqual(self.postrm(), (0, 'removed\n', ''))

    def test_a_module_of_make_install_stays_and_that_is_said(self):
        """What loads it at boot was the package's, and went with it."""
        self.write('modules/7.3-x/updates/llbitmap.ko', '')
        self.write('modules/7.4-y/updates/dkms/llbitmap.ko', '')
        status, said, errors = self.postrm()
        self.assertEqual((status, said), (0, 'removed\n'))
        self.assertEqual(len(errors.splitlines()), 1, errors)
        self.assertIn('make install KVER=7.3-x', errors)
        self.assertEqual(self.postrm('upgrade'), (0, 'removed\n', ''))


if __name__ == '__main__':
    unittest.main()
