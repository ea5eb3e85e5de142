//! Write paths: which outer function a call site belongs to.
//!
//! A write path takes `struct kiocb *` first, as BTF shows. A function that calls the prefault or the copy and does not
//! is a helper (btrfs_copy_from_user until 6.12): then its callers are looked at, one level up. Where BTF cannot answer,
//! because modules have none (before 5.11) or the path is no such function, [`EXCEPTIONS`] does. A caller of which none of this
//! is true is not understood: what it calls is counted, as lost. Only what is known to be no write is left alone.

use std::ops::Range;

use super::{
    Placing,
    function::FunctionText,
    scan::{self, Call},
};
use crate::{
    data::{Code, Problem},
    kernel::{
        Kernel,
        names::{Name, shown},
        types::Parameter,
    },
};

/// A function through which buffered writes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Name, without what a linker appended.
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

/// Functions that copy and are known to be no buffered write, with the structure that their first parameter points to.
const NO_WRITES: [(&str, &str); 1] = [
    // Direct I/O: fills the pages of a bio that bounces (block/bio.c, bio_iov_iter_bounce_write inlined, since 7.2).
    ("bio_iov_iter_bounce", "bio"),
];

/// Why a call site belongs to no write path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPath {
    /// The caller is known to be no part of a buffered write.
    NotAWrite(String),
    /// Neither the caller nor its callers take a kiocb.
    NotUnderstood(String),
    /// BTF says nothing about the caller.
    NotDescribed(String),
}

impl NoPath {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NotAWrite(caller) => {
                Problem::new(Code::NotAWrite).what(format!("{caller} is not part of a buffered write"))
            }
            Self::NotUnderstood(caller) => {
                Problem::new(Code::NotUnderstood).what(format!("{caller} is not understood"))
            }
            Self::NotDescribed(caller) => Problem::new(Code::NotDescribed).what(format!("{caller} is not understood")),
        }
    }
}

/// Write paths, and which of them each call belongs to.
pub struct Resolved {
    /// The paths.
    pub paths: Vec<Path>,
    /// For each call the indices of its paths.
    pub of_calls: Vec<Result<Vec<usize>, NoPath>>,
    /// Calls of helpers by functions that are not understood, with what the helper calls, an index into the calls.
    pub strangers: Vec<(usize, Call, NoPath)>,
}

