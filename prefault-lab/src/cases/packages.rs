//! The Debian package as an administrator uses it: installed, started, scraped, stopped and removed, with systemd as process 1;
//! and the container image. Both are made on the host, by `tests/shipped`.

use anyhow::{Context as _, Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts, export::sum, plain, truths};
use crate::guest::Said;

const fn case(
    name: &'static str,
    limit_seconds: u64,
    script: &'static str,
    check: fn(&Said, &Context) -> Result<()>,
) -> Case {
    Case { name, kernels: Kernels::Reference, boot: Boot::Systemd, group: Group::Core, limit_seconds, script, check }
}

/// The log of the service says why it did not start.
const SCRIPT: &str = "
failed() { journalctl --no-pager --unit prefault.service | tail -n 20 >&2; exit 1; }
# systemd attaches something of its own.
probes > before; ours() { probes | grep --invert-match --line-regexp --fixed-strings --file=before; }
dpkg --install /opt/prefault/prefault.deb > install 2>&1 || { cat install >&2; exit 1; }
dpkg --listfiles prefault > files
systemctl is-enabled prefault.service prefault.socket > fresh; systemctl is-active prefault.service >> fresh
systemctl start prefault.service || failed
process=$(systemctl show --property MainPID --value prefault.service)
cat /proc/$process/status > status
systemctl show --property StatusText,NRestarts prefault.service > shown
workload absent /mnt/tmpfs > truth
scrape > metrics || failed
systemd-analyze --no-pager security prefault.service > security
kill -KILL $process
for _ in {1..300}; do
    [ \"$(systemctl show --property NRestarts --property SubState --value prefault.service | xargs)\" = '1 running' ] && break
    sleep 0.2
done
scrape > restarted || failed
# A process that stands still is ended by systemd's watchdog, and another one started.
mkdir -p /run/systemd/system/prefault.service.d
mkdir --mode=775 /var/lib/textfile; chgrp adm /var/lib/textfile
printf '[Service]\nWatchdogSec=6\nRestartSec=1\nSupplementaryGroups=adm\nReadWritePaths=/var/lib/textfile\n' \\
    > /run/systemd/system/prefault.service.d/test.conf
options='--listen localhost:29186 --textfile /var/lib/textfile/prefault.prom --interval 1'
echo \"PREFAULT_OPTIONS='$options'\" > /etc/default/prefault
systemctl daemon-reload; systemctl restart prefault.service || failed
# As node_exporter's user.
setpriv --reuid 65534 --regid 65534 --clear-groups cat /var/lib/textfile/prefault.prom > textfile
process=$(systemctl show --property MainPID --value prefault.service)
sleep 15; systemctl show --property NRestarts prefault.service > watched; kill -STOP $process
for _ in {1..300}; do
    [ \"$(systemctl show --property NRestarts --property SubState --value prefault.service | xargs)\" = '1 running' ] && break
    sleep 0.2
done
journalctl --no-pager --unit prefault.service | grep --only-matching 'Watchdog timeout' >> watched
[ -e /proc/$process ] && echo 'still there' >> watched
scrape > watchdog || failed
rm -r /run/systemd/system/prefault.service.d; systemctl daemon-reload
echo \"PREFAULT_OPTIONS=''\" > /etc/default/prefault
# An upgrade restarts the service, and is none the worse for one that cannot start.
process=$(systemctl show --property MainPID --value prefault.service)
dpkg --install /opt/prefault/prefault.deb > upgrade 2>&1; echo $? > upgraded
[ -e /proc/$process ] || systemctl is-active prefault.service >> upgraded
echo \"PREFAULT_OPTIONS='--nonsense'\" > /etc/default/prefault
dpkg --install /opt/prefault/prefault.deb > upgrade 2>&1; echo $? >> upgraded
echo \"PREFAULT_OPTIONS=''\" > /etc/default/prefault; systemctl reset-failed prefault.service
systemctl restart prefault.service || failed
systemctl stop prefault.service || failed
sleep 1; ours > stopped
systemctl enable --now --quiet prefault.socket || failed
scrape > activated || failed
systemctl is-active prefault.service prefault.socket > active
dpkg --purge prefault > purge 2>&1 || { cat purge >&2; exit 1; }
while read -r file; do [ -d \"$file\" ] || { [ -e \"$file\" ] && echo \"$file\"; }; done < files > left
find /etc /var/lib/prefault /var/lib/private /run/systemd /usr/share/prefault /usr/share/doc/prefault -name '*prefault*' \\
    -not -path '/run/systemd/journal/*' >> left 2> /dev/null
systemctl list-units --all --no-legend 'prefault*' >> left; ours >> left
cat security
";

/// What is in the image alone in a root of its own, with the capabilities and mounts that a container of it gets; its user and
/// network are the guest's.
const IMAGE: Case = plain(
    "container image",
    Kernels::Reference,
    150,
    "sysctl -qw kernel.perf_event_paranoid=2; root=/tmp/container; mkdir -p $root
tar --extract --file /opt/prefault/image.tar --directory $root || exit; mkdir $root/proc $root/sys
mount --rbind -o ro /proc $root/proc; mount --rbind -o ro /sys $root/sys
caps=-all,+bpf,+perfmon,+syslog,+sys_chroot
# shellcheck disable=SC2046
setpriv --inh-caps=$caps --bounding-set=$caps chroot $root $(cat /opt/prefault/image.command) 2> log & tool=$!
for _ in {1..600}; do grep -qs 'measuring at' log && break; sleep 0.1; done
cat /proc/$tool/status > status; readlink /proc/$tool/root > where
workload resident /mnt/ext4 > truth; scrape > metrics; kill -TERM $tool; wait $tool; code=$?
for folder in proc sys; do mount --make-rprivate $root/$folder; umount --recursive $root/$folder; done
rm -r $root; sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
    |said, _| {
        said.expect_code(0)?;
        ensure!(said.file("where")? == "/tmp/container\n", "it runs in {}", said.file("where")?);
        expect_parts(&said.file("status")?, &["CapEff:\t000000c400000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"])?;
        let writes: u64 = truths(said)?.iter().map(|truth| truth.writes).sum();
        let counted = sum(&said.file("metrics")?, "prefault_writes_total", "ext4");
        ensure!(writes > 0 && counted == writes, "{counted} writes were counted, expected {writes}");
        Ok(())
    },
);

pub const CASES: &[Case] = &[
    IMAGE,
    case("Debian package", 480, SCRIPT, |said, _| {
        said.expect_code(0)?;
        ensure!(said.file("fresh")? == "disabled\ndisabled\ninactive\n", "after installing: {}", said.file("fresh")?);
        expect_parts(&said.file("shown")?, &["StatusText=measuring at ", "NRestarts=0"])?;
        expect_parts(
            &said.file("status")?,
            &["CapEff:\t000000c400200000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapAmb:\t0000000000000000\n"],
        )?;
        ensure!(!said.file("status")?.contains("Uid:\t0\t"), "runs as root");
        let writes: u64 = truths(said)?.iter().map(|truth| truth.writes).sum();
        ensure!(counted(&said.file("metrics")?)? == writes, "counted is not {writes}:\n{}", said.file("metrics")?);
        ensure!(said.file("watched")? == "NRestarts=0\nWatchdog timeout\n", "the watchdog: {}", said.file("watched")?);
        expect_parts(&said.file("textfile")?, &["\nprefault_up 1"])?;
        ensure!(!said.file("textfile")?.contains("process_"), "what node_exporter has already");
        ensure!(
            said.file("upgraded")? == "0\nactive\n0\n",
            "upgrades: {}\n{}",
            said.file("upgraded")?,
            said.file("upgrade")?
        );
        for file in ["restarted", "watchdog", "activated"] {
            expect_parts(&said.file(file)?, &["\nprefault_up 1"])?;
        }
        ensure!(said.file("stopped")?.is_empty(), "attached after stopping: {}", said.file("stopped")?);
        ensure!(said.file("active")? == "active\nactive\n", "by the socket: {}", said.file("active")?);
        ensure!(said.file("left")?.is_empty(), "left after purging: {}", said.file("left")?);
        exposure(&said.file("security")?)
    }),
];

/// Writes to tmpfs in a scrape, those of systemd's own tmpfs mounts included: the workload's are on one of its own.
fn counted(metrics: &str) -> Result<u64> {
    let of_tmpfs = |line: &&str| line.starts_with("prefault_writes_total{") && line.contains("fstype=\"tmpfs\"");
    let values = metrics.lines().filter(of_tmpfs).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.map(|value| value as u64).max().context("no writes to tmpfs were counted")
}

/// What is left open is what measuring takes; systemd calls up to 2 well protected.
const MOST_EXPOSED: f64 = 3.0;

fn exposure(security: &str) -> Result<()> {
    let line = security.lines().find(|line| line.contains("Overall exposure level"));
    let level = line.and_then(|line| line.split(": ").nth(1)?.split_whitespace().next()?.parse::<f64>().ok());
    let level = level.with_context(|| format!("no exposure level in\n{security}"))?;
    ensure!(level <= MOST_EXPOSED, "exposure level {level}, at most {MOST_EXPOSED} is expected\n{security}");
    Ok(())
}
