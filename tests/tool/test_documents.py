#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The tool's man pages, its completion and its --help name the same commands and options; the
module's page has every message of the module: python3 tests/tool/test_documents.py [TOOL]."""

import glob
import os
import re
import subprocess
import sys
import unittest

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


class Messages(unittest.TestCase):
    CALL = re.compile(r'\b(?:plat_log|say|pr_(?:err|warn|notice|info)(?:_ratelimited)?)\(((?:[^"();]|\([^()]*\))*)'
                      r'((?:"(?:[^"\\]|\\.)*"\s*)+)')

    def messages(self):
        found = []
        for path in sorted(glob.glob(os.path.join(TOP, 'src', 'core', '*.cpp')) +
                           glob.glob(os.path.join(TOP, 'src', 'shim', '*.c'))):
            with open(path, encoding='utf-8') as file:
                for _, strings in self.CALL.findall(file.read()):
                    found.append(''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', strings)).replace('\\n', ''))
        return found

    def calls(self):
        """How many there are, by another measure: each call's name, less what only passes one on."""
        count = 0
        for path in (glob.glob(os.path.join(TOP, 'src', 'core', '*.cpp')) +
                     glob.glob(os.path.join(TOP, 'src', 'shim', '*.c'))):
            with open(path, encoding='utf-8') as file:
                source = file.read()
            count += len(re.findall(r'\b(?:plat_log|say|pr_(?!fmt)[a-z_]+)\(', source))
            count -= len(re.findall(r'void (?:plat_log|say)\(|plat_log\(h, level, fmt, args\.\.\.\)', source))
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


if __name__ == '__main__':
    if len(sys.argv) > 1 and not sys.argv[1].startswith('-') and os.path.sep in sys.argv[1]:
        TOOL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
