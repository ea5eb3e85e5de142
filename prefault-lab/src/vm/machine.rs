//! Running a guest: prepares what it boots, starts it, moves its streams, keeps the clock, and returns how it ended.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    emulator, initramfs,
    kernels::{self, Kernel, Series},
    qemu, root,
    verdict::{self, Outcome},
};
use crate::{
    apt, paths,
    process::{last_lines, wait_until},
};

const STREAM_BYTES: usize = 64 * 1024;
/// How often QEMU may fail before the guest is up. A boot with two processors was seen to end in an assertion of
/// `iotlb_to_section` (QEMU's issue 1921: one processor uses the memory map while another one changes it).
const MOST_ATTEMPTS: u32 = 3;

/// A guest to be.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The kernel to boot.
    pub kernel: Series,
    /// A directory of the host that the guest sees, writable, as /share.
    pub share: Option<PathBuf>,
    /// One processor whose clock counts instructions, one a nanosecond; `cpus` is then ignored.
    pub icount: bool,
    /// Number of processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// A port of this machine's loopback address that leads to a port of the guest, which has no other network.
    pub forward: Option<(u16, u16)>,
    /// A port of this machine's loopback address at which [`super::stepper::Stepper`] finds the processor.
    pub debugger: Option<u16>,
    /// Further words for the kernel's command line.
    pub append: String,
    /// QEMU's name of the processor model.
    pub cpu: String,
    /// Wall-clock limit from start to end.
    pub timeout: Duration,
}

/// Where the command's standard streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// To and from those of this process, as they come.
    Through,
    /// Output into [`Finished`]; input is empty.
    Captured,
}

/// A guest that was.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// What the command wrote to standard output, when captured.
    pub stdout: Vec<u8>,
    /// What the command wrote to standard error, when captured.
    pub stderr: Vec<u8>,
    /// What the kernel wrote to its console, and QEMU to its standard error.
    pub console: PathBuf,
    /// The kernel's release.
    pub release: String,
    /// Time from the start of QEMU until the command was started; `None` if it never was.
    pub boot: Option<Duration>,
    /// Time from the start of QEMU to its end.
    pub elapsed: Duration,
}

impl Machine {
    /// A guest with two processors, 2 GiB of memory and five minutes to live.
    #[must_use]
    pub fn new(kernel: Series) -> Self {
        Self {
            kernel,
            share: None,
            icount: false,
            cpus: 2,
            memory_mib: 2048,
            forward: None,
            debugger: None,
            append: String::new(),
            cpu: "max".to_owned(),
            timeout: Duration::from_secs(300),
        }
    }

    /// Boots, runs the command as root, and waits for the end. The executable of `cargo xtask dist` is on the path if it
    /// has been built.
    ///
    /// # Errors
    /// [`super::Unavailable`] when the archive does not have the kernel; anything else when the guest cannot be started.
    /// What goes wrong in the guest is an [`Outcome`].
    pub fn run(&self, command: &[String], streams: Streams) -> Result<Finished> {
        let kernel = kernels::prepare(&self.kernel)?;
        let emulator = emulator::prepare()?;
        let root = root::prepare()?;
        let run = Run::new(&kernel)?;
        paths::write(&run.initramfs, initramfs::build(&kernel, &root, command)?)?;
        let tools = paths::dist();
        let files = qemu::Files {
            emulator: &emulator,
            kernel: &kernel,
            root: &root,
            tools: tools.exists().then_some(&*tools),
            initramfs: &run.initramfs,
            scratch: &run.scratch,
            console: &run.console,
        };
        for _ in 1..MOST_ATTEMPTS {
            let finished = self.boot(&files, streams)?;
            let Outcome::EmulatorFailed(console) = &finished.outcome else { return Ok(finished) };
            let said = last_lines(console, 2, "; ");
            eprintln!("vm: {}: QEMU failed before the guest was up; it is booted again ({said})", kernel.release);
        }
        self.boot(&files, streams)
    }

