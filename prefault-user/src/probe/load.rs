//! Loading a program although a signal comes in between.

use aya::programs::ProgramError;

/// Times that a load is tried.
const ATTEMPTS: u32 = 10;

/// Runs `load` again while the kernel says that a signal ended its verification: it then answers EAGAIN and keeps nothing
/// (kernel/bpf/verifier.c, do_check). Seen on 5.10 on a busy machine.
///
/// # Errors
/// Those of `load`.
pub fn despite_signals(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if is_interrupted(&error) => log::info!("loading a BPF program again, a signal came in between"),
            result => return result,
        }
    }
    load()
}

fn is_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } | ProgramError::IOError(io_error)
        if io_error.raw_os_error() == Some(libc::EAGAIN))
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
        assert_eq!(answer(&[Err(libc::EINVAL), Ok(())]), (false, 1));
        assert_eq!(answer(&[]), (false, ATTEMPTS as usize));
    }
}
