//! Loading a program although a signal comes in between.

use aya::programs::ProgramError;

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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refusal(code: i32) -> Result<(), ProgramError> {
        Err(ProgramError::IOError(io::Error::from_raw_os_error(code)))
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
