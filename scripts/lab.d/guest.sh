# shellcheck shell=bash
# A guest runs one job and says how it ended.
#
# The guest's initramfs is made for each run: busybox, the few modules needed to
# reach the root, the job, and a file with the job's arguments and a random
# nonce. Channels, one each: the console (kernel log), the job's output, a tar
# stream of /out, and the result. The result channel carries
#	llb-start NONCE
#	llb-result NONCE STATUS
# and only the second, with this run's nonce, followed by an orderly power-off
# and a clean kernel log, lets a run count as passed.

exit_log=121 exit_died=122 exit_timeout=124
# Limits are in seconds of the reference machine (pace.sh): guards against hanging.
# Typical are 3 s until the job begins and 1 s to power off.
boot_timeout_s=120
boot_silence_s=20 # the kernel's log; typical is 1 s
poweroff_timeout_s=30
most_boots=3
# A machine that boots by itself (--machine) has systemd, and an initramfs that waits for
# half a minute, without a word, for what is missing.
machine_boot_timeout_s=1800 machine_boot_silence_s=300 machine_poweroff_timeout_s=300

guest_options() {
	suite=forky kernel=stock cpus=2 mem=2G timeout_s=300 silence_s=0 append=''
	out='' job='' udev=1 count=0 disks=() machine='' console='' cut_at='' cut=''
	while [[ $# -gt 0 && $1 != -- ]]; do
		case $1 in
		--no-udev)
			udev=0
			shift
			continue
			;;
		--count-instructions)
			count=1
			shift
			continue
			;;
		--suite | --kernel | --cpus | --mem | --timeout | --silence | --append | --out | \
			--job | --disk | --machine | --console | --cut)
			[[ $# -ge 2 ]] || usage_error "guest: $1 needs a value"
			;;
		*) usage_error "guest: unknown option '$1'" ;;
		esac
		case $1 in
		--suite) suite=$2 ;;
		--kernel) kernel=$2 ;;
		--cpus) cpus=$2 ;;
		--mem) mem=$2 ;;
		--timeout) timeout_s=$2 ;;
		--silence) silence_s=$2 ;;
		--append) append+=" $2" ;;
		--out) out=$2 ;;
		--job) job=$2 ;;
		--disk) disks+=("$2") ;;
		--machine) machine=$2 ;;
		--console) console=$2 ;;
		--cut) cut_at=$2 ;;
		esac
		shift 2
	done
	[[ ${1:-} != -- ]] || shift
	job_args=("$@")
	check_suite "$suite"
	[[ $kernel =~ ^(stock|uml|[0-9].*)$ ]] || is_debug_kernel "$kernel" || is_foreign_kernel "$kernel" ||
		usage_error "guest: --kernel is stock, uml, kcsan, rt, ${foreign_kernels[*]} or a release, not '$kernel'"
	[[ $cpus =~ ^[1-9][0-9]?$ ]] || usage_error "guest: --cpus '$cpus' is no number"
	[[ $mem =~ ^[0-9]+[MG]$ ]] || usage_error "guest: --mem '$mem' is not like 2G"
	[[ $timeout_s =~ ^[1-9][0-9]*$ ]] ||
		usage_error "guest: --timeout '$timeout_s' is no number of seconds"
	[[ $silence_s =~ ^(0|[1-9][0-9]*)$ ]] ||
		usage_error "guest: --silence '$silence_s' is no number of seconds"
	[[ -n $job ]] || usage_error "guest: --job DIR is missing"
	[[ -x $job/run ]] || usage_error "guest: $job/run is not an executable"
	((${#disks[@]} == 0)) || [[ $kernel != uml ]] || usage_error "guest: --disk needs QEMU, not --kernel uml"
	((count == 0)) || [[ $kernel != uml ]] ||
		usage_error "guest: --count-instructions needs QEMU, not --kernel uml"
	((count == 0)) || ! is_foreign_kernel "$kernel" ||
		usage_error "guest: --count-instructions is not for --kernel $kernel"
	if [[ -n $machine ]]; then
		[[ $kernel == stock ]] || usage_error "guest: --machine needs --kernel stock"
		[[ -f $machine/vmlinuz && -f $machine/initrd ]] ||
			usage_error "guest: $machine has no vmlinuz and initrd"
		boot_timeout_s=$machine_boot_timeout_s boot_silence_s=$machine_boot_silence_s
		poweroff_timeout_s=$machine_poweroff_timeout_s
	fi
	[[ -z $console || -n $machine ]] || usage_error "guest: --console needs --machine"
	local disk
	for disk in "${disks[@]}"; do
		[[ -f $disk ]] || usage_error "guest: no such file: $disk"
	done
}

# prepare_out: an empty directory in $out. A result of an earlier run must not
# pass for one of this run, but only what the lab made is removed.
prepare_out() {
	if [[ -z $out ]]; then
		out=$tmp/outdir
		mkdir "$out"
		return
	fi
	if [[ -e $out && ! -e $out/.lab-out && -n $(ls -A "$out") ]]; then
		die "guest: $out is not empty and was not made by the lab"
	fi
	mkdir -p "$out"
	out=$(cd "$out" && pwd)
	find "$out" -mindepth 1 -delete
	touch "$out/.lab-out"
}

# initramfs_base DIR: what every guest needs, unpacked.
initramfs_base() {
	local dir=$1
	mkdir -p "$dir"/{bin,dev,proc,sys,modules,lab}
	cp -- "$busybox" "$dir/bin/busybox"
	cp -- "$lab_dir/guest-init" "$dir/init"
	cp -- "$lab_dir/guest-job" "$dir/lab/guest-job"
	# The first opener of a console, before devtmpfs is there.
	mknod -m 600 "$dir/dev/console" c 5 1 2>/dev/null || true
}

# initramfs_modules DIR MODULE...: the modules with what they depend on,
# decompressed, numbered in the order to load them; what is built in is not among them.
# No md module is.
initramfs_modules() {
	local dir=$1 kind file n=100 name
	shift
	modprobe -d "$files" -S "$kver" --show-depends -a "$@" |
		while read -r kind file _; do
			[[ $kind == insmod ]] || continue
			name=${file##*/}
			name=${name%%.*}
			[[ -z $(find "$dir" -name "*-$name.ko") ]] || continue
			n=$((n + 1))
			case $file in
			*.xz) xz -dc -- "$file" ;;
			*.zst) zstd -dcq -- "$file" ;;
			*.gz) gzip -dc -- "$file" ;;
			*) cat -- "$file" ;;
			esac >"$dir/$n-$name.ko"
		done
}