    fn boot(&self, files: &qemu::Files<'_>, streams: Streams) -> Result<Finished> {
        let pairs = [pair()?, pair()?, pair()?, pair()?];
        let (host, guest): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let (Ok([stdin, stdout, stderr, control]), Ok(guest)) =
            (<[UnixStream; 4]>::try_from(host), <[UnixStream; 4]>::try_from(guest))
        else {
            unreachable!("there are four pairs")
        };
        let log =
            File::options().append(true).create(true).open(files.console).context("failed to open the console log")?;
        let start = Instant::now();
        let mut child = qemu::command(self, files, &guest)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to start QEMU")?;
        // The streams end when QEMU has closed its ends, so this process must not hold them.
        drop(guest);

        let (started, has_started) = mpsc::channel();
        feed(stdin, streams, has_started);
        let stdout = collect(stdout, streams, io::stdout());
        let stderr = collect(stderr, streams, io::stderr());
        let control = thread::spawn(move || follow(control, start, &started));
        let status = wait_until(&mut child, start + self.timeout)?;
        let elapsed = start.elapsed();

        let (control, boot) = join(control)?;
        let console = fs::read(files.console).context("failed to read the console log")?;
        Ok(Finished {
            outcome: verdict::judge(&control, &String::from_utf8_lossy(&console), status),
            stdout: join(stdout)?,
            stderr: join(stderr)?,
            console: files.console.to_owned(),
            release: files.kernel.release.clone(),
            boot,
            elapsed,
        })
    }
}

/// The files of one run. The console stays for a day, the rest is removed at the end.
struct Run {
    initramfs: PathBuf,
    scratch: PathBuf,
    console: PathBuf,
}

impl Run {
    fn new(kernel: &Kernel) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (runs, logs) = (paths::target("vm/runs"), paths::target("vm/logs"));
        paths::create_dir(&runs)?;
        paths::create_dir(&logs)?;
        remove_old(&logs);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", kernel.release, process::id());
        let run = Self {
            initramfs: runs.join(format!("{name}.cpio")),
            scratch: runs.join(format!("{name}.scratch")),
            console: logs.join(format!("{name}.log")),
        };
        paths::create_dir(&run.scratch)?;
        // A process number comes back; the log of its last owner does not belong to this run.
        paths::write(&run.console, "")?;
        Ok(run)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Nothing is lost when it stays, and it is below `target`.
        let _ = fs::remove_file(&self.initramfs);
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

fn remove_old(logs: &Path) {
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > apt::DAY)) {
            // Another run may have removed it at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn pair() -> Result<(UnixStream, UnixStream)> {
    UnixStream::pair().context("failed to create a socket pair")
}

/// Passes standard input on from a thread that is never waited for: the command may end without reading it. Nothing is read
/// before the command has started, so that a boot that fails takes nothing from the next one.
fn feed(mut port: UnixStream, streams: Streams, has_started: Receiver<()>) {
    thread::spawn(move || {
        if has_started.recv().is_ok() && streams == Streams::Through {
            // A guest that has ended does not want the rest.
            let _ = io::copy(&mut io::stdin(), &mut port);
        }
        // QEMU drops what is still in the socket when the whole of it is closed.
        let _ = port.shutdown(Shutdown::Write);
        let _ = port.read(&mut [0]);
    });
}

fn collect(port: UnixStream, streams: Streams, sink: impl Write + Send + 'static) -> JoinHandle<Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        match streams {
            Streams::Captured => read_until_end(port, |part| bytes.extend(part))?,
            Streams::Through => {
                let mut sink = Some(sink);
                // When nobody reads any more, the rest is still taken from the guest, which would wait for ever.
                read_until_end(port, |part| {
                    sink = sink
                        .take()
                        .and_then(|mut sink| sink.write_all(part).and_then(|()| sink.flush()).is_ok().then_some(sink));
                })?;
            }
        }
        Ok(bytes)
    })
}

fn follow(port: UnixStream, start: Instant, started: &Sender<()>) -> Result<(String, Option<Duration>)> {
    let mut bytes = Vec::new();
    let mut boot = None;
    read_until_end(port, |part| {
        bytes.extend(part);
        if boot.is_none() && verdict::has_started(&String::from_utf8_lossy(&bytes)) {
            boot = Some(start.elapsed());
            // The thread that waits for it may have ended; nothing depends on it then.
            let _ = started.send(());
        }
    })?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), boot))
}

fn read_until_end(mut port: UnixStream, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; STREAM_BYTES];
    loop {
        match port.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n_bytes) => take(&buffer[..n_bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // QEMU closes its end this way when it is killed with bytes for the guest unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("failed to read a stream of the guest"),
        }
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
