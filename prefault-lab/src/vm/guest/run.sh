#!/run/lab/bin/sh
# Process 1 of a guest once the root filesystem is there: mounts the rest, runs the command with its streams on the
# virtio-serial ports, reports its exit code and switches the guest off. With lab.systemd on the kernel's command line it
# hands process 1 over to systemd, as whose service it goes on from there.
lab=/run/lab
stdin=/dev/vport0p1
stdout=/dev/vport0p2
stderr=/dev/vport0p3
control=/dev/vport0p4
export PATH=$lab/bin HOME=/root LANG=C.UTF-8
cd /root || exit

prepare() {
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
}

become_systemd() {
    mkdir -p /run/systemd/system
    # Without it, systemd takes this for a first boot, and asks.
    echo 70726566617561740000000000000001 > /etc/machine-id
    cat > /run/systemd/system/lab.service << END
[Unit]
Requires=basic.target
After=basic.target
[Service]
ExecStart=$lab/run command
KillMode=none
END
    exec /usr/lib/systemd/systemd
}

if [ "$1" != command ]; then
    prepare
    read -r words < /proc/cmdline
    case " $words " in
        *" lab.systemd "*) become_systemd ;;
    esac
fi
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

# Ends what the command left running, which would keep its output open, and the reader of an input it did not use up: what
# a setsid has put into another session than this script's.
end_sessions() {
    own=$(session $$)
    for process in $(processes); do
        other=$(session "$process") && [ "$other" != "$own" ] && kill -9 "$process"
    done 2> /dev/null
}

# Those of the guest that were not there before the command.
if [ "$1" = command ]; then
    processes() { cat /sys/fs/cgroup/system.slice/lab.service/cgroup.procs; }
else
    processes() { (cd /proc && echo [0-9]*); }
fi

session() {
    read -r line < "/proc/$1/stat" || return
    # shellcheck disable=SC2086
    set -- ${line##*) }
    echo "$4"
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
