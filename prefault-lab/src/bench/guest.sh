# Prints `variant|workload|instructions` for every variant of measuring and every workload, and `variant|traps|number`.
# Filesystems are mounted, and QUICK is 1 if only the main case is wanted.
mkdir -p /tmp/bench
cat > /tmp/bench/workloads <<'END'
4 KiB tmpfs|--size 4096 /mnt/tmpfs
64 KiB tmpfs|--size 65536 --count 50 /mnt/tmpfs
1 MiB tmpfs|--size 1048576 --count 5 /mnt/tmpfs
1 byte tmpfs|--size 1 /mnt/tmpfs
4 KiB absent tmpfs|--absent /mnt/tmpfs
4 KiB ext4|--size 4096 /mnt/ext4
64 KiB ext4|--size 65536 --count 50 /mnt/ext4
1 MiB ext4|--size 1048576 --count 5 /mnt/ext4
1 byte ext4|--size 1 /mnt/ext4
4 KiB absent ext4|--absent /mnt/ext4
END
if [ "$QUICK" = 1 ]; then
    sed -i 1q /tmp/bench/workloads
fi

# What runs while the tool of a variant measures.
cat > /tmp/bench/measure <<'END'
# The kernel makes jumps of kprobes a while after they were placed.
sleep 2
while IFS='|' read -r name arguments; do
    # Words of the arguments are meant to be split.
    echo "$1|$name|$(pace $arguments < /dev/null)"
done < /tmp/bench/workloads
echo "$1|int3 points in generic_perform_write|$(grep ' generic_perform_write+' /sys/kernel/debug/kprobes/list | grep -cv -e OPTIMIZED -e FTRACE)"
END
run() {
    name=$1
    shift
    "$@" bash /tmp/bench/measure "$name" || echo "$name failed" >&2
}

run nothing
run prefault prefault --output /dev/null --
run 'others filtered out' prefault --comm nobody --output /dev/null --
run 'no latency' prefault --no-latency --output /dev/null --
run 'one in 100' prefault --sample 100 --output /dev/null --
run 'kprobes only' prefault --mechanism optimised --output /dev/null --
if [ "$QUICK" = 1 ]; then
    exit 0
fi

# The same points as a script: entry and return of the path, both calls, and the instructions behind them, which are five
# bytes further.
site() {
    prefault doctor --dry-run | sed -n "s/^ *$1 *generic_perform_write+\(0x[0-9a-f]*\) .*/\1/p" | head -n 1
}
prefault=$(site prefault)
copy=$(site copy)
cat > /tmp/bench/script.bt <<END
kprobe:generic_perform_write { @w[tid] = nsecs; }
kretprobe:generic_perform_write /@w[tid]/ { @write = hist(nsecs - @w[tid]); delete(@w, tid); }
kprobe:generic_perform_write+$((prefault)) { @p[tid] = nsecs; }
kprobe:generic_perform_write+$((prefault + 5)) /@p[tid]/ { @prefault = hist(nsecs - @p[tid]); delete(@p, tid); }
kprobe:generic_perform_write+$((copy)) { @c[tid] = nsecs; @asked[tid] = arg2; }
kprobe:generic_perform_write+$((copy + 5)) /@c[tid]/ {
    @copy = hist(nsecs - @c[tid]);
    if (reg("ax") < @asked[tid]) { @short = count(); }
    delete(@c, tid);
    delete(@asked, tid);
}
END
bpftrace -q -o /tmp/bench/bpftrace.out /tmp/bench/script.bt -c 'bash /tmp/bench/measure bpftrace' || cat /tmp/bench/script.bt >&2
exit 0
