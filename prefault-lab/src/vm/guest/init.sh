#!/bin/sh
# First program of a guest, run from the initramfs: puts together the root filesystem and hands over to run.sh. It starts
# nothing of that filesystem, because every program read over 9p costs time.
export PATH=/bin

mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
while read -r module; do
    insmod "/modules/$module"
done < /modules/order

# The layers never change while a guest runs, so they may be cached without asking the host again.
layer_options=ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose
mkdir /layers/kernel /layers/root /layers/changes
mount -t 9p -o "$layer_options" kernel /layers/kernel
mount -t 9p -o "$layer_options" root /layers/root
mount -t tmpfs tmpfs /layers/changes
mkdir /layers/changes/upper /layers/changes/work
mount -t overlay -o lowerdir=/layers/kernel:/layers/root,upperdir=/layers/changes/upper,workdir=/layers/changes/work \
    overlay /guest

for directory in dev proc sys; do
    mount --move "/$directory" "/guest/$directory"
done
mount -t tmpfs -o mode=755 tmpfs /guest/run
mkdir /guest/run/lab
cp -a /bin /lab/run /lab/command /guest/run/lab/
exec switch_root /guest /run/lab/run
