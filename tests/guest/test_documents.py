# SPDX-License-Identifier: GPL-2.0
"""The command lines of the documents that want md, mdadm or the module: typed as they stand
there, in an order in which they make sense. tests/tool/test_documents.py reads here which
lines these are (the first argument of each do(), and of each says()), and fails if a document has another one."""

import contextlib
import os
import re
import shutil

from llb import disk
from llb.array import JOB, MODULE, Array, ramdisks, unload
from llb.lanes import lanes, limit
from llb.life import kernel_log
from llb.sh import equal, need, read, run, wait_until
from llb.tool import tool


def typed(line, status=0):
    """Types it into a shell, answering yes; returns what it said."""
    done, said = run('sh', '-c', f'echo y | {{ {line}; }}', ok=None, timeout_s=120)
    need(status is None or done == status, f'{line}: status {done}: {said.strip()[-400:]}')
    return said


def do(line, meant=None, status=0):
    """A line of a document; meant: in full, where the document names only what matters in it.
    status None: any."""
    return typed(meant or line, status)


def says(line, said):
    """That md or mdadm said what the document has as an example."""
    heard(line, said)


def heard(line, said):
    """In any order of its words, and whatever numbers the members have."""
    def words(text):
        return set(re.sub(r'\[\d+\]', '', text).split())
    wanted = words(line.replace('sdX1', 'ram0').replace('sdY1', 'ram1'))
    need(any(wanted <= words(one) for one in said.splitlines()), f'no "{line}" in: {said}')


def names(**disks):
    """/dev/sdX1 and so on, as the documents call the members."""
    for name, path in disks.items():
        link = f'/dev/sd{name}1'
        if os.path.lexists(link):
            os.remove(link)
        os.symlink(path, link)


@contextlib.contextmanager
def content(path, text):
    """The file has it meanwhile; the guest's next test wants the one of before, or none."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    before = None
    if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            before = file.read()
    try:
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        yield
    finally:
        os.remove(path)
        if before is not None:
            with open(path, 'w', encoding='utf-8') as file:
                file.write(before)


@contextlib.contextmanager
def installed():
    """The module and the tool are where the packages put them."""
    folder = f'/lib/modules/{os.uname().release}/updates'
    os.makedirs(folder, exist_ok=True)
    shutil.copy(MODULE, folder)
    run('depmod', '-a', timeout_s=300)
    shutil.copy(os.path.join(JOB, 'llbitmap'), '/usr/bin/llbitmap')
    with content('/etc/mdadm/mdadm.conf', 'DEVICE /dev/ram*\nHOMEHOST <ignore>\nMAILADDR root\n'), \
            content('/etc/fstab', '/dev/md0 /srv ext4 nofail 0 2\n'):
        yield
    os.remove(f'{folder}/llbitmap.ko')
    os.remove('/usr/bin/llbitmap')


def kind(array):
    return array.attribute('bitmap_type').split('[')[1].split(']')[0]


def whole(array):
    wait_until('md0 is whole', lambda: array.attribute('degraded') == '0', 120)
    array.wait_idle()


def keep(text='what was there before\n'):
    with open('/srv/file', 'w', encoding='utf-8') as file:
        file.write(text)


def kept(text='what was there before\n'):
    equal(read('/srv/file'), text.strip(), 'the file')


@lanes('long')
@limit(600)
def test_guide():
    """llbitmap-guide(7), from the first array to the rescue, and the README's way."""
    with installed():
        guide()


