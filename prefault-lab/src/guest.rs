//! One boot for many cases: writes filesystems and steps as scripts into a directory that the guest shares, boots it, and
//! judges each step as soon as its results are there. What is run and what is expected is said elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::de::DeserializeOwned;

use super::report::{Report, lock, say};
use crate::{
    paths,
    process::last_lines,
    vm::{Finished, Machine, Outcome, Streams},
};

const DRIVER: &str = include_str!("guest.sh");
/// Bash's and timeout(1)'s code for a step that its limit ended.
const TIMED_OUT: i32 = 124;
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// For booting and making filesystems.
const MARGIN: Duration = Duration::from_secs(120);
const LINES_SHOWN: usize = 8;
/// A file that tells the guest to begin no further step.
const STOP: &str = "stop";
/// Limits of steps are what they take many times over where a guest has two processors for itself. Guests share them, and some
/// machines take three times as long as others.
pub const SLACK: u32 = 3;
/// How often a guest is booted again that QEMU ended.
const MOST_REPEATS: usize = 2;

/// What a step left.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    directory: PathBuf,
}

impl Said {
    /// A file the step wrote into its current directory.
    ///
    /// # Errors
    /// When it did not.
    pub fn file(&self, name: &str) -> Result<String> {
        let bytes = fs::read(self.directory.join(name)).with_context(|| format!("the step did not write {name}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file of JSON the step wrote into its current directory.
    ///
    /// # Errors
    /// When it did not, or the document is not of that form.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_str(&self.file(name)?).with_context(|| format!("failed to read {name}"))
    }

    /// Demands the exit code, showing what was said if it is another one.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        let said = last_lines(&self.stderr, LINES_SHOWN, "\n");
        ensure!(self.code == code, "exit code {}, expected {code}\n{said}", self.code);
        Ok(())
    }

    /// Reads what a step left in its directory.
    ///
    /// # Errors
    /// When it has not ended.
    pub fn read(directory: PathBuf) -> Result<Self> {
        let text =
            |name: &str| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&fs::read(directory.join(name))?).into());
        let code: String = text("code")?;
        let code = code.trim().parse().context("failed to read the exit code of a step")?;
        Ok(Self { code, stdout: text("stdout")?, stderr: text("stderr")?, directory })
    }
}

/// Decides whether a step's results are right; the error says what differs.
pub type Judge = Box<dyn Fn(&Said) -> Result<()> + Send>;

/// Commands run in one go, and the cases judged by their results.
pub struct Step {
    /// Distinguishes its directory for people.
    pub slug: String,
    /// Bash; its current directory is its own, and `$MOUNTED` are the directories of the filesystems.
    pub script: String,
    /// After that, several times over, it is killed.
    pub limit: Duration,
    /// Name and judge of each case.
    pub checks: Vec<(String, Judge)>,
}

impl Step {
    fn longest(&self) -> Duration {
        SLACK * self.limit
    }
}

/// What this machine does while a guest runs, given the directory that they share.
pub type Companion = Box<dyn Fn(&Path) + Send + Sync>;

/// A guest and what it is for.
pub struct Guest {
    /// The kernel and how it is booted.
    pub machine: Machine,
    /// What to call it.
    pub name: String,
    /// Name and script of each filesystem to make and mount.
    pub filesystems: Vec<(String, String)>,
    /// What to run, in this order.
    pub steps: Vec<Step>,
    /// What runs beside it and ends by itself.
    pub companion: Option<Companion>,
}

