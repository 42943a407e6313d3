#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What a build lacks is named at once, in one apt line; and which compiler it takes. The
commands that there are, are stubs."""

import os
import unittest

from kit import GCC16, KVER, TOP, Case

MDHEADER = os.path.join(TOP, 'scripts', 'build', 'mdheader.py')
C16, CXX16 = 'x86_64-linux-gnu-gcc-16', 'x86_64-linux-gnu-g++-16'


class Preflight(Case):
    def setUp(self):
        super().setUp()
        self.tools('make', 'sh', 'cat', 'uname', 'env')
        self.stub('apt-get')

    def make(self, *args, **environment):
        return self.run_it('make', '-s', 'preflight', f'KVER={KVER}', *args, path=self.stubs,
                           **environment)

    def packages(self, said):
        line = self.refused(said, ': apt-get install ').rstrip('.').replace('.  Stop', '')
        return line.rpartition('apt-get install ')[2].split(', or ')[0].split()

    def test_nothing_lacks(self):
        self.compilers(C16, CXX16)
        self.assertEqual(self.make(f'KDIR={self.headers(config=GCC16)}'), (0, '', ''))

    def test_all_that_lacks_at_once(self):
        kdir = self.headers(config=GCC16, ko='md-mod.ko.xz')
        self.assertEqual(self.packages(self.make(f'KDIR={kdir}')), ['xz-utils', 'gcc-16', 'g++-16'])

    def test_no_headers_no_modules_no_compiler(self):
        self.assertEqual(sorted(self.packages(self.make('KDIR=/nowhere'))),
                         ['g++', f'linux-headers-{KVER}', f'linux-image-{KVER}'])

    def test_headers_bring_the_c_compiler(self):
        self.compilers('g++=16')
        self.assertEqual(sorted(self.packages(self.make('KDIR=/nowhere'))),
                         [f'linux-headers-{KVER}', f'linux-image-{KVER}'])

    def test_configuration_without_headers(self):
        """As in /boot: it names the compiler."""
        kdir = self.headers(config=GCC16)
        os.remove(self.path('headers/Makefile'))
        self.assertEqual(self.packages(self.make(f'KDIR={kdir}')),
                         [f'linux-headers-{KVER}', 'g++-16'])

    def test_without_python(self):
        os.remove(self.path('stubs', 'python3'))
        self.assertEqual(self.packages(self.make('KDIR=/nowhere')),
                         ['python3-minimal', f'linux-headers-{KVER}', 'xz-utils', 'g++'])

    def test_without_apt(self):
        os.remove(self.path('stubs', 'apt-get'))
        kdir = self.headers(config=GCC16)
        self.assertIn("install (names are Debian's) gcc-16 g++-16",
                      self.refused(self.make(f'KDIR={kdir}')))

    def test_environment_chooses_no_compiler(self):
        """dkms exports CC, and Kbuild ignores it."""
        kdir = self.headers(config=GCC16)
        self.compilers(C16)
        self.assertEqual(self.packages(self.make(f'KDIR={kdir}', CC=C16)), ['g++-16'])

    def test_command_line_chooses_the_compiler(self):
        kdir = self.headers(config=GCC16)
        self.compilers('gcc-15')
        self.assertEqual(self.packages(self.make(f'KDIR={kdir}', 'CC=gcc-15')), ['g++-15'])
        self.compilers('g++-15')
        self.assertEqual(self.make(f'KDIR={kdir}', 'CC=gcc-15'), (0, '', ''))

    def test_newer_serves_older_does_not(self):
        kdir = self.headers(config=GCC16)
        self.compilers(C16, 'x86_64-linux-gnu-g++-15')
        self.assertEqual(self.packages(self.make(f'KDIR={kdir}')), ['g++-16'])
        self.compilers('x86_64-linux-gnu-g++-17')
        self.assertEqual(self.make(f'KDIR={kdir}'), (0, '', ''))

    def test_compiler_for_another_machine(self):
        text = 'CONFIG_CC_VERSION_TEXT="mips64el-linux-gnuabi64-gcc-16 (Debian) 16"\n'
        self.assertEqual(self.packages(self.make(f'KDIR={self.headers(config=text)}')),
                         ['gcc-16-mips64el-linux-gnuabi64', 'g++-16-mips64el-linux-gnuabi64'])


class Choice(Case):
    def setUp(self):
        super().setUp()
        self.tools('sh', 'env')

    def cxx(self, *cc):
        status, found, errors = self.run_it(MDHEADER, '--cxx', *cc, path=self.stubs)
        self.assertEqual(bool(status), not found, errors)
        return found.strip()

    def test_its_own_half(self):
        self.compilers('gcc-16', 'g++-16', 'g++-17', 'g++=16')
        self.assertEqual(self.cxx('gcc-16'), 'g++-16')

    def test_the_lowest_that_is_newer(self):
        self.compilers('gcc-14', 'g++-13', 'g++-17', 'g++-16')
        self.assertEqual(self.cxx('gcc-14'), 'g++-16')
        self.compilers('g++=15')
        self.assertEqual(self.cxx('gcc-14'), 'g++')

    def test_none_that_is_newer(self):
        self.compilers('gcc-16', 'g++-15', 'g++=14', 'aarch64-linux-gnu-g++-17')
        self.assertEqual(self.cxx('gcc-16'), '')

    def test_a_cross_compiler_has_a_cross_half(self):
        self.compilers('g++-16', 'aarch64-linux-gnu-g++-17')
        self.assertEqual(self.cxx('aarch64-linux-gnu-gcc-16'), 'aarch64-linux-gnu-g++-17')

    def test_without_a_number(self):
        self.compilers('gcc=14', 'g++-13', 'g++-15')
        self.assertEqual(self.cxx('gcc'), 'g++-15')

    def test_wrapper_folder_and_options(self):
        self.compilers('ccache', 'gcc-14', 'g++-16')
        self.assertEqual(self.cxx('ccache', self.path('stubs/gcc-14'), '-m64'),
                         f'ccache {self.path("stubs/g++-16")} -m64')

    def test_clang(self):
        self.compilers('clang-19', 'clang++-20')
        self.assertEqual(self.cxx('clang-19'), '')
        self.compilers('clang++-19')
        self.assertEqual(self.cxx('clang-19'), 'clang++-19')


class Kbuild(Case):
    """What Kbuild makes of it, with just enough of a kernel around it."""

    def kbuild(self, show, *config, cc='gcc-14'):
        lines = [f'src := {TOP}', 'obj := out', 'objtree := /nowhere', f'CC := {cc}',
                 'comma := ,', 'cc-option = $(1)', *config, f'include {TOP}/Kbuild',
                 'show:', f"\t@echo '{show}'"]
        makefile = self.write('Makefile', '\n'.join(lines) + '\n')
        return self.run_it('make', '-s', '-f', makefile, 'show', path=self.stubs)

    def setUp(self):
        super().setUp()
        self.tools('make', 'sh', 'env', 'echo')
        self.compilers('gcc-14', 'g++-16')

    def test_compiler(self):
        self.assertEqual(self.kbuild('$(llb-cxx)', 'CONFIG_MODULES := y', 'CONFIG_64BIT := y'),
                         (0, 'g++-16\n', ''))

    def test_no_compiler(self):
        status, _, errors = self.kbuild('$(llb-cxx)', 'CONFIG_MODULES := y', 'CONFIG_64BIT := y',
                                        cc='gcc-17')
        self.assertNotEqual(status, 0)
        self.assertIn('llbitmap: no C++ compiler', errors)

    def test_32_bits(self):
        self.refused(self.kbuild('$(obj-m)', 'CONFIG_MODULES := y'), '32 bits')
        # `make clean` knows no configuration
        self.assertEqual(self.kbuild('$(obj-m)'), (0, 'llbitmap.o\n', ''))

    def test_no_calls_to_libgcc_on_arm64(self):
        known = ['CONFIG_MODULES := y', 'CONFIG_64BIT := y']
        self.assertNotIn('outline-atomics', self.kbuild('$(llb-cxx-own)', *known)[1])
        self.assertIn('-mno-outline-atomics',
                      self.kbuild('$(llb-cxx-own)', *known, 'CONFIG_ARM64 := y')[1])


if __name__ == '__main__':
    unittest.main()
