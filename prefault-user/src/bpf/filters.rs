//! Filters as the programs want them: sets in maps, and bits in the configuration.

use std::{ffi::OsString, fs::File, path::PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{CgroupArray, HashMap},
};
use prefault_ebpf::{Config, filter, map};

/// Which writes are measured: those that match every filter that is not empty.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Process ids.
    pub processes: Vec<u32>,
    /// Whether processes that these start are measured too.
    pub follow: bool,
    /// Names of threads, or of the first threads of processes, at most 15 bytes.
    pub comms: Vec<OsString>,
    /// Folder of a cgroup of version 2.
    pub cgroup: Option<PathBuf>,
    /// Filesystem types, at most 31 bytes.
    pub fstypes: Vec<String>,
    /// Device numbers as the kernel's `dev_t`.
    pub devices: Vec<u32>,
}

impl Filters {
    /// Whether some filesystems are left out.
    pub(super) fn by_filesystem(&self) -> bool {
        !self.fstypes.is_empty() || !self.devices.is_empty()
    }

    /// Writes into `config` what the programs have to ask.
    pub(super) fn configure(&self, config: &mut Config) {
        let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
        config.filter = bit(self.follow || !self.processes.is_empty(), filter::PROCESSES)
            | bit(!self.comms.is_empty(), filter::COMMS)
            | bit(self.cgroup.is_some(), filter::CGROUP)
            | bit(!self.fstypes.is_empty(), filter::FSTYPES)
            | bit(!self.devices.is_empty(), filter::DEVICES);
        config.only_process = match (self.follow, self.processes.as_slice()) {
            (false, &[process]) => process,
            _ => 0,
        };
    }

    /// Fills the sets.
    pub(super) fn fill(&self, bpf: &mut Ebpf) -> Result<()> {
        fill_set(bpf, map::PROCESSES, self.processes.iter().copied())?;
        fill_set(bpf, map::COMMS, self.comms.iter().map(|comm| padded::<16>(comm.as_encoded_bytes())))?;
        fill_set(bpf, map::FSTYPES, self.fstypes.iter().map(|fstype| padded::<32>(fstype.as_bytes())))?;
        fill_set(bpf, map::DEVICES, self.devices.iter().copied())?;
        if let Some(path) = &self.cgroup {
            let cgroup = File::open(path).with_context(|| format!("failed to open the cgroup {}", path.display()))?;
            let cgroups = bpf.map_mut(map::CGROUPS).context("the BPF object has no map of cgroups")?;
            CgroupArray::try_from(cgroups)?.set(0, cgroup, 0).with_context(|| {
                format!("failed to use the cgroup {}: it has to be a folder of cgroup version 2", path.display())
            })?;
        }
        Ok(())
    }
}

fn fill_set<K: aya::Pod>(bpf: &mut Ebpf, name: &str, keys: impl Iterator<Item = K>) -> Result<()> {
    let map = bpf.map_mut(name).with_context(|| format!("the BPF object has no map {name}"))?;
    let mut set = HashMap::<_, K, u8>::try_from(map)?;
    for key in keys {
        set.insert(key, 0, 0).with_context(|| format!("failed to set a filter: too many entries for {name}"))?;
    }
    Ok(())
}

/// `text` padded with NUL; what does not fit is cut off.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    bytes
}
