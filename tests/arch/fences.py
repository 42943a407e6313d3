#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Is a *_full atomic a full barrier in the code?  objdump -d full.o | fences.py ARCH

A function full_* of full.cpp must have a full fence before its first access by
load-linked, store-conditional or an atomic instruction, and one after its last; on
s390x these instructions are such fences themselves. None may call anything, since
a kernel has no libgcc. One line per finding, exit 1.
"""
import re
import sys

METHODS = ['exchange', 'add', 'sub', 'cas']
WORDS = ['u8', 'u32', 'u64']

# A full fence; an access of an atomic read-modify-write; a call. Mnemonic and operands.
CODE = {
    'arm64': (r'dmb ish$', r'(ldax?r|ldxr|stlx?r|stxr)[bh]? |(cas|swp|ld(add|set|clr|eor))[albh]* ',
              r'blr? '),
    'ppc64le': (r'(hw)?sync\b', r'l[bhwd]arx |st[bhwd]cx\. ', r'b(ct)?rl?l\b|bl '),
    's390x': (r'(bnor|br) %r0$|bcr 1[45],', r'csy? |csg |la[anox]g? |laal?g? ', r'bra?sl '),
}


def functions(listing):
    """{name: [instruction]} of what objdump -d writes."""
    found, name = {}, None
    for line in listing:
        head = re.match(r'[0-9a-f]+ <(.*)>:$', line)
        if head:
            name = head.group(1)
            found[name] = []
            continue
        part = line.rstrip('\n').split('\t')
        if name and re.match(r' *[0-9a-f]+:$', part[0]):
            text = re.sub(r'\s+', ' ', ' '.join(part[1:])).strip()
            found[name].append(re.sub(r'\s*(//|#|<).*', '', text) + ' ' * (' ' not in text))
    return found


def findings(arch, found):
    fence, access, call = CODE[arch]
    wanted = [f'full_{method}_{word}' for method in METHODS for word in WORDS]
    for name in wanted + ['fence']:
        if not found.get(name):
            yield f'{name}: no such function'
    for name, code in found.items():
        fences = [i for i, text in enumerate(code) if re.match(fence, text.rstrip())]
        accesses = [i for i, text in enumerate(code) if re.match(access, text)]
        for text in code:
            if re.match(call, text):
                yield f'{name}: calls: {text}'
        if name == 'fence' and not fences:
            yield 'fence_full() is no full fence'
        if not name.startswith('full_'):
            continue
        if not accesses:
            yield f'{name}: no atomic access'
        elif arch != 's390x':
            if not any(i < accesses[0] for i in fences):
                yield f'{name}: no full fence before the access'
            if not any(i > accesses[-1] for i in fences):
                yield f'{name}: no full fence after the access'


def main(arch):
    found = functions(sys.stdin)
    wrong = list(findings(arch, found))
    for line in wrong:
        print(f'{arch}: {line}')
    if not wrong:
        print(f'{arch}: {len(found)} functions have the fences that they need')
    return bool(wrong)


sys.exit(main(sys.argv[1]))
