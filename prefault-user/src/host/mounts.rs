//! Mount tables: of this process, and of the host. They are bytes: a path may hold any but NUL, and any user can mount (FUSE).
//!
//! Our own reader, because the crates that read mountinfo (procfs 0.18 and others) take it for UTF-8 and leave escapes in paths.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, open};

/// The mounts of this process, and of the one whose mounts are the host's.
const OWN: &str = "/proc/self/mountinfo";
const OF_HOST: &str = "/proc/1/mountinfo";

/// Filesystem types that keep no file in pages: what is written to them is a call of the kernel. `autofs` stands where a filesystem
/// is not mounted yet.
const PAGELESS: [&str; 24] = [
    "anon_inodefs",
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nfsd",
    "nsfs",
    "pipefs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// One mount: a line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount; no two that exist have the same, in whichever namespace.
    pub id: u64,
    /// Device number of the filesystem, as the kernel's `dev_t`.
    pub device: u32,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Type, with a subtype behind a dot (`fuse.sshfs`); what is not UTF-8 is replaced.
    pub fstype: String,
    /// What is mounted: anything that the mounting process said; mostly a device, or the name of the type.
    pub source: OsString,
}

impl Mount {
    /// Reads a line, without its newline (Documentation/filesystems/proc.rst, 3.5; fs/proc_namespace.c, show_mountinfo). `None` if it
    /// has another form.
    fn parse(line: &[u8]) -> Option<Self> {
        // A source may be empty, so that every space counts.
        let mut fields = line.split(|&byte| byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = device_number(std::str::from_utf8(fields.nth(1)?).ok()?)?;
        let mount_point = PathBuf::from(unescaped(fields.nth(1)?));
        // Optional fields end with a dash.
        fields.find(|&field| field == b"-")?;
        let fstype = String::from_utf8_lossy(unescaped(fields.next()?).as_bytes()).into_owned();
        let source = unescaped(fields.next()?);
        Some(Self { id, device, mount_point, fstype, source })
    }

    /// The type as the kernel's own code calls it, which has no subtype.
    pub fn main_type(&self) -> &str {
        main_type(&self.fstype)
    }
}

/// A type without its subtype.
pub fn main_type(fstype: &str) -> &str {
    fstype.split('.').next().unwrap_or(fstype)
}

/// Why nothing that is written to a filesystem of this type is counted there, if that is so.
pub fn why_not_counted(fstype: &str) -> Option<&'static str> {
    if fstype == "overlay" {
        return Some("an overlay, whose writes go to the filesystem of its upper folder: give that one");
    }
    PAGELESS.contains(&fstype).then_some("a filesystem without a page cache, to which there are no buffered writes")
}

/// `8:1` as the kernel's `dev_t`.
pub fn device_number(text: &str) -> Option<u32> {
    let (major, minor) = text.trim_end().split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then(|| kernel_number(major, minor))
}

/// Both halves as the kernel's `dev_t`.
pub fn kernel_number(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// `text` with each escape of three octal digits made the byte it stands for, once: the kernel escapes what would end a field, and
/// the backslash (seq_path and mangle in fs).
fn unescaped(text: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<3>().filter(|_| first == b'\\');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &behind[3..] } else { behind };
    }
    OsString::from_vec(bytes)
}

/// All mounts of a table; lines of an unknown form are left out.
fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mount = |line: &[u8]| {
        let mount = Mount::parse(line);
        if mount.is_none() {
            log::info!("a mount is left out, its line has an unknown form: {:?}", OsStr::from_bytes(line));
        }
        mount
    };
    lines.filter_map(mount).collect()
}

/// All mounts that this process sees.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn mounts() -> Result<Vec<Mount>> {
    Ok(parse(&fs::read(OWN).with_context(|| format!("failed to read {OWN}"))?))
}

/// All mounts of process 1, which sees those of the host, and then those of this process: a service or a container has a
/// table of its own, in which filesystems are missing or are at other places. Only the latter if /proc hides process 1.
///
/// # Errors
/// If /proc/self/mountinfo cannot be read.
pub fn host_mounts() -> Result<Vec<Mount>> {
    let mut all = fs::read(OF_HOST).map(|table| parse(&table)).unwrap_or_default();
    all.extend(mounts()?);
    Ok(all)
}

/// The mount that holds what is at `path`: the file itself says it, whatever it is called and whatever is mounted over it.
///
/// # Errors
/// If there is no such file, or its mount is in no table.
pub fn mount_of(path: &Path) -> Result<Mount> {
    let id = mount_id(path).with_context(|| format!("failed to look at {}", path.display()))?;
    let found = host_mounts()?.into_iter().find(|mount| mount.id == id);
    found.with_context(|| {
        format!(
            "{} is on a mount that is in the mount table neither of this process nor of process 1: run prefault where it is mounted",
            path.display()
        )
    })
}

/// Number of the mount that `path` is on, from the descriptor of a file that is not opened for anything (3.15). statx(2) says the
/// same, but only since 5.8, and its device number is that of a subvolume on btrfs.
fn mount_id(path: &Path) -> io::Result<u64> {
    let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let info = fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let info = String::from_utf8_lossy(&info);
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "/proc/self/fdinfo names no mount");
    id.and_then(|id| id.trim().parse().ok()).ok_or_else(unexpected)
}

