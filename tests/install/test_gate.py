#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""scripts/build/object-gate.sh on objects made for it. The assembler is the host's; the gate looks
at names and sections only, so it may stand for that of another machine."""

import os
import unittest

from kit import TOP, Case

GATE = os.path.join(TOP, 'scripts', 'build', 'object-gate.sh')


class Gate(Case):
    def gate(self, text, name='a.o'):
        """Its findings about an object with this assembly."""
        source = self.write('a.s', text + '\n')
        made = self.run_it('as', '-o', self.path(name), source)
        self.assertEqual(made[0], 0, made[2])
        status, found, errors = self.run_it(GATE, self.path(name))
        self.assertEqual(errors, '')
        self.assertEqual(bool(status), bool(found), found)
        return [line.partition(': ')[2] for line in found.splitlines()]

    def needs(self, *symbols):
        return self.gate('\n'.join(f'.quad {symbol}' for symbol in symbols))

    def test_what_a_kernel_gives(self):
        self.assertEqual(self.needs('plat_read', 'memcpy', '__stack_chk_fail', '__x86_return_thunk',
                                    '__asan_load8', '__ref_stack_chk_guard'), [])

    def test_table_of_contents_of_powerpc(self):
        """Each object of ppc64le names it; the linker makes it."""
        self.assertEqual(self.needs('.TOC.', '_mcount'), [])

    def test_what_a_kernel_lacks(self):
        for symbol in ('_Znwm', '__gxx_personality_v0', '__cxa_guard_acquire', 'atexit',
                       '__aarch64_cas1_acq_rel', '__udivti3', '.TOC', 'xTOCx', 'kmalloc'):
            self.assertEqual(self.needs(symbol), [f'needs {symbol}'])

    def test_sections(self):
        for section in ('.init_array', '.ctors', '.fini_array', '.gcc_except_table', '.eh_frame'):
            self.assertEqual(self.gate(f'.section {section},"aw"\nx: .quad 0'), [f'section {section}'])

    def test_inline_function_out_of_line(self):
        self.assertEqual(self.gate('.section .text._Z1fv,"axG",@progbits,_Z1fv,comdat\n'
                                   '.weak _Z1fv\n_Z1fv: ret'), ['inline function out of line: _Z1fv'])

    def test_a_module_may_need_anything(self):
        self.assertEqual(self.gate('.quad kmalloc', 'a.ko'), [])


if __name__ == '__main__':
    unittest.main()
