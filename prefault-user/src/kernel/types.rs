//! What the programs have to know of the kernel's types, and where it is read from.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use prefault_ebpf::{Offsets, TypeIds};
use serde::{Deserialize, Serialize};

use super::{FactsError, btf::Btf};

/// Structure layouts and prototypes of the running kernel.
pub trait Types {
    /// Byte offset of a member, `None` if this kernel has no such member.
    fn member_offset(&self, structure: &str, member: &str) -> Option<u32>;
    /// Value of an enumerator, `None` if this kernel has no such enumerator.
    fn enumerator(&self, name: &str) -> Option<u32>;
    /// Number of the structure in the BTF that the running kernel knows itself by; `None` if it has no such structure, or
    /// is not the running one.
    fn structure_id(&self, structure: &str) -> Option<u32>;
    /// Likewise, of the function.
    fn function_id(&self, function: &str) -> Option<u32>;
    /// What is known of the first parameter of `function` in `module` (`None`: the kernel).
    fn first_parameter(&self, function: &str, module: Option<&str>) -> Parameter;
}

/// The first parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter {
    /// It points to this structure.
    PointerTo(String),
    /// It is something else.
    Other,
    /// The function is not in the BTF.
    Unknown,
}

/// Types from the BTF files below /sys/kernel/btf; a module's is read when it is first asked for.
#[derive(Debug)]
pub struct BtfTypes {
    folder: PathBuf,
    kernel: Arc<Btf>,
    modules: RefCell<HashMap<String, Option<Arc<Btf>>>>,
}

impl BtfTypes {
    /// Opens the BTF in `folder`.
    ///
    /// # Errors
    /// [`FactsError::NoBtf`] if the kernel has none, others if it cannot be read or parsed.
    pub fn open(folder: &Path) -> Result<Self, FactsError> {
        let path = folder.join("vmlinux");
        let data = match fs::read(&path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FactsError::NoBtf),
            Err(source) => return Err(FactsError::Unreadable { path, source }),
        };
        let kernel = Btf::parse(data, None).map_err(|source| FactsError::BadBtf { path, source })?;
        Ok(Self { folder: folder.to_owned(), kernel: Arc::new(kernel), modules: RefCell::default() })
    }

    /// The BTF of a module, `None` if it has none (before 5.11) or it cannot be read.
    fn module(&self, name: &str) -> Option<Arc<Btf>> {
        let mut modules = self.modules.borrow_mut();
        let file = file_named(&self.folder, name);
        let read = || Btf::parse(fs::read(file).ok()?, Some(Arc::clone(&self.kernel))).ok();
        modules.entry(name.to_owned()).or_insert_with(|| read().map(Arc::new)).clone()
    }
}

/// The file in `folder` called `name`, in which what is not UTF-8 was replaced.
fn file_named(folder: &Path, name: &str) -> PathBuf {
    let is_replaced = name.contains(char::REPLACEMENT_CHARACTER);
    let mut files = is_replaced.then(|| fs::read_dir(folder).ok()).flatten().into_iter().flatten().flatten();
    let same = files.find(|file| file.file_name().to_string_lossy() == name);
    same.map_or_else(|| folder.join(name), |file| file.path())
}

impl Types for BtfTypes {
    fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.kernel.member_offset(structure, member)
    }

    fn enumerator(&self, name: &str) -> Option<u32> {
        self.kernel.enumerator(name)
    }

    fn structure_id(&self, structure: &str) -> Option<u32> {
        self.kernel.structure_id(structure)
    }

    fn function_id(&self, function: &str) -> Option<u32> {
        self.kernel.function_id(function)
    }

    fn first_parameter(&self, function: &str, module: Option<&str>) -> Parameter {
        let btf = match module {
            None => Some(Arc::clone(&self.kernel)),
            Some(module) => self.module(module),
        };
        match btf {
            Some(btf) if btf.has_function(function) => match btf.first_parameter(function) {
                Some(structure) => Parameter::PointerTo(structure.into_owned()),
                None => Parameter::Other,
            },
            _ => Parameter::Unknown,
        }
    }
}

/// Types saved from a kernel: the answers to every question that was asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedTypes {
    /// Offsets by `structure.member`.
    pub members: BTreeMap<String, u32>,
    /// Values by enumerator.
    pub enumerators: BTreeMap<String, u32>,
    /// First parameters by `function` or `module:function`.
    pub parameters: BTreeMap<String, Parameter>,
}

/// The key of a function in [`SavedTypes::parameters`].
pub fn parameter_key(function: &str, module: Option<&str>) -> String {
    module.map_or_else(|| function.to_owned(), |module| format!("{module}:{function}"))
}

