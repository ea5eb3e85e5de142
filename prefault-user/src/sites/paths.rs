//! Write paths: which outer function a call site belongs to.
//!
//! A write path takes `struct kiocb *` first, as BTF shows. A function that calls the prefault or the copy and does not
//! is a helper (btrfs_copy_from_user until 6.12): then its callers are looked at, one level up.

use std::ops::Range;

use serde::Serialize;

use super::scan::{self, Call};
use crate::kernel::{Kernel, types::Parameter};

/// A function through which buffered writes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Name.
    pub function: String,
    /// Address.
    pub address: u64,
    /// Module, `None` for the kernel.
    pub module: Option<String>,
    /// It copies, itself or in a helper. One that only prefaults is around another path or around direct I/O, and is
    /// a buffered write only if a copying path runs inside it.
    pub copies: bool,
    /// Whether it has an ftrace location; `None` if unclear.
    pub traceable: Option<bool>,
    /// It is described in the BTF of the kernel itself, which fentry needs.
    pub in_kernel_btf: bool,
}

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
pub fn resolve(kernel: &Kernel, calls: &[Call], is_copy: impl Fn(&Call) -> bool) -> Resolved {
    let mut resolved = Resolved { paths: Vec::new(), of_calls: Vec::new() };
    for call in calls {
        let copies = is_copy(call);
        let paths = functions_of(kernel, call).map(|functions| {
            functions.into_iter().map(|function| resolved.path_number(kernel, &function, copies)).collect()
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
    fn path_number(&mut self, kernel: &Kernel, function: &Function, copies: bool) -> usize {
        if let Some(number) = self.paths.iter().position(|path| path.address == function.address) {
            self.paths[number].copies |= copies;
            return number;
        }
        let described = kernel.types.first_parameter(base_name(&function.name), None) != Parameter::Unknown;
        self.paths.push(Path {
            function: function.name.clone(),
            address: function.address,
            module: function.module.clone(),
            copies,
            traceable: scan::is_traceable(kernel, function.address),
            in_kernel_btf: function.module.is_none() && described && base_name(&function.name) == function.name,
        });
        self.paths.len() - 1
    }
}

/// The outer functions that a call belongs to.
fn functions_of(kernel: &Kernel, call: &Call) -> Result<Vec<Function>, NoPath> {
    let function = whole_function(kernel, call);
    match parameter_of(kernel, &function) {
        Parameter::PointerTo(structure) if structure == "kiocb" => return Ok(vec![function]),
        Parameter::Unknown => return Err(NoPath::NotDescribed(function.name)),
        Parameter::PointerTo(_) | Parameter::Other => {}
    }
    let mut callers: Vec<Function> = Vec::new();
    for outer in scan::scan(kernel, &[function.address], &text_that_may_call(kernel, &function)).calls {
        let caller = whole_function(kernel, &outer);
        let takes_kiocb = parameter_of(kernel, &caller) == Parameter::PointerTo("kiocb".to_owned());
        if takes_kiocb && !callers.contains(&caller) {
            callers.push(caller);
        }
    }
    if callers.is_empty() { Err(NoPath::NotAWrite(function.name)) } else { Ok(callers) }
}

fn parameter_of(kernel: &Kernel, function: &Function) -> Parameter {
    kernel.types.first_parameter(base_name(&function.name), function.module.as_deref())
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

/// The name in the source: the compiler appends `.isra.0`, `.constprop.0` and the like.
pub fn base_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(base, _)| base)
}

/// Text that may call `function`: its module's, or everything for a function of the kernel.
fn text_that_may_call(kernel: &Kernel, function: &Function) -> Vec<Range<u64>> {
    match &function.module {
        Some(module) => kernel.symbols.text_of(Some(module)),
        None => kernel.symbols.text(),
    }
}
