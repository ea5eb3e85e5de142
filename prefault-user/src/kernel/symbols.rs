//! Text symbols of the kernel and its modules, from /proc/kallsyms.

use std::ops::Range;

use super::FactsError;

/// A function, or another label in executable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Absolute address.
    pub address: u64,
    /// Name, not unique: two modules may each have a static function of the same name.
    pub name: &'a str,
    /// Module, `None` for the kernel itself.
    pub module: Option<&'a str>,
}

/// All text symbols, by address.
#[derive(Debug, Default)]
pub struct Symbols {
    entries: Vec<Entry>,
    /// All names, one after the other.
    names: String,
    modules: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    name_start: u32,
    name_len: u16,
    /// Index into `modules` plus 1, 0 for the kernel.
    module: u16,
}

/// Bytes that one function may have at most where nothing follows it; kernel functions beyond that do not exist.
const LONGEST_FUNCTION: u64 = 64 * 1024;

/// Where the longest function would end that starts at `address`; no address is beyond the highest.
fn end_of_longest(address: u64) -> u64 {
    address.saturating_add(LONGEST_FUNCTION)
}

impl Symbols {
    /// Parses the contents of /proc/kallsyms. A name may be of any bytes; what is not UTF-8 is replaced, and the symbol stays.
    ///
    /// # Errors
    /// [`FactsError::AddressesHidden`] if every address is 0, as kptr_restrict and missing privilege make them.
    pub fn parse(kallsyms: impl AsRef<[u8]>) -> Result<Self, FactsError> {
        let mut symbols = Self::default();
        for line in kallsyms.as_ref().split(|&byte| byte == b'\n') {
            symbols.push_line(&String::from_utf8_lossy(line));
        }
        if symbols.entries.is_empty() {
            return Err(FactsError::NoSymbols);
        }
        if symbols.entries.iter().all(|entry| entry.address == 0) {
            return Err(FactsError::AddressesHidden);
        }
        symbols.entries.sort_by_key(|entry| entry.address);
        symbols.names.shrink_to_fit();
        symbols.entries.shrink_to_fit();
        Ok(symbols)
    }