/// Of mounts over one another at `mount_point`, as the table has it, the one that is seen.
pub fn seen_at<'a>(mounts: &'a [Mount], mount_point: &Path) -> Option<&'a Mount> {
    let above = |mount: &&Mount| mount_point.starts_with(&mount.mount_point);
    mounts.iter().filter(above).max_by_key(|mount| (mount.mount_point.components().count(), mount.id))
}

/// Filesystem types that the running kernel has loaded, and whether each is on a block device.
///
/// # Errors
/// If /proc/filesystems cannot be read.
pub fn known_types() -> Result<Vec<(String, bool)>> {
    let path = "/proc/filesystems";
    let table = fs::read(path).with_context(|| format!("failed to read {path}"))?;
    let types = parse_types(&String::from_utf8_lossy(&table));
    ensure!(!types.is_empty(), "{path} lists no filesystem type");
    Ok(types)
}

/// Reads lines like `nodev\tproc` and `\text4`.
fn parse_types(table: &str) -> Vec<(String, bool)> {
    let lines = table.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(nodev, name)| (name.to_owned(), nodev.is_empty())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::source::changed;

    fn parsed(line: &[u8]) -> (u64, u32, Vec<u8>, String, Vec<u8>) {
        let mount = Mount::parse(line).expect("well formed");
        let source = mount.source.into_vec();
        (mount.id, mount.device, mount.mount_point.into_os_string().into_vec(), mount.fstype, source)
    }

    #[test]
    fn device_numbers_are_read() {
        let cases = [("8:1", Some(0x80_0001)), ("0:45\n", Some(45)), ("8", None), ("a:1", None), ("4096:0", None)];
        for (text, expected) in cases {
            assert_eq!(device_number(text), expected, "{text}");
        }
    }

    #[test]
    fn a_line_is_bytes_and_its_escapes_are_decoded_once() {
        let plain = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parsed(plain), (36, 98 << 20, b"/mnt2".to_vec(), "ext3".to_owned(), b"/dev/root".to_vec()));
        let odd = b"1 0 0:45 / /tmp/a\\040b\\011\\012\\134\\043\\134040 rw - tmpfs x\\040y rw";
        assert_eq!(
            parsed(odd),
            (1, 45, b"/tmp/a b\t\n\\#\\040".to_vec(), "tmpfs".to_owned(), b"x y".to_vec()),
            "a backslash that was there before three digits stays"
        );
        let bytes = b"1 0 0:45 / /\xff\xfe rw shared:1 - fuse.\xff  rw";
        assert_eq!(parsed(bytes), (1, 45, b"/\xff\xfe".to_vec(), "fuse.\u{fffd}".to_owned(), Vec::new()));
        assert_eq!(Mount::parse(bytes).expect("well formed").main_type(), "fuse");
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in [&b"\\"[..], b"a\\04", b"\\999", b"\\x41", b"plain"] {
            assert_eq!(unescaped(text).as_bytes(), text);
        }
    }

    #[test]
    fn any_path_comes_through_as_the_kernel_escapes_it() {
        const EXAMPLE: &[u8] =
            b"36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n1 0 0:45 / /a\\040b rw - tmpfs x rw\n";
        bolero::check!().for_each(|input: &[u8]| {
            let path: Vec<u8> = input.iter().copied().filter(|&byte| byte != 0).collect();
            let escaped = path.iter().flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                byte => vec![byte],
            });
            let line = [b"7 1 0:5 / /".to_vec(), escaped.collect(), b" rw - tmpfs none rw".to_vec()].concat();
            assert_eq!(parsed(&line).2, [b"/", &path[..]].concat());
            // Whatever else the table says, there is an answer.
            let table = [changed(EXAMPLE, input), b"\n".to_vec(), line].concat();
            assert!(parse(&table).iter().any(|mount| mount.id == 7));
        });
    }

    #[test]
    fn a_line_of_another_form_harms_no_other() {
        let table = b"1 0 0:1 / /a rw - tmpfs a rw\nx\n2 0 0:2 / /b rw tmpfs b rw\n3 0 0:3 / /c rw - tmpfs c rw\n";
        assert_eq!(parse(table).iter().map(|mount| mount.id).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn the_mount_of_a_file_is_the_one_that_its_device_says() {
        for path in ["/proc/self", "/proc", "/"] {
            let mount = mount_of(Path::new(path)).expect("mounted");
            let stat = rustix::fs::stat(path).expect("there");
            let device = kernel_number(rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
            // On btrfs and overlay stat says another number, which is why it is not asked.
            assert!(mount.device == device || ["btrfs", "overlay"].contains(&&*mount.fstype), "{path}: {mount:?}");
        }
        assert!(mount_of(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn of_mounts_over_one_another_the_last_is_seen() {
        let table = b"1 0 0:1 / / rw - tmpfs a rw\n2 1 0:2 / /a rw - tmpfs b rw\n3 2 0:3 / /a rw - tmpfs c rw\n";
        let mounts = parse(table);
        let seen = |path: &str| seen_at(&mounts, Path::new(path)).map(|mount| mount.id);
        assert_eq!((seen("/a"), seen("/ab"), seen("/a/b")), (Some(3), Some(1), Some(3)));
    }

    #[test]
    fn types_are_read_with_what_they_are_on() {
        let types = parse_types("nodev\tproc\n\text4\n");
        assert_eq!(types, [("proc".to_owned(), false), ("ext4".to_owned(), true)]);
    }
}