def guide():
    disks = ramdisks(3)
    array = Array(0, disks[:2])
    names(X=disks[0], Y=disks[1], Z=disks[2])
    need(do('uname -r').strip() == os.uname().release, 'uname')
    do('mdadm --create /dev/md0 --level=1 -n2 --bitmap=lockless /dev/sdX1 /dev/sdY1')
    equal(kind(array), 'llbitmap', 'bitmap_type')
    array.wait_idle()
    do('mdadm --detail --brief /dev/md0 >> /etc/mdadm/mdadm.conf')
    need('ARRAY /dev/md' in read('/etc/mdadm/mdadm.conf'), 'nothing in mdadm.conf')
    equal(do('cat /sys/block/md0/md/bitmap_type').split(), ['none', 'bitmap', '[llbitmap]'], 'bitmap_type')
    need('llbitmap' in do('dmesg | grep llbitmap'), 'dmesg')
    need('v4.6' in do('mdadm --version'), 'another mdadm')
    run('mkfs.ext4', '-q', '-O', '^has_journal', array.path)
    do('mount -a')
    keep()

    # to the classic bitmap, and from there as the guide says: stopped; then, as all of it is in
    # sync by now, mounted
    do('umount /dev/md0')
    do('mdadm --stop /dev/md0')
    typed('llbitmap convert --to internal /dev/sdX1 /dev/sdY1')
    do('mdadm --assemble /dev/md0 /dev/sdX1 /dev/sdY1')
    equal(kind(array), 'bitmap', 'bitmap_type')
    array.readwrite()
    array.wait_idle()
    typed('mdadm --stop /dev/md0')
    typed('llbitmap convert --to lockless --dry-run /dev/sdX1 /dev/sdY1')
    typed('llbitmap convert --to lockless /dev/sdX1 /dev/sdY1')
    need('version 6' in do('mdadm -X', 'mdadm -X /dev/sdX1', status=None), 'mdadm reads the bitmap')
    do('mdadm --assemble', 'mdadm --assemble /dev/md0 /dev/sdX1 /dev/sdY1')
    equal(kind(array), 'llbitmap', 'bitmap_type')
    typed('mount -a')
    kept()
    array.wait_idle()
    do('llbitmap convert --to internal /dev/md0')
    equal(kind(array), 'bitmap', 'bitmap_type')
    array.wait_idle()
    do('llbitmap convert --to lockless --dry-run /dev/md0')
    equal(kind(array), 'bitmap', 'bitmap_type')
    do('llbitmap convert --to lockless /dev/md0')
    equal(kind(array), 'llbitmap', 'bitmap_type')
    kept()

    # tuned and looked at
    do('echo 2048 > /sys/block/md0/md/llbitmap/resync_budget')
    equal(array.attribute('llbitmap/resync_budget'), '2048', 'resync_budget')
    do('echo 60 > /sys/block/md0/md/llbitmap/daemon_sleep')
    equal(array.attribute('llbitmap/daemon_sleep'), '60', 'daemon_sleep')
    do('echo 400000 > /sys/block/md0/md/sync_speed_max')
    need(array.attribute('sync_speed_max').startswith('400000'), 'sync_speed_max')
    array.quick()
    typed('llbitmap watch --until clean --timeout 600')
    do('echo check > /sys/block/md0/md/sync_action')
    array.wait_idle()
    equal(do('cat /sys/block/md0/md/mismatch_cnt').strip(), '0', 'mismatch_cnt')
    do('echo resync > sync_action', 'cd /sys/block/md0/md && echo resync > sync_action')
    do('echo 0-N > md/bitmap_set_bits', 'cd /sys/block/md0 && echo 0-7 > md/bitmap_set_bits')
    array.wait_idle()
    do('mdadm --monitor', 'mdadm --monitor --oneshot --scan')
    typed('llbitmap resync md0 --yes')
    array.wait_idle()

    # a cable, a disk that still works, one that does not
    do('mdadm /dev/md0 --fail /dev/sdY1')
    do('mdadm /dev/md0 --remove /dev/sdY1')
    do('mdadm /dev/md0 --re-add /dev/sdY1')
    whole(array)
    do('mdadm /dev/md0 --add /dev/sdZ1')
    do('mdadm /dev/md0 --replace /dev/sdY1 --with /dev/sdZ1')
    typed('llbitmap watch --until whole --timeout 600')
    need('faulty' in array.attribute('dev-ram1/state'), 'it calls an array whole that is being replaced in')
    # md takes it from its slot a moment later.
    wait_until('it can be removed', lambda: run('mdadm', array.path, '--remove', '/dev/sdY1', ok=None)[0] == 0)
    names(Y=disks[2], Z=disks[1])
    run('mdadm', '--zero-superblock', disks[1])
    typed('mdadm /dev/md0 --fail /dev/sdY1')
    wait_until('it can be removed', lambda: run('mdadm', array.path, '--remove', '/dev/sdY1', ok=None)[0] == 0)
    typed('mdadm /dev/md0 --add /dev/sdZ1')
    typed('llbitmap watch --until whole --timeout 600')
    names(Y=disks[1], Z=disks[2])
    run('mdadm', '--zero-superblock', disks[2])
    array.wait_idle()
    array.equal_over()
    kept()
    missing(array)
    fixed(array)
    bitmaps(array)


def missing(array):
    """A boot without the module, as far as it goes without a boot; then the rescue."""
    typed('umount /dev/md0')
    typed('mdadm --stop /dev/md0')
    unload()
    ko = f'/lib/modules/{os.uname().release}/updates/llbitmap.ko'
    os.rename(ko, '/llbitmap.ko')
    run('depmod', '-a', timeout_s=300)
    lines = kernel_log()
    said = '\n'.join(typed(f'mdadm --incremental {path}', status=None) for path in array.members)
    says("failed to write 'llbitmap' to '/sys/block/md0/md//bitmap_type' (Invalid argument)", said)
    says('md0 : inactive sdX1[0](S) sdY1[1](S)', read('/proc/mdstat'))
    says('mdadm: failed to start array /dev/md0: No such file or directory',
         do('mdadm --run', 'mdadm --run /dev/md0', status=1))  # what the boot tries after a while
    says('State : active, FAILED, Not Started', typed('mdadm --detail /dev/md0', status=None))
    says('md0: invalid bitmap file superblock: unrecognized superblock version', '\n'.join(lines()))
    need('not found' in typed('modprobe llbitmap', status=1), 'modprobe')
    os.rename('/llbitmap.ko', ko)
    run('depmod', '-a', timeout_s=300)
    do('modprobe llbitmap')
    typed('mdadm --stop /dev/md0')
    do('mdadm --assemble --scan')
    equal(kind(array), 'llbitmap', 'bitmap_type')
    whole(array)
    typed('mount -a')
    kept()


