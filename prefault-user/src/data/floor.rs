//! The floor: what the tool's own points add to every latency of a prefault or a copy.

use super::SiteReport;

/// The floor on this machine, by what the kernel has made of the two points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Both are jumps; in nanoseconds, `None` if it could not be measured.
    pub jump_ns: Option<u64>,
    /// Both are traps.
    pub trap_ns: Option<u64>,
}

/// What the kernel has made of the points around a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Points {
    /// All are jumps.
    Jumps,
    /// All are traps.
    Traps,
    /// Some are this, some that.
    Mixed,
}

impl Points {
    /// The name used in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jumps => "jumps",
            Self::Traps => "traps",
            Self::Mixed => "mixed",
        }
    }
}

impl Floor {
    /// The floor of the latencies that `sites` give; `None` if it is not known or not one.
    pub fn of<'a>(&self, sites: impl Iterator<Item = &'a SiteReport>) -> Option<u64> {
        let mut points = sites.filter(|site| site.attached).map(|site| site.points);
        let first = points.next()??;
        if !points.all(|other| other == Some(first)) {
            return None;
        }
        match first {
            Points::Jumps => self.jump_ns,
            Points::Traps => self.trap_ns,
            Points::Mixed => None,
        }
    }
}

/// The one in the middle of `values`, which it sorts; `None` if there are none.
pub fn median<T: Copy + Ord>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Operation;

    fn site(attached: bool, points: Option<Points>) -> SiteReport {
        SiteReport {
            caller: String::new(),
            offset: 0,
            target: String::new(),
            operation: Operation::Copy,
            module: None,
            paths: Vec::new(),
            attached,
            mechanism: None,
            points,
            why_not: None,
            unattributed: false,
        }
    }

    #[test]
    fn sites_of_one_kind_have_a_floor() {
        let floor = Floor { jump_ns: Some(200), trap_ns: Some(400) };
        let of = |sites: &[SiteReport]| floor.of(sites.iter());
        let (jumps, traps) = (site(true, Some(Points::Jumps)), site(true, Some(Points::Traps)));
        assert_eq!(of(&[jumps.clone(), jumps.clone()]), Some(200));
        assert_eq!(of(&[traps.clone(), site(false, None)]), Some(400));
        assert_eq!(of(&[jumps.clone(), traps]), None);
        assert_eq!(of(&[jumps, site(true, None)]), None);
        assert_eq!(of(&[site(true, Some(Points::Mixed))]), None);
        assert_eq!(of(&[]), None);
    }
}
