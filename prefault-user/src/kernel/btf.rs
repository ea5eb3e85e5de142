//! BTF: member offsets, enumerators and parameter types of the running kernel.
//!
//! Our own reader, because we need what the maintained crates lack: aya-obj keeps members private, and btfparse (1.3)
//! cannot read a module's BTF, which continues the kernel's. It reads in place: one index of 4 bytes per type.

use std::{borrow::Cow, ops::Range, sync::Arc};

const MAGIC: [u8; 2] = 0xeb9f_u16.to_le_bytes();

const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;
const KIND_INT: u32 = 1;

/// Nested anonymous members to follow; the kernel has no more than a few.
const MAX_NESTING: u32 = 8;

/// Members to look at for one member of a structure, nested ones included: task_struct has some 250.
const MAX_MEMBERS: u32 = 1 << 12;

/// Typedefs and qualifiers to follow one after the other, as many as the kernel follows (kernel/bpf/btf.c, MAX_RESOLVE_DEPTH).
const MAX_REFERENCES: usize = 32;

/// The version of the format, the only one there is.
const VERSION: u8 = 1;

/// Bytes of the header that every kernel writes, and bytes of one that says where the sizes of kinds are listed too
/// (include/uapi/linux/btf.h, struct btf_header).
const HEADER_BYTES: usize = 24;
const HEADER_WITH_LAYOUT_BYTES: usize = 32;

/// Bytes of the three words that every type begins with.
const TYPE_BYTES: usize = 12;

/// BTF of the kernel, or of a module on top of the kernel's.
#[derive(Debug)]
pub struct Btf {
    base: Option<Arc<Btf>>,
    data: Vec<u8>,
    /// Where each type of this object starts in `data`.
    types: Vec<u32>,
    /// Where the strings are in `data`.
    strings: Range<usize>,
    /// Types and string bytes in all objects below.
    first_type: u32,
    first_string: u32,
}

/// Why BTF could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The header, or a type, does not fit into the data.
    #[error("the BTF is malformed: {0}")]
    Malformed(&'static str),
    /// A type is of a kind that is newer than this reader, and the data does not say how long it is.
    #[error("type {number} is of kind {kind}, which this version of prefault does not know: use a newer one")]
    UnknownKind {
        /// Number of the type in this object, from 1.
        number: usize,
        /// Its kind.
        kind: u32,
    },
}

impl Btf {
    /// Parses `data` as /sys/kernel/btf has it; `base` is the kernel's for a module.
    ///
    /// # Errors
    /// [`BtfError`] if the header or a type does not fit into the data, or the size of a type is unknown.
    pub fn parse(data: Vec<u8>, base: Option<Arc<Btf>>) -> Result<Self, BtfError> {
        let Header { types, strings, layout } = Header::parse(&data)?;
        let kinds = data.get(layout).unwrap_or_default();
        let in_types = data.get(..types.end).unwrap_or_default();
        let (mut starts, mut at) = (Vec::new(), types.start);
        while at < types.end {
            starts.push(u32::try_from(at).map_err(|_| BtfError::Malformed("it is longer than 4 GiB"))?);
            let info = u32_at(in_types, at + 4).ok_or(BtfError::Malformed("a type is cut off"))?;
            let unknown = BtfError::UnknownKind { number: starts.len(), kind: kind_of(info) };
            at += TYPE_BYTES + bytes_behind(info, kinds).ok_or(unknown)?;
        }
        if at > types.end {
            return Err(BtfError::Malformed("a type is cut off"));
        }
        let (first_type, first_string) = match &base {
            // Type 0 is void and has no entry.
            None => (Some(1), Some(0)),
            Some(base) => (
                base.first_type.checked_add(base.types.len() as u32),
                base.first_string.checked_add(base.strings.len() as u32),
            ),
        };
        let numbers = first_type.zip(first_string).ok_or(BtfError::Malformed("it has more than 4 Gi types"))?;
        let (first_type, first_string) = numbers;
        Ok(Self { base, data, types: starts, strings, first_type, first_string })
    }

