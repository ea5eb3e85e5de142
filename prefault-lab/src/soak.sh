# Runs the exporter for $MINUTES under load while everything around it comes and goes. Leaves: truth, scrapes (one metric of each
# scrape), answered (seconds that each scrape took), failures, memory (resident KiB, once a round), rounds, last.
truncate --size 100M /tmp/f2fs; mkfs.f2fs -q /tmp/f2fs; modprobe loop; losetup /dev/loop1 /tmp/f2fs
mkdir -p /mnt/f2fs /mnt/other
begin_export -v
( while ! [ -e stop ]; do
    begun=$EPOCHREALTIME
    if scrape > scraped; then grep -h '^prefault_writes_total' scraped >> scrapes; else echo failed >> failures; fi
    awk "BEGIN { print $EPOCHREALTIME - $begun }" >> answered
    # One a second, or the next one at once.
    sleep "$(awk "BEGIN { rest = 1 - ($EPOCHREALTIME - $begun); print rest > 0 ? rest : 0 }")"
done ) & scraper=$!
( while ! [ -e stop ]; do workload absent /mnt/ext4 /mnt/xfs /mnt/btrfs >> truth; sleep 0.2; done ) & load=$!
end=$((SECONDS + 60 * MINUTES))
while [ $SECONDS -lt $end ]; do
    load_module f2fs export.log && mount -t f2fs /dev/loop1 /mnt/f2fs || break
    workload absent /mnt/f2fs >> of_module
    umount /mnt/f2fs; modprobe -r f2fs || break
    mount -t ramfs none /mnt/other; workload absent /mnt/other >> of_module; umount /mnt/other
    # What is written meanwhile is counted all the same.
    kill -STOP $tool; sleep 3; kill -CONT $tool
    awk '/VmRSS/ { print $2 }' /proc/$tool/status >> memory
    echo round >> rounds
done
touch stop; wait $scraper $load
cat of_module >> truth; scrape > last; end_export; code=$?
losetup -d /dev/loop1; rm /tmp/f2fs; exit $code
