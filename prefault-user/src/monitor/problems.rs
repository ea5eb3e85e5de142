//! From an error to the problem that it is: by its type and by what the kernel answered, never by its text.

use std::{error::Error, fmt};

use crate::{
    bpf::load::one_line,
    data::{Code, Problem, problem::errno_of},
    host::{environment::Obstacle, limits},
    kernel::FactsError,
    plan::{PlanError, StartError, TooFewDescriptors},
    sites::SitesError,
};

/// The text of the kernel could be read in neither way.
#[derive(Debug)]
pub struct NoText {
    /// Why /proc/kcore cannot be read.
    pub kcore: std::io::Error,
    /// Why a BPF program cannot.
    pub bpf: anyhow::Error,
}

impl NoText {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let cause =
            format!("/proc/kcore cannot be read ({}), and BPF cannot either: {}", self.kcore, one_line(&self.bpf));
        let errno = errno_of(self.bpf.as_ref()).or_else(|| errno_of(&self.kcore));
        let problem =
            Problem::new(Code::NoText).what("failed to read the text of the kernel").cause(cause).errno(errno);
        with_memlock(problem)
    }
}

impl fmt::Display for NoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl Error for NoText {}

/// The problem that `error` is or was caused by, if it has a code.
#[must_use]
pub fn known(error: &anyhow::Error) -> Option<Problem> {
    error.chain().find_map(problem_of)
}

fn problem_of(error: &(dyn Error + 'static)) -> Option<Problem> {
    macro_rules! first_of {
        ($($kind:ty),*) => {
            None$(.or_else(|| error.downcast_ref::<$kind>().map(<$kind>::problem)))*
        };
    }
    let found: Option<Problem> =
        first_of!(Obstacle, FactsError, SitesError, PlanError, StartError, TooFewDescriptors, NoText);
    found.or_else(|| error.downcast_ref::<Problem>().cloned())
}

/// Turns an error of starting to measure into the problem that the kernel's answer makes of it. One that says more by itself, and
/// one to which there is nothing to add, stay as they are.
#[must_use]
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    if known(&error).is_some_and(|problem| problem.code != Code::NothingProbed) {
        return error;
    }
    let answered = known(&error).and_then(|problem| problem.errno).or_else(|| errno_of(error.as_ref()));
    let code = match answered {
        Some(libc::EPERM) => Code::NotPermitted,
        Some(libc::EMFILE) => Code::TooManyFiles,
        Some(libc::ENOMEM) => Code::NoMemory,
        _ => return error,
    };
    // The verifier's words do not come along.
    log::info!("{error:#}");
    let brief = known(&error).map_or_else(|| one_line(&error), |problem| problem.brief());
    let problem = Problem::new(code).what(brief).errno(answered);
    with_memlock(problem).into()
}

/// Adds the remedy for too little locked memory, where that may be what the kernel refused something for.
fn with_memlock(problem: Problem) -> Problem {
    let memlock = if problem.errno == Some(libc::EPERM) { limits::memlock_remedy() } else { None };
    match (memlock, &problem.remedy) {
        (Some(memlock), Some(remedy)) => {
            let remedy = format!("{remedy}. Or: {memlock}");
            problem.remedy(remedy)
        }
        _ => problem,
    }
}

/// What keeps measuring from being started, whatever it is.
#[must_use]
pub fn any(error: &anyhow::Error) -> Problem {
    known(error).unwrap_or_else(|| {
        Problem::new(Code::Unknown).what("starting failed").cause(one_line(error)).errno(errno_of(error.as_ref()))
    })
}

/// `error` as one line, which begins with its code, if it has one.
#[must_use]
pub fn line(error: &anyhow::Error) -> String {
    match known(error) {
        Some(problem) => format!("[{}] {}", problem.code, one_line(error)),
        None => one_line(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;
    use crate::{data::Operation, plan::Refusal};

    fn answer(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    fn refused(code: i32) -> anyhow::Error {
        let why = Refusal::from(answer(code)).problem();
        StartError::NothingProbed { operation: Operation::Prefault, why: Some(why) }.into()
    }

    #[test]
    fn what_the_kernel_answered_decides_about_the_remedy() {
        for (error, code, part) in [
            (
                anyhow!(answer(libc::EPERM)).context("failed to load"),
                Code::NotPermitted,
                "seccomp profile of a container",
            ),
            (refused(libc::EPERM), Code::NotPermitted, "no call of the prefault could be probed"),
            (anyhow!(answer(libc::EMFILE)).context("failed to load"), Code::TooManyFiles, "LimitNOFILE="),
            (anyhow!(answer(libc::ENOMEM)).context("failed to map LEDGERS"), Code::NoMemory, "fewer --slots"),
            (refused(libc::EINVAL), Code::NothingProbed, "Invalid argument"),
        ] {
            let explained = explain(error);
            let problem = known(&explained).expect("it has a code");
            assert_eq!(problem.code, code, "{explained:#}");
            assert!(line(&explained).contains(part), "{}", line(&explained));
            assert!(line(&explained).starts_with(&format!("[{code}] ")), "{}", line(&explained));
        }
    }

    #[test]
    fn where_locked_memory_is_limited_that_is_named_for_what_is_not_permitted() {
        let no_text = |code| NoText { kcore: answer(libc::EACCES), bpf: anyhow!(answer(code)).context("map") };
        let says_so = |code| no_text(code).to_string().contains("RLIMIT_MEMLOCK");
        assert_eq!(says_so(libc::EPERM), limits::memlock_remedy().is_some());
        assert!(!says_so(libc::EINVAL));
        assert_eq!(no_text(libc::EPERM).problem().code, Code::NoText);
    }

    #[test]
    fn the_words_of_an_error_decide_nothing() {
        let words = answer(libc::EPERM).to_string();
        let explained = explain(anyhow!("failed to load: {words}"));
        assert_eq!(known(&explained), None);
        assert_eq!(line(&explained), format!("failed to load: {words}"));
        let problem = any(&explained);
        assert_eq!((problem.code, problem.errno), (Code::Unknown, None));
    }

    #[test]
    fn an_error_that_says_more_by_itself_stays_as_it_is() {
        let unreadable = FactsError::Unreadable { path: "/proc/kallsyms".into(), source: answer(libc::EPERM) };
        let explained = explain(anyhow::Error::new(unreadable).context("at the start"));
        let problem = known(&explained).expect("it has a code");
        assert_eq!((problem.code, problem.errno), (Code::Unreadable, Some(libc::EPERM)));
        assert!(line(&explained).starts_with("[P007] at the start: failed to read /proc/kallsyms: Operation not"));
    }
}
