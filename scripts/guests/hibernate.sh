#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A machine with dirty arrays hibernates (tests/guest/hibernate): in one guest, which comes
# back from its image at once; and over two, the first of which is switched off by it.
#
#   scripts/guests/hibernate.sh [test_resume|shutdown]     both, if none is named
#
# The break hibernation-unnoticed (tests/model/mutants/list; its module as LLB_MODULE) fails
# over two guests, where the members are looked at between both. Within one it is not seen:
# there the daemon is through before the image is taken.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${*-} in
'') hows=(test_resume shutdown) ;;
test_resume | shutdown) hows=("$1") ;;
*)
	echo 'usage: scripts/guests/hibernate.sh [test_resume|shutdown]' >&2
	exit 2
	;;
esac

out=$PWD/build/hibernate-test
died_without_a_word=122 # the first guest is switched off by it; the second becomes the first
passed='nothing became Clean behind the image, and after it cleaning goes on'

mkdir -p "$out"
ko=${LLB_MODULE:-} # another one than this tree's: to see it fail
[[ -n $ko ]] || ko=$(scripts/lab build forky)
ko=${ko##*$'\n'}
rm -rf "$out/job"
cp -a tests/guest "$out/job"
cp "$ko" "$out/job/llbitmap.ko"

guest() { # TAG ARGS...
	local tag=$1
	shift
	# Suspending devices, the kernel says more than usual; nothing else is allowed.
	scripts/lab guest --no-udev --cpus 1 --timeout 600 --disk "$out/swap" --disk "$out/disk" \
		--job "$out/job" --out "$out/$tag" --append 'nokaslr' -- hibernate "$@"
}

failed() {
	echo "hibernate: $how: $*, see build/hibernate-test"
	exit 1
}

for how in "${hows[@]}"; do
	rm -f "$out/swap" "$out/disk"
	truncate -s 2G "$out/swap"
	truncate -s 512M "$out/disk"
	rc=0
	guest "$how-write" write "$how" || rc=$?
	log=$out/$how-write/job.log
	if [[ $how == shutdown ]]; then
		((rc == died_without_a_word)) || failed "the first guest did not end by it (status $rc)"
		rc=0
		guest "$how-resume" resume || rc=$?
		((rc == died_without_a_word)) || failed "the second guest did not become the first (status $rc)"
		log=$out/$how-resume/job.log
		grep -qx 'all that was dirty is dirty on the members' "$log" || failed "the members were not looked at"
		bad=$(tests/guest/llb/faults.py "$out/$how-resume/kernel.log") || failed "no kernel log"
		[[ -z $bad ]] || failed "the kernel log has a bad line: ${bad%%$'\n'*}"
	else
		((rc == 0)) || failed "status $rc"
	fi
	grep -qx "$passed" "$log" || failed "no word of success"
	echo "hibernate: $how: passed"
	rm -f "$out/swap" "$out/disk"
done
