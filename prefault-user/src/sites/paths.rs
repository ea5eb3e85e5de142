//! Write paths: which outer function a call site belongs to.
//!
//! A write path takes `struct kiocb *` first, as BTF shows. A function that calls the prefault or the copy and does not
//! is a helper (btrfs_copy_from_user until 6.12): then its callers are looked at, one level up. Where BTF cannot answer,
//! because modules have none (before 5.11) or the path is no such function, [`EXCEPTIONS`] does.

use std::ops::Range;

use serde::Serialize;

use super::{
    Placing,
    ends::Body,
    scan::{self, Call},
};
use crate::kernel::{Kernel, types::Parameter};

/// A function through which buffered writes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Name.
    pub function: String,
    /// Address.
    pub address: u64,
    /// Where its entry is probed.
    pub entry: u64,
    /// Module, `None` for the kernel.
    pub module: Option<String>,
    /// It copies, itself or in a helper. One that only prefaults is around another path or around direct I/O, and is
    /// a buffered write only if a copying path runs inside it.
    pub copies: bool,
    /// How its arguments say where it writes.
    pub destination: Destination,
    /// Addresses of the instructions that return from it, `None` if it leaves in other ways too.
    pub returns: Option<Vec<u64>>,
    /// Whether it has an ftrace location; `None` if unclear.
    pub traceable: Option<bool>,
    /// It takes a kiocb and is described in the BTF of the kernel itself, which fentry needs.
    pub in_kernel_btf: bool,
}

/// How the arguments of a path say where it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The first one is a kiocb.
    Kiocb,
    /// The first one is a file, the second the position.
    FileAndSecond,
    /// The first one is a file, the third the position.
    FileAndThird,
}

/// What is known of a function that BTF cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exception {
    /// It is a path.
    Path(Destination),
    /// It is a helper: its callers are looked at.
    Helper,
    /// It is called through a pointer, by this function of the kernel.
    CalledBy(&'static str),
}

/// Functions of kernels up to 5.17, read in the source of 5.10 and, where the compiler changed the arguments, in the text of
/// Debian's build.
const EXCEPTIONS: [(&str, Exception); 6] = [
    // (file, i, pos) until 800ba29547e1 "fs: Pass an iocb to generic_perform_write()" in 5.18.
    ("generic_perform_write", Exception::Path(Destination::FileAndThird)),
    // The actor of iomap_apply, until 5.15.
    ("iomap_write_actor", Exception::CalledBy("iomap_file_buffered_write")),
    // In 5.10 the compiler replaces the kiocb by the two members that are used: (file, pos, i).
    ("btrfs_buffered_write.isra.0", Exception::Path(Destination::FileAndSecond)),
    ("btrfs_copy_from_user", Exception::Helper),
    ("fuse_perform_write", Exception::Path(Destination::Kiocb)),
    ("f2fs_file_write_iter", Exception::Path(Destination::Kiocb)),
];

/// Why a call site belongs to no write path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoPath {
    /// Neither the caller nor its callers take a kiocb.
    #[error("not part of a buffered write: neither {0} nor a caller of it takes struct kiocb *")]
    NotAWrite(String),
    /// BTF says nothing about the caller.
    #[error("{0} is not in the BTF of its module, so that its arguments are unknown")]
    NotDescribed(String),
}

/// Write paths, and which of them each call belongs to.
pub struct Resolved {
    /// The paths.
    pub paths: Vec<Path>,
    /// For each call the indices of its paths.
    pub of_calls: Vec<Result<Vec<usize>, NoPath>>,
}

/// Finds the write paths of `calls`; `is_copy` tells which of them copy.
pub fn resolve(kernel: &Kernel, calls: &[Call], placing: Placing, is_copy: impl Fn(&Call) -> bool) -> Resolved {
    let mut resolved = Resolved { paths: Vec::new(), of_calls: Vec::new() };
    for call in calls {
        let copies = is_copy(call);
        let paths = functions_of(kernel, call).map(|functions| {
            functions.into_iter().map(|function| resolved.path_number(kernel, &function, copies, placing)).collect()
        });
        resolved.of_calls.push(paths);
    }
    resolved
}

/// A function by where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    name: String,
    address: u64,
    module: Option<String>,
}

