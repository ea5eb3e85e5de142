# The guest's part of the end-to-end test of the exporter: files tell the host how far it is, and the host's tell it to go on.
wait_for() {
    for _ in {1..1500}; do
        [ -e "$1" ] && return
        [ -e host ] && break
        sleep 0.1
    done
    echo "the host did not write $1" >&2
    return 1
}

modprobe virtio_net || exit
for interface in /sys/class/net/*; do
    [ "${interface##*/}" = lo ] || ip addr add 10.0.2.15/24 dev "${interface##*/}"
    ip link set "${interface##*/}" up
done

prefault export --listen :29186 --own-cost --exemplars 2> log & tool=$!
for _ in {1..600}; do
    grep -qs 'measuring at' log && break
    sleep 0.1
done
# Of copies and prefaults that fail there are none in the load, whose counts are judged.
mkdir -p /mnt/ramfs; mount -t ramfs none /mnt/ramfs; workload half --count 5 /mnt/ramfs > half
touch serving
for round in 1 2; do
    wait_for load-$round || break
    # shellcheck disable=SC2086
    { workload resident --count 500 $MOUNTED; workload absent --count 100 $MOUNTED; } > truth-$round
    touch loaded-$round
done
wait_for host
kill -TERM $tool
wait $tool
