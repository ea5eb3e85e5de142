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

# Loads the module $1 and waits until the tool, whose standard error with --verbose is the file $2, has probed it.
load_module() {
    local before
    before=$(grep -c "probed .*$1" "$2")
    modprobe "$1" || return
    for _ in {1..600}; do
        [ "$(grep -c "probed .*$1" "$2")" -gt "$before" ] && return
        sleep 0.1
    done
    echo "$1 was not probed within 60 s" >&2
    return 1
}

# Unloads the module $1 and keeps in the file "left" the kprobes that are still known after the tool has had time to let go of
# them: those of a module that is gone have no symbol any more.
unload_module() {
    modprobe -r "$1" || return
    for _ in {1..100}; do
        grep -h -e "$1" -e '\[GONE\]' /sys/kernel/debug/kprobes/list > left || return 0
        sleep 0.1
    done
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

# Tries what an attacker would, as the user $1, with the switches that follow. Not in the current directory: 9p makes inodes anew at
# each look, which landlock's rules do not survive.
attack_as() {
    local user=$1 folder code
    shift
    for folder in readable writable other; do
        mkdir -p /tmp/c/$folder
        echo x > /tmp/c/$folder/file
    done
    chmod -R a+rwX /tmp/c
    confined "$@" /tmp/c "$user:$user"
    code=$?
    rm -r /tmp/c
    return $code
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

# Runs the exporter with the options given, has a module come, be written through, and go, and keeps what was exported.
exports_a_module() {
    # As the service does.
    umask 077; begin_export -v --listen 127.0.0.1:29186 --textfile /tmp/textfile/prefault.prom -i 0.5 "$@"; umask 022
    stat --format=%a /tmp/textfile/prefault.prom > mode
    cat /proc/$tool/status > status
    truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs; mkdir -p /mnt/f2fs
    load_module f2fs export.log && mount -t f2fs /dev/loop1 /mnt/f2fs || return
    workload absent /mnt/f2fs >> truth
    umount /mnt/f2fs; grep -h f2fs /sys/kernel/debug/kprobes/list > probes; unload_module f2fs || return
    scrape > metrics
    cp /tmp/textfile/prefault.prom textfile
    end_export; code=$?
    losetup -d /dev/loop1; rm -r /tmp/f2fs /tmp/textfile; return $code
}

