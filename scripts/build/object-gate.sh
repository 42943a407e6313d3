#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Fails if C++ brought something into the module that a kernel cannot give it.
#
#   object-gate FILE...     C++ objects (.o) and the module (.ko)
#
# An object may need only the shim's services, memcpy and its kin, and what the
# compiler's mitigations and sanitizers call, and have no COMDAT group. Neither may
# have constructors, destructors or unwind tables. One line per finding, exit 1.

allowed='^(plat_[a-z0-9_]+|mem(cpy|set|move|cmp)'
allowed="$allowed|__stack_chk_(fail|guard)|__ref_stack_chk_guard"
allowed="$allowed|__fentry__|_?mcount|__k?cfi_.*"
allowed="$allowed|__x86_(return|indirect)_(thunk|call|jump|its).*"
allowed="$allowed|\\.TOC\\.|__(asan|tsan|kmsan|msan|ubsan|sanitizer_cov)_.*)\$"

tables='\.gcc_except_table|\.tm_clone_table'
constructors='\.init_array|\.ctors|\.fini_array|\.dtors'

[ $# -gt 0 ] || { echo "usage: object-gate FILE..." >&2; exit 2; }
bad=0

# The core's objects call one another: what one defines, another may need.
defined=$(for f; do
	case $f in *.o) nm --defined-only --extern-only "$f" ;; esac
done | awk '{ print $3 }' | sort -u)

for f; do
	[ -r "$f" ] || { echo "$f: cannot be read"; bad=1; continue; }
	sections=$tables
	# KASAN registers globals from constructors; nothing else may have any.
	nm "$f" | grep -q __asan_register_globals || sections="$sections|$constructors"
	# Whether C has unwind tables is the kernel's choice: User-mode Linux does.
	case $f in *.o) sections="$sections|\.eh_frame" ;; esac
	for section in $(readelf --section-headers --wide "$f" |
			 sed -n 's/^ *\[ *[0-9]*\] *\(\.[^ ]*\).*/\1/p' | grep -E "^($sections)"); do
		echo "$f: section $section"
		bad=1
	done
	case $f in *.ko) continue ;; esac
	# ld -r keeps what belongs to a group apart: the module would have several
	# sections of one name, which the kernel's loader refuses with a warning.
	for group in $(readelf --section-groups --wide "$f" | sed -n 's/^COMDAT.*\[\([^]]*\)\].*/\1/p'); do
		echo "$f: inline function out of line: $group"
		bad=1
	done
	for symbol in $(nm --undefined-only "$f" | awk '{ print $NF }'); do
		echo "$symbol" | grep -qE "$allowed" && continue
		echo "$defined" | grep -qxF -e "$symbol" && continue
		echo "$f: needs $symbol"
		bad=1
	done
done
exit $bad
