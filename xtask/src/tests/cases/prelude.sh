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

# Waits until there is such a file.
wait_for_file() {
    for _ in {1..600}; do
        [ -e "$1" ] && return
        sleep 0.1
    done
    echo "$1 did not appear within 60 s" >&2
    return 1
}

# Waits until the module $1 is probed, of which the entries of its paths come last.
wait_until_probed() {
    for _ in {1..300}; do
        grep -q "$1" /sys/kernel/debug/kprobes/list && break
        sleep 0.1
    done
    sleep 2
}

# Starts the exporter in the background as $tool, with further arguments, and waits until it answers.
begin_export() {
    prefault export "$@" 2> export.log & tool=$!
    for _ in {1..600}; do
        grep -qs 'measuring at' export.log && return
        sleep 0.1
    done
    cat export.log >&2
    exit 1
}

# Prints the metrics.
scrape() {
    busybox wget -q -O - http://127.0.0.1:29186/metrics
}

# Ends the exporter and returns its exit code.
end_export() {
    kill -TERM $tool
    wait $tool
}

