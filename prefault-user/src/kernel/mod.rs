//! Kernel facts: what the running kernel is, as one value that is read once and never changes.
//!
//! Everything after this decides from these facts alone. Tests build the same value from files saved from real kernels.

pub mod btf;
pub mod frozen;
pub mod names;
pub mod preemption;
pub mod switches;
pub mod symbols;
pub mod text;
pub mod types;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    data::{Code, Problem, Silence},
    phases::Phases,
};
use switches::is_off;
use symbols::Symbols;
use text::{Kcore, ReadText};
use types::{BtfTypes, Types};

/// What is known of the running kernel.
pub struct Kernel {
    /// Release string, as `uname -r` prints it. For people, never for decisions.
    pub release: String,
    /// Functions of the kernel and its modules.
    pub symbols: Symbols,
    /// The live text.
    pub text: Box<dyn ReadText>,
    /// Structure layouts and prototypes.
    pub types: Box<dyn Types>,
    /// Whether kernel code is preempted.
    pub preemptible: bool,
    /// Whether points that ftrace makes are switched off (sysctl kernel.ftrace_enabled).
    pub ftrace_off: bool,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("release", &self.release).finish_non_exhaustive()
    }
}

/// Why the facts could not be read.
#[derive(Debug)]
pub enum FactsError {
    /// A file of the kernel could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// /proc/kallsyms is empty.
    NoSymbols,
    /// All addresses in /proc/kallsyms are 0.
    AddressesHidden,
    /// /sys/kernel/btf/vmlinux does not exist.
    NoBtf,
    /// The BTF cannot be parsed.
    BadBtf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: btf::BtfError,
    },
}

impl FactsError {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Unreadable { path, source } => Problem::new(Code::Unreadable)
                .what(format!("failed to read {}", path.display()))
                .cause(source.to_string())
                .errno(source.raw_os_error()),
            Self::NoSymbols => Problem::new(Code::NoSymbols),
            Self::AddressesHidden => Problem::new(Code::AddressesHidden),
            Self::NoBtf => Problem::new(Code::NoBtf),
            Self::BadBtf { path, source } => {
                Problem::new(Code::BadBtf).what(format!("failed to parse {}", path.display())).cause(source.to_string())
            }
        }
    }
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl std::error::Error for FactsError {}

impl Kernel {
    /// Reads the facts of the running kernel below `root` (normally `/`). `fallback` reads text where /proc/kcore
    /// cannot be read.
    ///
    /// # Errors
    /// [`FactsError`] if symbols or BTF cannot be had; whatever the fallback answers if it is needed and fails.
    pub fn read<E: From<FactsError>>(
        root: &Path,
        phases: &Phases,
        fallback: impl FnOnce(io::Error) -> Result<Box<dyn ReadText>, E>,
    ) -> Result<Self, E> {
        let release = release(root)?;
        let kallsyms = phases.measure("read kallsyms", || read_bytes(&root.join("proc/kallsyms")))?;
        let symbols = phases.measure("parse symbols", || Symbols::parse(&kallsyms))?;
        drop(kallsyms);
        let types = phases.measure("read types", || BtfTypes::open(&root.join("sys/kernel/btf")))?;
        let text: Box<dyn ReadText> =
            match Kcore::open(&root.join("proc/kcore")).and_then(|kcore| readable(kcore, &symbols)) {
                Ok(kcore) => Box::new(kcore),
                Err(error) => fallback(error)?,
            };
        let preemptible = preemption::is_preemptible(&symbols, &*text);
        let ftrace_off = is_off(root, Silence::FtraceOff);
        Ok(Self { release, symbols, text, types: Box::new(types), preemptible, ftrace_off })
    }
}

/// The release of the running kernel, from below `root`.
///
/// # Errors
/// If the file cannot be read.
pub fn release(root: &Path) -> Result<String, FactsError> {
    let release = read_bytes(&root.join("proc/sys/kernel/osrelease"))?;
    Ok(String::from_utf8_lossy(&release).trim_end().to_owned())
}

/// `kcore` if text can really be read from it: lockdown and some containers let it open and read as nothing.
fn readable(kcore: Kcore, symbols: &Symbols) -> io::Result<Kcore> {
    let range = symbols.text_of(None).into_iter().next();
    let mut bytes = [0; 4096];
    if let Some(range) = range {
        kcore.read_text(range.start, &mut bytes)?;
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "kernel text reads as zeros"));
    }
    Ok(kcore)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FactsError> {
    fs::read(path).map_err(|source| FactsError::Unreadable { path: path.to_owned(), source })
}
