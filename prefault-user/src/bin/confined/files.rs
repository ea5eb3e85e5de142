//! What is tried with files: the tool's own, those of others, and what the kernel shows of other processes.

use std::{
    fs::{self, File, OpenOptions},
    os::fd::AsRawFd as _,
    path::Path,
};

use super::{Attempt, check};

/// Attempts below the folder, and on a process of the same user.
pub fn attempts(folder: &Path, neighbour: libc::pid_t) -> Vec<Attempt<'_>> {
    let file = |below: &str| folder.join(below).join("file");
    let of_neighbour = move |name: &str| format!("/proc/{neighbour}/{name}");
    let write = |path: String| OpenOptions::new().write(true).open(path).map(drop);
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    let mut attempt = |name, attempt: Box<dyn Fn() -> std::io::Result<()>>| attempts.push((name, attempt));
    // What has to go on.
    attempt("read symbols", Box::new(|| fs::read("/proc/kallsyms").map(drop)));
    attempt("read own status", Box::new(|| fs::read("/proc/self/fdinfo/0").map(drop)));
    attempt("count own descriptors", Box::new(|| fs::read_dir("/proc/self/fd").map(drop)));
    attempt("read mounts of process 1", Box::new(|| fs::read("/proc/1/mountinfo").map(drop)));
    attempt("list modules", Box::new(|| fs::read_dir("/sys/module").map(drop)));
    let readable = file("readable");
    attempt("read what is readable", Box::new(move || fs::read(&readable).map(drop)));
    let (partial, whole) = (folder.join("writable/partial"), file("writable"));
    attempt(
        "replace a file",
        Box::new(move || {
            let partial_file = File::create_new(&partial)?;
            check(fchmod(&partial_file, 0o644))?;
            partial_file.sync_data()?;
            fs::rename(&partial, &whole)
        }),
    );
    // Landlock alone keeps these from being done.
    let other = file("other");
    attempt("read another file", Box::new(move || fs::read(&other).map(drop)));
    let new = folder.join("other/new");
    attempt("make a file in another folder", Box::new(move || File::create_new(&new).map(drop)));
    attempt("read memory of a process of the same user", Box::new(move || File::open(of_neighbour("mem")).map(drop)));
    attempt("read its environment", Box::new(move || fs::read(of_neighbour("environ")).map(drop)));
    attempt("look at its open files", Box::new(move || fs::read_link(of_neighbour("fd/0")).map(drop)));
    attempt("look at its root folder", Box::new(move || fs::read_dir(of_neighbour("root/")).map(drop)));
    // Whoever has a capability that this process does not have is out of its reach.
    attempt("read memory of process 1", Box::new(|| File::open("/proc/1/mem").map(drop)));
    // What is there is not written, be it its own.
    for (name, path) in [
        ("write what is readable", file("readable")),
        ("write what it replaces", file("writable")),
        ("write another file", file("other")),
    ] {
        attempt(name, Box::new(move || fs::write(&path, "x")));
    }
    attempt("write memory of a process of the same user", Box::new(move || write(of_neighbour("mem"))));
    attempt("have the kernel start a program", Box::new(move || write("/proc/sys/kernel/core_pattern".to_owned())));
    attempt(
        "change a setting below /sys",
        Box::new(move || write("/sys/kernel/mm/transparent_hugepage/enabled".to_owned())),
    );
    let mine = file("readable");
    attempt("let a program be another user's", Box::new(move || check(fchmod(&File::open(&mine)?, 0o4755))));
    attempts
}

fn fchmod(file: &File, mode: libc::mode_t) -> libc::c_long {
    // SAFETY: the call takes numbers.
    unsafe { libc::fchmod(file.as_raw_fd(), mode) }.into()
}
