# SPDX-License-Identifier: GPL-2.0
"""The command lines of the documents: each line of a block of code, and each piece set as code
(`so`, or *so* in a man page) that has a blank in it."""

import glob
import os
import re

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = ('README.md', 'src/tool/README.md', 'src/LIMITS.md', 'scripts/packaging/README.md')
DRAWN = re.compile('[─►│├└▼]')


def documents():
    found = [os.path.join(TOP, name) for name in PAGES]
    return found + sorted(glob.glob(os.path.join(TOP, 'src', 'tool', 'man', '*.scd')))


def split(line):
    """The commands of a line of code, without prompt, sudo, remark and what it explains; the tool is
    called as the packages install it."""
    line = re.split(r'\s+#\s|\s{4,}', line.strip().removeprefix('$ '))[0]
    return [one.removeprefix('sudo ').removeprefix('build/tool/') for one in re.split(r'\s*(?:&&|;)\s+', line)]


def blocks_of_markdown(text):
    """Blocks that are indented by four, and the text without them."""
    block, blocks, prose, before = [], [], [], ''
    for line in text.splitlines() + ['']:
        if line.startswith('    ') and (block or not before):
            block.append(line)
        else:
            if block and line:
                blocks.append(block)
                block = []
            prose.append(line)
        before = line.strip() if line.strip() else ('' if not block else before)
    return blocks + ([block] if block else []), '\n'.join(prose)


def blocks_of_man(text):
    blocks = [block.splitlines() for block in re.findall(r'^```\n(.*?)^```$', text, re.M | re.S)]
    return blocks, re.sub(r'^```\n.*?^```$', '', text, flags=re.M | re.S)


def pieces(path):
    """All pieces of code in it: those of blocks, and those of its text, with a blank."""
    with open(path, encoding='utf-8') as file:
        text = file.read()
    man = path.endswith('.scd')
    blocks, prose = (blocks_of_man if man else blocks_of_markdown)(text)
    lines = [one for block in blocks if not any(DRAWN.search(line) for line in block)
             for line in block if line.strip() for one in split(line)]
    if man:
        # A message of the module is no command; test_documents.py has a test of these.
        prose = re.sub(r'(?ms)^# MESSAGES.*?(?=^# )', lambda it: re.sub(r'(?m)^\*.*\*$', '', it.group(0)), prose)
        found = re.findall(r'(?<!\\)\*((?:[^*\\]|\\.)+)\*', re.sub(r'\n\t?(?=\S)', ' ', prose))
    else:
        found = re.findall(r'`([^`]+)`', re.sub(r'\n(?=\S)', ' ', prose))
    inline = [re.sub(r'\\(.)', r'\1', one).strip() for one in found]
    return lines, [command for one in inline if ' ' in one for command in split(one)]


def prose_of(path):
    """A man page's text without what is set as code, and without the module's messages."""
    with open(path, encoding='utf-8') as file:
        text = blocks_of_man(file.read())[1]
    return re.sub(r'(?<!\\)\*(?:[^*\\\n]|\\.)+(?:\n(?:[^*\\\n]|\\.)+)?\*', '', text)
