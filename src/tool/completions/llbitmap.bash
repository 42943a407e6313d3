# SPDX-License-Identifier: GPL-2.0
# bash completion for llbitmap; installed as share/bash-completion/completions/llbitmap

_llbitmap_arrays() {
	local path
	for path in /sys/block/*/md; do
		[[ ! -d $path ]] || basename "${path%/md}"
	done
}

_llbitmap() {
	local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]:-} options='' values=''
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W 'status watch doctor metrics map resync examine convert mend
			-h --help --version' -- "$word")
		return
	fi
	case $command in
	status) options='-x --problems -v --verbose --json --check --warning --critical --color' ;;
	watch) options='-n --interval --count -x --problems -v --verbose --events --json --until --timeout --color' ;;
	doctor) options='--kernel --skip-initramfs --json --fix --yes --color' ;;
	metrics) options='--output' ;;
	map) options='--rows --width --range --svg --json --color' ;;
	resync) options='--range --yes --dry-run' ;;
	examine) options='--json' ;;
	convert) options='--to --bitmap-chunk --dry-run --json' ;;
	mend) options='--as --yes --dry-run --json' ;;
	*) return ;;
	esac
	case $command,$last in
	*,--color) values='auto always never' ;;
	watch,--until) values='clean synced whole' ;;
	convert,--to) values='lockless internal none' ;;
	mend,--as) values='lockless internal' ;;
	doctor,--kernel) values=$(cd /lib/modules 2>/dev/null && ls) ;;
	status,--warning) values='10GiB 20GiB 1min 5min' ;;
	status,--critical) values='50GiB 100GiB 10min 1h' ;;
	*,-n | *,--interval | *,--count | *,--timeout | *,--rows | *,--width | *,--range | *,--bitmap-chunk) return ;;
	metrics,--output)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	esac
	if [[ -n $values ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options -h --help" -- "$word")
	else
		case $command in
		examine | convert | mend) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
		map) mapfile -t COMPREPLY < <(compgen -f -W "$(_llbitmap_arrays)" -- "$word") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$(_llbitmap_arrays)" -- "$word") ;;
		esac
	fi
}

complete -F _llbitmap llbitmap
