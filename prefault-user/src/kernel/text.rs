//! The live text of the kernel: bytes by address.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Something kernel text can be read from.
pub trait ReadText {
    /// Fills `bytes` with the text at `address`.
    ///
    /// # Errors
    /// If any byte of it cannot be read.
    fn read_text(&self, address: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// /proc/kcore: an ELF core file whose segments are the kernel's mappings.
#[derive(Debug)]
pub struct Kcore {
    file: File,
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    address: u64,
    size: u64,
    offset: u64,
}

const ELF_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;

impl Kcore {
    /// Opens the core file at `path`.
    ///
    /// # Errors
    /// If it cannot be read (CAP_SYS_RAWIO is missing, a container hides it, lockdown), or is no 64-bit ELF file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut header = [0; ELF_HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        if &header[..5] != b"\x7fELF\x02" {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit ELF file"));
        }
        let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
        let mut table = vec![0; count * PROGRAM_HEADER_BYTES];
        file.read_exact_at(&mut table, u64_at(&header, 32))?;
        let segments = table
            .chunks_exact(PROGRAM_HEADER_BYTES)
            .filter(|entry| entry[..4] == PT_LOAD.to_le_bytes())
            .map(|entry| Segment { offset: u64_at(entry, 8), address: u64_at(entry, 16), size: u64_at(entry, 32) })
            .collect();
        Ok(Self { file, segments })
    }
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

impl ReadText for Kcore {
    fn read_text(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let end = address.saturating_add(bytes.len() as u64);
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.address <= address && end - segment.address <= segment.size)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no segment of the core file has this address"))?;
        self.file.read_exact_at(bytes, segment.offset + (address - segment.address))
    }
}

/// Pieces of text that were saved from a kernel, as tests use them.
#[derive(Debug, Default)]
pub struct SavedText {
    pieces: Vec<(u64, Vec<u8>)>,
}

impl SavedText {
    /// Text made of these pieces, each with its address.
    pub fn new(pieces: Vec<(u64, Vec<u8>)>) -> Self {
        Self { pieces }
    }
}

impl ReadText for SavedText {
    /// Bytes between the pieces read as 0, which begins no call.
    fn read_text(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(0);
        let end = address + bytes.len() as u64;
        for (start, piece) in &self.pieces {
            let (from, to) = (address.max(*start), end.min(start + piece.len() as u64));
            if from < to {
                bytes[(from - address) as usize..(to - address) as usize]
                    .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}
