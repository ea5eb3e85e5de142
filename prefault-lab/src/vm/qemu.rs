//! The machine a guest sees, as QEMU's command line. Software emulation only: it needs no privileges, works inside other
//! virtual machines, and can count instructions.

use std::{
    ffi::{OsStr, OsString},
    os::fd::{AsRawFd, RawFd},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use super::{Machine, emulator, kernels::Kernel};

/// Fast copies and stores of bytes, which are emulated byte by byte: without them a start of the tool took 14 to 20 % less.
/// Guests that count instructions have them, because their figures are of processors that do.
const SLOW_FEATURES: &str = ",-erms,-fsrm";

/// What the guest boots and sees of the host.
pub struct Files<'a> {
    /// The directory of the emulator.
    pub emulator: &'a Path,
    /// The kernel; its tree is laid over the root.
    pub kernel: &'a Kernel,
    /// The root filesystem.
    pub root: &'a Path,
    /// A directory of programs, put on the path.
    pub tools: Option<&'a Path>,
    /// The archive the kernel starts from.
    pub initramfs: &'a Path,
    /// A directory that the guest can mount for itself, under the tag `scratch`.
    pub scratch: &'a Path,
    /// The file that receives the console.
    pub console: &'a Path,
}

/// Builds the command; the ports are the guest's ends of standard input, output, error and the control channel.
pub fn command(machine: &Machine, files: &Files<'_>, ports: &[UnixStream; 4]) -> Command {
    let mut command = emulator::command(files.emulator);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc"]);
    let without = if machine.icount { "" } else { SLOW_FEATURES };
    command.args(["-cpu", &format!("{}{without}", machine.cpu), "-m", &format!("{}M", machine.memory_mib)]);
    if machine.icount {
        command.args(["-accel", "tcg", "-smp", "1", "-icount", "shift=0,sleep=off"]);
    } else {
        command.args(["-accel", "tcg,thread=multi", "-smp", &machine.cpus.to_string()]);
    }
    command.arg("-kernel").arg(&files.kernel.image).arg("-initrd").arg(files.initramfs);
    // On a busy host the kernel's check of the timer ended boots: "IO-APIC + timer doesn't work".
    command.args(["-append", &format!("console=ttyS0 quiet panic=-1 no_timer_check {}", machine.append)]);
    command.arg("-chardev").arg(option("file,id=console,append=on,path=", files.console, ""));
    command.args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
    for (index, port) in ports.iter().enumerate() {
        let (number, descriptor) = (index + 1, port.as_raw_fd());
        command.args(["-chardev", &format!("socket,id=port{number},fd={descriptor}")]);
        command.args(["-device", &format!("virtserialport,nr={number},chardev=port{number}")]);
    }
    if let Some((host, guest)) = machine.forward {
        command.args(["-netdev", &format!("user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:{host}-:{guest}")]);
        command.args(["-device", "virtio-net-pci,netdev=network,romfile="]);
    }
    if let Some(port) = machine.debugger {
        command.args(["-gdb", &format!("tcp:127.0.0.1:{port}")]);
    }
    let mut directories = vec![("root", files.root, ",readonly=on"), ("kernel", &files.kernel.tree, ",readonly=on")];
    directories.push(("scratch", files.scratch, ""));
    directories.extend(files.tools.map(|tools| ("tools", tools, ",readonly=on")));
    directories.extend(machine.share.as_deref().map(|share| ("share", share, "")));
    for (tag, path, mode) in directories {
        let end = format!(",mount_tag={tag},security_model=none,multidevs=remap{mode}");
        command.arg("-virtfs").arg(option("local,path=", path, &end));
    }

    command.stdin(Stdio::null());
    inherit(&mut command, ports.each_ref().map(AsRawFd::as_raw_fd));
    command
}

/// An option with a path in it, in which QEMU wants commas doubled.
fn option(start: &str, path: &Path, end: &str) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    [OsStr::new(start), OsStr::new(&path), OsStr::new(end)].into_iter().collect()
}

/// Lets the child keep the descriptors and no other one, and lets it not outlive the thread that started it.
fn inherit(command: &mut Command, descriptors: [RawFd; 4]) {
    let prepare = move || {
        for descriptor in descriptors {
            // SAFETY: fcntl and prctl take integers and are async-signal-safe; the descriptors are open, because the
            // caller holds them until the child has been started.
            if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        // SAFETY: as above.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == -1 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the closure neither allocates nor locks; it only makes the two system calls above.
    unsafe { command.pre_exec(prepare) };
}
