# SPDX-License-Identifier: GPL-2.0
"""What the tests here share: a folder for each, stub commands, headers of kernels that are none."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import btf

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KVER = '7.2.0-none'


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='llb-install-')
        self.stubs = self.path('stubs')
        os.mkdir(self.stubs)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, path, data, mode=0o644):
        """A file, with the folders that it needs; returns its path."""
        path = self.path(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        return path

    def stub(self, name, script='exit 0'):
        self.write(f'stubs/{name}', f'#!/bin/sh\n{script}\n', 0o755)

    def compilers(self, *names):
        """Stubs; those without a number in the name are called NAME=VERSION."""
        for name in names:
            name, _, version = name.partition('=')
            self.stub(name, f'echo {version or name.rpartition("-")[2]}')

    def tools(self, *names):
        """The host's own commands among the stubs, and python3: the one that runs this."""
        os.symlink(sys.executable, self.path('stubs', 'python3'))
        for name in names:
            os.symlink(shutil.which(name), self.path('stubs', name))

    def run_it(self, *command, path=None, user=None, **environment):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, check=False, user=user,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TOP,
                              env=dict({name: value for name, value in os.environ.items()
                                        if name not in ('CC', 'MAKEFLAGS', 'MFLAGS')},
                                       **({'PATH': path} if path else {}), **environment))
        return done.returncode, done.stdout, done.stderr

    def refused(self, said, *words):
        """said (status, output, errors) is a failure in one line with these words."""
        status, _, errors = said
        lines = errors.strip().splitlines()
        self.assertNotEqual(status, 0, said)
        self.assertEqual(len(lines), 1, errors)
        self.assertIn('llbitmap: ', lines[0])
        for word in words:
            self.assertIn(word, lines[0])
        return lines[0]

    def headers(self, order='<', vmlinux=None, md_mod=None, config='', ko='md-mod.ko'):
        """A headers folder; by default of a kernel with md as a module."""
        base = btf.vmlinux(order)
        vmlinux = vmlinux or base.blob()
        md_mod = md_mod if md_mod is not None else btf.md(btf.Btf(order, base)).blob()
        self.write('headers/Makefile', '')
        self.write('headers/include/config/auto.conf', 'CONFIG_64BIT=y\n' + config)
        self.write('headers/vmlinux', btf.elf(order, {'.text': b'x', '.BTF': vmlinux}))
        if md_mod:
            self.write('headers/drivers/md/' + ko,
                       btf.elf(order, {'.text': b'xy', '.BTF': md_mod}))
        return self.path('headers')


GCC16 = 'CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-16 (Debian 16.2.0-3) 16.2.0"\n'
