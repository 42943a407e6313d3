#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""matrix [--list] [--newest] [--builds] [FILTER]: the module for every kernel that Debian's archive offers
(scripts/lab offers: asked, not listed): are there headers, is md's bitmap_type such that it can
be built, without a warning, through the object gate; does it load in a guest of that kernel and
pass the tests of the lane "backports"; the newest cloud kernel also built with clang (SUITE/RELEASE/clang),
though gcc built the kernel; for other architectures (scripts/arch) likewise, in whole guests.
FILTER: a regular expression for
SUITE/RELEASE[/clang], as --list prints them. --newest: of each flavour only the newest that is released.
--builds: no guests.

Writes build/matrix/report.json, a list of {kernel, suite, flavour, arch, headers, builds,
warnings, gate, loads, tests_passed, tests_failed, ...} of all that is offered, null where it was
not tried, and report.md. What is done is kept in the cache by what it was made from (sources,
kernel, root, tests) and not done again; what failed is. Exit status 0: everything that was
asked for is as it should be; a kernel before the first that is supported should be refused, in
one line."""

import collections
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import guests
import lane

OUT = guests.ROOT / 'build/matrix'
LAB = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache', 'llbitmap')
CACHE = LAB / 'matrix'
FIRST_SUPPORTED = (7, 2)
LANE = 'backports'             # what runs on another kernel than the usual one
LOADS = 'basic.load_cycles'    # which of them says that it loads, and unloads
UNRELEASED = 'experimental'
CLANG_FLAVOUR = 'cloud-amd64'  # of which the newest is also built for with clang
# Kbuild says so itself, and goes on: that another compiler built the kernel is what is tried.
OTHER_COMPILER = 'warning: the compiler differs from the one used to build the kernel'
# What scripts/arch and the lab's guests call them, and Debian.
ARCHES = {'arm64': 'cloud-arm64', 'arm64-16k': 'arm64-16k', 'ppc64le': 'powerpc64le-64k', 's390x': 's390x'}

# What a row says of a kernel, before anything was tried. builds false: refused has the line in
# which the build said no, or why says what else went wrong.
UNTRIED = {'headers': False, 'builds': None, 'warnings': None, 'gate': None, 'loads': None,
           'tests_passed': None, 'tests_failed': None, 'compiler': 'gcc', 'refused': None,
           'why': None}

PACKAGE = re.compile(r'linux-(headers|image|binary-unsigned|binary|modules)-'
                     r'(\d[0-9a-z.+~-]*?-((?:cloud-|rt-)?amd64))$')


class Kernel(collections.namedtuple('Kernel', 'release suite flavour arch version headers image '
                                              'compiler')):
    """One that is offered: whether with headers, whether with what a guest boots."""

    @property
    def name(self):
        return f'{self.suite}/{self.release}' + ('/clang' if self.compiler == 'clang' else '')

    @property
    def number(self):
        """7.2.12+deb14-amd64: (7, 2, 12)"""
        return tuple(map(int, re.match(r'[\d.]*\d', self.release)[0].split('.')))

    @property
    def root(self):
        """The lab's root whose compiler and userland it gets."""
        return 'trixie-backports' if self.suite.startswith('trixie') else 'forky'


def offered(lines):
    """The kernels in what "scripts/lab offers" prints, oldest first. One that several suites
    have stands there once, with the first of them."""
    parts = {}
    for line in lines:
        suite, package, version = line.split()[:3]
        match = PACKAGE.match(package)
        if match:
            kind, release, flavour = match.groups()
            parts.setdefault((release, version), (suite, set(), flavour))[1].add(kind)
    kernels = []
    for (release, version), (suite, found, flavour) in parts.items():
        # Where the modules have a package of their own, that named image is empty.
        image = 'modules' in found if found & {'modules', 'binary'} else 'image' in found
        kernels.append(Kernel(release, suite, flavour, 'amd64', version, 'headers' in found, image,
                              'gcc'))
    return sorted(kernels, key=lambda kernel: (kernel.number, kernel.release))


