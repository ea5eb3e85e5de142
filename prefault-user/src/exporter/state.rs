//! What there is to export now: snapshots of the session, summed up into series.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use procfs::process::Process;

use super::session_thread::SessionThread;
use crate::{
    cli::export::{ExportArgs, SeriesArgs},
    data::{Exemplar, Exported, Filesystem, Labels, ProcessUse, SeriesTable, Timing},
    host::mounts::{Mount, host_mounts, kernel_number},
};

/// Scrapes that come so soon after one another are answered from one snapshot.
const SHARED_FOR: Duration = Duration::from_millis(100);

/// The state of an exporter beside its session.
pub struct State {
    table: SeriesTable,
    begin_ns: u64,
    begin_unix_ns: u64,
    timing: Timing,
    latest: Option<(Instant, Arc<Exported>)>,
}

impl State {
    /// The state at the begin of a session.
    pub fn new(tended: &SessionThread, args: &ExportArgs) -> Self {
        let table = SeriesTable::new(args.max_series_filesystems as usize, args.series.with_mount_point);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let begin_unix_ns = unix.as_nanos() as u64;
        let begin_ns = tended.snapshot().0.at_ns;
        Self { table, begin_ns, begin_unix_ns, timing: tended.timing, latest: None }
    }

    /// What there is to export now.
    ///
    /// # Errors
    /// If counters went backwards.
    pub fn exported(&mut self, tended: &SessionThread, which: &SeriesArgs) -> Result<Arc<Exported>> {
        if let Some((when, latest)) = &self.latest
            && when.elapsed() < SHARED_FOR
        {
            return Ok(Arc::clone(latest));
        }
        let (snapshot, path_names) = tended.snapshot();
        // Read once, and only if there is a new filesystem.
        let mut mounts_now: Option<Vec<Mount>> = None;
        let label = |filesystem: &Filesystem| {
            let mount_point = which.with_mount_point.then(|| {
                let mounts = mounts_now.get_or_insert_with(|| host_mounts().unwrap_or_default());
                mount_point(mounts, filesystem)
            });
            let Filesystem { fstype, device, .. } = filesystem.clone();
            let labels = Labels { fstype, device, mount_point };
            which.shows(&labels).then_some(labels)
        };
        let totals = self.table.totals(self.begin_ns, &snapshot, &path_names, label)?;
        let exported = Arc::new(Exported {
            kernel: tended.kernel.clone(),
            begin_unix_ns: self.begin_unix_ns,
            timing: self.timing,
            floor: tended.floor,
            uptime_ns: totals.interval.duration_ns,
            filesystems: totals.filesystems,
            n_over_limit: totals.n_over_limit,
            n_without_slot: tended.n_without_slot(),
            exemplars: self.exemplars(tended),
            loss: totals.interval.loss,
            silenced: snapshot.silenced,
            own_cost: totals.interval.own_cost,
            limited: tended.limited(),
            sites: tended.sites(),
            process: process_use(),
        });
        self.latest = Some((Instant::now(), Arc::clone(&exported)));
        Ok(exported)
    }

    fn exemplars(&self, tended: &SessionThread) -> Vec<Exemplar> {
        let at_unix_ns = |monotonic_ns: u64| self.begin_unix_ns + monotonic_ns.saturating_sub(self.begin_ns);
        let events = tended.events().into_iter();
        events.map(|event| Exemplar { unix_ns: at_unix_ns(event.timestamp_ns), event }).collect()
    }
}

impl SeriesArgs {
    /// Whether a filesystem of these labels is exported.
    fn shows(&self, labels: &Labels) -> bool {
        let shows = |exclude: &Option<regex_lite::Regex>, include: &Option<regex_lite::Regex>, text: &str| {
            exclude.as_ref().is_none_or(|exclude| !exclude.is_match(text))
                && include.as_ref().is_none_or(|include| include.is_match(text))
        };
        let mount_point = labels.mount_point.as_deref().unwrap_or_default();
        shows(&self.fstype_exclude, &self.fstype_include, &labels.fstype)
            && shows(&self.device_exclude, &self.device_include, &labels.device)
            && shows(&self.mount_point_exclude, &self.mount_point_include, mount_point)
    }
}

/// The first mount of a filesystem, empty if it is mounted nowhere. Of the same type: numbers are used again, and a block device has
/// that of the filesystem on it. What is not UTF-8 is replaced.
fn mount_point(mounts: &[Mount], filesystem: &Filesystem) -> String {
    let number = kernel_number(filesystem.major, filesystem.minor);
    let is_of = |mount: &&Mount| mount.device == number && mount.main_type() == filesystem.fstype;
    mounts.iter().find(is_of).map(|mount| mount.mount_point.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What this process takes, `None` if /proc does not say.
fn process_use() -> Option<ProcessUse> {
    let stat = Process::myself().and_then(|process| process.stat()).ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let boot = procfs::boot_time_secs().ok()? as f64;
    Some(ProcessUse {
        resident_bytes: stat.rss * procfs::page_size(),
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        start_seconds: boot + stat.starttime as f64 / ticks,
    })
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn a_mount_point_is_that_of_the_filesystem_as_text() {
        let mount = |fstype: &str, device, place: &[u8]| Mount {
            id: 1,
            device,
            mount_point: OsStr::from_bytes(place).into(),
            fstype: fstype.to_owned(),
            source: "x".into(),
        };
        let mounts = [mount("fuse.x", 45, b"/fuse"), mount("tmpfs", 45, b"/a \xff\n"), mount("tmpfs", 45, b"/later")];
        let filesystem =
            |fstype: &str| Filesystem { fstype: fstype.to_owned(), device: "-".to_owned(), major: 0, minor: 45 };
        assert_eq!(mount_point(&mounts, &filesystem("tmpfs")), "/a \u{fffd}\n");
        assert_eq!(mount_point(&mounts, &filesystem("fuse")), "/fuse");
        assert_eq!(mount_point(&mounts, &filesystem("bdev")), "");
    }
}
