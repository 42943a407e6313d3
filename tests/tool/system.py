# SPDX-License-Identifier: GPL-2.0
"""A machine in a folder: /sys, /proc, /dev, /lib/modules and /boot as the tool reads them
(LLBITMAP_ROOT), and programs for its PATH."""

import os

STATS = dict(dirtied_chunks=5120, cleaned_chunks=5111, loaded_dirty_chunks=12, events_cleared=88,
             batches=40, batch_pages=44, batch_bytes=45056, batch_ns_total=60000000,
             batch_ns_max=2500000, batches_refused=0, flushes=17, flush_ns_total=1000000,
             waits=3, wait_ns_total=4500000, passes=120, pass_ns_total=3000000)
STATES = ('unwritten', 'clean', 'dirty', 'need sync', 'syncing', 'need sync unwritten',
          'syncing unwritten', 'clean unwritten')
KERNEL = '7.2.12+deb14-amd64'


class Machine:
    def __init__(self, root):
        self.root = root
        self.write('proc/sys/kernel/osrelease', KERNEL)
        self.write('proc/mdstat', 'Personalities :\nunused devices: <none>')
        os.makedirs(self.path('sys/block'))
        os.makedirs(self.path('programs'))

    def path(self, name):
        return os.path.join(self.root, name)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'{text}\n')
        os.chmod(path, mode)
        return path

    def read(self, name):
        with open(self.path(name), encoding='utf-8') as file:
            return file.read()

    def program(self, name, script):
        self.write(f'programs/{name}', f'#!/bin/sh\n{script}', 0o755)

    def files(self, folder, **values):
        for name, value in values.items():
            self.write(f'{folder}/{name}', value)

    def array(self, name='md0', level='raid1', members=2, parts=None, bitmap='lockless', counts=None,
              chunk=16384, loaded=True, **fields):
        """md's files of an array; parts: (name, slot, states); chunk: sectors of the bitmap's."""
        md = f'sys/block/{name}/md'
        number = int(name.strip('md') or 0)
        self.write(f'sys/block/{name}/size', 1953259520)
        values = dict(array_state='active', level=level, raid_disks=members, metadata_version='1.2',
                      uuid=f'00010203-0405-0607-0809-{number:012x}', component_size=976629760,
                      chunk_size=0 if level == 'raid1' else 524288, degraded=0, mismatch_cnt=0,
                      layout=0x102 if level == 'raid10' else 0, sync_action='idle', sync_completed='none',
                      sync_speed='none', sync_speed_max='200000 (system)', consistency_policy='bitmap',
                      bitmap_type={'lockless': 'none bitmap [llbitmap] '}.get(bitmap, 'none [bitmap] llbitmap ')
                      if loaded else 'none [bitmap] ')
        self.files(md, **(values | fields))
        if parts is None:
            parts = [(f'sd{chr(97 + i)}{number}', i, 'in_sync') for i in range(members)]
        for device, slot, states in parts:
            self.files(f'{md}/dev-{device.replace("/", "!")}', slot='none' if slot is None else slot,
                       state=states, errors=0)
        if bitmap == 'lockless' and values | fields and (values | fields)['array_state'] != 'inactive':
            got = dict(dict(zip(STATES, (73800, 45412, 9, 0, 0, 0, 0, 0))), **(counts or {}))
            dirty = got['dirty'] + got['need sync'] + got['syncing']
            self.files(f'{md}/llbitmap', daemon_sleep=30, barrier_idle=5, resync_budget=12288,
                       crash_bytes=dirty * chunk * 512,
                       stats='\n'.join(f'{name} {value}' for name, value in STATS.items()),
                       bits='\n'.join(f'{state} {got[state]}' for state in STATES),
                       metadata=f'chunksize {chunk}\nchunkshift 14\nchunks {sum(got.values())}\n'
                                'offset 8\ndaemon_sleep 30')
        elif bitmap in ('internal', 'file'):
            self.write(f'{md}/bitmap/location', '+8' if bitmap == 'internal' else 'file')
        elif bitmap == 'none':
            self.write(f'{md}/bitmap/location', 'none')
            self.write(f'{md}/consistency_policy', 'resync')
        if loaded:
            self.write('sys/module/llbitmap/version', '0.2.0')

    def kernel(self, release=KERNEL, module=True, headers=True, initramfs=True):
        """An installed kernel, with all that it takes to assemble a lockless array at boot."""
        lib = f'lib/modules/{release}'
        self.files(lib, **{'modules.builtin': '', 'modules.dep': 'kernel/drivers/md/md-mod.ko.xz:'})
        if module:
            self.write(f'{lib}/updates/dkms/llbitmap.ko.xz', 'a module')
            self.write(f'{lib}/modules.dep', 'updates/dkms/llbitmap.ko.xz: kernel/drivers/md/md-mod.ko.xz')
        if headers:
            self.write(f'{lib}/build/include/config/auto.conf', 'CONFIG_MD=y\nCONFIG_GCC_VERSION=160100')
        if initramfs:
            path = self.write(f'boot/initrd.img-{release}', 'an initramfs')
            os.utime(path, (1 << 31, 1 << 31))  # newer than any module
            inside = [f'usr/{lib}/kernel/drivers/md/md-mod.ko.xz', 'usr/lib/modprobe.d/llbitmap.conf']
            self.listed(release, inside + [f'usr/{lib}/updates/dkms/llbitmap.ko.xz'] * module)

    def listed(self, release, names):
        """What lsinitramfs says of that kernel's."""
        self.write(f'listed/initrd.img-{release}', '\n'.join(names))

    def boots(self, release=KERNEL):
        """A machine that boots as it should."""
        self.kernel(release)
        self.write('lib/modprobe.d/llbitmap.conf', 'softdep md_mod post: llbitmap')
        self.write('lib/udev/rules.d/63-llbitmap.rules', 'IMPORT{program}="/sbin/modprobe -q llbitmap"')
        self.write('usr/bin/x86_64-linux-gnu-g++-16', '')
        self.program('mdadm', 'echo "mdadm - v4.6 - 2026-02-01" >&2')
        self.program('lsinitramfs', 'while read -r line; do echo "$line"; done <"%s/${1##*/}"' % self.path('listed'))
        self.modinfo()

    def modinfo(self, **said):
        """version, vermagic, signer; without one: what a module of this kernel would say."""
        said = dict(dict(version='0.2.0', signer='DKMS module signing key',
                         vermagic='$kernel SMP preempt'), **said)
        cases = '\n'.join(f'{key}) echo "{value}" ;;' for key, value in said.items())
        self.program('modinfo', f'kernel=${{3#*/lib/modules/}}; kernel=${{kernel%%/*}}\ncase $2 in\n{cases}\nesac')
