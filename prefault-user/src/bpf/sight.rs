//! Whether the points run: switches of the host silence them, and neither an attachment nor a program's statistics show it.
//!
//! The switches are read at each snapshot and each second, and a change that came and went in between is told by inotify. What
//! is counted is the time from the last look that found all well to the first one after that did, so that it is never less than
//! what was missed.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::{
    data::{Silence, Silenced, silence::N_SILENCES},
    host::clock::monotonic_ns,
    kernel::switches::SWITCHES,
};

/// Room for the events of a few writes; what is left is read the next time.
const EVENT_BYTES: usize = 512;

/// Looks at the switches.
#[derive(Debug)]
pub struct Sight(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None`: it cannot be read, mostly because debugfs is not mounted, which is what it would be switched by.
    switches: [Option<File>; N_SILENCES],
    /// Says which of them was written to.
    writes: Option<Writes>,
    /// Whether any point depends on it.
    matters: [bool; N_SILENCES],
    silenced: Silenced,
    looked_ns: u64,
}

impl Sight {
    /// Opens the switches, which a process that gives up its privileges could not later. `matters` says of each whether a point
    /// depends on it.
    pub fn open(matters: [bool; N_SILENCES]) -> Self {
        let paths = SWITCHES.map(Path::new);
        let mut state = State {
            switches: paths.map(|path| File::open(path).ok()),
            writes: Writes::watch(paths).inspect_err(|error| log::info!("switches are not watched: {error}")).ok(),
            matters,
            silenced: Silenced::default(),
            looked_ns: monotonic_ns(),
        };
        state.look();
        Self(Mutex::new(state))
    }

    /// Whether points depend on what `silence` switches off.
    pub fn depend(&self, silence: Silence, matters: bool) {
        let mut state = self.lock();
        // What was missed until now was missed.
        state.look();
        state.matters[silence as usize] = matters;
    }

    /// Looks at the switches now.
    pub fn look(&self) -> Silenced {
        self.lock().look()
    }

    /// A descriptor that can be read from once a switch has been written to; reading it is [`Sight::look`]'s part.
    ///
    /// # Errors
    /// If there can be no further descriptor.
    pub fn written(&self) -> io::Result<Option<OwnedFd>> {
        self.lock().writes.as_ref().map(|writes| writes.inotify.try_clone()).transpose()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self) -> Silenced {
        let now_ns = monotonic_ns();
        let since_ns = now_ns.saturating_sub(self.looked_ns);
        // Before the switches are read: what is written after that is told the next time.
        let written = self.writes.as_ref().map(Writes::take).unwrap_or_default();
        for (index, switch) in self.switches.iter().enumerate() {
            let is_off = self.matters[index] && switch.as_ref().is_some_and(is_off);
            let may_have_been = self.matters[index] && written[index];
            if is_off || may_have_been || self.silenced.now[index] {
                self.silenced.ns[index] += since_ns;
            }
            self.silenced.now[index] = is_off;
        }
        self.looked_ns = now_ns;
        self.silenced
    }
}

/// Whether a switch is off. One that cannot be read any more is taken to be as it mostly is.
fn is_off(switch: &File) -> bool {
    let mut first = [0];
    switch.read_at(&mut first, 0).is_ok_and(|n| n == 1) && first == *b"0"
}

/// What inotify says of writes to the switches.
#[derive(Debug)]
struct Writes {
    inotify: OwnedFd,
    /// Numbers of the switches in what it says, `None` of those that are not there and so are not written to.
    watches: [Option<i32>; N_SILENCES],
}

impl Writes {
    fn watch(paths: [&Path; N_SILENCES]) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let watches = paths.map(|path| inotify::add_watch(&inotify, path, WatchFlags::MODIFY).ok());
        Ok(Self { inotify, watches })
    }

    /// Takes what it has to say: which switches were written to.
    fn take(&self) -> [bool; N_SILENCES] {
        let mut room = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut room);
        let mut written = [false; N_SILENCES];
        // It ends with the error that there is nothing more.
        while let Ok(event) = reader.next() {
            for (written, watch) in written.iter_mut().zip(self.watches) {
                *written |= watch == Some(event.wd());
            }
        }
        written
    }
}