def newest(kernels):
    """Of each flavour the newest that can be built for, and is released."""
    found = {kernel.flavour: kernel for kernel in kernels
             if kernel.headers and kernel.suite != UNRELEASED}
    return list(found.values())


def clanged(kernels):
    """The newest of the cloud kernels once more, for clang."""
    return [kernel._replace(compiler='clang') for kernel in newest(kernels)
            if kernel.flavour == CLANG_FLAVOUR]


def refusal(log):
    """The one line in which a build said that it is not for this kernel."""
    match = re.search(r'\*\*\* (llbitmap: .*?)\.  Stop\.', log)
    return match[1] if match else None


def warnings(log):
    return sum('warning' in line.lower() and line.strip() != OTHER_COMPILER
               for line in log.splitlines())


def last_error(log):
    """What a log of a build that failed says, in a line."""
    lines = [line for line in log.splitlines() if re.search(r'\berror\b|\*\*\*|^lab: ', line, re.I)]
    return (lines or log.splitlines() or ['no word'])[0].strip()[:300]


def row(kernel, *results):
    """results: of the steps that were done."""
    found = {'kernel': kernel.release, 'suite': kernel.suite, 'flavour': kernel.flavour,
             'arch': kernel.arch.partition('-')[0], **UNTRIED, 'headers': kernel.headers, 'compiler': kernel.compiler}
    if not kernel.headers:
        found['why'] = 'no headers in the archive'
    for result in results:
        found.update(result or {})
    return found


def sound(kernel, found):
    """Whether a row that was tried is as it should be."""
    if kernel.number < FIRST_SUPPORTED:
        return found['builds'] is False and bool(found['refused'])
    return (found['builds'] is True and found['warnings'] == 0 and found['gate'] is True and
            (not kernel.image or (found['loads'] is True and found['tests_failed'] == 0)))


def word(value):
    if value is None:
        return '–'
    return ('**no**', 'yes')[value] if isinstance(value, bool) else str(value)


def markdown(rows):
    """The rows with headers as a table; the others as a list."""
    lines = ['| kernel | suite | built with | builds | warnings | gate | loads | tests |',
             '|---|---|---|---|---|---|---|---|']
    notes = []
    for one in rows:
        if not one['headers']:
            continue
        builds = word(one['builds'])
        note = one['refused'] or one['why']
        if note:
            note = note.replace(one['kernel'], '…')
            if note not in notes:
                notes.append(note)
            builds = f'{"refused" if one["refused"] else builds} ({notes.index(note) + 1})'
        tests = '–' if one['tests_passed'] is None else \
            f'{one["tests_passed"]} passed' + (f', **{one["tests_failed"]} failed**'
                                               if one['tests_failed'] else '')
        lines.append(f'| {one["kernel"]} | {one["suite"]} | {one["compiler"]} | {builds} | '
                     f'{word(one["warnings"])} | {word(one["gate"])} | {word(one["loads"])} | {tests} |')
    lines += [''] * bool(notes) + [f'{number}. {note}' for number, note in enumerate(notes, 1)]
    bare = [one for one in rows if not one['headers']]
    if bare:
        flavours = {}
        for one in bare:
            version = one['kernel'].removesuffix('-' + one['flavour'])
            flavours.setdefault(version, []).append(one['flavour'])
        lines += ['', f'{len(bare)} more are in the archive without headers, so nobody can build for '
                  'them: ' + '; '.join(f'{version} ({", ".join(sorted(names))})'
                                       for version, names in flavours.items()) + '.']
    return '\n'.join(lines) + '\n'


# ---- what was done before -------------------------------------------------------------------