impl Types for SavedTypes {
    fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.members.get(&format!("{structure}.{member}")).copied()
    }

    fn enumerator(&self, name: &str) -> Option<u32> {
        self.enumerators.get(name).copied()
    }

    // Numbers mean something to the running kernel only.

    fn structure_id(&self, _structure: &str) -> Option<u32> {
        None
    }

    fn function_id(&self, _function: &str) -> Option<u32> {
        None
    }

    fn first_parameter(&self, function: &str, module: Option<&str>) -> Parameter {
        self.parameters.get(&parameter_key(function, module)).cloned().unwrap_or(Parameter::Unknown)
    }
}

/// Members whose offsets the programs need, each with the names it has had, newest first, and where it goes.
type MemberRow = (&'static str, &'static [&'static str], fn(&mut Offsets) -> &mut u32);

/// One row per member of [`Offsets`].
pub const MEMBERS: [MemberRow; 24] = [
    ("kiocb", &["ki_filp"], |o| &mut o.kiocb_filp),
    ("kiocb", &["ki_pos"], |o| &mut o.kiocb_pos),
    ("kiocb", &["ki_flags"], |o| &mut o.kiocb_flags),
    ("file", &["f_flags"], |o| &mut o.file_flags),
    ("file", &["f_mapping"], |o| &mut o.file_mapping),
    ("address_space", &["host"], |o| &mut o.mapping_host),
    ("inode", &["i_sb"], |o| &mut o.inode_sb),
    ("inode", &["i_ino"], |o| &mut o.inode_ino),
    ("inode", &["i_rdev"], |o| &mut o.inode_rdev),
    ("super_block", &["s_dev"], |o| &mut o.sb_dev),
    ("super_block", &["s_type"], |o| &mut o.sb_type),
    ("super_block", &["s_id"], |o| &mut o.sb_id),
    ("file_system_type", &["name"], |o| &mut o.type_name),
    ("task_struct", &["min_flt"], |o| &mut o.task_min_flt),
    ("task_struct", &["maj_flt"], |o| &mut o.task_maj_flt),
    ("task_struct", &["start_time"], |o| &mut o.task_start_time),
    ("task_struct", &["pid"], |o| &mut o.task_pid),
    ("task_struct", &["tgid"], |o| &mut o.task_tgid),
    ("task_struct", &["group_leader"], |o| &mut o.task_group_leader),
    ("task_struct", &["comm"], |o| &mut o.task_comm),
    ("iov_iter", &["iter_type", "type"], |o| &mut o.iter_type),
    ("iov_iter", &["iov_offset"], |o| &mut o.iter_offset),
    ("iov_iter", &["count"], |o| &mut o.iter_count),
    ("iov_iter", &["ubuf", "__iov", "iov"], |o| &mut o.iter_base),
];

/// Enumerators of `iov_iter.iter_type` that mean user memory.
pub const USER_ITER_TYPES: [&str; 2] = ["ITER_UBUF", "ITER_IOVEC"];

/// Reads all offsets.
///
/// # Errors
/// `structure.member` of the first member that this kernel lacks.
pub fn offsets_of(types: &dyn Types) -> Result<Offsets, String> {
    let mut offsets = Offsets::default();
    for (structure, names, slot) in MEMBERS {
        let offset = names.iter().find_map(|name| types.member_offset(structure, name));
        *slot(&mut offsets) = offset.ok_or_else(|| format!("{structure}.{}", names[0]))?;
    }
    Ok(offsets)
}

/// The kernel function that gives a pointer a type, since 6.2 (a35b9af4ec2c "bpf: Add a kfunc for generic type cast").
const CAST: &str = "bpf_rdonly_cast";

/// The number of the function that gives pointers types, and those types; `None` where the kernel has none.
pub fn cast_of(types: &dyn Types) -> Option<(u32, TypeIds)> {
    let id = |name| types.structure_id(name);
    Some((types.function_id(CAST)?, TypeIds { kiocb: id("kiocb")?, file: id("file")?, iov_iter: id("iov_iter")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_has_a_row_of_its_own() {
        let mut offsets = Offsets::default();
        for (number, (_, _, slot)) in MEMBERS.iter().enumerate() {
            let member = slot(&mut offsets);
            assert_eq!(*member, 0, "row {number} writes a member that another row writes");
            *member = number as u32 + 1;
        }
        assert_eq!(MEMBERS.len() * size_of::<u32>(), size_of::<Offsets>());
    }

    #[test]
    fn a_missing_member_is_named() {
        assert_eq!(offsets_of(&SavedTypes::default()), Err("kiocb.ki_filp".to_owned()));
    }
}
