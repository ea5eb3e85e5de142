//! From what was typed to which writes are measured: names of devices and mounts become device numbers. What can match nothing is
//! an error, and what may match less than it seems is said.

use std::{
    fs::{self, File},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use prefault_ebpf::{MAX_FILTER_ENTRIES, MAX_PROCESSES};
use rustix::fs::fstatfs;

use crate::{
    bpf::filters::Filters,
    cli::FilterArgs,
    host::{
        devices::devices_named,
        environment::has_process_ids_of_host,
        fstypes,
        mounts::{host_mounts, mount_of, why_not_counted},
    },
};

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Reads the filters out of what was `typed`; `has_command` says that a command will be started. What may match less than it seems
/// is said on standard error.
///
/// # Errors
/// If a process, cgroup, filesystem type, device or mount does not exist, or none of its writes could be counted, or `--follow` has
/// nobody to follow.
pub fn filters(typed: &FilterArgs, has_command: bool) -> Result<Filters> {
    if typed.follow || !typed.pids.is_empty() {
        ensure_process_ids("--pid and --follow")?;
    }
    let mut processes = typed.pids.clone();
    processes.sort_unstable();
    processes.dedup();
    processes.iter().try_for_each(|&process| ensure_process(process))?;
    if typed.follow && processes.is_empty() && !has_command {
        bail!("--follow has nobody to follow: give a process with --pid, or a command after --");
    }
    if let Some(cgroup) = &typed.cgroup {
        ensure_cgroup(cgroup)?;
    }
    for fstype in &typed.fstypes {
        fstypes::judge(fstype)?.iter().for_each(|remark| say(remark));
    }
    let mut devices = Vec::new();
    for device in &typed.devices {
        let named = devices_named(device)?;
        named.remark.iter().for_each(|remark| say(remark));
        devices.extend(named.numbers);
    }
    for path in &typed.mounts {
        devices.push(device_of_mount(path)?);
    }
    devices.sort_unstable();
    devices.dedup();
    let filters = Filters {
        processes,
        follow: typed.follow,
        comms: typed.comms.clone(),
        cgroup: typed.cgroup.clone(),
        fstypes: typed.fstypes.clone(),
        devices,
    };
    ensure_room(&filters)?;
    Ok(filters)
}

fn say(remark: &str) {
    eprintln!("prefault: {remark}");
}

/// Demands that the programs' sets can hold everything.
fn ensure_room(filters: &Filters) -> Result<()> {
    let most_processes = if filters.follow { MAX_PROCESSES } else { u32::MAX };
    for (what, n_given, most) in [
        ("--pid", filters.processes.len(), most_processes),
        ("--comm", filters.comms.len(), MAX_FILTER_ENTRIES),
        ("--fstype", filters.fstypes.len(), MAX_FILTER_ENTRIES),
        ("--device and --mount", filters.devices.len(), MAX_FILTER_ENTRIES),
    ] {
        ensure!(n_given <= most as usize, "{what} can be given {most} values at most, not {n_given}");
    }
    Ok(())
}

/// Demands that processes can be told apart, which `what` has to.
///
/// # Errors
/// If they have other numbers here than in the kernel.
pub fn ensure_process_ids(what: &str) -> Result<()> {
    ensure!(
        has_process_ids_of_host(),
        "{what} would measure other processes: here they have other numbers than in the kernel. Run prefault in the host's PID \
         namespace (podman run --pid=host, in Kubernetes hostPID: true)"
    );
    Ok(())
}

/// Demands that `number` is that of a process: threads have a folder in /proc too, which is only not listed.
fn ensure_process(number: u32) -> Result<()> {
    let no_process = || format!("there is no process {number}: look it up with ps or pgrep");
    let status = fs::read(format!("/proc/{number}/status")).with_context(no_process)?;
    let process = thread_group(&String::from_utf8_lossy(&status)).with_context(no_process)?;
    ensure!(process == number, "{number} is not a process but a thread of process {process}: give --pid {process}");
    Ok(())
}

/// The process that /proc/N/status is of.
fn thread_group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Demands a folder of cgroup version 2. The kernel would say so too, once everything is loaded.
fn ensure_cgroup(path: &Path) -> Result<()> {
    let shown = path.display();
    let cgroup = File::open(path).with_context(|| format!("failed to open the cgroup {shown}"))?;
    let magic = fstatfs(&cgroup).with_context(|| format!("failed to look at the cgroup {shown}"))?.f_type;
    let is_cgroup = magic as i64 == CGROUP2_MAGIC && cgroup.metadata().is_ok_and(|metadata| metadata.is_dir());
    if is_cgroup {
        return Ok(());
    }
    let roots = host_mounts()?.into_iter().filter(|mount| mount.fstype == "cgroup2");
    let place = match roots.map(|mount| mount.mount_point).find(|place| place.is_dir()) {
        Some(root) => format!("below {}", root.display()),
        None => "and none is mounted here".to_owned(),
    };
    bail!("{shown} is not a cgroup: it has to be a folder of cgroup version 2, {place}")
}

/// Device number of the filesystem that holds `path`, from the mount table: stat(2) gives another one on btrfs.
fn device_of_mount(path: &Path) -> Result<u32> {
    let shown = path.display();
    let kind = fs::metadata(path).with_context(|| format!("failed to look at {shown}"))?.file_type();
    ensure!(
        !kind.is_block_device() && !kind.is_char_device(),
        "--mount {shown} would measure the filesystem that holds the device file: give --device, or a folder of the filesystem"
    );
    let mount = mount_of(path)?;
    if let Some(why) = why_not_counted(mount.main_type()) {
        bail!(
            "--mount {shown} would count nothing: it is on {} ({}), {why}",
            mount.mount_point.display(),
            mount.fstype
        );
    }
    Ok(mount.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_no_process() {
        assert_eq!(thread_group("Name:\tx\nTgid:\t12\nNgid:\t0\nPid:\t13\n"), Some(12));
        ensure_process(std::process::id()).expect("it is one");
        let thread = std::thread::spawn(rustix::thread::gettid).join().expect("runs").as_raw_nonzero().get() as u32;
        // It may be gone by now; either way it is refused.
        assert!(ensure_process(thread).is_err());
        let error = ensure_process(u32::MAX >> 1).expect_err("too large");
        assert!(format!("{error:#}").contains("there is no process"), "{error:#}");
    }

    #[test]
    fn what_is_no_cgroup_is_refused() {
        for path in ["/", "/proc/self/status", "/nonexistent"] {
            let error = ensure_cgroup(Path::new(path)).expect_err("refused");
            assert!(error.to_string().contains("cgroup"), "{error:#}");
        }
    }

    #[test]
    fn mounts_that_hold_no_pages_are_refused() {
        for (path, why) in [("/proc", "without a page cache"), ("/dev/null", "--device"), ("/nonexistent", "failed")] {
            let error = device_of_mount(Path::new(path)).expect_err("refused");
            assert!(error.to_string().contains(why), "{error:#}");
        }
        device_of_mount(Path::new("/tmp")).expect("a filesystem that stores");
    }

    #[test]
    fn more_than_fits_is_refused() {
        let comms: Vec<_> = (0..=MAX_FILTER_ENTRIES).map(|n| n.to_string().into()).collect();
        let error = ensure_room(&Filters { comms, ..Filters::default() }).expect_err("too many");
        assert_eq!(error.to_string(), "--comm can be given 256 values at most, not 257");
    }
}
