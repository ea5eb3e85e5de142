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
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if &header[..5] != b"\x7fELF\x02" {
            return Err(bad("not a 64-bit ELF file"));
        }
        if usize::from(u16::from_le_bytes([header[54], header[55]])) != PROGRAM_HEADER_BYTES {
            return Err(bad("an ELF file whose program headers have an unknown size"));
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
        let offset = segment.offset.checked_add(address - segment.address).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the core file says that this address is beyond its own end")
        })?;
        self.file.read_exact_at(bytes, offset)
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
        let end = address.saturating_add(bytes.len() as u64);
        for (start, piece) in &self.pieces {
            let (from, to) = (address.max(*start), end.min(start.saturating_add(piece.len() as u64)));
            if from < to {
                bytes[(from - address) as usize..(to - address) as usize]
                    .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;

    /// A core file with these segments: type, offset, address, size.
    fn core_file(name: &str, segments: &[[u64; 4]]) -> io::Result<Kcore> {
        let mut file = vec![0; ELF_HEADER_BYTES];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        file[32..40].copy_from_slice(&(ELF_HEADER_BYTES as u64).to_le_bytes());
        file[54..56].copy_from_slice(&(PROGRAM_HEADER_BYTES as u16).to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        for &[kind, offset, address, size] in segments {
            file.extend([kind, offset, address, 0, size, size, 0].iter().flat_map(|word| word.to_le_bytes()));
        }
        file.extend(b"the text");
        opened(name, &file)
    }

    fn opened(name: &str, bytes: &[u8]) -> io::Result<Kcore> {
        let path = std::env::temp_dir().join(format!("prefault-core-{}-{name}", process::id()));
        fs::write(&path, bytes)?;
        let kcore = Kcore::open(&path);
        fs::remove_file(&path)?;
        kcore
    }

    fn read(kcore: &Kcore, address: u64) -> io::Result<[u8; 4]> {
        let mut bytes = [0; 4];
        kcore.read_text(address, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn text_is_read_from_the_segment_that_has_it() {
        let text = (ELF_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES) as u64;
        let kcore = core_file("good", &[[4, 0, 0x1000, 8], [1, text, 0x1000, 8]]).expect("a core file");
        assert_eq!(read(&kcore, 0x1004).expect("there"), *b"text");
        assert_eq!(read(&kcore, 0x1005).expect_err("beyond it").kind(), io::ErrorKind::NotFound);
        assert_eq!(read(&kcore, 0xfff).expect_err("before it").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn segments_that_reach_beyond_every_address_are_errors() {
        let kcore = core_file("top", &[[1, u64::MAX - 1, 0x1000, u64::MAX]]).expect("a core file");
        assert_eq!(read(&kcore, 0x1008).expect_err("no such offset").kind(), io::ErrorKind::InvalidData);
        for address in [0x1000, 0x1001, u64::MAX - 4, u64::MAX] {
            assert!(read(&kcore, address).is_err(), "{address:#x}");
        }
        let saved = SavedText::new(vec![(u64::MAX - 1, vec![1; 8])]);
        let mut bytes = [7; 4];
        saved.read_text(u64::MAX - 2, &mut bytes).expect("saved text is 0 where there is none");
        assert_eq!(bytes[..2], [0, 1]);
    }

    #[test]
    fn what_is_no_core_file_is_refused() {
        for length in [0, 4, ELF_HEADER_BYTES - 1, ELF_HEADER_BYTES] {
            assert!(opened("cut", &vec![0; length]).is_err(), "{length} bytes");
        }
        let mut header = vec![0; ELF_HEADER_BYTES];
        header[..5].copy_from_slice(b"\x7fELF\x02");
        let refused = opened("entries", &header).expect_err("headers of no bytes").to_string();
        assert!(refused.contains("program headers"), "{refused}");
        header[54..58].copy_from_slice(&[PROGRAM_HEADER_BYTES as u8, 0, 0xff, 0xff]);
        header[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(opened("table", &header).is_err(), "the table is nowhere");
    }
}
