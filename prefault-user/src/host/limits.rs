//! Limits of this process (setrlimit(2)): raised as far as they may be, and given back to what it starts.

use std::{io, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What [`raise`] changes.
const RAISED: [Resource; 2] = [Resource::Nofile, Resource::Memlock];

/// What these were.
static ORIGINAL: OnceLock<[Rlimit; 2]> = OnceLock::new();

/// Raises what may be raised, once: open files to the hard limit, since each kprobe takes two; locked memory to no limit, or else
/// to the hard one, since kernels before 5.11 count BPF maps against it (d5299b67dd59 "bpf: Memcg-based memory accounting"). Where
/// that is not enough, it is said by whatever runs into it.
pub fn raise() {
    ORIGINAL.get_or_init(|| {
        let original = RAISED.map(getrlimit);
        let [files, memory] = &original;
        let raised = |limit: &Rlimit| Rlimit { current: limit.maximum, maximum: limit.maximum };
        let unlimited = Rlimit { current: None, maximum: None };
        let outcome = [
            setrlimit(Resource::Nofile, raised(files)),
            setrlimit(Resource::Memlock, unlimited).or_else(|_| setrlimit(Resource::Memlock, raised(memory))),
        ];
        for error in outcome.into_iter().filter_map(Result::err) {
            log::info!("a limit of this process could not be raised: {error}");
        }
        original
    });
}

/// Sets the limits of the calling process to what they were before [`raise`]. It allocates nothing, so that it may be called between
/// fork and exec.
///
/// # Errors
/// As setrlimit(2); lowering them is always allowed.
pub fn give_back() -> io::Result<()> {
    for (resource, limit) in RAISED.into_iter().zip(ORIGINAL.get().into_iter().flatten()) {
        setrlimit(resource, *limit)?;
    }
    Ok(())
}

/// What is to be said where a thread cannot be started.
pub fn why_no_thread(error: &io::Error) -> String {
    let most = getrlimit(Resource::Nproc).current.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    format!(
        "failed to start a thread: {error} (the user may have {most} threads, `ulimit -u` or LimitNPROC=; a service or container \
         further ones, TasksMax= or pids.max)"
    )
}

/// A remedy for a map that the kernel refuses, if it may be for want of locked memory.
pub fn memlock_remedy() -> Option<String> {
    let limit = getrlimit(Resource::Memlock).current?;
    Some(format!(
        "this process may lock {} KiB of memory (RLIMIT_MEMLOCK), against which kernels before 5.11 count BPF maps: `ulimit -l \
         unlimited`, or LimitMEMLOCK=infinity in its service",
        limit / 1024
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_raised_and_given_back() {
        let before = RAISED.map(getrlimit);
        raise();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, before[0].maximum);
        give_back().expect("lowered");
        let after = RAISED.map(getrlimit);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((before.current, before.maximum), (after.current, after.maximum));
        }
    }
}