def fixed(array):
    """The same, and doctor does what is to be done."""
    typed('umount /dev/md0')
    typed('mdadm --stop /dev/md0')
    unload()
    for path in array.members:
        typed(f'mdadm --incremental {path}', status=None)
    need('md0 : inactive' in read('/proc/mdstat'), read('/proc/mdstat'))
    said = typed('llbitmap doctor --fix --yes --skip-initramfs', status=None)
    heard('fix [inactive]: modprobe llbitmap && mdadm --stop /dev/md0 && mdadm --assemble /dev/md0 /dev/sdX1 /dev/sdY1', said)
    equal(kind(array), 'llbitmap', 'bitmap_type')
    typed('mount -a')
    kept()
    typed('umount /dev/md0')
    do('mdadm --stop ARRAY', 'mdadm --stop /dev/md0')
    do('mdadm --assemble ARRAY MEMBER', 'mdadm --assemble /dev/md0 /dev/sdX1 /dev/sdY1')
    typed('mount -a')


def bitmaps(array):
    """Without one, with a classic one, and what mdadm makes of lockless."""
    typed('umount /dev/md0')
    typed('mdadm --stop /dev/md0')
    typed('llbitmap convert --to none /dev/sdX1 /dev/sdY1')
    need('Data Offset' in do('mdadm --examine', 'mdadm --examine /dev/sdX1'), 'no data offset')
    typed('mdadm --assemble /dev/md0 /dev/sdX1 /dev/sdY1')
    equal(kind(array), 'none', 'bitmap_type')
    array.readwrite()
    array.wait_idle()
    do('llbitmap convert --to lockless ARRAY', 'llbitmap convert --to lockless /dev/md0')
    equal(kind(array), 'llbitmap', 'bitmap_type')
    do('mdadm --grow --bitmap=none /dev/md0')
    do('mdadm --grow --bitmap=lockless', 'mdadm --grow --bitmap=lockless /dev/md0')
    equal(kind(array), 'bitmap', 'what mdadm 4.6 makes of --grow --bitmap=lockless')
    do('mdadm --grow --bitmap=none', 'mdadm --grow --bitmap=none /dev/md0')
    typed('mdadm --stop /dev/md0')
    do('mdadm --assemble --update=bbl', 'mdadm --assemble /dev/md0 --update=bbl /dev/sdX1 /dev/sdY1')
    typed('mdadm --stop /dev/md0')
    do('mdadm --assemble --update=force-no-bbl', 'mdadm --assemble /dev/md0 --update=force-no-bbl /dev/sdX1 /dev/sdY1')
    equal(kind(array), 'none', 'bitmap_type')
    typed('mount -a')
    kept()
    typed('umount /srv')


@lanes('long')
def test_parity():
    """Parity for what was never written, and every region written once."""
    disks = ramdisks(3, mib=64)
    names(X=disks[0], Y=disks[1], Z=disks[2])
    do('mdadm --create --bitmap=lockless',
       'mdadm --create /dev/md0 --run --level=5 -n3 --bitmap=lockless /dev/sdX1 /dev/sdY1 /dev/sdZ1')
    array = Array(0, disks)
    array.wait_whole()
    array.quick()
    do('echo 1 > …/llbitmap/proactive_sync', 'echo 1 > /sys/block/md0/md/llbitmap/proactive_sync')
    wait_until('parity is built', lambda: array.bits()['clean unwritten'] == array.metadata()['chunks'], 120)
    typed('mdadm --stop /dev/md0')
    do('mdadm --delay', 'mdadm --create /dev/md0 --run --level=1 -n2 --bitmap=lockless --delay=7 /dev/sdX1 /dev/sdY1')
    array = Array(0, disks[:2])
    equal(array.attribute('llbitmap/daemon_sleep'), '7', 'daemon_sleep')
    array.quick()
    equal(array.bits()['unwritten'], array.metadata()['chunks'], 'unwritten')
    tool('resync', 'md0', '--yes')
    wait_until('all of it counts as written', lambda: set().union(*array.cells()) <= {disk.CLEAN, disk.DIRTY}, 120)
    do('mdadm --grow --bitmap=none /dev/mdX', 'mdadm --grow --bitmap=none /dev/md0')
    equal(kind(array), 'none', 'bitmap_type')
