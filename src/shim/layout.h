/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LLB_LAYOUT_H
#define LLB_LAYOUT_H

/*
 * Compares md's private types, as the running kernel has them, with those this
 * module was built for. Call it first in module_init, before md sees anything.
 * May sleep. Returns 0, -ENOMEM, or -ENOEXEC after one line in the log.
 */
int llb_layout_check(void);

#endif
