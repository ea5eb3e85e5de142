//! Saved facts: reading them, changing their text, and what is found in them.

use std::{fs, path::PathBuf};

use prefault_user::{
    kernel::{
        Kernel,
        frozen::{KernelFacts, Piece},
    },
    plan::{MechanismChoice, Plan},
    sites::{Placing, Site, Sites},
};

/// `nopl 0(%rax,%rax)`, an ftrace location.
pub const FTRACE_LOCATION: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// Instructions that are no ftrace location.
pub const NO_FTRACE_LOCATION: [u8; 5] = [0x90; 5];
/// What a probe puts in place of the first byte of an instruction.
pub const BREAKPOINT: u8 = 0xcc;

/// Where everything about a release is kept.
pub fn folder(release: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kernels").join(release)
}

/// The facts as they were saved.
pub fn facts(release: &str) -> KernelFacts {
    let text = fs::read_to_string(folder(release).join("facts.json")).expect("the facts were saved");
    serde_json::from_str(&text).expect("the facts have today's form")
}

/// The kernel that the facts are of.
pub fn thaw(facts: &KernelFacts) -> Kernel {
    facts.clone().thaw().expect("the symbols are good")
}

/// The sites in it.
pub fn sites_of(facts: &KernelFacts) -> Sites {
    Sites::find(&thaw(facts), Placing::default()).expect("there are sites")
}

/// The plan for it.
pub fn plan_of(facts: &KernelFacts) -> Plan {
    let kernel = thaw(facts);
    Plan::new(&kernel, Sites::find(&kernel, Placing::default()).expect("there are sites"), MechanismChoice::Auto)
        .expect("the types are known")
}

/// Address of a symbol of the kernel itself.
pub fn symbol(facts: &KernelFacts, name: &str) -> u64 {
    let line = facts.symbols.iter().find(|line| line.ends_with(&format!(" {name}"))).expect("the symbol was saved");
    u64::from_str_radix(&line[..16], 16).expect("an address")
}

/// Address of a symbol of a module.
pub fn symbol_of_module(facts: &KernelFacts, module: &str, name: &str) -> u64 {
    let end = format!(" {name}\t[{module}]");
    let line = facts.symbols.iter().find(|line| line.ends_with(&end)).expect("the symbol was saved");
    u64::from_str_radix(&line[..16], 16).expect("an address")
}

/// Address of saved text.
pub fn start_of(piece: &Piece) -> u64 {
    u64::from_str_radix(&piece.address, 16).expect("an address")
}

/// Saved text.
pub fn bytes_of(piece: &Piece) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&piece.bytes[at..at + 2], 16).expect("a byte");
    (0..piece.bytes.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn piece_at(facts: &mut KernelFacts, address: u64) -> (&mut Piece, usize) {
    let holds = |piece: &&mut Piece| (address.wrapping_sub(start_of(piece)) as usize) < piece.bytes.len() / 2;
    let piece = facts.text.iter_mut().find(holds).expect("the text was saved");
    let offset = (address - start_of(piece)) as usize;
    (piece, offset)
}

/// Saved text at `address`.
pub fn read(facts: &mut KernelFacts, address: u64, length: usize) -> Vec<u8> {
    let (piece, offset) = piece_at(facts, address);
    bytes_of(piece)[offset..offset + length].to_vec()
}

/// Replaces saved text at `address`.
pub fn write(facts: &mut KernelFacts, address: u64, bytes: &[u8]) {
    let (piece, offset) = piece_at(facts, address);
    piece.bytes.replace_range(offset * 2..(offset + bytes.len()) * 2, &hex(bytes));
}

/// Replaces the ftrace location at the entry of `function`, or what is there instead of one.
pub fn write_entry(facts: &mut KernelFacts, function: u64, bytes: [u8; 5]) {
    let is_behind_landing_pad = read(facts, function, 9)[4..] == FTRACE_LOCATION;
    write(facts, if is_behind_landing_pad { function + 4 } else { function }, &bytes);
}

/// Adds a function, to the kernel itself or to a module.
pub fn add_function(facts: &mut KernelFacts, module: Option<&str>, name: &str, address: u64, text: &[u8]) {
    let suffix = module.map_or_else(String::new, |module| format!("\t[{module}]"));
    facts.text.push(Piece { address: format!("{address:016x}"), bytes: hex(text) });
    facts.symbols.push(format!("{address:016x} t {name}{suffix}"));
    facts.symbols.push(format!("{:016x} t end_of_{name}{suffix}", address + text.len() as u64));
}

/// Addresses of all calls.
pub fn addresses(sites: &Sites) -> Vec<u64> {
    sites.sites.iter().map(|site| site.call.address).collect()
}

/// The site whose call is at `address`.
pub fn site_at(sites: &Sites, address: u64) -> Option<&Site> {
    sites.sites.iter().find(|site| site.call.address == address)
}

/// A function and its module.
pub fn name_of(function: &str, module: Option<&str>) -> String {
    module.map_or_else(|| function.to_owned(), |module| format!("{function} [{module}]"))
}

/// The function a site is in, with its module.
pub fn caller_of(site: &Site) -> String {
    name_of(&site.call.caller, site.call.module.as_deref())
}
