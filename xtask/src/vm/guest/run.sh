#!/run/lab/bin/sh
# Process 1 of a guest once the root filesystem is there: mounts the rest, runs the command with its streams on the
# virtio-serial ports, reports its exit code and switches the guest off.
lab=/run/lab
stdin=/dev/vport0p1
stdout=/dev/vport0p2
stderr=/dev/vport0p3
control=/dev/vport0p4
export PATH=$lab/bin HOME=/root LANG=C.UTF-8
cd /root || exit

mkdir -p /dev/pts /dev/shm /opt/prefault /share
ln -s /proc/self/fd /dev/fd
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
options=trans=virtio,version=9p2000.L,msize=262144
for tag in /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag; do
    read -r name < "$tag"
    case $name in
        tools*) mount -t 9p -o "ro,cache=loose,$options" tools /opt/prefault ;;
        share*) mount -t 9p -o "$options" share /share ;;
    esac
done
hostname prefault
ifconfig lo 127.0.0.1 up
ulimit -l unlimited

while ! [ -c "$control" ]; do
    sleep 0.01
done
exec 9> "$control"
# The host announces the ports in order, and this write waits for the last of them. Read earlier, standard input would look
# closed.
echo started >&9

run() {
    export PATH=/opt/prefault:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    "$lab/bin/setsid" /bin/sh "$lab/command"
    echo $? > "$lab/code"
    end_sessions
}

# Ends what the command left running, which would keep its output open, and the reader of an input it did not use up. All of
# them, and nothing else, are in a session that a setsid has started.
end_sessions() {
    for stat in /proc/[0-9]*/stat; do
        read -r line < "$stat" || continue
        # shellcheck disable=SC2086
        set -- ${line##*) }
        if [ "$4" != 0 ]; then
            kill -9 "${line%% *}"
        fi
    done 2> /dev/null
}

# Pipes stand between the command and the ports, which refuse to be opened a second time, as /dev/stderr would.
{
    {
        setsid cat "$stdin" 3>&- 9>&- | run 2>&3 3>&- 9>&- | cat > "$stdout" 3>&- 9>&-
    } 3>&1 | cat > "$stderr" 9>&-
}
umount /share 2> /dev/null
read -r code < "$lab/code"
echo "exit $code" >&9
poweroff -f
