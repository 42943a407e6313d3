#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The tool's man pages, its completion and its --help name the same commands and options; the
module's page has every message of the module; every command line of the documents is run, or
is known to the program that it names: python3 tests/tool/test_documents.py [TOOL]."""

import ast
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import documents
import images as im
from system import Machine

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(TOP, 'build', 'tool', 'llbitmap')
SOURCE = os.path.join(TOP, 'src', 'tool')


def text(*path):
    with open(os.path.join(TOP, *path), encoding='utf-8') as file:
        return file.read()


def help_of(*command):
    return subprocess.run([TOOL, *command, '--help'], check=True, text=True, stdout=subprocess.PIPE).stdout


def commands():
    after = help_of().split('Subcommands:\n')[1]
    return re.findall(r'^  (\w+) ', after.split('\n\n')[0], re.M)


def help_options(*command):
    found = set()
    for line in re.findall(r'^  (-\S+)', help_of(*command), re.M):
        found.update(line.split(','))
    return found


def section(page, title):
    return re.search(rf'^# {title}\n(.*?)(?=^# |\Z)', page, re.M | re.S).group(1)


def man_options(page):
    found = set()
    for line in section(page, 'OPTIONS').splitlines():
        if not line.startswith('\t'):
            found.update(re.findall(r'\*(--?[a-z][a-z-]*)\*', line))
    return found


def completed(*words):
    """What bash offers for the last of them."""
    script = ('source "$1"; shift; COMP_WORDS=(llbitmap "$@"); COMP_CWORD=$#; _llbitmap; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    said = subprocess.run(['bash', '-c', script, 'bash', os.path.join(SOURCE, 'completions', 'llbitmap.bash'), *words],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    return set(said.split())


def zsh_specs(command=None):
    """What zsh's completion gives to _arguments: for llbitmap itself, or for one of its commands."""
    script = """
        emulate zsh
        _describe() { local one; for one in ${(P)4}; do print -r -- "command ${one%%:*}"; done }
        _arguments() {
            if [[ $1 = -C ]]; then
                state=$asked
                [[ -n $2 && $asked = argument ]] || print -rl -- "$@"
            else
                print -rl -- "$@"
            fi
        }
        words=($2) asked=$3
        source $1"""
    said = subprocess.run(['zsh', '-f', '-c', script, 'zsh', os.path.join(SOURCE, 'completions', '_llbitmap'),
                           command or 'llbitmap', 'argument' if command else 'command'], check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert not said.stderr, said.stderr
    return said.stdout.splitlines()


def zsh_options(specs):
    found = [re.match(r'(?:\([^)]*\))?(--?[a-z][a-z-]*)(?=\[)', spec) for spec in specs]
    return {one.group(1) for one in found if one}


class Options(unittest.TestCase):
    def test_commands(self):
        names = set(commands())
        self.assertGreaterEqual(len(names), 9)
        listed = {name for name in completed('') if not name.startswith('-')}
        self.assertEqual(listed, names)
        self.assertEqual(completed('-'), help_options())
        page = text('src', 'tool', 'man', 'llbitmap.8.scd')
        self.assertEqual(set(re.findall(r'^\*(\w+)\*$', section(page, 'COMMANDS'), re.M)), names)
        self.assertEqual(man_options(page), help_options())
        pages = {os.path.basename(path)[len('llbitmap-'):-len('.8.scd')]
                 for path in glob.glob(os.path.join(SOURCE, 'man', 'llbitmap-*.8.scd'))}
        self.assertEqual(pages, names)

    def test_each(self):
        for name in commands():
            with self.subTest(name):
                options = help_options(name)
                self.assertGreater(len(options), 2)
                self.assertEqual(man_options(text('src', 'tool', 'man', f'llbitmap-{name}.8.scd')), options)
                self.assertEqual(completed(name, '-'), options)

    def test_help_is_narrow(self):
        for command in ([], *([name] for name in commands())):
            for line in help_of(*command).splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_zsh(self):
        """zsh's completion has the same commands, options and values as bash's."""
        names = set(commands())
        specs = zsh_specs()
        self.assertEqual({spec.split()[1] for spec in specs if spec.startswith('command ')}, names)
        self.assertEqual(zsh_options(specs), help_options())
        for name in names:
            with self.subTest(name):
                specs = zsh_specs(name)
                self.assertEqual(zsh_options(specs), help_options(name))
                for option, values in re.findall(r'^(?:\([^)]*\))?(--[a-z-]+)\[.*\((.*)\)$', '\n'.join(specs), re.M):
                    self.assertEqual(completed(name, option, ''), set(values.split()), option)

    def test_values(self):
        self.assertEqual(completed('convert', '--to', ''), {'lockless', 'internal', 'none'})
        self.assertEqual(completed('watch', '--until', 's'), {'synced'})
        self.assertEqual(completed('status', '--color', ''), {'auto', 'always', 'never'})

    def test_width(self):
        for command in [(), *[(name,) for name in commands()]]:
            for line in help_of(*command).split('Exit status')[-1].splitlines():
                self.assertLessEqual(len(line), 88, line)


class Pages(unittest.TestCase):
    def test_render(self):
        """scdoc takes them, and none is empty."""
        pages = glob.glob(os.path.join(SOURCE, 'man', '*.scd'))
        self.assertGreaterEqual(len(pages), 11)
        for path in pages:
            with open(path, encoding='utf-8') as file:
                done = subprocess.run(['scdoc'], stdin=file, check=False, text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
            self.assertEqual((done.returncode, done.stderr), (0, ''), path)
            self.assertIn('.SH NAME', done.stdout.replace('"', ''), path)

    def test_built(self):
        """As make has them: one with a table says so in its first line, or it may be shown without."""
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(['make', '-s', '-C', SOURCE, f'BUILD={folder}', 'man'], check=True)
            tables = 0
            for path in glob.glob(os.path.join(folder, 'man', '*')):
                with open(path, encoding='utf-8') as file:
                    page = file.read()
                tables += '\n.TS\n' in page
                self.assertEqual(page.startswith("'\\\" t\n"), '\n.TS\n' in page, path)
            self.assertEqual((tables, len(os.listdir(os.path.join(folder, 'man')))),
                             (2, len(glob.glob(os.path.join(SOURCE, 'man', '*.scd')))))

    def test_metrics(self):
        """llbitmap-metrics(8) has each metric, and no other; counters are those that end in _total."""
        source = text('src', 'tool', 'metrics.cpp')
        given = re.findall(r'\b(begin|each|counter|seconds)\(\s*"(llbitmap_[a-z_]+)"', source)
        self.assertGreater(len(given), 15)
        for how, name in given:
            self.assertEqual(how in ('counter', 'seconds'), name.endswith('_total'), name)
        page = section(text('src', 'tool', 'man', 'llbitmap-metrics.8.scd'), 'METRICS')
        self.assertEqual(sorted(set(re.findall(r'\*(llbitmap_[a-z_]+)\*', page))), sorted(name for _, name in given))

    def test_notices(self):
        """Each id that status and doctor may give is in the page of one of them, and no other."""
        given = set()
        for name in ('health.cpp', 'doctor.cpp'):
            given.update(re.findall(r'\bsay\(\s*"([a-z_]+)"', text('src', 'tool', name)))
        self.assertGreater(len(given), 30)
        listed = set()
        for name in ('status', 'doctor'):
            page = text('src', 'tool', 'man', f'llbitmap-{name}.8.scd')
            for line in section(page, 'NOTICES').splitlines():
                if line.startswith('*'):
                    listed.update(re.findall(r'\*([a-z_]+)\*', line))
        self.assertEqual(listed, given)


# Set as code, with a blank, and no command.
NO_COMMANDS = {
    'none bitmap [llbitmap]', 'convert --to lockless ARRAY', '--to internal', '--to none', 'doctor --fix', 'status --check', 'watch --json', 'watch --until',
    'need sync', 'need sync unwritten', 'syncing unwritten', 'clean unwritten',
    'Each kernel needs its own module.', 'KERNEL UPDATE',
}


class Commands(unittest.TestCase):
    """Every command line of the documents. One that is in none of the cases below fails: see
    that something runs it, then add the case."""

    def setUp(self):
        where = '/dev/shm' if os.path.isdir('/dev/shm') else None
        self.folder = tempfile.mkdtemp(prefix='llb-commands-', dir=where)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def test_each(self):
        in_guest, seen = self.lines_of_guest_test(), set()
        pins = text('scripts', 'lab.d', 'pins-trixie-backports').splitlines()  # what the lab's trixie is made with
        count = 0
        for path in documents.documents():
            lines, inline = documents.pieces(path)
            for line in lines + inline:
                with self.subTest(line, path=os.path.relpath(path, TOP)):
                    count += 1
                    seen.add(line)
                    if line in NO_COMMANDS or line in in_guest or line in pins:
                        continue
                    program = os.path.basename(line.split()[0])
                    check = getattr(self, 'check_' + program.replace('-', '_'), None)
                    self.assertIsNotNone(check, 'nothing runs this command line')
                    check(line)
        self.assertGreater(count, 100)
        self.assertEqual((in_guest | NO_COMMANDS) - seen, set(), 'in no document')

    def test_set_as_code(self):
        """A command in the middle of a man page's text must be marked: else nobody tries it."""
        for path in documents.documents():
            if path.endswith('.scd'):
                found = re.findall(r'\b(?:llbitmap|mdadm|modprobe|dkms|depmod|dracut|cat) +(?:--?[a-z]|/)[^ \n]*',
                                   documents.prose_of(path))
                self.assertEqual(found, [], path)

    @staticmethod
    def lines_of_guest_test():
        """What tests/guest/test_documents.py types, and what it is answered: the first argument
        of each do() and says()."""
        tree = ast.parse(text('tests', 'guest', 'test_documents.py'))
        return {call.args[0].value for call in ast.walk(tree)
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ('do', 'says')
                and isinstance(call.args[0], ast.Constant)}

    # ---- the tool itself: it is run, over a machine in a folder and images of members ----

    STATUS = {'resync': (0, 5)}  # 5: no md is there that would do it

    def check_llbitmap(self, line):
        words = line.split()[1:]
        if words == ['--help'] or words == ['--version']:
            self.assertEqual(subprocess.run([TOOL, *words], check=False, stdout=subprocess.PIPE).returncode, 0)
            return
        name = words[0]
        self.assertIn(name, commands())
        options = set(re.findall(r'(?<![\w-])--?[a-z][a-z-]*', ' '.join(words[1:])))
        self.assertEqual(options - help_options(name), set())
        if '[' in line or '|' in line:  # a synopsis
            for option, values in re.findall(r'(--[a-z-]+) ([a-z]+(?:\|[a-z]+)+)', line):
                for value in values.split('|'):
                    self.run_tool([name, option, value])
        elif len(words) > 1 or name in ('status', 'doctor'):
            self.run_tool(words)

    def run_tool(self, words):
        name, words = words[0], list(words)
        folder = tempfile.mkdtemp(dir=self.folder)
        machine = Machine(os.path.join(folder, 'root'))
        machine.array(counts={'dirty': 0})
        machine.write('sys/block/md0/md/bitmap_set_bits', '')
        machine.boots()
        members = [im.make(os.path.join(folder, f'sd{letter}1'), dict(number=number),
                           self.bitmap(words), mib=12) for number, letter in enumerate('XY')]
        machine.write('var/lib/prometheus/node-exporter/none', '')
        stand_ins = {'/dev/sdX1': members[0], '/dev/sdY1': members[1]}
        words = [stand_ins.get(word, word) for word in words]
        words = [os.path.join(folder, os.path.basename(word)) if word.endswith('.prom') else word for word in words]
        if name in ('convert', 'mend', 'examine') and members[0] not in words:
            words += members
        if name == 'watch' and '--until' not in words:
            words += ['--count', '1']
        if name in ('mend', 'resync') or '--fix' in words:
            words.append('--yes')
        done = subprocess.run([TOOL, *words], check=False, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={'LLBITMAP_ROOT': machine.root, 'PATH': machine.path('programs')})
        self.assertIn(done.returncode, self.STATUS.get(name, (0,)), f'{words}: {done.stdout}{done.stderr}')

    @staticmethod
    def bitmap(words):
        """What must be on the members for it to have something to do."""
        if words[0] == 'convert':
            return im.classic({1}) if 'lockless' in words else im.lockless([1] * 128)
        return im.lockless([1] * 128, chunksize=0 if words[0] == 'mend' else 128)

    # ---- make: its targets and variables ----

    def check_make(self, line):
        words = line.split()[1:]
        folder = words[words.index('-C') + 1] if '-C' in words else '.'
        source = text(folder, 'Makefile')
        targets = set(re.findall(r'^([a-z][a-z-]*)(?: [a-z -]*)?:(?!=)', source, re.M)) | set(
            ' '.join(re.findall(r'^\.PHONY: (.*)', source, re.M)).split())
        for word in [one for one in words if one not in ('-C', folder)]:
            if '=' in word:
                self.assertRegex(source, rf'\b{word.split("=")[0]}\b')
            else:
                self.assertIn(word, targets)

    # ---- packages: ours, or such as what asks for them names ----

    def check_apt(self, line):
        words = [word for word in line.split()[1:] if not word.startswith('-')]
        self.assertIn(words[0], ('install', 'update'))
        ours = re.findall(r'^Package: (\S+)', text('scripts', 'packaging', 'debian', 'control'), re.M)
        asked = text('scripts', 'build', 'mdheader.py') + text('src', 'tool', 'doctor.cpp') + text(
            'scripts', 'packaging', 'debian', 'control')
        for word in words[1:]:
            word = word.removesuffix('_*.deb')
            if word.startswith('./'):
                self.assertTrue(word[2:] in ours or word == './build/deb/forky/*.deb', word)
            elif word.startswith('linux-headers-'):
                self.assertRegex(word, r'^linux-headers-(\$\(uname|7\.)')
            elif word not in ('make', 'g++'):
                self.assertRegex(asked, rf'(?<![\w-]){re.escape(word)}(?![\w-])')

    check_apt_get = check_apt

    # ---- modprobe: the module and its parameters ----

    def check_modprobe(self, line):
        words = line.split()[1:]
        self.assertEqual(words[0], 'llbitmap')
        for word in words[1:]:
            self.assertIn(f'\nmodule_param({word.split("=")[0]},', text('src', 'shim', 'main.c') + text('src', 'shim', 'layout.c'))

    # ---- what the packages or their test run themselves: each word of a line of theirs ----

    def as_in(self, line, *files):
        """The same program with the same options is run, or named, by one line of these files."""
        words = [word for word in line.split() if word.startswith('-')]
        for one in '\n'.join(text(*file.split('/')) for file in files).splitlines():
            if f'{line.split()[0]} ' in one and all(f'{word} ' in f'{one} ' for word in words):
                return
        self.fail(f'not as in {", ".join(files)}')

    def check_dkms(self, line):
        self.assertRegex(line, r'^dkms install llbitmap/(VERSION|\d[0-9.]*) -k \S+$')
        self.as_in(line, 'scripts/packaging/boot/boot')

    def check_update_initramfs(self, line):
        self.as_in(line, 'scripts/packaging/boot/boot')

    def check_dracut(self, line):
        self.as_in(line, 'scripts/packaging/boot/boot')

    # ---- systemctl: the packages' units ----

    def check_systemctl(self, line):
        words = line.split()[1:]
        self.assertEqual(words[:-1], ['enable', '--now'])
        self.assertIn('[Install]', unit(words[-1]))

    def check_depmod(self, line):
        self.assertEqual(line, 'depmod KERNEL')  # test_machine.py: Fix
        self.as_in(line, 'src/tool/doctor.cpp')

    def check_mokutil(self, line):
        self.assertEqual(line.split()[2:], ['/var/lib/dkms/mok.pub'])
        self.as_in(line, 'scripts/packaging/boot/boot')


def unit(name):
    return text('scripts', 'packaging', 'debian', f'llbitmap-tools.{name}')


class Units(Commands):
    """systemd's units: the timer begins the service, which is the command of the man page."""
    test_each = test_set_as_code = None

    def test_service(self):
        command, = re.findall(r'^ExecStart=/usr/bin/(.*)$', unit('llbitmap-metrics.service'), re.M)
        page, _ = documents.pieces(os.path.join(SOURCE, 'man', 'llbitmap-metrics.8.scd'))
        self.assertIn(command, page)
        self.check_llbitmap(command)
        folder = os.path.dirname(command.split()[-1])
        for line in (f'ConditionPathIsDirectory={folder}', f'ReadWritePaths={folder}', 'Type=oneshot'):
            self.assertIn(f'\n{line}\n', unit('llbitmap-metrics.service'))

    def test_packaged(self):
        """Under the name that debhelper goes by, and not begun by an installation."""
        rules = text('scripts', 'packaging', 'debian', 'rules')
        self.assertIn('dh_installsystemd --name=llbitmap-metrics --no-enable --no-start\n', rules)
        timer = unit('llbitmap-metrics.timer')
        self.assertIn('\n[Install]\nWantedBy=timers.target\n', timer)
        self.assertNotIn('\nUnit=', timer)  # the service of the same name


class Sizes(unittest.TestCase):
    """The guide's table is what the code chooses and what the simulation found."""
    UNIT = {'GB': 10**9, 'TB': 10**12, 'TiB': 1 << 40}

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='llb-sizes-', dir='/dev/shm')

    def tearDown(self):
        shutil.rmtree(self.folder)

    @staticmethod
    def data_offset(sectors):
        """Where mdadm has data begin on a member of that size: 128 KiB for the bitmap, and
        a thousandth of it, 128 MiB at most, for reshapes."""
        headroom = 128 * 2048
        while headroom << 10 > sectors:
            headroom >>= 1
        return -(-(24 + 256 + headroom) // 2048) * 2048

    def chosen(self, size):
        """Chunk in KiB and number of chunks, as convert has them from the core."""
        sectors = size // 512
        offset = self.data_offset(sectors)
        usable = (sectors - offset) // 2048 * 2048
        members = [im.make(os.path.join(self.folder, f'sd{number}'),
                           dict(size=usable, data_offset=offset, data_size=usable, number=number), data=None,
                           mib=sectors // 2048 + 1) for number in range(2)]
        said = subprocess.run([TOOL, 'convert', '--to', 'lockless', '--dry-run', *members], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        chunk, chunks = re.search(r'chunks of (\d+) KiB, 0 of (\d+) ', said).groups()
        return int(chunk), int(chunks)

    @staticmethod
    def simulated(size):
        """Of 50 random writes per second: the mean cut, and that with the smallest budget."""
        results = text('tests', 'crash-cost', 'RESULTS.md')
        found = re.search(rf'^## {size}(?: disks)?\n(.*?)^## ', results, re.M | re.S)
        if not found:
            return ['-', '-']
        cells = re.search(r'^\| sparse, 50/s \|(.*)', found.group(1), re.M).group(1).split('|')
        return [cells[number].split(' (')[0].strip() for number in (2, 3)]

    def test_table(self):
        table = section(text('src', 'tool', 'man', 'llbitmap-guide.7.scd'), 'SIZES')
        rows = re.findall(r'^\|  (\S+ \S+)\n:  (.*)\n:  (.*)\n:  (.*)\n:  (.*)\n:  (.*)$', table, re.M)
        self.assertEqual(len(rows), 5)
        self.assertEqual(sum(row[4] != '-' for row in rows), 4)
        for member, chunk, chunks, memory, *cuts in rows:
            amount, unit = member.split()
            got = self.chosen(int(amount) * self.UNIT[unit])
            self.assertEqual((chunk, chunks, memory),
                             (f'{got[0] >> 10} MiB', f'{got[1]:,}', f'{got[1] / (1 << 20):.1f} MiB'), member)
            self.assertEqual(cuts, self.simulated(member), member)

    def test_defaults(self):
        """What the guide says of budget and times."""
        guide = text('src', 'tool', 'man', 'llbitmap-guide.7.scd')
        core = text('src', 'core', 'cost.hpp') + text('src', 'core', 'superblock.hpp')
        self.assertIn('kBudgetDefault_mib = 12 * 1024;', core)
        self.assertIn('budget of 12 GiB that is the default', guide)
        self.assertIn(f'12 GiB\nare {-(-(12 << 30) // (200 * 10**6))} seconds at 200 MB/s', guide)
        sleep, = re.findall(r'kDaemonSleepDefault_s = (\d+)', core)
        idle, = re.findall(r'kBarrierIdleDefault_s = (\d+)', core)
        self.assertIn(f'{2 * int(sleep) + int(idle)} seconds', guide)


class Module(unittest.TestCase):
    """llbitmap(4) has the module's parameters and its files in sysfs, and no other."""

    def test_parameters(self):
        source = ''.join(text('src', 'shim', os.path.basename(path)) for path in glob.glob(os.path.join(TOP, 'src', 'shim', '*.c')))
        page = text('src', 'tool', 'man', 'llbitmap.4.scd')
        self.assertEqual(set(re.findall(r'^\*(.*)\*$', section(page, 'MODULE PARAMETERS'), re.M)),
                         set(re.findall(r'^module_param\((\w+),', source, re.M)))

    def test_files(self):
        source = text('src', 'shim', 'sysfs.c')
        made = set(re.findall(r'= __ATTR_(?:RO|RW|WO)\((\w+)\);', source)) | \
            set(re.findall(r'\.attr = \{ \.name = "(\w+)"', source))
        self.assertGreaterEqual(len(made), 9)
        page = section(text('src', 'tool', 'man', 'llbitmap.4.scd'), 'FILES')
        self.assertEqual(set(re.findall(r'^\*llbitmap/(\w+)\*$', page, re.M)), made)
        counts = page[page.index('*llbitmap/stats*'):page.index('*llbitmap/cells*')]
        names = re.findall(r'LLB_STAT\("(\w+)"', source)
        self.assertGreaterEqual(len(names), 16)
        self.assertEqual(re.findall(r'\*(\w+)\*', counts), names)

    def test_format(self):
        """Its fields, where they are, and the bytes of the states."""
        source = text('include', 'llbitmap', 'format.h')
        page = section(text('src', 'tool', 'man', 'llbitmap.4.scd'), 'ON-DISK FORMAT')
        rows = {name: int(byte) for byte, name in re.findall(r'^\|  (\d+)\n:  \d+\n:  (\w+):', page, re.M)}
        bits = 'STALE', 'WRITE_ERROR', 'FIRST_USE', 'CLEAN', 'DAEMON_BUSY', 'SHUTDOWN', 'BYTES'
        fields = {name.lower(): int(byte) for name, byte in re.findall(r'^#define LLB_SB_(\w+) (\d+)', source, re.M)
                  if name not in bits}
        self.assertEqual(rows, fields)
        for name, said in re.findall(r'X\(\w+, (LLB_\w+), "([a-z ]+)"', source):
            number, = re.findall(rf'^#define {name} (\d)', source, re.M)
            self.assertIn(f'{number} {said}', ' '.join(page.split()))


class Messages(unittest.TestCase):
    CALL = re.compile(r'\b(?:plat_log|say|pr_(?:err|warn|notice|info)(?:_ratelimited)?)\(((?:[^"();]|\([^()]*\))*)'
                      r'((?:"(?:[^"\\]|\\.)*"\s*)+)')

    # core::possible() has its messages in a table, each behind its error: one call says them all.
    TABLE = re.compile(r'LLB_E[A-Z]+,\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}')

    def messages(self):
        found = []
        for path in sorted(glob.glob(os.path.join(TOP, 'src', 'core', '*.cpp')) +
                           glob.glob(os.path.join(TOP, 'src', 'shim', '*.c'))):
            with open(path, encoding='utf-8') as file:
                source = file.read()
            said = [strings for _, strings in self.CALL.findall(source)]
            if '"%s"' in said:
                said.remove('"%s"')
                said += self.TABLE.findall(source)
            found += [''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', strings)).replace('\\n', '') for strings in said]
        return found

    def calls(self):
        """How many there are, by another measure: each call's name, less what only passes one on."""
        count = 0
        for path in (glob.glob(os.path.join(TOP, 'src', 'core', '*.cpp')) +
                     glob.glob(os.path.join(TOP, 'src', 'shim', '*.c'))):
            with open(path, encoding='utf-8') as file:
                source = file.read()
            count += len(re.findall(r'\b(?:plat_log|say|pr_(?!fmt)[a-z_]+)\(', source))
            count += max(0, len(self.TABLE.findall(source)) - 1)
            count -= len(re.findall(r'void (?:plat_log|say)\(|plat_log\(h, level, fmt, args\.\.\.\)|say\(h, level, "%s", text\)', source))
        return count

    def test_every_message(self):
        messages = self.messages()
        self.assertEqual(len(messages), self.calls())
        self.assertGreater(len(messages), 35)
        page = section(text('src', 'tool', 'man', 'llbitmap.4.scd'), 'MESSAGES')
        entries = [re.sub(r'\\', '', one) for one in re.findall(r'^\*(.+)\*$', page, re.M)]
        used = set()
        for message in messages:
            message = message.removeprefix('llbitmap: ')
            pieces = re.split(r'(?:0x)?%[-0-9.]*(?:llu|lld|lu|u|d|x|s|pg|pV)', message)
            pattern = r'\S+'.join(re.escape(piece) for piece in pieces)
            same = [one for one in entries if re.fullmatch(pattern, one)]
            self.assertEqual(len(same), 1, f'in llbitmap(4): {message}')
            used.add(same[0])
        self.assertEqual(set(entries), used)  # and none that the module does not say

    def test_cause_and_cure(self):
        """Each has both. "The same." is of the entry before it."""
        page = section(text('src', 'tool', 'man', 'llbitmap.4.scd'), 'MESSAGES')
        entries = re.findall(r'^\*(.+)\*\n((?:\t.*\n)*)', page, re.M)
        self.assertGreater(len(entries), 35)
        for message, body in entries:
            cause, _, cure = ' '.join(body.split()).partition('++ _Cure:_ ')
            for words in (cause, cure):
                self.assertRegex(words, r'^[A-Za-z*].{7,}\.$', message)


if __name__ == '__main__':
    if len(sys.argv) > 1 and not sys.argv[1].startswith('-') and os.path.sep in sys.argv[1]:
        TOOL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
