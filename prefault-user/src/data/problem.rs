//! Something that stands in the way, as data: its code, what it is, why, what ends it, and the kernel's error number.

use std::{error::Error, fmt, io};

use serde::Serialize;

use super::Code;

/// What is so here of a row of the table of codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its code.
    pub code: Code,
    /// What it is.
    pub what: String,
    /// Why it is so, or what follows from it.
    pub cause: String,
    /// What ends it; `None` if nothing can or has to be done.
    pub remedy: Option<String>,
    /// The error number that the kernel answered with (errno(3)), `None` if it was not asked or answered something else.
    pub errno: Option<i32>,
}

impl Problem {
    /// As the table has it.
    #[must_use]
    pub fn new(code: Code) -> Self {
        let row = code.row();
        let (what, cause) = (row.means.to_owned(), row.cause.to_owned());
        Self { code, what, cause, remedy: row.remedy.map(str::to_owned), errno: None }
    }

    /// Says more exactly what it is.
    #[must_use]
    pub fn what(self, what: impl Into<String>) -> Self {
        Self { what: what.into(), ..self }
    }

    /// Says more exactly why.
    #[must_use]
    pub fn cause(self, cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), ..self }
    }

    /// Says more exactly what ends it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Says what the kernel answered.
    #[must_use]
    pub fn errno(self, errno: Option<i32>) -> Self {
        Self { errno, ..self }
    }

    /// What and why, for a sentence that goes on.
    #[must_use]
    pub fn brief(&self) -> String {
        format!("{}: {}", self.what, self.cause)
    }

    /// All of it in a line that begins with the code.
    #[must_use]
    pub fn line(&self) -> String {
        format!("[{}] {self}", self.code)
    }
}

/// All but the code, in a line: what, why, and the remedy.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            Some(remedy) => write!(f, "{}; {remedy}", self.brief()),
            None => f.write_str(&self.brief()),
        }
    }
}

impl Error for Problem {}

/// The first error number among `error` and its causes.
#[must_use]
pub fn errno_of(error: &(dyn Error + 'static)) -> Option<i32> {
    let of = |error: &(dyn Error + 'static)| {
        if let Some(errno) = error.downcast_ref::<rustix::io::Errno>() {
            return Some(errno.raw_os_error());
        }
        let error = error.downcast_ref::<io::Error>()?;
        // What it was made of is not among its causes.
        error.raw_os_error().or_else(|| errno_of(error.get_ref()?))
    };
    std::iter::successors(Some(error), |&error| error.source()).find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_line_of_what_why_and_the_remedy() {
        let problem = Problem::new(Code::NoSysfs);
        let said = "[P004] /sys is not mounted: the kernel shows there how kprobes are made; mount it, or give the \
                    container the host's /sys read-only";
        assert_eq!(problem.line(), said);
        let problem = Problem::new(Code::NotAWrite).what("f is not part of a buffered write");
        assert_eq!(problem.to_string(), "f is not part of a buffered write: it fills the pages of direct I/O");
    }

    #[test]
    fn the_error_number_is_found_below_what_was_said_about_it() {
        let error = anyhow::Error::new(io::Error::from_raw_os_error(libc::EBUSY)).context("failed to load");
        assert_eq!(errno_of(error.as_ref()), Some(libc::EBUSY));
        assert_eq!(errno_of(&io::Error::other(rustix::io::Errno::PERM)), Some(libc::EPERM));
        assert_eq!(errno_of(&io::Error::other("Operation not permitted (os error 1)")), None);
    }
}
