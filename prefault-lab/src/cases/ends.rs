//! Every kind of end: the exit code, the final report, and that nothing stays attached.

use anyhow::{Result, ensure};

use super::{Case, Check, Context, Kernels, expect_parts, plain};
use crate::guest::Said;

const fn case(name: &'static str, script: &'static str, check: Check) -> Case {
    plain(name, Kernels::Reference, 90, script, check)
}

pub const CASES: &[Case] = &[
    case(
        "end by SIGINT",
        "prefault > report 2> errors & wait_until_attached; sleep 1; kill -INT $!; wait $!; echo $? > ended
attached_after_a_while > left; true\n",
        gracefully,
    ),
    case(
        "end by SIGTERM",
        "prefault > report 2> errors & wait_until_attached; sleep 1; kill -TERM $!; wait $!; echo $? > ended
attached_after_a_while > left; true\n",
        gracefully,
    ),
    case(
        "end by SIGKILL",
        "prefault > report 2> errors & wait_until_attached; sleep 1; kill -KILL $!; wait $! 2> /dev/null; echo $? > ended
attached_after_a_while > left; true\n",
        killed,
    ),
    case(
        "end by -d",
        "prefault -d 1 > report 2> errors & wait_until_attached; wait $!; echo $? > ended
attached_after_a_while > left; true\n",
        gracefully,
    ),
    case("end of a command is its exit code", "prefault -- sh -c 'exit 7'\n", |said, _| said.expect_code(7)),
    case("end of a command by a signal", "prefault -- sh -c 'kill -9 $$'\n", |said, _| said.expect_code(137)),
    case("command that cannot be started", "prefault -- /nonexistent\n", |said, _| {
        super::expect_refusal(said, &["/nonexistent"])
    }),
    case(
        "command whose measurement fails is ended",
        "prefault -i 0.5 -o /dev/full -- sleep 12345; code=$?; pgrep --full 'sleep 12345' > left; exit $code\n",
        |said, _| {
            ensure!(said.file("left")?.is_empty(), "the command goes on");
            super::expect_refusal(said, &["space"])
        },
    ),
    case(
        "closed pipe is quiet",
        "prefault -i 0.2 -d 3 | head -n 1; echo \"${PIPESTATUS[@]}\" > codes\n",
        closed_pipe,
    ),
];

fn gracefully(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let errors = said.file("errors")?;
    ensure!(said.file("ended")?.trim() == "0", "exit code {}, expected 0\n{errors}", said.file("ended")?.trim());
    ensure!(errors.is_empty(), "expected no errors, got\n{errors}");
    expect_parts(&said.file("report")?, &["measured for ", "call sites: ", "loss: none"])?;
    nothing_left(said)
}

fn killed(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    ensure!(said.file("ended")?.trim() == "137", "exit code {}, expected 137", said.file("ended")?.trim());
    nothing_left(said)
}

fn nothing_left(said: &Said) -> Result<()> {
    ensure!(said.stderr.is_empty(), "{}", said.stderr.trim_end());
    let left = said.file("left")?;
    ensure!(left.is_empty(), "still attached:\n{}", left.trim_end());
    Ok(())
}

fn closed_pipe(said: &Said, _: &Context) -> Result<()> {
    ensure!(said.stderr.is_empty(), "expected no errors, got\n{}", said.stderr.trim_end());
    let codes = said.file("codes")?;
    ensure!(codes.trim() == "0 0", "exit codes {}, expected 0 0", codes.trim());
    ensure!(said.stdout.lines().count() == 1, "expected one line, got\n{}", said.stdout);
    Ok(())
}
