//! Bytes that decide: what a test is made of.

/// Bytes that are used up one after the other; where there are none left, all of them are 0.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// A number of eight bytes.
    pub fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }
}

/// `example` with changes that `input` describes, so that what is tried comes past the first check of a parser; or, for one
/// input of four, `input` itself.
pub fn changed(example: &[u8], input: &[u8]) -> Vec<u8> {
    const INTERESTING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b' ', b'\n', b'='];
    let mut source = Source(input);
    let n_changes = match source.below(4) {
        0 => return source.0.to_vec(),
        _ => 1 + source.below(8),
    };
    let mut changed = example.to_vec();
    for _ in 0..n_changes {
        let place = (source.word() as usize).checked_rem(changed.len()).unwrap_or(0);
        let end = changed.len().min(place + 1 + source.below(16));
        match source.below(6) {
            0 => changed.truncate(place),
            1 => drop(changed.drain(place..end)),
            2 => changed.splice(place..place, (0..1 + source.below(8)).map(|_| source.byte())).for_each(drop),
            3 => changed[place..end].fill(INTERESTING[source.below(INTERESTING.len())]),
            4 => changed[place..end].iter_mut().for_each(|byte| *byte = source.byte()),
            _ => {
                let part = changed[place..end].to_vec();
                changed.splice(end..end, part).for_each(drop);
            }
        }
    }
    changed
}
