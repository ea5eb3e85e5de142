//! The DaemonSet as Kustomize renders it, played by podman, which is no kubelet: it makes the same container, but asks no probes,
//! and has no cluster around it. Image and rendering are made on the host, by `tests/shipped`.

use anyhow::{Context as _, Result, ensure};

use super::{Case, Kernels, expect_parts, export::sum, plain, truths};
use crate::guest::Said;

/// Only the pod's own network leads to the exporter. Where Kubernetes has a field that switches seccomp off, podman has an
/// annotation, and its own profile refuses perf_event_open.
const SCRIPT: &str = "
mkdir -p /var/lib/containers; mount -t tmpfs none /var/lib/containers; cp /opt/prefault/image.archive /tmp
podman load --quiet --input /tmp/image.archive > load 2>&1 || { cat load >&2; exit 1; }; rm /tmp/image.archive
annotation='s|^    metadata:$|&\\n      annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined}|'
sed \"$annotation\" /opt/prefault/kubernetes-base.yaml > pod.yaml
ask() { nsenter --target \"$pod\" --net busybox wget -q -O - \"http://127.0.0.1:29186$1\"; }
play() {
    podman kube play --quiet --network none --log-opt path=/tmp/pod.log pod.yaml || return
    for _ in {1..600}; do pod=$(pgrep --exact prefault) && ask /-/ready && break; sleep 0.1; done > ready 2> /dev/null
    # A line may have come in parts.
    cut -d ' ' -f 4- /tmp/pod.log | tr -d '\\n' > said
    cat /proc/$pod/status > status; ls /proc/$pod/root > files; touch /proc/$pod/root/file 2> read-only
    for space in mnt net pid; do [ /proc/$pod/ns/$space -ef /proc/1/ns/$space ] && echo $space; done > shared
    workload resident /mnt/ext4 > truth; ask /metrics > metrics; ask /-/healthy > healthy
    podman kube down pod.yaml
}
sysctl -qw kernel.perf_event_paranoid=2; play > log 2>&1; code=$?; attached_after_a_while > left
[ $code = 0 ] || { cat log said >&2; podman pod rm --all --force --time 0; }
findmnt --noheadings --output SOURCE /mnt/ext4 > device; rm /tmp/pod.log
sysctl -qw kernel.perf_event_paranoid=3; umount --recursive /var/lib/containers; exit $code
";

pub const CASES: &[Case] = &[plain("container image as a DaemonSet", Kernels::Reference, 300, SCRIPT, |said, _| {
    said.expect_code(0)?;
    ensure!(
        said.file("ready")? == "ready\n" && said.file("healthy")? == "healthy\n",
        "it is not ready, or not healthy"
    );
    let greeting = said.file("said")?;
    let n_messages = greeting.matches("prefault: ").count();
    ensure!(greeting.starts_with("prefault: measuring at ") && n_messages == 1, "it said\n{greeting}");
    confined(said)?;
    counted(said)?;
    // Ending waits for the kernel to let go of every probe.
    ensure!(!said.file("log")?.contains("SIGKILL"), "it did not end in time\n{}", said.file("log")?);
    ensure!(said.file("left")?.is_empty(), "still attached: {}", said.file("left")?);
    Ok(())
})];

/// It has become another user, with the capabilities of the DaemonSet that it still needs, and of the host only what it is to see.
fn confined(said: &Said) -> Result<()> {
    let status = said.file("status")?;
    for set in ["CapPrm", "CapEff"] {
        expect_parts(&status, &[&format!("{set}:\t000000c400000000\n")])?;
    }
    // What it was given besides is to become another user: no_new_privs keeps it from having that again.
    expect_parts(&status, &["CapBnd:\t000000c4000000c0\n", "Uid:\t65520\t65520\t65520\t65520\n"])?;
    // The filters are the tool's own.
    expect_parts(&status, &["NoNewPrivs:\t1\n", "Seccomp:\t2\nSeccomp_filters:\t2\n"])?;
    expect_parts(&said.file("files")?, &["prefault\n"])?;
    expect_parts(&said.file("read-only")?, &["Read-only file system"])?;
    ensure!(said.file("shared")? == "pid\n", "of the host's namespaces it has {}", said.file("shared")?);
    Ok(())
}

/// What the workload wrote, under the name that the device has on the host.
fn counted(said: &Said) -> Result<()> {
    let metrics = said.file("metrics")?;
    let writes: u64 = truths(said)?.iter().map(|truth| truth.writes).sum();
    let counted = sum(&metrics, "prefault_writes_total", "ext4");
    ensure!(writes > 0 && counted == writes, "{counted} writes were counted, expected {writes}");
    let device = said.file("device")?;
    let device = device.trim().strip_prefix("/dev/").context("ext4 has no device")?;
    expect_parts(&metrics, &[&format!("\nprefault_writes_total{{fstype=\"ext4\",device=\"{device}\"}} ")])
}