def made_from(*what):
    """A name for what is made from these: texts, and folders or files of the tree by path."""
    digest = hashlib.sha256()
    for one in what:
        if isinstance(one, pathlib.Path):
            listed = subprocess.run(['git', '-c', 'safe.directory=*', 'ls-files', '-co',
                                     '--exclude-standard', '-z', '--', str(one)], cwd=guests.ROOT,
                                    check=True, stdout=subprocess.PIPE).stdout.split(b'\0')
            for name in sorted(filter(None, listed)):
                path = guests.ROOT / os.fsdecode(name)
                digest.update(name + b'\0' + (path.read_bytes() if path.is_file() else b'') + b'\0')
        else:
            digest.update(str(one).encode() + b'\0')
    return digest.hexdigest()[:16]


def kept(key):
    """What was kept under this name, and its folder; None if nothing was."""
    try:
        return json.loads((CACHE / key / 'result.json').read_text(encoding='utf-8')), CACHE / key
    except FileNotFoundError:
        return None, None


def keep(key, result, *files):
    """Complete or not at all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix='.tmp-') as folder:
        whole = pathlib.Path(folder, key)
        whole.mkdir()
        for file in files:
            shutil.copy(file, whole)
        (whole / 'result.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
        try:
            whole.rename(CACHE / key)
        except OSError:  # another run was faster
            if not (CACHE / key / 'result.json').exists():
                raise
    return CACHE / key


class Work:
    """The steps for a kernel; each is done once for what it is made from."""

    def __init__(self, tests, boots=True):
        self.tests, self.boots, self.roots, self.clangs = tests, boots, {}, {}
        self.sources = made_from(*(pathlib.Path(name) for name in
                                   ('Makefile', 'Kbuild', 'include', 'src', 'scripts/build')))
        self.guest = made_from(pathlib.Path('tests/guest'), pathlib.Path('tests/harness/lane.py'),
                               pathlib.Path('scripts/lab.d'), *tests)

    def root(self, kernel):
        """Its name says what it was made of."""
        if kernel.root not in self.roots:
            self.roots[kernel.root] = guests.last_line('scripts/lab', 'root', kernel.root)
        return self.roots[kernel.root]

    def clang(self, kernel):
        """The same of the clang for it, if it is that which builds, and how it is used."""
        if kernel.compiler != 'clang':
            return []
        if kernel.root not in self.clangs:
            self.clangs[kernel.root] = guests.last_line('scripts/lab', 'clang', kernel.root)
        return [self.clangs[kernel.root], pathlib.Path('scripts/lab.d/build.sh')]

    def keys(self, kernel):
        if kernel.arch != 'amd64':
            build = made_from('arch', self.sources, kernel.arch, kernel.release, kernel.version,
                              pathlib.Path('scripts/arch'), pathlib.Path('tests/arch'))
        else:
            build = made_from('build', self.sources, kernel.release, kernel.version,
                              kernel.compiler, self.root(kernel), *self.clang(kernel))
        return f'build-{build}', f'guest-{made_from(build, self.guest)}'

    def known(self, kernel):
        """Its row, of what was done before only; nothing is made for that."""
        if kernel.arch == 'amd64' and not any(LAB.glob(f'roots/{kernel.root}-*')):
            return row(kernel)
        if kernel.compiler == 'clang' and not any(
                LAB.glob(f'clang/{pathlib.Path(self.root(kernel)).name}+*')):
            return row(kernel)
        return row(kernel, *(kept(key)[0] for key in self.keys(kernel)))

    def do(self, kernel):
        """Its row, after all that is to be done. It has headers."""
        out = OUT / kernel.name.replace('/', '_')
        out.mkdir(parents=True, exist_ok=True)
        build_key, guest_key = self.keys(kernel)
        say(kernel, 'building')
        build, folder = kept(build_key)
        if not build:
            build, files = (built if kernel.arch == 'amd64' else cross_built)(kernel, out)
            if build['builds'] or build['refused']:
                folder = keep(build_key, build, *files)
        say(kernel, in_a_word(build))
        guest, _ = kept(guest_key)
        if not build['builds'] or not kernel.image or not (guest or self.boots):
            return row(kernel, build)
        if not guest:
            say(kernel, f'in a guest, {len(self.tests)} tests')
            guest = run(kernel, folder / 'llbitmap.ko', self.tests, out)
            if guest['loads'] and not guest['tests_failed']:
                keep(guest_key, guest, out / 'guest/kernel.log')
        say(kernel, f'{guest["tests_passed"]} passed, {guest["tests_failed"]} failed')
        return row(kernel, build, guest)


def say(kernel, what):
    print(f'{time.strftime("%H:%M:%S")}  {kernel.name:48} {what}', flush=True)


def in_a_word(build):
    if build['builds']:
        return f'builds, {build["warnings"]} warnings, gate {"ok" if build["gate"] else "NOT ok"}'
    return f'refused: {build["refused"]}' if build['refused'] else f'DOES NOT BUILD: {build["why"]}'


def built_in(kernel):
    """The folder of "scripts/lab build" for it."""
    return '+'.join([kernel.root, kernel.release] + ['clang'] * (kernel.compiler == 'clang'))


def built(kernel, out):
    """Builds for it from nothing: (result, files to keep)."""
    log, what = out / 'build.log', [kernel.root, '--kernel', kernel.release]
    if kernel.compiler == 'clang':
        what.append('--clang')
    shutil.rmtree(guests.ROOT / 'build' / built_in(kernel), ignore_errors=True)
    try:
        module = pathlib.Path(guests.last_line('scripts/lab', 'build', *what, log=log))
    except guests.NotBuilt:
        text = log.read_text(encoding='utf-8', errors='replace')
        refused = refusal(text)
        return {'builds': False, 'refused': refused,
                'why': None if refused else last_error(text)}, [log]
    gate = subprocess.run(['scripts/build/object-gate.sh', *module.parent.glob('src/core/*.o'), module],
                          cwd=guests.ROOT, stdout=subprocess.PIPE, text=True, check=False)
    text = log.read_text(encoding='utf-8', errors='replace')
    return {'builds': True, 'warnings': warnings(text),
            'gate': gate.returncode == 0, 'refused': None, 'why': gate.stdout.split('\n')[0] or None}, [log, module]


def cross_judged(status, log):
    """What "scripts/arch module" did, by its last word: it stops at the first thing wrong."""
    found = re.findall(r'^lab: \w+: (.*)', log, re.M)
    said = found[-1] if status and found else None
    if status and said not in ('a warning', 'the object gate', 'fences'):
        return {'builds': False, 'refused': refusal(log), 'why': said or last_error(log)}
    return {'builds': True, 'warnings': warnings(log), 'refused': None, 'why': said,
            'gate': None if said == 'a warning' else said != 'the object gate'}


def cross_built(kernel, out):
    """The same for another architecture."""
    log = out / 'build.log'
    with log.open('w', encoding='utf-8') as sink:
        done = subprocess.run(['scripts/arch', 'module', kernel.arch], cwd=guests.ROOT, check=False,
                              stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
    result = cross_judged(done.returncode, log.read_text(encoding='utf-8', errors='replace'))
    module = guests.ROOT / f'build/arch/{kernel.arch}/module/build/{kernel.release}/llbitmap.ko'
    return result, [log, module] if result['builds'] else [log]


def judged(found):
    """What a lane came to. The guest itself counts as a test: it ended well, its log is clean."""
    passed = sum(found.results.values())
    failed = len(found.results) - passed
    return {'loads': found.results.get(LOADS), 'tests_passed': passed + (not found.bad),
            'tests_failed': failed + bool(found.bad), 'why': found.bad[0] if found.bad else None}


def run(kernel, module, tests, out):
    """The tests in guests of that kernel."""
    def heard(line):
        if line.startswith('FAIL '):
            say(kernel, line)
    guests.job(out / 'job', {'llbitmap.ko': module})
    found = lane.Lane(tests, heard)
    lane.run(found, lane.lab(str(out / 'guest'), [
        str(guests.ROOT / 'scripts/lab'), 'guest', '--suite', kernel.root, '--kernel',
        kernel.release if kernel.arch == 'amd64' else kernel.arch, '--no-udev', '--job', str(out / 'job')]), limit=2)
    return judged(found)


def tests_of(listing):
    """The names of the lane's tests, the one that loads the module first."""
    found = [name for where, _, name in (line.partition(' ') for line in listing.splitlines())
             if where == LANE]
    return sorted(found, key=lambda name: name != LOADS)


