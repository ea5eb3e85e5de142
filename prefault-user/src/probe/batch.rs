//! Reading maps many elements at a time, which aya 0.14 has no calls for, and one by one where the kernel has none either.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, anyhow};
use aya::{
    Pod,
    maps::{HashMap, IterableMap, Map, MapData, PerCpuArray},
};

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Bytes that are read in one go, or one element if that has more: little enough for the heap to give it again and again.
const BYTES_AT_ONCE: usize = 64 * 1024;

/// `bpf_attr.batch`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    /// Address of what the last call left, 0 to begin.
    before: u64,
    /// Address of where to leave what the next one needs.
    after: u64,
    keys: u64,
    values: u64,
    /// How many fit, and how many were read.
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// An array whose elements have a part for each processor.
pub struct ProcessorArray<V: Pod> {
    map: PerCpuArray<MapData, V>,
    n_processors: usize,
    /// The kernel has refused to read many elements at a time.
    one_by_one: AtomicBool,
}

impl<V: Pod> ProcessorArray<V> {
    /// Takes the map.
    ///
    /// # Errors
    /// If it is another kind of map, or the number of processors cannot be read.
    pub fn new(map: Map) -> Result<Self> {
        // The kernel puts parts of elements at multiples of eight bytes.
        const { assert!(size_of::<V>().is_multiple_of(8) && align_of::<V>() <= 8) };
        Ok(Self { map: PerCpuArray::try_from(map)?, n_processors: n_processors()?, one_by_one: AtomicBool::new(false) })
    }

    /// Shows `look` the parts of elements number `first` to `first + count - 1`, one element after the other.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn read(&self, first: u32, count: u32, mut look: impl FnMut(u32, &[V])) -> Result<()> {
        let n_at_once = (BYTES_AT_ONCE / (size_of::<V>() * self.n_processors)).clamp(1, count.max(1) as usize);
        let mut values = Vec::with_capacity(n_at_once * self.n_processors);
        let mut keys = Vec::with_capacity(n_at_once);
        let mut next = first;
        while next < first + count {
            let wanted = n_at_once.min((first + count - next) as usize) as u32;
            if !self.one_by_one.load(Ordering::Relaxed) && self.read_batch(next, wanted, &mut keys, &mut values).is_ok()
            {
                (next..).zip(values.chunks_exact(self.n_processors)).for_each(|(index, parts)| look(index, parts));
            } else {
                // Before 5.13 per-CPU arrays have no batches (f008d732ab18 "bpf: Add batched ops support for percpu
                // array"), and later ones need memory in one piece.
                self.one_by_one.store(true, Ordering::Relaxed);
                for index in next..next + wanted {
                    look(index, &self.map.get(&index, 0)?);
                }
            }
            next += wanted;
        }
        Ok(())
    }

    /// Reads exactly `count` elements from number `first` on.
    fn read_batch(&self, first: u32, count: u32, keys: &mut Vec<u32>, values: &mut Vec<V>) -> io::Result<()> {
        // The element behind this one is the next; the first is behind what is no element.
        let before = first.wrapping_sub(1);
        let n_values = count as usize * self.n_processors;
        values.clear();
        values.reserve(n_values);
        // SAFETY: there is room for as many elements as are asked for, with a part for each possible processor.
        let n_read = unsafe { read_batch(fd(&self.map), Some(&before), count, keys, values.as_mut_ptr().cast()) }?;
        if n_read != count || keys.first() != Some(&first) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the kernel has filled so many, and every pattern of bits is a value.
        unsafe { values.set_len(n_values) };
        Ok(())
    }
}

/// Processors that there can be, which is how many parts an element has.
///
/// # Errors
/// If the kernel does not say.
pub fn n_processors() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(what, error)| anyhow!("failed to read {what}: {error}"))
}

/// All entries of a hash map with room for `capacity`.
///
/// # Errors
/// If it cannot be read.
pub fn read_all<V: Pod>(map: &HashMap<MapData, u32, V>, capacity: u32) -> Result<Vec<(u32, V)>> {
    const { assert!(size_of::<V>().is_multiple_of(8) && align_of::<V>() <= 8) };
    let mut keys = Vec::with_capacity(capacity as usize);
    let mut values: Vec<V> = Vec::with_capacity(capacity as usize);
    // SAFETY: there is room for everything that can be in the map.
    let read = unsafe { read_batch(fd(map), None, capacity, &mut keys, values.as_mut_ptr().cast()) };
    match read {
        Ok(n_read) => {
            // SAFETY: the kernel has filled so many, and every pattern of bits is a value.
            unsafe { values.set_len(n_read as usize) };
            Ok(keys.into_iter().zip(values).collect())
        }
        // Hash maps have batches since 5.6 (057996380a42 "bpf: Add batch ops to all htab bpf map").
        Err(_) => map.iter().map(|entry| Ok(entry?)).collect(),
    }
}

fn fd<K: Pod, V>(map: &impl IterableMap<K, V>) -> BorrowedFd<'_> {
    map.map().fd().as_fd()
}

/// Reads up to `count` entries behind the one with the key `before`, or from the begin; the result is how many.
///
/// # Safety
/// There must be room at `values` for `count` values as the kernel copies them.
unsafe fn read_batch(
    map: BorrowedFd<'_>,
    before: Option<&u32>,
    count: u32,
    keys: &mut Vec<u32>,
    values: *mut u8,
) -> io::Result<u32> {
    let mut after = 0_u32;
    keys.clear();
    keys.reserve(count as usize);
    let mut attr = BatchAttr {
        before: before.map_or(0, |before| core::ptr::from_ref(before) as u64),
        after: &raw mut after as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values as u64,
        count,
        map: map.as_raw_fd() as u32,
        ..BatchAttr::default()
    };
    // SAFETY: the attribute and what it points to live through the call; there is room for so many keys, and the caller
    // says so of values.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attr, size_of::<BatchAttr>()) };
    if result < 0 {
        let error = io::Error::last_os_error();
        // There is nothing behind what was read.
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
    }
    // SAFETY: the kernel has filled so many.
    unsafe { keys.set_len(attr.count as usize) };
    Ok(attr.count)
}
