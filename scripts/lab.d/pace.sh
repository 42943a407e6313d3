# shellcheck shell=bash
# How fast this machine is just now, for limits that a busy or a slow one cannot miss. A
# limit is a guard against hanging: it is noted in seconds of the reference, and what is
# counted against it is real time divided by how many times slower the machine is.
#
# The work is a loop of the shell. The reference: 20,000 turns took 39 to 55 ms of CPU time
# on one idle core of the machine that the limits were made on (the same core took 110 ms at
# load 5, and three times as long in a control group with a third of a CPU).

pace_turns=20000 pace_reference_us=50000
pace_every_us=5000000 # between two samples: some 50 ms of work in 5 s
pace_most=3000        # per cent; a hang has to end some time

pace=100        # per cent of the reference's time; never less
paced_us=0      # microseconds of the reference since pace_start
pace_at_us=0    # when that was brought up to date
pace_next_us=0  # when the next sample is due

# pace_of MICROSECONDS: the pace if the work took so long, in $pace.
pace_of() {
	pace=$(($1 * 100 / pace_reference_us))
	((pace >= 100)) || pace=100
	((pace <= pace_most)) || pace=$pace_most
}

pace_sample() {
	local began=${EPOCHREALTIME/[.,]/} turn
	for ((turn = 0; turn < pace_turns; turn++)); do :; done
	pace_of $((${EPOCHREALTIME/[.,]/} - began))
}

pace_start() {
	pace_sample
	paced_us=0 pace_at_us=${EPOCHREALTIME/[.,]/}
	pace_next_us=$((pace_at_us + pace_every_us))
}

# pace_tick: brings $paced_us up to date; call it every now and then. A new sample counts
# for the time before it too if it is the slower one: the machine was busy by then.
pace_tick() {
	local now=${EPOCHREALTIME/[.,]/} before=$pace
	if ((now >= pace_next_us)); then
		pace_sample
		now=${EPOCHREALTIME/[.,]/}
		pace_next_us=$((now + pace_every_us))
	fi
	pace_spend $((now - pace_at_us)) $((pace > before ? pace : before))
	pace_at_us=$now
}

# pace_spend MICROSECONDS PACE: so much time went by at that pace.
pace_spend() {
	paced_us=$((paced_us + $1 * 100 / $2))
}
