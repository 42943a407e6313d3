/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LLB_RELEASE_H
#define LLB_RELEASE_H

/* Of the module (modinfo, /sys/module/llbitmap/version) and of the llbitmap command. */
#define LLB_RELEASE "0.2.0"

#endif
