//! The figures of one kernel: read from what the guest prints, and shown.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

/// Without a tool.
const BASE: &str = "nothing";
/// What ours is compared with.
const OTHER: &str = "bpftrace";

/// Instructions per write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The kernel's release.
    pub kernel: String,
    /// Variants of measuring, in the order of the run.
    pub variants: Vec<Variant>,
}

/// What one way of measuring costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// What measured.
    pub name: String,
    /// Name of each workload, and instructions of one of its writes; also the points at which the processor traps.
    pub figures: Vec<(String, f64)>,
}

impl Table {
    /// Reads lines of the form `variant|workload|number`.
    ///
    /// # Errors
    /// When a line has another form or there is no base.
    pub fn parse(kernel: &str, text: &str) -> Result<Self> {
        let mut table = Self { kernel: kernel.to_owned(), variants: Vec::new() };
        for line in text.lines().filter(|line| line.contains('|')) {
            let [variant, workload, number] = line.split('|').collect::<Vec<_>>()[..] else {
                anyhow::bail!("failed to read {line:?}");
            };
            let number: f64 = number.parse().with_context(|| format!("failed to read {line:?}"))?;
            if table.variants.last().is_none_or(|last| last.name != variant) {
                table.variants.push(Variant { name: variant.to_owned(), figures: Vec::new() });
            }
            table.variants.last_mut().expect("one was just pushed").figures.push((workload.to_owned(), number));
        }
        ensure!(table.variants.first().is_some_and(|variant| variant.name == BASE), "there is no base");
        Ok(table)
    }

    /// Instructions that `variant` adds to a write of `workload`.
    #[must_use]
    pub fn added(&self, variant: &str, workload: &str) -> Option<f64> {
        Some(self.figure(variant, workload)? - self.figure(BASE, workload)?)
    }

    fn figure(&self, variant: &str, workload: &str) -> Option<f64> {
        let variant = self.variants.iter().find(|other| other.name == variant)?;
        variant.figures.iter().find(|(name, _)| name == workload).map(|(_, figure)| *figure)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "instructions per write on {}, and what measuring adds", self.kernel)?;
        let [base, others @ ..] = self.variants.as_slice() else { return Ok(()) };
        write!(f, "{:<40}{:>10}", "", base.name)?;
        for variant in others {
            write!(f, "{:>22}", variant.name)?;
        }
        writeln!(f)?;
        for (workload, figure) in &base.figures {
            write!(f, "{workload:<40}{figure:>10.0}")?;
            for variant in others {
                let added = self.added(&variant.name, workload);
                let share =
                    added.zip(self.added(OTHER, workload)).filter(|(_, other)| variant.name != OTHER && *other > 0.0);
                let ratio = share.map_or(String::new(), |(added, other)| format!(" ({:.0} %)", 100.0 * added / other));
                write!(f, "{:>22}", added.map_or("-".to_owned(), |added| format!("+{added:.0}{ratio}")))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_difference_to_the_base() {
        let text = "nothing|4 KiB|5700.0\nprefault|4 KiB|7700.5\nbpftrace|4 KiB|13700\n";
        let table = Table::parse("6.12", text).expect("it is well formed");
        assert_eq!(table.added("prefault", "4 KiB"), Some(2000.5));
        assert!(table.to_string().contains("+2000 (25 %)"), "{table}");
        assert!(Table::parse("6.12", "prefault|4 KiB|1\n").is_err());
        assert!(Table::parse("6.12", "nothing|4 KiB\n").is_err());
    }
}