/// Finds the write paths of `calls`; `is_copy` tells which of them copy.
pub fn resolve(kernel: &Kernel, calls: &[Call], placing: Placing, is_copy: impl Fn(&Call) -> bool) -> Resolved {
    let mut resolved = Resolved { paths: Vec::new(), of_calls: Vec::new(), strangers: Vec::new() };
    for (number, call) in calls.iter().enumerate() {
        let copies = is_copy(call);
        let paths = functions_of(kernel, call).map(|Callers { functions, strangers }| {
            resolved.strangers.extend(strangers.into_iter().map(|(call, why)| (number, call, why)));
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
            Role::Helper | Role::CalledBy(_) | Role::NoWrite | Role::Unknown => Destination::Kiocb,
        };
        // fentry finds a function by the name that BTF has, which is the symbol's own.
        let described = kernel.types.first_parameter(&function.name, None) != Parameter::Unknown;
        let body = FunctionText::read(kernel, function.address, placing);
        self.paths.push(Path {
            function: shown(&function.name).to_owned(),
            address: function.address,
            entry: body.as_ref().and_then(FunctionText::entry).unwrap_or(function.address),
            module: function.module.clone(),
            copies,
            destination,
            returns: body.as_ref().and_then(FunctionText::returns),
            traceable: scan::is_traceable(kernel, function.address),
            in_kernel_btf: function.module.is_none() && described && destination == Destination::Kiocb,
        });
        self.paths.len() - 1
    }
}

/// Who a call is made for.
#[derive(Default)]
struct Callers {
    /// Paths.
    functions: Vec<Function>,
    /// Calls of the helper by others, and why these are no paths.
    strangers: Vec<(Call, NoPath)>,
}

impl From<Function> for Callers {
    fn from(function: Function) -> Self {
        Self { functions: vec![function], strangers: Vec::new() }
    }
}

/// The outer functions that a call belongs to.
fn functions_of(kernel: &Kernel, call: &Call) -> Result<Callers, NoPath> {
    let function = whole_function(kernel, call);
    match role_of(kernel, &function) {
        Role::Path(_) => Ok(function.into()),
        Role::NoWrite => Err(NoPath::NotAWrite(function.name)),
        Role::Unknown => Err(NoPath::NotDescribed(function.name)),
        Role::CalledBy(outer) => match kernel.symbols.in_kernel(outer) {
            Some(symbol) => Ok(Function { name: outer.to_owned(), address: symbol.address, module: None }.into()),
            None => Err(NoPath::NotUnderstood(function.name)),
        },
        Role::Helper => callers_of(kernel, function),
    }
}

/// Who calls a helper.
fn callers_of(kernel: &Kernel, helper: Function) -> Result<Callers, NoPath> {
    let mut callers = Callers::default();
    for call in scan::scan(kernel, &[helper.address], &text_that_may_call(kernel, &helper)).calls {
        let caller = whole_function(kernel, &call);
        match role_of(kernel, &caller) {
            Role::Path(_) if callers.functions.contains(&caller) => {}
            Role::Path(_) => callers.functions.push(caller),
            Role::NoWrite => {}
            Role::Unknown => callers.strangers.push((call, NoPath::NotDescribed(caller.name))),
            Role::Helper | Role::CalledBy(_) => callers.strangers.push((call, NoPath::NotUnderstood(caller.name))),
        }
    }
    if callers.functions.is_empty() { Err(NoPath::NotUnderstood(helper.name)) } else { Ok(callers) }
}

/// What a function is to a buffered write.
enum Role {
    Path(Destination),
    Helper,
    CalledBy(&'static str),
    NoWrite,
    Unknown,
}

fn role_of(kernel: &Kernel, function: &Function) -> Role {
    let name = Name::of(&function.name);
    // What the compiler has changed is not what BTF describes, and an exception only if it names the change.
    let known_as = if name.keeps_arguments { name.plain } else { function.name.as_str() };
    let exception = EXCEPTIONS.iter().find(|(name, _)| *name == known_as).map(|(_, exception)| *exception);
    let described = match name.keeps_arguments {
        true => kernel.types.first_parameter(name.plain, function.module.as_deref()),
        false => Parameter::Unknown,
    };
    match (described, exception) {
        (Parameter::PointerTo(structure), _) if structure == "kiocb" => Role::Path(Destination::Kiocb),
        (_, Some(Exception::CalledBy(outer))) => Role::CalledBy(outer),
        (Parameter::PointerTo(structure), Some(Exception::Path(destination))) if structure == "file" => {
            Role::Path(destination)
        }
        (Parameter::PointerTo(structure), _) if NO_WRITES.contains(&(name.plain, structure.as_str())) => Role::NoWrite,
        (Parameter::PointerTo(_) | Parameter::Other, _) | (Parameter::Unknown, Some(Exception::Helper)) => Role::Helper,
        (Parameter::Unknown, Some(Exception::Path(destination))) => Role::Path(destination),
        // A function that the compiler has changed may still be called by one that it has not.
        (Parameter::Unknown, None) if !name.keeps_arguments => Role::Helper,
        (Parameter::Unknown, None) => Role::Unknown,
    }
}

/// The function that a call is in; for a part that the compiler split off (`.cold`), the function it was split from.
fn whole_function(kernel: &Kernel, call: &Call) -> Function {
    let part = Function { name: call.caller.clone(), address: call.caller_address, module: call.module.clone() };
    let Some((name, _)) = call.caller.split_once(".cold").filter(|_| Name::of(&call.caller).is_cold) else {
        return part;
    };
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
