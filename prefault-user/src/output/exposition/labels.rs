//! Labels of samples.

use crate::data::Labels;

/// Labels of one sample.
pub type Set<'a> = Vec<(&'static str, &'a str)>;

impl Labels {
    /// Those of a filesystem.
    pub(super) fn set(&self) -> Set<'_> {
        let mount_point = self.mount_point.as_deref().map(|mount_point| ("mountpoint", mount_point));
        [("fstype", &*self.fstype), ("device", &*self.device)].into_iter().chain(mount_point).collect()
    }

    /// Those of a filesystem and more.
    pub(super) fn with<'a>(&'a self, more: &[(&'static str, &'a str)]) -> Set<'a> {
        let mut set = self.set();
        set.extend(more);
        set
    }
}
