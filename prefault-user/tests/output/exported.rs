//! Hand-made snapshots as an exporter shows them.

use prefault_user::data::{
    Exported, Filesystem, Floor, Labels, Mechanism, Operation, ProcessUse, SeriesTable, Silenced, SiteCount,
    SiteMechanism, Snapshot, Timing,
};

use super::snapshots::{PATH_NAMES, limited};

/// Measuring began 40 minutes before; each filesystem is mounted at `mount_point`, if that is shown.
pub fn exported(snapshot: &Snapshot, mount_point: Option<&str>) -> Exported {
    let label = |filesystem: &Filesystem| {
        let Filesystem { fstype, device, .. } = filesystem.clone();
        Some(Labels { fstype, device, mount_point: mount_point.map(str::to_owned) })
    };
    let begin_ns = snapshot.at_ns - 2_400_000_000_000;
    let totals =
        SeriesTable::new(3, mount_point.is_some()).totals(begin_ns, snapshot, &PATH_NAMES, label).expect("in order");
    let site = |operation, mechanism, count| SiteCount { operation, mechanism, count };
    let kprobe = SiteMechanism::By(Mechanism::CallSite);
    Exported {
        kernel: "6.12.107+deb13-amd64".to_owned(),
        timing: Timing::OneIn(16),
        floor: Some(Floor { jump_ns: Some(362), trap_ns: Some(791) }),
        begin_unix_ns: 1_790_000_001_000_000_000,
        uptime_ns: totals.interval.duration_ns,
        filesystems: totals.filesystems,
        n_over_limit: totals.n_over_limit,
        n_without_slot: 3,
        exemplars: Vec::new(),
        loss: totals.interval.loss,
        silenced: Silenced::default(),
        own_cost: totals.interval.own_cost,
        limited: mount_point.is_none().then(limited),
        sites: vec![
            site(Operation::Prefault, SiteMechanism::None, 1),
            site(Operation::Copy, SiteMechanism::None, 0),
            site(Operation::Prefault, kprobe, 8),
            site(Operation::Copy, kprobe, 9),
        ],
        process: Some(ProcessUse { resident_bytes: 12_345_344, cpu_seconds: 1.25, start_seconds: 1_790_000_000.5 }),
    }
}
