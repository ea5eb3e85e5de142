//! How long the parts of starting took; shown with --verbose.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The parts of a start, some of which run beside others.
#[derive(Debug)]
pub struct Phases {
    begun: Instant,
    done: Mutex<Vec<Phase>>,
}

#[derive(Debug)]
struct Phase {
    name: &'static str,
    /// From the begin of the start to its own.
    after: Duration,
    took: Duration,
}

impl Phases {
    /// The start begins now.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), done: Mutex::default() }
    }

    /// Does `part` and notes how long it takes.
    pub fn measure<T>(&self, name: &'static str, part: impl FnOnce() -> T) -> T {
        let after = self.begun.elapsed();
        let result = part();
        let took = self.begun.elapsed().saturating_sub(after);
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(Phase { name, after, took });
        result
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|phase| (phase.after, std::cmp::Reverse(phase.took)));
        writeln!(f, "      at    took")?;
        for Phase { name, after, took } in done.iter() {
            writeln!(f, "{:>5} ms {:>4} ms  {name}", after.as_millis(), took.as_millis())?;
        }
        write!(f, "{:>5} ms          all", self.begun.elapsed().as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_listed_by_their_begin_and_the_outer_one_first() {
        let phases = Phases::begin();
        let result = phases.measure("outer", || phases.measure("inner", || 7));
        phases.measure("last", || std::thread::sleep(Duration::from_millis(2)));
        assert_eq!(result, 7);
        let text = phases.to_string();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next_back()).collect();
        assert_eq!(names, ["took", "outer", "inner", "last", "all"]);
    }
}
