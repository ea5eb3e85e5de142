//! Names of functions: what the compiler and the linker append to the one in the source, and what that says of the function.

/// What leaves the arguments of a function as the source has them, up to the numbers and hashes that follow.
///
/// `llvm`: a static function that ThinLTO made global. `__uniq`: clang's -funique-internal-linkage-names. `cold`: a part of the
/// function, which runs in its frame. `lto_priv`, `localalias`: the same function under another name (GCC).
const KEEP_ARGUMENTS: [&str; 5] = ["llvm", "__uniq", "cold", "lto_priv", "localalias"];

/// The name of a function, taken apart. C has no dots in names, so everything from the first one on was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// As in the source.
    pub plain: &'a str,
    /// The arguments are those of the source. They may not be after `.isra`, `.constprop` or `.part`, or what is not known.
    pub keeps_arguments: bool,
    /// It is a part that the compiler split off because it hardly ever runs.
    pub is_cold: bool,
}

impl<'a> Name<'a> {
    /// Takes a symbol's name apart.
    #[must_use]
    pub fn of(symbol: &'a str) -> Self {
        // A name that begins with a dot is no function's of the source.
        let Some((plain, appended)) = symbol.split_once('.').filter(|(plain, _)| !plain.is_empty()) else {
            return Self { plain: symbol, keeps_arguments: true, is_cold: false };
        };
        let words = || appended.split('.').filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
        Self {
            plain,
            keeps_arguments: words().all(|word| KEEP_ARGUMENTS.contains(&word)),
            is_cold: words().any(|word| word == "cold"),
        }
    }
}

/// The name to show: without a hash, which says nothing to people and changes with each build.
#[must_use]
pub fn shown(symbol: &str) -> &str {
    let name = Name::of(symbol);
    if name.keeps_arguments && !name.is_cold { name.plain } else { symbol }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_told_from_what_changes_the_arguments() {
        for (symbol, plain, keeps_arguments, is_cold) in [
            ("f2fs_file_write_iter", "f2fs_file_write_iter", true, false),
            ("f2fs_file_write_iter.llvm.4839205737718208493", "f2fs_file_write_iter", true, false),
            ("f2fs_file_write_iter.llvm.4839205737718208493.cold", "f2fs_file_write_iter", true, true),
            ("write.__uniq.1234.llvm.5678", "write", true, false),
            ("iomap_iter.cold", "iomap_iter", true, true),
            ("iomap_iter.cold.12", "iomap_iter", true, true),
            ("iter.lto_priv.0", "iter", true, false),
            ("btrfs_buffered_write.isra.0", "btrfs_buffered_write", false, false),
            ("btrfs_buffered_write.isra.0.cold", "btrfs_buffered_write", false, true),
            ("write.constprop.0.isra.0", "write", false, false),
            ("write.part.0", "write", false, false),
            ("write.specialized.1", "write", false, false),
            (".Lsomething", ".Lsomething", true, false),
        ] {
            assert_eq!(Name::of(symbol), Name { plain, keeps_arguments, is_cold }, "{symbol}");
        }
    }

    #[test]
    fn a_hash_is_not_shown() {
        assert_eq!(shown("f2fs_file_write_iter.llvm.4839205737718208493"), "f2fs_file_write_iter");
        assert_eq!(shown("btrfs_buffered_write.isra.0"), "btrfs_buffered_write.isra.0");
        assert_eq!(shown("iomap_iter.cold"), "iomap_iter.cold");
    }
}