impl Guest {
    /// The time that its steps may take, which says how long they do.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.steps.iter().map(Step::longest).sum()
    }

    /// Boots, runs and judges. Steps that would begin after `deadline` are left out; other cases that were not reached have failed. A
    /// guest that QEMU ended, and not its kernel, is booted again for the steps that it has not ended.
    ///
    /// # Errors
    /// When the guest cannot be started.
    pub fn run(mut self, deadline: Instant, report: &Mutex<Report>) -> Result<()> {
        let share = directory(&self.name)?;
        self.lay_out(&share)?;
        self.machine.timeout = self.limit() + MARGIN;
        self.machine.share = Some(share.clone());
        let mut finished = self.boot(&share, deadline, report)?;
        for _ in 0..MOST_REPEATS {
            let Outcome::StaleBreakpoint(_) = &finished.outcome else { break };
            // What ran beside it knows only the one guest.
            if self.companion.is_some() {
                break;
            }
            let place = finished.console.display();
            say(&format!("         {}: QEMU ran a breakpoint that was gone ({place}); it is booted again", self.name));
            self.lay_out_steps(&share)?;
            finished = self.boot(&share, deadline, report)?;
        }
        self.close(&share, &finished, report);
        Ok(())
    }

    /// Boots for the steps that have not ended, and judges each.
    fn boot(&self, share: &Path, deadline: Instant, report: &Mutex<Report>) -> Result<Finished> {
        let command = ["bash", "/share/run"].map(str::to_owned);
        let (machine, n_done) = (&self.machine, self.n_done(share));
        thread::scope(|scope| {
            let guest = scope.spawn(|| machine.run(&command, Streams::Captured));
            if let Some(companion) = &self.companion {
                scope.spawn(|| companion(share));
            }
            for (number, step) in self.steps.iter().enumerate().skip(n_done) {
                let directory = step_directory(share, number, step);
                while !directory.join("code").exists() && !guest.is_finished() {
                    thread::sleep(POLL_INTERVAL);
                    if Instant::now() >= deadline && !share.join(STOP).exists() {
                        // Nothing is wrong with a guest that goes on.
                        let _unused = paths::write(&share.join(STOP), "");
                    }
                    // A later one has ended, so this one was left out.
                    if self.was_left_out(share, number) {
                        break;
                    }
                }
                if directory.join("code").exists() {
                    judge(step, directory, report);
                }
            }
            guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether the guest did not begin that step, because the time was over, and has come to its last one.
    fn was_left_out(&self, share: &Path, number: usize) -> bool {
        let has_ended = |number: usize| step_directory(share, number, &self.steps[number]).join("code").exists();
        let last = self.steps.len() - 1;
        share.join(STOP).exists() && number < last && has_ended(last) && !has_ended(number)
    }

    /// How many steps have ended; they run in their order.
    fn n_done(&self, share: &Path) -> usize {
        let has_ended = |&(number, step): &(usize, &Step)| step_directory(share, number, step).join("code").exists();
        self.steps.iter().enumerate().take_while(has_ended).count()
    }

    fn lay_out(&self, share: &Path) -> Result<()> {
        paths::remove_dir(share)?;
        paths::create_dir(&share.join("filesystems"))?;
        paths::create_dir(&share.join("steps"))?;
        paths::write(&share.join("run"), DRIVER)?;
        for (number, (name, script)) in self.filesystems.iter().enumerate() {
            paths::write(&share.join(format!("filesystems/{number:02}-{name}")), script)?;
        }
        self.lay_out_steps(share)
    }

    /// What the guest starts from, for the steps that have not ended.
    fn lay_out_steps(&self, share: &Path) -> Result<()> {
        paths::write(&share.join("mounted"), "")?;
        for (number, step) in self.steps.iter().enumerate().skip(self.n_done(share)) {
            let directory = step_directory(share, number, step);
            paths::remove_dir(&directory)?;
            paths::create_dir(&directory)?;
            paths::write(&directory.join("script"), &step.script)?;
            paths::write(&directory.join("limit"), step.longest().as_secs().to_string())?;
        }
        Ok(())
    }

    /// Says what became of the guest: a failure for each case it did not reach, and its times.
    fn close(&self, share: &Path, finished: &Finished, report: &Mutex<Report>) {
        let mut left_out = 0;
        for (number, step) in self.steps.iter().enumerate() {
            if step_directory(share, number, step).join("code").exists() {
                continue;
            }
            if self.was_left_out(share, number) {
                left_out += step.checks.len();
                continue;
            }
            for (name, _) in &step.checks {
                record(report, name, Err(anyhow!("not reached: {}", ending(finished))));
            }
        }
        if left_out > 0 {
            let why = "they would have begun after the time (--minutes)";
            lock(report).skip(&format!("{} {left_out} cases at the end", self.name), why);
        }
        let boot = finished.boot.map_or("did not boot".to_owned(), |boot| format!("booted in {} s", boot.as_secs()));
        say(&format!("         {} ({}): {boot}, {} s in all", self.name, finished.release, finished.elapsed.as_secs()));
    }
}

/// A directory of its own for each guest of each run, so that two runs do not disturb each other. What a run left stays until
/// the next one begins.
fn directory(name: &str) -> Result<PathBuf> {
    let all = paths::target("tests");
    paths::create_dir(&all)?;
    for entry in fs::read_dir(&all).with_context(|| format!("failed to read {}", all.display()))?.flatten() {
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let owner = file_name.rsplit('.').next().and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another guest of this run may be doing the same, and what stays does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(all.join(format!("{}.{}", name.replace(' ', "-"), std::process::id())))
}

fn step_directory(share: &Path, number: usize, step: &Step) -> PathBuf {
    share.join("steps").join(format!("{number:02}-{}", step.slug))
}

fn judge(step: &Step, directory: PathBuf, report: &Mutex<Report>) {
    let said = Said::read(directory);
    for (name, judge) in &step.checks {
        let result = match &said {
            Ok(said) if said.code == TIMED_OUT => {
                let tail = last_lines(&said.stderr, LINES_SHOWN, "\n");
                Err(anyhow!("did not finish within {} s\n{tail}", step.longest().as_secs()))
            }
            Ok(said) => judge(said),
            Err(error) => Err(anyhow!("failed to read the results: {error:#}")),
        };
        record(report, name, result);
    }
}

fn record(report: &Mutex<Report>, name: &str, result: Result<()>) {
    lock(report).judge(name, result);
}

fn ending(finished: &Finished) -> String {
    match &finished.outcome {
        Outcome::Exited(code) => format!("the guest ended with code {code}"),
        Outcome::TimedOut => "the guest was ended by its time limit".to_owned(),
        Outcome::Panicked(console) => {
            format!("the guest's kernel panicked\n{}", last_lines(console, LINES_SHOWN, "\n"))
        }
        Outcome::StaleBreakpoint(console) => {
            format!("QEMU ran a breakpoint that was gone\n{}", last_lines(console, LINES_SHOWN, "\n"))
        }
        Outcome::EmulatorFailed(console) => {
            format!("QEMU failed each time before the guest was up\n{}", last_lines(console, LINES_SHOWN, "\n"))
        }
        Outcome::NoVerdict { started: true, console } => {
            format!("the guest ended early\n{}", last_lines(console, LINES_SHOWN, "\n"))
        }
        Outcome::NoVerdict { started: false, console } => {
            format!("the guest did not start\n{}", last_lines(console, LINES_SHOWN, "\n"))
        }
    }
}
