# Precedes the script of every case.
probes() {
    cat /sys/kernel/debug/kprobes/list /sys/kernel/tracing/enabled_functions
}

# Waits until the tool has attached to something.
wait_until_attached() {
    for _ in {1..300}; do
        [ -n "$(probes)" ] && return
        sleep 0.1
    done
    echo "nothing was attached within 30 s" >&2
    return 1
}

# Waits until the tool, whose standard error with --verbose is the file $1, measures.
wait_until_measuring() {
    for _ in {1..600}; do
        grep -qs 'loaded and attached' "$1" && return
        sleep 0.1
    done
    echo "nothing was measured within 60 s" >&2
    return 1
}

# Prints what is attached once the kernel has had time to detach it, which it does after all processors were seen idle.
attached_after_a_while() {
    for _ in {1..50}; do
        [ -z "$(probes)" ] && return
        sleep 0.1
    done
    probes
}

# Runs the exporter with the options given, has a module come, be written through, and go, and keeps what was exported.
exports() {
    prefault export -v --listen 127.0.0.1:29186 --textfile /tmp/textfile/prefault.prom -i 0.5 "$@" 2> log & tool=$!
    for _ in {1..600}; do
        grep -qs 'measuring at' log && break
        sleep 0.1
    done
    cat /proc/$tool/status > status
    truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs; mkdir -p /mnt/f2fs
    modprobe f2fs; sleep 4; mount -t f2fs /dev/loop1 /mnt/f2fs || return
    workload absent /mnt/f2fs >> truth
    umount /mnt/f2fs; grep -h f2fs /sys/kernel/debug/kprobes/list > probes; modprobe -r f2fs || return; sleep 3
    grep -h f2fs /sys/kernel/debug/kprobes/list > left
    busybox wget -q -O metrics http://127.0.0.1:29186/metrics
    cp /tmp/textfile/prefault.prom textfile
    kill -TERM $tool; wait $tool; code=$?
    losetup -d /dev/loop1; rm -r /tmp/f2fs /tmp/textfile; return $code
}
