#!/bin/bash
# Runs in a guest: makes the filesystems, then runs each step with its time limit. All results are files below /share, each
# step's code the last of them, so that the host can judge a step while the next one runs.
cd /share || exit
# Only for mkfs.btrfs, which complains without it.
modprobe btrfs
for filesystem in filesystems/*; do
    # Behind a number that puts them in order.
    name=${filesystem#*/??-}
    if bash -e "$filesystem" > "$name.log" 2>&1; then
        echo "/mnt/$name" >> mounted
    fi
done
export MOUNTED
MOUNTED=$(cat mounted)
for step in /share/steps/*; do
    # Done before the guest was booted again.
    [ -e "$step/code" ] && continue
    # The time is over; what the kernel said is still read.
    [ -e /share/stop ] && [[ $step != *-kernel-log ]] && continue
    cd "$step" || exit
    timeout --kill-after=5 "$(cat limit)" bash ./script > stdout 2> stderr < /dev/null
    echo $? > partial
    mv partial code
done