def crossed(wanted):
    """The kernels of other architectures that scripts/arch builds for, if one is asked for or
    their root is there."""
    if not any(LAB.glob('roots/arch-*')) and not any(map(wanted.search, ARCHES.values())):
        return []
    try:
        root = pathlib.Path(guests.last_line('scripts/arch', 'root'))
    except guests.NotBuilt as why:
        print(f'matrix: other architectures: {why}', file=sys.stderr)
        return []
    return [Kernel(release, 'forky', flavour, arch, gcc, True, True, 'gcc')
            for arch, flavour in ARCHES.items()
            for release, gcc in [(root / f'etc/arch-{arch}').read_text(encoding='utf-8').split()]]


def main():
    arguments, options = sys.argv[1:], set()
    while arguments and arguments[0].startswith('--'):
        options.add(arguments.pop(0))
    if len(arguments) > 1 or options - {'--list', '--newest', '--builds'}:
        sys.exit('usage: scripts/matrix [--list] [--newest] [--builds] [FILTER]')
    wanted = re.compile(arguments[0] if arguments else '')
    listing = subprocess.run(['scripts/lab', 'offers'], cwd=guests.ROOT, check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    kernels = offered(listing.splitlines())
    with_clang = clanged(kernels)
    chosen = newest(kernels) + with_clang if '--newest' in options else None
    kernels += with_clang + crossed(wanted)
    chosen = [kernel for kernel in (kernels if chosen is None else chosen)
              if kernel.headers and wanted.search(kernel.name)]
    if '--list' in options:
        print('\n'.join(kernel.name for kernel in chosen))
        return 0
    if not chosen:
        print(f"matrix: no kernel with headers matches '{wanted.pattern}'", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    work = Work(tests_of(subprocess.run(['tests/harness/names.py'], cwd=guests.ROOT, check=True,
                                        text=True, stdout=subprocess.PIPE).stdout),
                boots='--builds' not in options)
    try:
        rows, wrong = fill(work, kernels, chosen)
    except guests.NotBuilt as why:
        sys.exit(f'matrix: {why}')
    built_for = sum(one['builds'] is True for one in rows)
    print(f'{len(rows)} kernels, {len(chosen)} of them looked at now: {len(wrong)} not as they '
          f'should be; built for {built_for} in all; see build/matrix/report.md')
    for name in wrong:
        print(f'not as it should be: {name}')
    return 1 if wrong else 0


def fill(work, kernels, chosen):
    """The rows of all kernels, and the names of the chosen ones that are not as they should be.
    The report is written after each of them."""
    rows = {kernel: work.known(kernel) for kernel in kernels}
    wrong = []
    for kernel in chosen:
        rows[kernel] = work.do(kernel)
        if not sound(kernel._replace(image=kernel.image and work.boots), rows[kernel]):
            wrong.append(kernel.name)
        report(list(rows.values()))
    return list(rows.values()), wrong


def report(rows):
    for name, text in (('report.json', json.dumps(rows, indent=1) + '\n'),
                       ('report.md', markdown(rows))):
        (OUT / f'.{name}').write_text(text, encoding='utf-8')
        (OUT / f'.{name}').rename(OUT / name)


if __name__ == '__main__':
    sys.exit(main())
