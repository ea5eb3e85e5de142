//! Call sites: every direct call of the prefault and of the atomic copy, and the write path each belongs to.
//!
//! A pure function of kernel facts. Two of the functions we measure cannot be probed themselves on stock kernels, their
//! callers can; and because the calls are found in the text, no list of filesystems has to be kept.

mod apart;
mod arch;
mod floor;
mod function;
mod instructions;
mod paths;
mod scan;

use std::{collections::HashMap, fmt, ops::Range};

use self::{arch::Native, function::FunctionText, instructions::InstructionSet as _};
use crate::{
    data::{Code, Problem},
    kernel::Kernel,
};

pub use crate::data::Operation;
pub use floor::{FloorPlace, FloorPlaces};
pub use instructions::{ArgLocation, ProbePlacement};
pub use paths::{Destination, NoPath, Path};
pub use scan::Call;

/// Where the points of a site and of a path's returns are put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placing {
    /// Where the kernel can make a jump of the breakpoint, if there is such a place.
    #[default]
    Optimisable,
    /// On the call, behind it, and on the instruction that returns.
    Exact,
}

/// How a version of a measured function is called and what it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name in the kernel.
    pub name: &'static str,
    /// What it does.
    pub operation: Operation,
    /// Which argument is the number of bytes, from 0.
    pub bytes_argument: u32,
    /// Which argument is the iterator, from 0.
    pub iter_argument: u32,
    /// It returns 0 or -EFAULT instead of the bytes not faulted in.
    pub returns_errno: bool,
    /// It leaves the iterator where it was.
    pub keeps_iter: bool,
}

impl Signature {
    fn arguments(&self) -> [u8; 2] {
        [self.bytes_argument as u8, self.iter_argument as u8]
    }

    /// Numbers of the registers that hold the bytes asked for and the iterator at a call.
    #[must_use]
    pub fn registers(&self) -> [u8; 2] {
        Native::argument_registers(self.arguments())
    }
}

const fn signature(name: &'static str, operation: Operation, bytes_argument: u32, iter_argument: u32) -> Signature {
    Signature { name, operation, bytes_argument, iter_argument, returns_errno: false, keeps_iter: false }
}

/// Every name the two functions have had. No kernel has two of one operation.
pub const SIGNATURES: [Signature; 5] = [
    // Since 5.16, a6294593e8a1 "iov_iter: Turn iov_iter_fault_in_readable into fault_in_iov_iter_readable".
    signature("fault_in_iov_iter_readable", Operation::Prefault, 1, 0),
    Signature { returns_errno: true, ..signature("iov_iter_fault_in_readable", Operation::Prefault, 1, 0) },
    // Since 6.16; until then an inline function around the next one (include/linux/uio.h).
    signature("copy_folio_from_iter_atomic", Operation::Copy, 2, 3),
    signature("copy_page_from_iter_atomic", Operation::Copy, 2, 3),
    // Until 5.13 (mm/filemap.c advances the iterator itself).
    Signature { keeps_iter: true, ..signature("iov_iter_copy_from_user_atomic", Operation::Copy, 3, 1) },
];

/// A measured function that this kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// How it is called.
    pub signature: Signature,
    /// Its address.
    pub address: u64,
    /// Whether it has an ftrace location, so that the kernel lets it be probed itself; `None` if unclear.
    pub traceable: Option<bool>,
}

/// One call of a measured function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What is called.
    pub target: Target,
    /// Where the call is.
    pub call: Call,
    /// Where it is best probed.
    pub around: ProbePlacement,
    /// Write paths it belongs to, as indices into [`Sites::paths`]: one, or several for a shared helper.
    pub paths: Result<Vec<usize>, NoPath>,
}

/// All calls that were found.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// Measured functions of this kernel.
    pub targets: Vec<Target>,
    /// Their calls, by address.
    pub sites: Vec<Site>,
    /// Write paths that the calls belong to.
    pub paths: Vec<Path>,
    /// Text that could not be read and may hold further calls: start and bytes.
    pub unread: Vec<(u64, u64)>,
}

/// Why there is nothing to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SitesError {
    /// One of the two functions has none of the known names.
    NoTarget {
        /// Which of the two.
        operation: Operation,
        /// The names that were tried.
        names: String,
    },
    /// Both functions are there, but nothing calls them directly.
    NoSite {
        /// The functions.
        names: String,
    },
}

impl SitesError {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NoTarget { operation, names } => Problem::new(Code::NoTarget)
                .what(format!("this kernel has no {operation} function under any known name ({names})")),
            Self::NoSite { names } => {
                Problem::new(Code::NoSite).what(format!("no call of {names} was found in the text of this kernel"))
            }
        }
    }
}

