/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LLB_LAYOUT_H
#define LLB_LAYOUT_H

/*
 * Compares md's private types, as the running kernel has them, with those this
 * module was built for. Call it first in module_init, before md sees anything.
 * Where there is nothing to compare with, only @unchecked lets it pass; a layout
 * that differs never passes. May sleep. Returns 0, -ENOMEM, or -ENOEXEC; all but
 * -ENOMEM and a layout that was compared and is the same leave one line in the log.
 */
int llb_layout_check(bool unchecked);

#endif
