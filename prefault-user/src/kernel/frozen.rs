//! Facts saved from a kernel, small enough for a bug report or a test: the functions involved, their text and types.

use serde::{Deserialize, Serialize};

use super::FactsError;
use super::{
    Kernel,
    names::Name,
    symbols::Symbols,
    text::SavedText,
    types::{MEMBERS, SavedTypes, USER_ITER_TYPES, parameter_key},
};

/// Saved facts, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelFacts {
    /// Release string of the kernel.
    pub release: String,
    /// Lines in the form of /proc/kallsyms.
    pub symbols: Vec<String>,
    /// Text of functions.
    pub text: Vec<Piece>,
    /// Answers to all questions about types.
    pub types: SavedTypes,
    /// Whether kernel code is preempted.
    pub preemptible: bool,
    /// Whether points that ftrace makes are switched off.
    #[serde(default)]
    pub ftrace_off: bool,
}

/// Text of one function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Its address, hexadecimal.
    pub address: String,
    /// Its bytes, hexadecimal.
    pub bytes: String,
}

/// What has to be saved of one function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Address of the function.
    pub address: u64,
    /// Whether its text is needed, not only its name.
    pub with_text: bool,
}

impl KernelFacts {
    /// Saves what `kernel` says about `functions`.
    pub fn save(kernel: &Kernel, functions: &[Function]) -> Self {
        let mut frozen = Self {
            release: kernel.release.clone(),
            symbols: Vec::new(),
            text: Vec::new(),
            types: SavedTypes::default(),
            preemptible: kernel.preemptible,
            ftrace_off: kernel.ftrace_off,
        };
        for name in ["_stext", "_etext"] {
            if let Some(symbol) = kernel.symbols.in_kernel(name) {
                frozen.symbols.push(format!("{:016x} T {name}", symbol.address));
            }
        }
        for function in functions {
            frozen.save_function(kernel, function);
        }
        frozen.symbols.sort_by_key(|line| (line[..16].to_owned(), line.contains(" t end_of_"), line.clone()));
        frozen.symbols.dedup();
        frozen.save_types(kernel);
        frozen
    }

    fn save_function(&mut self, kernel: &Kernel, function: &Function) {
        let Some((symbol, range)) = kernel.symbols.containing(function.address) else { return };
        let module = symbol.module.map_or_else(String::new, |module| format!("\t[{module}]"));
        self.symbols.push(format!("{:016x} t {}{module}", symbol.address, symbol.name));
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if function.with_text && kernel.text.read_text(range.start, &mut bytes).is_ok() {
            self.text.push(Piece { address: format!("{:016x}", range.start), bytes: to_hex(&bytes) });
            // The end of a function is where the next one starts.
            self.symbols.push(format!("{:016x} t end_of_{}{module}", range.end, symbol.name));
        }
        let name = Name::of(symbol.name);
        let described_as = if name.keeps_arguments { name.plain } else { symbol.name };
        self.types.parameters.insert(
            parameter_key(described_as, symbol.module),
            kernel.types.first_parameter(described_as, symbol.module),
        );
    }

    fn save_types(&mut self, kernel: &Kernel) {
        for (structure, names, _) in MEMBERS {
            for name in names {
                if let Some(offset) = kernel.types.member_offset(structure, name) {
                    self.types.members.insert(format!("{structure}.{name}"), offset);
                }
            }
        }
        for name in USER_ITER_TYPES {
            if let Some(value) = kernel.types.enumerator(name) {
                self.types.enumerators.insert(name.to_owned(), value);
            }
        }
    }

    /// The kernel facts that were saved.
    ///
    /// # Errors
    /// As [`Symbols::parse`].
    pub fn thaw(self) -> Result<Kernel, FactsError> {
        let pieces = self
            .text
            .iter()
            .filter_map(|piece| Some((u64::from_str_radix(&piece.address, 16).ok()?, from_hex(&piece.bytes)?)))
            .collect();
        Ok(Kernel {
            release: self.release,
            symbols: Symbols::parse(self.symbols.join("\n"))?,
            text: Box::new(SavedText::new(pieces)),
            types: Box::new(self.types),
            preemptible: self.preemptible,
            ftrace_off: self.ftrace_off,
        })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}