impl fmt::Display for SitesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl std::error::Error for SitesError {}

impl Sites {
    /// Finds all call sites of `kernel`.
    ///
    /// # Errors
    /// [`SitesError`] if a measured function or every call of it is missing.
    pub fn find(kernel: &Kernel, placing: Placing) -> Result<Self, SitesError> {
        let found = Self::find_within(kernel, &kernel.symbols.text(), placing)?;
        if found.sites.is_empty() {
            let names: Vec<_> = found.targets.iter().map(|target| target.signature.name).collect();
            return Err(SitesError::NoSite { names: names.join(" or ") });
        }
        Ok(found)
    }

    /// Finds the call sites in `modules` alone; there may be none.
    ///
    /// # Errors
    /// As [`Sites::find`], but for the calls.
    pub fn find_in_modules(kernel: &Kernel, modules: &[String], placing: Placing) -> Result<Self, SitesError> {
        let ranges: Vec<_> = modules.iter().flat_map(|module| kernel.symbols.text_of(Some(module))).collect();
        Self::find_within(kernel, &ranges, placing)
    }

    fn find_within(kernel: &Kernel, ranges: &[Range<u64>], placing: Placing) -> Result<Self, SitesError> {
        let targets = targets_of(kernel)?;
        let addresses: Vec<u64> = targets.iter().map(|target| target.address).collect();
        let scanned = scan::scan(kernel, &addresses, ranges);
        let mut found = Self { targets, unread: scanned.unread, ..Self::default() };
        let resolved = paths::resolve(kernel, &scanned.calls, placing, |call| {
            found.targets[call.target].signature.operation == Operation::Copy
        });
        found.paths = resolved.paths;
        // What a helper does for a caller that is not understood is told by that caller's call of the helper.
        let strangers = resolved.strangers.into_iter().map(|(number, call, why)| Site {
            target: found.targets[scanned.calls[number].target],
            around: ProbePlacement::exact(&call, found.targets[scanned.calls[number].target].signature),
            call,
            paths: Err(why),
        });
        let mut strangers: Vec<Site> = strangers.collect();
        let mut callers = HashMap::new();
        let mut sites: Vec<Site> = scanned
            .calls
            .into_iter()
            .zip(resolved.of_calls)
            .map(|(call, paths)| {
                let target = found.targets[call.target];
                let caller = callers
                    .entry(call.caller_address)
                    .or_insert_with_key(|&caller| FunctionText::read(kernel, caller, placing));
                Site { target, around: around(caller.as_ref(), &call, target.signature), call, paths }
            })
            .collect();
        // Several calls in one helper have the same strangers.
        strangers.dedup_by_key(|site| (site.call.address, site.target.signature.operation));
        sites.append(&mut strangers);
        apart::keep_apart(&mut sites, &mut found.paths);
        found.sites = sites;
        Ok(found)
    }
}

/// Where `call` in `caller` is best probed; at the call itself, if what is around it cannot be read for certain.
fn around(caller: Option<&FunctionText<'_>>, call: &Call, signature: Signature) -> ProbePlacement {
    // Under another tool's probe instructions are not what they seem.
    let certain = caller.filter(|_| !call.probed);
    let found = certain.and_then(|caller| caller.around(call.address, signature.arguments()));
    let shared = || caller.is_some_and(|caller| caller.is_jumped_to(call.after));
    found.unwrap_or_else(|| ProbePlacement { shared: shared(), ..ProbePlacement::exact(call, signature) })
}

impl ProbePlacement {
    /// On the call itself and on the instruction behind it.
    fn exact(call: &Call, signature: Signature) -> Self {
        let [asked, iter] = signature.registers().map(ArgLocation::Register);
        Self { begin: call.address, asked, iter, behind: None, shared: false, ends: vec![call.after] }
    }
}

fn targets_of(kernel: &Kernel) -> Result<Vec<Target>, SitesError> {
    let targets: Vec<Target> = SIGNATURES
        .into_iter()
        .filter_map(|signature| {
            let address = kernel.symbols.in_kernel(signature.name)?.address;
            Some(Target { signature, address, traceable: scan::is_traceable(kernel, address) })
        })
        .collect();
    for operation in [Operation::Prefault, Operation::Copy] {
        if !targets.iter().any(|target| target.signature.operation == operation) {
            let names: Vec<_> = SIGNATURES.iter().filter(|s| s.operation == operation).map(|s| s.name).collect();
            return Err(SitesError::NoTarget { operation, names: names.join(", ") });
        }
    }
    Ok(targets)
}
