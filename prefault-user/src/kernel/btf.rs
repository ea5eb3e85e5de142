//! BTF: member offsets, enumerators and parameter types of the running kernel.
//!
//! Our own reader, because we need what the maintained crates lack: aya-obj keeps members private, and btfparse (1.3)
//! cannot read a module's BTF, which continues the kernel's. It reads in place: one index of 4 bytes per type.

use std::{borrow::Cow, sync::Arc};

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

/// BTF of the kernel, or of a module on top of the kernel's.
#[derive(Debug)]
pub struct Btf {
    base: Option<Arc<Btf>>,
    data: Vec<u8>,
    /// Where each type of this object starts in `data`.
    types: Vec<u32>,
    strings_start: usize,
    strings_len: usize,
    /// Types and string bytes in all objects below.
    first_type: u32,
    first_string: u32,
}

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the BTF is malformed: {0}")]
pub struct BtfError(&'static str);

impl Btf {
    /// Parses `data` as /sys/kernel/btf has it; `base` is the kernel's for a module.
    ///
    /// # Errors
    /// If the header or a type does not fit into the data, or a kind is unknown (its size is then unknown too).
    pub fn parse(data: Vec<u8>, base: Option<Arc<Btf>>) -> Result<Self, BtfError> {
        let word = |at: usize| u32_at(&data, at).ok_or(BtfError("the header is cut off"));
        if data.get(..2) != Some(&MAGIC) {
            return Err(BtfError("wrong magic number"));
        }
        let header_len = word(4)? as usize;
        let (types_start, types_len) = (header_len + word(8)? as usize, word(12)? as usize);
        let (strings_start, strings_len) = (header_len + word(16)? as usize, word(20)? as usize);
        if types_start + types_len > data.len() || strings_start + strings_len > data.len() {
            return Err(BtfError("a section is cut off"));
        }
        let mut types = Vec::new();
        let mut at = types_start;
        while at < types_start + types_len {
            types.push(at as u32);
            at += type_bytes(&data, at).ok_or(BtfError("unknown kind of type"))?;
        }
        let (first_type, first_string) = match &base {
            // Type 0 is void and has no entry.
            None => (1, 0),
            Some(base) => (base.first_type + base.types.len() as u32, base.first_string + base.strings_len as u32),
        };
        Ok(Self { base, data, types, strings_start, strings_len, first_type, first_string })
    }

    /// Byte offset of a member of `struct name`, looking into anonymous members too. `None` if there is no such
    /// structure or member, or it is a bit field.
    pub fn member_offset(&self, name: &str, member: &str) -> Option<u32> {
        let bits = self.of_kind(KIND_STRUCT).filter(|ty| ty.name() == name).find_map(|ty| ty.member_bits(member, 0))?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Value of an enumerator, in whichever enumeration it is.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.of_kind(KIND_ENUM).find_map(|ty| {
            (0..ty.vlen()).find_map(|index| {
                let at = ty.at + 12 + index as usize * 8;
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
        let parameter = self.ty(prototype.btf.u32(prototype.at + 12 + 4))?.resolved(self)?;
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

    fn ty(&self, id: u32) -> Option<Type<'_>> {
        match id.checked_sub(self.first_type) {
            Some(index) => self.types.get(index as usize).map(|&at| Type { btf: self, at: at as usize }),
            None => self.base.as_ref().and_then(|base| base.ty(id)),
        }
    }

    /// What is not UTF-8 is replaced, as in names of symbols.
    fn string(&self, offset: u32) -> Cow<'_, str> {
        let Some(start) = offset.checked_sub(self.first_string) else {
            return self.base.as_ref().map_or(Cow::Borrowed(""), |base| base.string(offset));
        };
        let strings = &self.data[self.strings_start..self.strings_start + self.strings_len];
        let bytes = strings.get(start as usize..).unwrap_or_default();
        let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end])
    }

    /// The word at `at`; `parse` has checked that types fit.
    fn u32(&self, at: usize) -> u32 {
        u32_at(&self.data, at).unwrap_or(0)
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Size of the type at `at` with what follows its three common words (Documentation/bpf/btf.rst).
fn type_bytes(data: &[u8], at: usize) -> Option<usize> {
    let info = u32_at(data, at + 4)?;
    let vlen = (info & 0xffff) as usize;
    let extra = match info >> 24 & 0x1f {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * vlen,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * vlen,
        // Pointer, forward, typedef, modifiers, function, float.
        KIND_PTR | 7..=KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
        _ => return None,
    };
    (at + 12 + extra <= data.len()).then_some(12 + extra)
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
        self.info() >> 24 & 0x1f
    }

    fn vlen(self) -> u32 {
        self.info() & 0xffff
    }

    fn name(self) -> Cow<'a, str> {
        self.btf.string(self.btf.u32(self.at))
    }

    /// The type this one refers to, where its kind refers to one.
    fn referred(self) -> u32 {
        self.btf.u32(self.at + 8)
    }

    /// The type behind typedefs and qualifiers.
    fn resolved(self, btf: &'a Btf) -> Option<Self> {
        match self.kind() {
            KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                btf.ty(self.referred())?.resolved(btf)
            }
            _ => Some(self),
        }
    }

    fn member_bits(self, member: &str, nesting: u32) -> Option<u32> {
        if nesting > MAX_NESTING || !matches!(self.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let has_bit_fields = self.info() >> 31 == 1;
        (0..self.vlen()).find_map(|index| {
            let at = self.at + 12 + index as usize * 12;
            let offset = self.btf.u32(at + 8);
            let bits = if has_bit_fields { offset & 0xff_ffff } else { offset };
            match &*self.btf.string(self.btf.u32(at)) {
                name if name == member => (!has_bit_fields || offset >> 24 == 0).then_some(bits),
                "" => {
                    let inner = self.btf.ty(self.btf.u32(at + 4))?.resolved(self.btf)?;
                    Some(bits + inner.member_bits(member, nesting + 1)?)
                }
                _ => None,
            }
        })
    }
}