    /// Takes `ffffffff81000000 T name [module]` if it is text of the kernel or of a real module.
    fn push_line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else { return };
        if !matches!(kind, "t" | "T" | "w" | "W") {
            return;
        }
        let Ok(address) = u64::from_str_radix(address, 16) else { return };
        let module = match words.next().map(|word| word.trim_matches(['[', ']'])) {
            None => 0,
            // Code that is made at run time is listed too: BPF programs, trampolines, kprobe slots.
            Some(module) if module == "bpf" || module.starts_with("__builtin__") => return,
            Some(module) => self.module_number(module),
        };
        let name_start = self.names.len() as u32;
        self.names.push_str(name);
        self.entries.push(Entry { address, name_start, name_len: name.len() as u16, module });
    }

    fn module_number(&mut self, module: &str) -> u16 {
        // kallsyms lists a module's symbols together, so that the last one is nearly always right.
        let index = self.modules.iter().rposition(|known| known == module).unwrap_or_else(|| {
            self.modules.push(module.to_owned());
            self.modules.len() - 1
        });
        index as u16 + 1
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        let start = entry.name_start as usize;
        Symbol {
            address: entry.address,
            name: &self.names[start..start + usize::from(entry.name_len)],
            module: usize::from(entry.module).checked_sub(1).map(|index| self.modules[index].as_str()),
        }
    }

    /// All symbols, by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().map(|entry| self.symbol(entry))
    }

    /// Symbols called `name`, anywhere.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Symbol<'a>> {
        self.iter().filter(move |symbol| symbol.name == name)
    }

    /// The first symbol called `name` in the kernel itself.
    pub fn in_kernel<'a>(&'a self, name: &'a str) -> Option<Symbol<'a>> {
        self.named(name).find(|symbol| symbol.module.is_none())
    }

    /// The function that contains `address`, and where it ends. Of several labels at one address the first is taken.
    pub fn containing(&self, address: u64) -> Option<(Symbol<'_>, Range<u64>)> {
        let after = self.entries.partition_point(|entry| entry.address <= address);
        let start = self.entries[after.checked_sub(1)?].address;
        let first = self.entries.partition_point(|entry| entry.address < start);
        let end = self.entries.get(after).map_or(u64::MAX, |entry| entry.address).min(end_of_longest(start));
        (address < end).then(|| (self.symbol(&self.entries[first]), start..end))
    }

    /// The code of the kernel and of all modules, as ranges that symbols cover.
    pub fn text(&self) -> Vec<Range<u64>> {
        self.kernel_text().into_iter().chain(self.module_text().into_iter().map(|(_, range)| range)).collect()
    }

    /// The code of one module (`None`: the kernel itself), as ranges that symbols cover, by address.
    pub fn text_of(&self, module: Option<&str>) -> Vec<Range<u64>> {
        let Some(module) = module else { return self.kernel_text().into_iter().collect() };
        let of_module =
            |(number, range): (u16, Range<u64>)| (self.modules[usize::from(number) - 1] == module).then_some(range);
        self.module_text().into_iter().filter_map(of_module).collect()
    }

    fn kernel_text(&self) -> Option<Range<u64>> {
        Some(self.in_kernel("_stext")?.address..self.in_kernel("_etext")?.address)
    }

    /// Ranges with the number of the module they belong to.
    ///
    /// They come from the module's own symbols: since 6.4 a module has several ranges, and /proc/modules gives the base
    /// of one with the size of all, so that they would run into their neighbours.
    fn module_text(&self) -> Vec<(u16, Range<u64>)> {
        let mut ranges: Vec<(u16, Range<u64>)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.module != 0) {
            let next = self.entries[index + 1..].iter().find(|next| next.address > entry.address);
            let end = next.map_or(u64::MAX, |next| next.address).min(end_of_longest(entry.address));
            match ranges.last_mut() {
                Some((module, last)) if *module == entry.module && last.end >= entry.address => last.end = end,
                _ => ranges.push((entry.module, entry.address..end)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "\
ffffffff81000000 T _stext
ffffffff81000010 T first
ffffffff81000040 t second
ffffffff81000040 T second_alias
ffffffff81000100 T _etext
ffffffff82000000 D data
ffffffffc0000000 t write_iter\t[ntfs3]
ffffffffc0000080 t other\t[ntfs3]
ffffffffc0100000 t write_iter\t[ntfs]
ffffffffc0200000 t bpf_prog_1\t[bpf]
";

    #[test]
    fn the_function_around_an_address_is_found_up_to_its_end() {
        let symbols = Symbols::parse(KALLSYMS).expect("valid");
        let (symbol, range) = symbols.containing(0xffffffff81000050).expect("inside");
        assert_eq!((symbol.name, range), ("second", 0xffffffff81000040..0xffffffff81000100));
        assert_eq!(symbols.containing(0x1000), None);
        let (last, range) = symbols.containing(0xffffffffc0100004).expect("inside");
        assert_eq!((last.module, range.end), (Some("ntfs"), 0xffffffffc0100000 + LONGEST_FUNCTION));
        assert_eq!(symbols.containing(range.end), None);
    }

    #[test]
    fn functions_end_at_the_highest_address() {
        let top = Symbols::parse("fffffffffffffff0 t a\t[module]\nffffffffffffffff t b\t[module]\n").expect("valid");
        assert_eq!(top.containing(0xffff_ffff_ffff_fff8).map(|(a, range)| (a.name, range.end)), Some(("a", u64::MAX)));
        assert_eq!(top.containing(u64::MAX), None);
        assert_eq!(top.text_of(Some("module")).first(), Some(&(0xffff_ffff_ffff_fff0..u64::MAX)));
    }

    #[test]
    fn a_name_that_is_not_utf_8_harms_nobody_and_is_found_by_its_address() {
        let mut kallsyms = KALLSYMS.as_bytes().to_vec();
        kallsyms.extend(b"ffffffffc0300000 t a\xffb\t[m\xfe]\nffffffffc0300040 t next\t[m\xfe]\n");
        let symbols = Symbols::parse(&kallsyms).expect("valid");
        let (symbol, range) = symbols.containing(0xffffffffc0300010).expect("inside");
        assert_eq!((symbol.name, symbol.module), ("a\u{fffd}b", Some("m\u{fffd}")));
        assert_eq!(range, 0xffffffffc0300000..0xffffffffc0300040);
        assert_eq!(symbols.text_of(Some("m\u{fffd}")).len(), 1);
        assert!(symbols.in_kernel("first").is_some());
    }

    #[test]
    fn one_name_may_be_in_two_modules() {
        let symbols = Symbols::parse(KALLSYMS).expect("valid");
        let modules: Vec<_> = symbols.named("write_iter").map(|symbol| symbol.module).collect();
        assert_eq!(modules, [Some("ntfs3"), Some("ntfs")]);
        assert_eq!(symbols.in_kernel("write_iter"), None);
    }

    #[test]
    fn text_ranges_are_the_kernel_and_the_modules_without_generated_code() {
        let symbols = Symbols::parse(KALLSYMS).expect("valid");
        assert_eq!(
            symbols.text(),
            [
                0xffffffff81000000..0xffffffff81000100,
                0xffffffffc0000000..0xffffffffc0000080 + LONGEST_FUNCTION,
                0xffffffffc0100000..0xffffffffc0100000 + LONGEST_FUNCTION,
            ]
        );
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        let hidden = Symbols::parse("0000000000000000 T _stext\n0000000000000000 T _etext\n");
        assert!(matches!(hidden, Err(FactsError::AddressesHidden)));
        assert!(matches!(Symbols::parse(""), Err(FactsError::NoSymbols)));
    }
}
