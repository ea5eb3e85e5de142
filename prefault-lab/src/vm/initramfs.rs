//! The archive a guest's kernel starts from: a shell, the modules that reach the shared directories, the guest's two scripts
//! and the command. Written in the kernel's own format, so that no privileges and no other program are needed.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{kernels::Kernel, modules};

const STAGE_1: &str = include_str!("guest/init.sh");
const STAGE_2: &str = include_str!("guest/run.sh");
/// What stands between the kernel and its root: the buses, the two kinds of device, and the two filesystems.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];
/// The applets the scripts use.
const APPLETS: [&str; 14] = [
    "cat",
    "cp",
    "hostname",
    "ifconfig",
    "insmod",
    "ln",
    "mkdir",
    "mount",
    "poweroff",
    "setsid",
    "sh",
    "sleep",
    "switch_root",
    "umount",
];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const SYMLINK: u32 = 0o120_777;

/// Builds the archive for one kernel and one command.
///
/// # Errors
/// When the root filesystem has no shell, or the kernel lacks a module without which nothing can be reached.
pub fn build(kernel: &Kernel, root: &Path, command: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "guest", "lab", "layers", "modules", "proc", "sys"] {
        archive.add(directory, DIRECTORY, b"");
    }
    let busybox = root.join("usr/bin/busybox");
    archive.add("bin/busybox", PROGRAM, &read(&busybox)?);
    for applet in APPLETS {
        archive.add(&format!("bin/{applet}"), SYMLINK, b"busybox");
    }
    archive.add("init", PROGRAM, STAGE_1.as_bytes());
    archive.add("lab/run", PROGRAM, STAGE_2.as_bytes());
    archive.add("lab/command", FILE, script(command).as_bytes());

    let dependencies = read_text(&kernel.modules.join("modules.dep"))?;
    let builtin = read_text(&kernel.modules.join("modules.builtin"))?;
    let mut order = String::new();
    for (index, module) in modules::load_order(&dependencies, &builtin, &MODULES)?.into_iter().enumerate() {
        archive.add(&format!("modules/{index}.ko"), FILE, &read(&kernel.modules.join(module))?);
        order.push_str(&format!("{index}.ko\n"));
    }
    archive.add("modules/order", FILE, order.as_bytes());
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

/// A shell script that becomes the command, with the boundaries of its arguments.
fn script(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
    format!("exec {}\n", words.join(" "))
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A cpio archive in the format of Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    n_entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.n_entries += 1;
        let size = contents.len();
        let name_bytes = name.len() + 1;
        let inode = self.n_entries;
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_bytes:08x}{0:08x}",
            0, 1
        );
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process;

    #[test]
    fn words_survive_the_shell() {
        let words = ["plain", "two words", "it's", "", "$HOME `id` \"x\" \\", "new\nline", "-n"];
        let script = script(
            &["printf".to_owned(), "<%s>".to_owned()].into_iter().chain(words.map(str::to_owned)).collect::<Vec<_>>(),
        );
        let printed = process::output(Command::new("sh").args(["-c", &script])).expect("sh runs it");
        assert_eq!(printed, words.map(|word| format!("<{word}>")).concat());
    }

    #[test]
    fn archive_is_aligned_and_ends_with_the_trailer() {
        let mut archive = Archive::default();
        archive.add("a", FILE, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"12345\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
