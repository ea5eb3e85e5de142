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