pack() {
	(cd "$1" && find . -mindepth 1 | cpio --quiet -o -H newc)
}

# job_env: the guest's side of what this run is.
job_env() {
	printf 'nonce=%q\nudev=%q\nmachine=%q\nwatch_s=%q\nargs=(' \
		"$nonce" "$udev" "$machine" "$((timeout_s > 30 ? timeout_s - 10 : 0))"
	((${#job_args[@]} == 0)) || printf ' %q' "${job_args[@]}"
	printf ' )\n'
}

# make_initramfs: $tmp/initrd, from the base and the job.
make_initramfs() {
	local dir=$tmp/initramfs
	initramfs_base "$dir"
	local modules=(virtio_pci virtio_blk virtio_console ext4 overlay)
	[[ $bus == pci ]] || modules=("${modules[@]:1}") # built in
	[[ $kernel == uml ]] || initramfs_modules "$dir/modules" "${modules[@]}"
	mkdir "$dir/job"
	cp -a -- "$job/." "$dir/job/"
	job_env >"$dir/lab/env"
	pack "$dir" >"$tmp/initrd"
}

# make_job_disk: $tmp/job.tar, which a machine takes for a disk (scripts/guests/machine.sh).
make_job_disk() {
	mkdir -p "$tmp/disk/lab"
	cp -a -- "$job" "$tmp/disk/job"
	cp -- "$lab_dir/guest-job" "$tmp/disk/lab/"
	job_env >"$tmp/disk/lab/env"
	tar -C "$tmp/disk" -cf "$tmp/job.tar" job lab
}

# The arguments that every kernel here gets. Faults must end the guest: the
# host counts its death as a failure.
# The kernel's own guards against hanging are as patient as ours: five times as usual.
kernel_args='ignore_loglevel panic=-1 oops=panic log_buf_len=4M printk.devkmsg=on'
kernel_args+=' watchdog_thresh=50 rcupdate.rcu_cpu_stall_timeout=105 workqueue.watchdog_thresh=150'

# qemu_args KERNEL INITRD APPEND LOG: into the array qemu. no_timer_check: the kernel
# counts timer interrupts in some milliseconds and panics if there are too few
# (setup_IO_APIC), which on a busy host says nothing of the timer.
qemu_args() {
	qemu=("${foreign[@]}")
	((${#qemu[@]})) || qemu=(qemu-system-x86_64 -machine pc)
	qemu+=(-nodefaults -no-user-config -display none
		-no-reboot -monitor none -smp "$cpus" -m "$mem"
		-kernel "$1" -initrd "$2" -append "console=$serial no_timer_check $kernel_args $3"
		-chardev "file,id=log,path=$4" -serial chardev:log
		-device "virtio-serial-$bus")
}

# machine_args: the same for a machine's own kernel and initramfs, and its job's disk.
# Whoever connects to the socket $console may type.
machine_args() {
	qemu_args "$machine/vmlinuz" "$machine/initrd" "$append" "$out/kernel.log"
	# shellcheck disable=SC2054
	qemu+=(-drive "if=none,id=job,file=$tmp/job.tar,format=raw,readonly=on"
		-device "virtio-blk-$bus,drive=job,serial=lab-job")
	[[ -n $console ]] || return 0
	local n
	for n in "${!qemu[@]}"; do
		[[ ${qemu[n]} != file,id=log,* ]] ||
			qemu[n]="socket,id=log,path=$console,server=on,wait=off,logfile=$out/kernel.log"
	done
}

# qemu_accel kvm|tcg|counting: prints the arguments.
qemu_accel() {
	case $1 in
	kvm) echo -accel kvm -cpu host ;;
	tcg)
		echo -accel tcg,thread=multi,tb-size=512
		((${#foreign[@]})) || echo -cpu max
		;;
	# All CPUs in turn; a guest that waits is not waited for.
	counting) echo -accel tcg,thread=single,tb-size=512 -cpu max -icount shift=0,sleep=off ;;
	esac
}

# pick_accel: kvm in $accel only if a guest was seen to run under it since this
# machine booted: the device may exist, open, and then hang the guest.
pick_accel() {
	accel=tcg
	[[ -r /dev/kvm && -w /dev/kvm && ${#foreign[@]} == 0 ]] || return 0
	local boot_id answer
	boot_id=$(</proc/sys/kernel/random/boot_id)
	answer=$cache/kvm-$boot_id
	[[ -f $answer ]] || with_lock kvm probe_kvm
	accel=$(<"$answer")
}

probe_kvm() {
	[[ ! -f $answer ]] || return 0
	local t0=$SECONDS found=tcg dir=$tmp/probe log=$tmp/probe.log pid qemu
	say "guest: probing whether KVM really works ..."
	initramfs_base "$dir"
	pack "$dir" >"$dir.initrd"
	qemu_args "$vmlinuz" "$dir.initrd" llb.probe "$log"
	# shellcheck disable=SC2046
	# The shell between keeps the news of an abort out of our stderr.
	background bash -c '"$@"; exit' probe "${qemu[@]}" $(qemu_accel kvm) \
		</dev/null >"$tmp/probe.err" 2>&1
	pid=$started
	while kill -0 "$pid" 2>/dev/null && ((SECONDS - t0 < 10)); do
		sleep 0.1
		! grep -q 'KVM internal error' "$tmp/probe.err" || break
		if grep -q llb-probe-ok "$log" 2>/dev/null; then
			found=kvm
			break
		fi
	done
	kill -KILL -- "-$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	finished "$pid"
	rm -f -- "$cache"/kvm-*
	printf '%s\n' "$found" >"$answer.tmp"
	mv -- "$answer.tmp" "$answer"
	say "guest: probing whether KVM really works: $((SECONDS - t0)) s, using $found"
}

start_qemu() {
	local image accel qemu name n=0
	pick_accel
	((count == 0)) || accel=counting
	label="$suite/$kernel $accel"
	if [[ -n $machine ]]; then
		label="$suite/machine $accel"
		machine_args
	else
		root_image "${root##*/}"
		qemu_args "$vmlinuz" "$tmp/initrd" "$append" "$out/kernel.log"
		# shellcheck disable=SC2054
		qemu+=(-drive "if=none,id=root,file=$image,format=raw,readonly=on"
			-device "virtio-blk-$bus,drive=root")
	fi
	for name in "${disks[@]}"; do
		n=$((n + 1))
		qemu+=(-drive "if=none,id=disk$n,file=$name,format=raw"
			-device "virtio-blk-$bus,drive=disk$n")
	done
	# shellcheck disable=SC2054
	# The last, so that the job's disks have the names that they always have.
	[[ ! $kernel_dir ]] ||
		qemu+=(-drive "if=none,id=modules,file=$kernel_dir/modules.ext4,format=raw,readonly=on"
			-device "virtio-blk-$bus,drive=modules,serial=llb-modules")
	qemu+=(-chardev "file,id=job,path=$out/job.log"
		-chardev "file,id=out,path=$tmp/channels/out.tar"
		-chardev "file,id=result,path=$tmp/channels/result")
	for name in job out result; do
		qemu+=(-device "virtserialport,chardev=$name,name=$name")
	done
	# shellcheck disable=SC2046
	background setpriv --pdeathsig KILL "${qemu[@]}" $(qemu_accel "$accel") </dev/null >"$tmp/stderr" 2>&1
}

# Seconds with one decimal since the guest was started.
elapsed() {
	local ms=$((($(date +%s%N) - t0_ns) / 1000000))
	printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

said() { grep -qx -e "$1 $nonce$2" "$tmp/channels/result" 2>/dev/null; }

# watch_guest: until the guest is gone or its time is up. Sets $problem and
# $problem_status if it did not end as it should.
watch_guest() {
	local seen_start='' seen_result='' seen_us=0 bytes=0 heard_us=0 asked_us=0
	pace_start
	while kill -0 "$guest_pid" 2>/dev/null; do
		pace_tick
		if [[ -z $seen_start ]] && said llb-start ''; then
			seen_start=$(elapsed)
			boot_s=$seen_start
			heard_us=$paced_us
		fi
		if [[ -z $seen_result ]] && said llb-result ' [0-9]*'; then
			seen_result=1 seen_us=$paced_us
		fi
		if [[ -n $seen_result ]]; then
			over "$seen_us" $poweroff_timeout_s \
				"did not power off within $poweroff_timeout_s s of its result" || break
		elif ! over 0 "$timeout_s" "timed out after $timeout_s s"; then
			break
		elif [[ -z $seen_start ]]; then
			over 0 $boot_timeout_s "did not reach its job within $boot_timeout_s s" || break
			if ! talks "$out/kernel.log" $boot_silence_s; then
				problem="stood still in its boot for $problem"
				stood_still=1
				break
			fi
		elif [[ -n $cut_at ]] && grep -qxF -e "$cut_at" "$out/job.log"; then
			cut=1
			break
		elif ((silence_s)) && ! talks "$out/job.log" "$silence_s"; then
			problem="said nothing for $problem"
			break
		fi
		sleep 0.05
	done
	kill -KILL -- "-$guest_pid" 2>/dev/null || true
	wait "$guest_pid" 2>/dev/null || true
	finished "$guest_pid"
}

# talks FILE SECONDS: fails, with the time as the problem, if nothing was added to it for
# so many seconds. It is looked at twice a second at most: that costs a process.
talks() {
	local size
	((paced_us - asked_us > 500000)) || return 0
	asked_us=$paced_us
	size=$(stat -c %s "$1")
	if ((size != bytes)); then
		bytes=$size heard_us=$paced_us
	fi
	over "$heard_us" "$2" "$2 s"
}

# over SINCE_US SECONDS WHAT: fails, with WHAT as the problem, if so many seconds of the
# reference went by since then.
over() {
	((paced_us - $1 >= $2 * 1000000)) || return 0
	problem="$3 of the reference's time ($(elapsed) s here)"
	problem_status=$exit_timeout
	return 1
}

# job_status: what the guest's final word says; nothing if it said none.
job_status() {
	sed -nE "s/^llb-result $nonce ([0-9]{1,3})\$/\1/p" "$tmp/channels/result" 2>/dev/null |
		tail -n 1
}

# bad_log: the lines of the kernel log that must not be there.
bad_log() { python3 "$repo/tests/guest/llb/faults.py" "$out/kernel.log"; }

cmd_guest() {
	local suite kernel cpus mem timeout_s silence_s append out job udev disks job_args
	local machine console cut_at cut
	local root kver files vmlinuz kernel_dir='' foreign=() serial=ttyS0 bus=pci busybox
	local tmp nonce label guest_pid t0 t0_ns boot_s='-'
	local problem='' problem_status=0 stood_still='' status lines boots=1
	guest_options "$@"
	cmd_packages
	busybox=$(type -P busybox)
	if is_foreign_kernel "$kernel"; then
		need_foreign "$kernel"
		busybox=$root/usr/bin/busybox
	else
		need_root_of "$suite"
	fi
	choose_kernel
	tmp=$(mktemp -d --tmpdir llbitmap-lab.XXXXXX)
	cleanup_dirs+=("$tmp")
	mkdir "$tmp/channels"
	prepare_out
	nonce=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
	if [[ -n $machine ]]; then make_job_disk; else make_initramfs; fi
	run_guest
	while emulator_fault && ((boots++ < most_boots)); do
		say "guest $label: ${problem:-"QEMU's int3 fault during boot"}; booting once more"
		run_guest
	done
	collect_out
	judge
}

# choose_kernel: which is booted, and which files have its modules.
choose_kernel() {
	files=$root vmlinuz=$root/boot/vmlinuz-$kver
	case $kernel in
	stock | arm64* | ppc64le | s390x) ;;
	uml) need_uml ;;
	*)
		local release=$kernel
		if is_debug_kernel "$kernel"; then
			need_debug_kernel "$kernel"
		else
			need_kernel "$kernel"
		fi
		[[ -f $kernel_dir/vmlinuz && -f $kernel_dir/modules.ext4 ]] ||
			die "kernel $kernel is offered without an image, or without modules"
		kver=$release files=$kernel_dir/files vmlinuz=$kernel_dir/vmlinuz
		;;
	esac
}

run_guest() {
	truncate -s 0 "$out/kernel.log" "$out/job.log" "$tmp/channels/result"
	boot_s='-' problem='' problem_status=0 stood_still=''
	case $kernel in
	uml) start_uml ;;
	*) start_qemu ;;
	esac
	guest_pid=$started
	t0=$SECONDS t0_ns=$(date +%s%N)
	tail -n +1 -s 0.1 --pid="$guest_pid" -f "$out/job.log" 2>/dev/null &
	local tail_pid=$!
	watch_guest
	wait "$tail_pid" 2>/dev/null || true
}

# QEMU before 8.1 can run a stale translation of the int3 that Linux writes while
# it patches its own code with other processors running (jump labels), once in
# some hundred boots (more often on a busy machine). And on a very busy one a guest may
# come to a standstill as long as its timer ticks at a fixed rate: it does nothing but
# serve them (seen at load 30). Either is taken for that only before the job began.
emulator_fault() {
	[[ $label == *tcg && $boot_s == - ]] || return
	[[ -z $stood_still ]] || return 0
	[[ -z $problem ]] && grep -qaE 'int3: 0000 \[#1\]' "$out/kernel.log"
}

collect_out() {
	[[ -s $tmp/channels/out.tar ]] || return 0
	tar -C "$out" --exclude=./kernel.log --exclude=./job.log \
		--no-same-owner -xf "$tmp/channels/out.tar" 2>>"$tmp/stderr" ||
		problem=${problem:-"sent a damaged /out"}
}

# judge: one line to stderr and the exit status.
judge() {
	status=$(job_status)
	lines=$(bad_log) || lines='nobody could read it'
	[[ -z $lines ]] || say "kernel log:"$'\n'"$(head -n 20 <<<"$lines")"
	if [[ -n $problem ]]; then
		problem+="; its log ends: $(tr -d '\r\000' <"$out/kernel.log" | tail -n 1)"
		((problem_status)) || problem_status=$exit_died
	elif [[ -n $cut && -z $lines ]]; then
		say "guest $label: cut off at '$cut_at' (boot $boot_s s, all $(elapsed) s)"
		exit 0
	elif [[ -z $status ]]; then
		problem="ended without a final word" problem_status=$exit_died
		[[ -z $lines ]] || problem+=": $(head -n 1 <<<"$lines")"
	elif ((status)); then
		problem="job failed with status $status" problem_status=$status
	elif [[ -n $lines ]]; then
		problem="kernel log has a line that must not be there: $(head -n 1 <<<"$lines")"
		problem_status=$exit_log
	fi
	if ((problem_status == exit_died || problem_status == exit_timeout)) &&
		[[ -z $status ]]; then
		tail -n 15 "$out/kernel.log" | tr -d '\r\000' >&2
		tail -n 5 "$tmp/stderr" >&2
	fi
	say "guest $label: ${problem:-job passed} (boot $boot_s s, all $(elapsed) s)"
	exit "$problem_status"
}
