//! The files of a web config: read once each, within bounds, and known again by what the kernel says of them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ring::digest;

/// Bytes of a file; what is longer is none of these files.
const MOST_BYTES: u64 = 1024 * 1024;
/// What was changed so short a time before it was looked at may be changed again without another time. A tick is 10 ms at most;
/// the rest is for clocks of file servers.
const UNSETTLED: Duration = Duration::from_secs(1);

/// What the kernel says of a file that changes with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Whether a further change would be seen by its times.
    is_settled: bool,
}

impl Stamp {
    /// That of a file as it is now, `None` if it is not there.
    fn of(path: &Path) -> Option<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_settled: u64::try_from(metadata.ctime()).unwrap_or(0) < now.saturating_sub(UNSETTLED).as_secs(),
        })
    }
}

/// Files that were read, as they were before that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

impl Stamps {
    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Whether a file is another one now, or may be without showing it.
    pub fn may_have_changed(&self) -> bool {
        self.0
            .iter()
            .any(|(path, stamp)| stamp.is_some_and(|stamp| !stamp.is_settled) || !is_same(*stamp, Stamp::of(path)))
    }
}

fn is_same(one: Option<Stamp>, other: Option<Stamp>) -> bool {
    // Having become settled is no change.
    let content = |stamp: Stamp| Stamp { is_settled: true, ..stamp };
    one.map(content) == other.map(content)
}

/// Reads files and remembers which.
pub struct Files {
    stamps: Stamps,
    contents: digest::Context,
}

impl Default for Files {
    fn default() -> Self {
        Self { stamps: Stamps::default(), contents: digest::Context::new(&digest::SHA256) }
    }
}

impl Files {
    /// The content of a file.
    ///
    /// # Errors
    /// If it cannot be read, or is too long.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // Before it is read: what changes meanwhile is seen the next time.
        let stamp = Stamp::of(path);
        self.stamps.0.entry(path.to_owned()).or_insert(stamp);
        let mut content = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(format!("it is longer than {MOST_BYTES} bytes")));
        }
        self.contents.update(&content.len().to_le_bytes());
        self.contents.update(&content);
        Ok(content)
    }

    /// What was read, and a digest of all contents.
    pub fn finish(self) -> (Stamps, digest::Digest) {
        (self.stamps, self.contents.finish())
    }
}
