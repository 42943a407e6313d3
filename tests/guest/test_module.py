# SPDX-License-Identifier: GPL-2.0
"""Loading the module: an md that it cannot compare with the one it was built for, or that
differs, is refused in one line. The kernel's type information (BTF) is hidden, damaged and
changed by a mount over it."""

import os
import tempfile

from llb.array import MODULE, loaded, unload
from llb.lanes import lanes
from llb.life import kernel_log
from llb.sh import equal, need, read, run

BTF = '/sys/kernel/btf'


def other_btf(change):
    """Under BTF lies what change(files) makes of it: name to bytes."""
    files = {}
    for name in ('vmlinux', 'md_mod'):
        with open(f'{BTF}/{name}', 'rb') as file:
            files[name] = file.read()
    change(files)
    folder = tempfile.mkdtemp()
    for name, data in files.items():
        with open(f'{folder}/{name}', 'wb') as file:
            file.write(data)
    run('mount', '--bind', folder, BTF)


def try_load(*parameters):
    """Whether it loads, and what it says."""
    lines = kernel_log()
    status, _ = run('insmod', MODULE, *parameters, ok=None)
    said = [line for line in lines() if 'llbitmap:' in line]
    equal(loaded(), status == 0, 'loaded')
    if loaded():
        unload()
    return status == 0, said


def refused_and_overridden(change, why):
    unload()
    other_btf(change)
    try:
        done, said = try_load()
        need(not done, 'loaded beside an md that it could not compare')
        need(len(said) == 1 and why in said[0] and 'layout_unchecked=1' in said[0],
             f'said {said}')
        done, said = try_load('layout_unchecked=1')
        need(done, f'not loaded in spite of layout_unchecked: {said}')
        need(len(said) == 1 and 'not compared' in said[0], f'said {said}')
    finally:
        run('umount', BTF)
    done, said = try_load('layout_unchecked=1')
    need(done, f'not loaded: {said}')
    equal(said, [], 'said beside an md that it could compare')


@lanes('stock')
def test_no_type_information():
    refused_and_overridden(lambda files: files.clear(), '/sys/kernel/btf/vmlinux: -2')


@lanes('stock')
def test_no_type_information_of_md():
    refused_and_overridden(lambda files: files.pop('md_mod'), '/sys/kernel/btf/md_mod: -2')


@lanes('stock')
def test_damaged_type_information():
    def cut(files):
        files['vmlinux'] = files['vmlinux'][:-4096]
    refused_and_overridden(cut, '/sys/kernel/btf/vmlinux: -22')


@lanes('stock')
def test_another_md_is_refused_always():
    def rename(files):
        need(files['md_mod'].count(b'\0daemon_work\0') == 1, 'md has another daemon_work')
        files['md_mod'] = files['md_mod'].replace(b'\0daemon_work\0', b'\0daemon_wonk\0')
    unload()
    other_btf(rename)
    try:
        for parameters in ([], ['layout_unchecked=1']):
            done, said = try_load(*parameters)
            need(not done, f'loaded with {parameters}')
            need(len(said) == 1 and 'struct bitmap_operations is declared in another way' in said[0],
                 f'said {said}')
    finally:
        run('umount', BTF)


@lanes('stock')
def test_version():
    equal(read('/sys/module/llbitmap/version'),
          run(os.path.join(os.path.dirname(MODULE), 'llbitmap'), '--version').split()[-1],
          "the module's version")