impl Resolved {
    fn path_number(&mut self, kernel: &Kernel, function: &Function, copies: bool, placing: Placing) -> usize {
        if let Some(number) = self.paths.iter().position(|path| path.address == function.address) {
            self.paths[number].copies |= copies;
            return number;
        }
        let destination = match role_of(kernel, function) {
            Role::Path(destination) => destination,
            Role::Helper | Role::CalledBy(_) | Role::Unknown => Destination::Kiocb,
        };
        let described = kernel.types.first_parameter(&function.name, None) != Parameter::Unknown;
        let body = Body::read(kernel, function.address, placing);
        self.paths.push(Path {
            function: function.name.clone(),
            address: function.address,
            entry: body.as_ref().and_then(Body::entry).unwrap_or(function.address),
            module: function.module.clone(),
            copies,
            destination,
            returns: body.as_ref().and_then(Body::returns),
            traceable: scan::is_traceable(kernel, function.address),
            in_kernel_btf: function.module.is_none() && described && destination == Destination::Kiocb,
        });
        self.paths.len() - 1
    }
}

/// The outer functions that a call belongs to.
fn functions_of(kernel: &Kernel, call: &Call) -> Result<Vec<Function>, NoPath> {
    let function = whole_function(kernel, call);
    match role_of(kernel, &function) {
        Role::Path(_) => Ok(vec![function]),
        Role::Unknown => Err(NoPath::NotDescribed(function.name)),
        Role::CalledBy(outer) => match kernel.symbols.in_kernel(outer) {
            Some(symbol) => Ok(vec![Function { name: outer.to_owned(), address: symbol.address, module: None }]),
            None => Err(NoPath::NotAWrite(function.name)),
        },
        Role::Helper => callers_of(kernel, function),
    }
}

/// The paths that call a helper.
fn callers_of(kernel: &Kernel, helper: Function) -> Result<Vec<Function>, NoPath> {
    let mut callers: Vec<Function> = Vec::new();
    for call in scan::scan(kernel, &[helper.address], &text_that_may_call(kernel, &helper)).calls {
        let caller = whole_function(kernel, &call);
        if matches!(role_of(kernel, &caller), Role::Path(_)) && !callers.contains(&caller) {
            callers.push(caller);
        }
    }
    if callers.is_empty() { Err(NoPath::NotAWrite(helper.name)) } else { Ok(callers) }
}

/// What a function is to a buffered write.
enum Role {
    Path(Destination),
    Helper,
    CalledBy(&'static str),
    Unknown,
}

fn role_of(kernel: &Kernel, function: &Function) -> Role {
    let exception = EXCEPTIONS.iter().find(|(name, _)| *name == function.name).map(|(_, exception)| *exception);
    // What the compiler has changed is not what BTF describes.
    let described = if function.name.contains('.') {
        Parameter::Unknown
    } else {
        kernel.types.first_parameter(&function.name, function.module.as_deref())
    };
    match (described, exception) {
        (Parameter::PointerTo(structure), _) if structure == "kiocb" => Role::Path(Destination::Kiocb),
        (_, Some(Exception::CalledBy(outer))) => Role::CalledBy(outer),
        (Parameter::PointerTo(structure), Some(Exception::Path(destination))) if structure == "file" => {
            Role::Path(destination)
        }
        (Parameter::PointerTo(_) | Parameter::Other, _) | (Parameter::Unknown, Some(Exception::Helper)) => Role::Helper,
        (Parameter::Unknown, Some(Exception::Path(destination))) => Role::Path(destination),
        // A function that the compiler has changed may still be called by one that it has not.
        (Parameter::Unknown, None) if function.name.contains('.') => Role::Helper,
        (Parameter::Unknown, None) => Role::Unknown,
    }
}

/// The function that a call is in; for a part that the compiler split off (`.cold`), the function it was split from.
fn whole_function(kernel: &Kernel, call: &Call) -> Function {
    let part = Function { name: call.caller.clone(), address: call.caller_address, module: call.module.clone() };
    let Some(name) = call.caller.strip_suffix(".cold") else { return part };
    let whole = kernel.symbols.named(name).find(|symbol| symbol.module == call.module.as_deref());
    whole.map_or(part, |symbol| Function {
        name: name.to_owned(),
        address: symbol.address,
        module: call.module.clone(),
    })
}

/// Text that may call `function`: its module's, or everything for a function of the kernel.
fn text_that_may_call(kernel: &Kernel, function: &Function) -> Vec<Range<u64>> {
    match &function.module {
        Some(module) => kernel.symbols.text_of(Some(module)),
        None => kernel.symbols.text(),
    }
}
