//! Loading a program although a signal comes in between, and what is said where it cannot be loaded.

use std::error::Error;

use aya::{BtfError, EbpfError, programs::ProgramError};

/// Times that a load is tried.
const ATTEMPTS: u32 = 10;

/// Times that it is tried if the answer is EINVAL, which may be true.
const ATTEMPTS_OF_INVALID: u32 = 3;

/// Runs `load` again while the kernel says that a signal ended its verification: it then answers EAGAIN and keeps nothing
/// (kernel/bpf/verifier.c, do_check). Seen on 5.10 on a busy machine.
///
/// On 6.12, with a SIGINT, EINVAL was seen: aya 0.14 tries what failed once more, with a buffer for a log that was not asked for,
/// which the kernel refuses (kernel/bpf/log.c, bpf_verifier_log_attr_valid). This can go when aya leaves that out.
///
/// # Errors
/// Those of `load`.
pub fn despite_signals(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for attempt in 1..ATTEMPTS {
        match load() {
            Err(error) if is_interrupted(&error, attempt) => {
                log::info!("loading a BPF program again, a signal came in between")
            }
            result => return result,
        }
    }
    load()
}

fn is_interrupted(error: &ProgramError, attempt: u32) -> bool {
    let (ProgramError::LoadError { io_error, .. } | ProgramError::IOError(io_error)) = error else { return false };
    match io_error.raw_os_error() {
        Some(libc::EAGAIN) => true,
        Some(libc::EINVAL) => attempt < ATTEMPTS_OF_INVALID,
        _ => false,
    }
}

/// `error` and its causes as one line. What the verifier wrote, which can be pages, is left out.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        if let Some(answer) = without_log(cause) {
            // Its cause is part of it.
            parts.push(answer);
            break;
        }
        parts.push(cause.to_string());
    }
    parts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the kernel answered when something was loaded, if `error` is that it was not.
fn without_log(error: &(dyn Error + 'static)) -> Option<String> {
    let of_btf = |error: &BtfError| match error {
        BtfError::LoadError { io_error, .. } => Some(format!("the kernel refuses the BTF of the programs: {io_error}")),
        _ => None,
    };
    if let Some(ProgramError::LoadError { io_error, .. }) = error.downcast_ref() {
        return Some(format!("the kernel refuses the program: {io_error}"));
    }
    match error.downcast_ref() {
        Some(EbpfError::BtfError(error)) => of_btf(error),
        _ => error.downcast_ref().and_then(of_btf),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya_obj::VerifierLog;

    use super::*;

    fn refusal(code: i32) -> Result<(), ProgramError> {
        Err(ProgramError::IOError(io::Error::from_raw_os_error(code)))
    }

    #[test]
    fn what_the_verifier_wrote_is_no_part_of_the_line() {
        let io_error = io::Error::from_raw_os_error(libc::EACCES);
        let refused = ProgramError::LoadError { io_error, verifier_log: VerifierLog::new("R1 invalid\nR2".to_owned()) };
        assert!(refused.to_string().contains("R1 invalid"));
        let error = anyhow::Error::new(refused).context("failed to load the BPF program p");
        let said = "failed to load the BPF program p: the kernel refuses the program: Permission denied (os error 13)";
        assert_eq!(one_line(&error), said);
        assert_eq!(one_line(&anyhow::anyhow!("a\n  b").context("c")), "c: a b");
    }

    #[test]
    fn interrupted_loads_are_repeated_and_others_are_not() {
        let mut n_loads = 0;
        let mut answer = |answers: &[Result<(), i32>]| {
            n_loads = 0;
            let result = despite_signals(|| {
                n_loads += 1;
                answers.get(n_loads - 1).copied().unwrap_or(Err(libc::EAGAIN)).or_else(refusal)
            });
            (result.is_ok(), n_loads)
        };
        assert_eq!(answer(&[Err(libc::EAGAIN), Ok(())]), (true, 2));
        assert_eq!(answer(&[Err(libc::EINVAL), Ok(())]), (true, 2));
        assert_eq!(answer(&[Err(libc::EINVAL); ATTEMPTS as usize]), (false, ATTEMPTS_OF_INVALID as usize));
        assert_eq!(answer(&[Err(libc::EACCES), Ok(())]), (false, 1));
        assert_eq!(answer(&[]), (false, ATTEMPTS as usize));
    }
}