    /// Byte offset of a member of `struct name`, looking into anonymous members too. `None` if there is no such
    /// structure or member, or it is a bit field.
    pub fn member_offset(&self, name: &str, member: &str) -> Option<u32> {
        let mut left = MAX_MEMBERS;
        let mut structures = self.of_kind(KIND_STRUCT).filter(|ty| ty.name() == name);
        let bits = structures.find_map(|ty| ty.member_bits(member, 0, &mut left))?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Value of an enumerator, in whichever enumeration it is.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.of_kind(KIND_ENUM).find_map(|ty| {
            (0..ty.vlen()).find_map(|index| {
                let at = ty.at + TYPE_BYTES + index as usize * 8;
                (ty.btf.string(ty.btf.u32(at)) == name).then(|| ty.btf.u32(at + 4))
            })
        })
    }

    /// Name of the structure that the first parameter of function `name` points to. `None` if the function is not
    /// described, or its first parameter is something else.
    pub fn first_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let function = self.of_kind(KIND_FUNC).find(|ty| ty.name() == name)?;
        let prototype = self.ty(function.referred())?;
        if prototype.kind() != KIND_FUNC_PROTO || prototype.vlen() == 0 {
            return None;
        }
        let parameter = self.ty(prototype.btf.u32(prototype.at + TYPE_BYTES + 4))?.resolved(self)?;
        if parameter.kind() != KIND_PTR {
            return None;
        }
        let pointee = self.ty(parameter.referred())?.resolved(self)?;
        (pointee.kind() == KIND_STRUCT).then(|| pointee.name())
    }

    /// Number of `struct name`, 1 or more.
    pub fn structure_id(&self, name: &str) -> Option<u32> {
        self.id_of(KIND_STRUCT, name)
    }

    /// Number of function `name`, 1 or more.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.id_of(KIND_FUNC, name)
    }

    fn id_of(&self, kind: u32, name: &str) -> Option<u32> {
        let index = self.all().position(|ty| ty.kind() == kind && ty.name() == name)?;
        Some(self.first_type + index as u32)
    }

    /// Whether function `name` is described, in this object itself.
    pub fn has_function(&self, name: &str) -> bool {
        self.function_id(name).is_some()
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = Type<'_>> {
        self.all().filter(move |ty| ty.kind() == kind)
    }

    /// The types of this object itself, by number.
    fn all(&self) -> impl Iterator<Item = Type<'_>> {
        self.types.iter().map(|&at| Type { btf: self, at: at as usize })
    }

    /// The type with number `id`, in this object or in one below.
    fn ty(&self, id: u32) -> Option<Type<'_>> {
        let mut btf = self;
        loop {
            if let Some(index) = id.checked_sub(btf.first_type) {
                return btf.types.get(index as usize).map(|&at| Type { btf, at: at as usize });
            }
            btf = btf.base.as_deref()?;
        }
    }

    /// The string at `offset`, in this object or in one below; empty if there is none. What is not UTF-8 is replaced, as in names
    /// of symbols.
    fn string(&self, offset: u32) -> Cow<'_, str> {
        let mut btf = self;
        loop {
            if let Some(start) = offset.checked_sub(btf.first_string) {
                let strings = btf.data.get(btf.strings.clone()).unwrap_or_default();
                let bytes = strings.get(start as usize..).unwrap_or_default();
                let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
                return String::from_utf8_lossy(&bytes[..end]);
            }
            let Some(base) = btf.base.as_deref() else { return Cow::Borrowed("") };
            btf = base;
        }
    }

    /// The word at `at`; `parse` has checked that types fit.
    fn u32(&self, at: usize) -> u32 {
        u32_at(&self.data, at).unwrap_or(0)
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Where the sections are in the data.
struct Header {
    types: Range<usize>,
    strings: Range<usize>,
    /// The sizes of kinds; empty in a header that does not know of them.
    layout: Range<usize>,
}

impl Header {
    /// Reads the header, which may be longer than what is known of it: sections are found by its own length.
    fn parse(data: &[u8]) -> Result<Self, BtfError> {
        let cut_off = BtfError::Malformed("the header is cut off");
        let word = |at: usize| u32_at(data, at).map(|word| word as usize);
        if data.get(..2) != Some(&MAGIC) {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        if data.get(2) != Some(&VERSION) {
            return Err(BtfError::Malformed("it is of an unknown version"));
        }
        let header = word(4).filter(|&bytes| (HEADER_BYTES..=data.len()).contains(&bytes)).ok_or(cut_off)?;
        let section = |at: usize| {
            let start = header.checked_add(word(at)?)?;
            let end = start.checked_add(word(at + 4)?)?;
            (end <= data.len()).then_some(start..end)
        };
        let cut_off = || BtfError::Malformed("a section is cut off");
        let layout = if header >= HEADER_WITH_LAYOUT_BYTES { section(24) } else { Some(0..0) };
        Ok(Self {
            types: section(8).ok_or_else(cut_off)?,
            strings: section(16).ok_or_else(cut_off)?,
            layout: layout.ok_or_else(cut_off)?,
        })
    }
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x7f
}

/// Members, enumerators, parameters and the like. Bits 16 to 23 belong to it in later kernels only, and are 0 in others.
fn vlen_of(info: u32) -> u32 {
    info & 0xff_ffff
}

/// Bytes behind the common words of a type (Documentation/bpf/btf.rst). `layout` is what the data itself says of kinds: four
/// bytes for each, of which the first is the size of what there is once, the second that of what there is [`vlen_of`] times
/// (include/uapi/linux/btf.h, struct btf_layout).
fn bytes_behind(info: u32, layout: &[u8]) -> Option<usize> {
    let n_elements = vlen_of(info) as usize;
    let (once, of_each) = match kind_of(info) {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => (4, 0),
        KIND_ARRAY => (12, 0),
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => (0, 12),
        KIND_ENUM | KIND_FUNC_PROTO => (0, 8),
        // Pointer, forward, typedef, modifiers, function, float.
        KIND_PTR | 7..=KIND_FUNC | 16 | KIND_TYPE_TAG => (0, 0),
        0 => return None,
        newer => match layout.get(newer as usize * 4..)? {
            &[once, of_each, _, _, ..] => (once.into(), of_each.into()),
            _ => return None,
        },
    };
    Some(once + n_elements * of_each)
}

#[derive(Clone, Copy)]
struct Type<'a> {
    btf: &'a Btf,
    at: usize,
}

impl<'a> Type<'a> {
    fn info(self) -> u32 {
        self.btf.u32(self.at + 4)
    }

    fn kind(self) -> u32 {
        kind_of(self.info())
    }

    fn vlen(self) -> u32 {
        vlen_of(self.info())
    }

    fn name(self) -> Cow<'a, str> {
        self.btf.string(self.btf.u32(self.at))
    }

    /// The type this one refers to, where its kind refers to one.
    fn referred(self) -> u32 {
        self.btf.u32(self.at + 8)
    }

    /// The type behind typedefs and qualifiers; `None` if there is none, or they refer to each other.
    fn resolved(self, btf: &'a Btf) -> Option<Self> {
        let mut resolved = self;
        for _ in 0..MAX_REFERENCES {
            match resolved.kind() {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    resolved = btf.ty(resolved.referred())?;
                }
                _ => return Some(resolved),
            }
        }
        None
    }

    /// Where a member is, in bits, looking at no more than `left` members.
    fn member_bits(self, member: &str, nesting: u32, left: &mut u32) -> Option<u32> {
        if nesting > MAX_NESTING || !matches!(self.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let has_bit_fields = self.info() >> 31 == 1;
        (0..self.vlen()).find_map(|index| {
            *left = left.checked_sub(1)?;
            let at = self.at + TYPE_BYTES + index as usize * 12;
            let offset = self.btf.u32(at + 8);
            let bits = if has_bit_fields { offset & 0xff_ffff } else { offset };
            match &*self.btf.string(self.btf.u32(at)) {
                name if name == member => (!has_bit_fields || offset >> 24 == 0).then_some(bits),
                "" => {
                    let inner = self.btf.ty(self.btf.u32(at + 4))?.resolved(self.btf)?;
                    bits.checked_add(inner.member_bits(member, nesting + 1, left)?)
                }
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests;
