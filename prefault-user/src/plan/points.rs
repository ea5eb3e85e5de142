//! Which program runs where: the points of a path, of a site and of the floor, and the cookies that tell programs about them.

use std::slice;

use prefault_ebpf::{
    COOKIE_COPIES, COOKIE_FILE, COOKIE_POSITION_IS_THIRD, COOKIE_SHARED, HELD_BY_NOTHING, HELD_BY_STACK,
    cookie_of_arguments, program,
};

use super::{Mechanism, Plan, PlannedPath, Refusal, without_trampoline};
use crate::sites::{ArgLocation, Destination, FloorPlaces, Operation, Path, ProbePlacement, Site};

/// A kprobe to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) address: u64,
    pub(crate) on_return: bool,
}

/// What a point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Entry(usize),
    Return(usize),
    Call(u64),
    AfterCall(u64),
    Target(u64),
}

impl Place {
    pub(crate) fn of_path(number: usize, entry: bool) -> Self {
        if entry { Self::Entry(number) } else { Self::Return(number) }
    }

    pub(crate) fn is_of_path(self) -> bool {
        matches!(self, Self::Entry(_) | Self::Return(_))
    }

    /// Whether it belongs to one of these paths by number, or calls by address.
    pub(crate) fn is_of(self, paths: &[usize], calls: &[u64]) -> bool {
        match self {
            Self::Entry(number) | Self::Return(number) => paths.contains(&number),
            Self::Call(call) | Self::AfterCall(call) => calls.contains(&call),
            Self::Target(_) => false,
        }
    }

    /// Whether the path or the site it belongs to could not be probed as a whole.
    pub(crate) fn is_refused(self, plan: &Plan) -> bool {
        match self {
            Self::Entry(number) | Self::Return(number) => plan.paths[number].mechanism.is_err(),
            Self::Call(call) | Self::AfterCall(call) => {
                plan.sites.iter().any(|planned| planned.site.call.address == call && planned.mechanism.is_err())
            }
            Self::Target(_) => false,
        }
    }
}

/// Program, addresses, and whether they are functions whose returns are probed, of the entry of a path or of everything that
/// returns from it, where kprobes do that.
pub(crate) fn points_of_path(path: &Path, mechanism: Mechanism, entry: bool) -> (&'static str, &[u64], bool) {
    match (entry, &path.returns) {
        (true, _) => (program::ENTER_KPROBE, slice::from_ref(&path.entry), false),
        (false, Some(returns)) if mechanism == Mechanism::ReturnSites => {
            (program::LEAVE_KPROBE, returns.as_slice(), false)
        }
        (false, _) => (program::LEAVE_KRETPROBE, slice::from_ref(&path.address), true),
    }
}

/// What points can be made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeSupport {
    /// Points at the entry of paths are told apart by address, in a map, because there are no cookies.
    pub(crate) without_cookies: bool,
    /// Operations are probed behind the call alone where that is enough, since nobody wants to know when they begin.
    pub(crate) single_points: bool,
}

impl ProbeSupport {
    /// How a path is to be probed, given what the programs can do.
    pub(crate) fn mechanism_of(self, planned: &PlannedPath) -> Result<Mechanism, Refusal> {
        let mechanism = planned.mechanism.clone()?;
        Ok(if self.without_cookies { without_trampoline(&planned.path) } else { mechanism })
    }

    /// A path around another one may take faults outside its prefault, by direct I/O; there the call is probed too.
    pub(crate) fn of_site(self, site: &Site, paths: &[PlannedPath]) -> SiteProbes {
        let mut numbers = site.paths.as_deref().unwrap_or_default().iter();
        match site.around.behind {
            _ if site.paths.is_err() => SiteProbes::Unattributed,
            _ if self.without_cookies => SiteProbes::Plain,
            Some(held) if self.single_points && numbers.all(|&number| paths[number].path.copies) => {
                SiteProbes::Behind(held)
            }
            _ => SiteProbes::BothSides,
        }
    }
}

/// The points before a call, or behind it.
pub(crate) struct SitePoints<'a> {
    pub(crate) program: &'static str,
    pub(crate) place: Place,
    pub(crate) addresses: &'a [u64],
    pub(crate) cookie: u64,
}

/// How the points of a site are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SiteProbes {
    /// On the call and on the instruction behind it, without cookies.
    Plain,
    /// Where the kernel can make jumps of them, on both sides of the call.
    BothSides,
    /// Behind the call, where it is still known what was asked for.
    Behind([ArgLocation; 2]),
    /// On the call: that it was made is all that is counted.
    Unattributed,
}

/// The points behind a call if `ends`, else the one before it, if there is to be one.
pub(crate) fn points_of_site(site: &Site, ends: bool, manner: SiteProbes) -> SitePoints<'_> {
    let (call, around) = (&site.call, &site.around);
    let (begin, end, only, unattributed) = match site.target.signature.operation {
        Operation::Prefault => {
            (program::PREFAULT_BEGIN, program::PREFAULT_END, program::PREFAULT_ONLY, program::PREFAULT_UNATTRIBUTED)
        }
        Operation::Copy => (program::COPY_BEGIN, program::COPY_END, program::COPY_ONLY, program::COPY_UNATTRIBUTED),
    };
    let (program, addresses, cookie) = match (manner, ends) {
        (SiteProbes::Plain, false) => (begin, slice::from_ref(&call.address), 0),
        (SiteProbes::Plain, true) => (end, slice::from_ref(&call.after), 0),
        (SiteProbes::BothSides, false) => {
            (begin, slice::from_ref(&around.begin), cookie_of([around.asked, around.iter]))
        }
        (SiteProbes::BothSides, true) => (end, around.ends.as_slice(), cookie_behind(around)),
        (SiteProbes::Behind(_), false) => (begin, [].as_slice(), 0),
        (SiteProbes::Behind(held), true) => (only, around.ends.as_slice(), cookie_of(held)),
        (SiteProbes::Unattributed, false) => (unattributed, slice::from_ref(&call.address), 0),
        (SiteProbes::Unattributed, true) => (unattributed, [].as_slice(), 0),
    };
    let place = if ends { Place::AfterCall(call.address) } else { Place::Call(call.address) };
    SitePoints { program, place, addresses, cookie }
}

/// Programs and addresses that measure the floor, ends before begins.
pub(crate) fn points_of_floor(places: &FloorPlaces) -> Vec<(&'static str, u64)> {
    let ends = [(places.jumps, program::FLOOR_END), (places.traps, program::FLOOR_END_OF_TRAPS)];
    let mut points = Vec::new();
    for (place, end) in ends.into_iter().filter_map(|(place, end)| Some((place?, end))) {
        points.extend(place.blocker.map(|blocker| (end, blocker)));
        points.extend([(end, place.end), (program::FLOOR_BEGIN, place.begin)]);
    }
    points
}

/// The kprobes of paths and sites of `plan` that are not attached yet, and what they are to run.
pub(crate) fn kprobes_of(
    plan: &Plan,
    manners: ProbeSupport,
    is_attached: impl Fn(Place) -> bool,
) -> Vec<(&'static str, Wanted)> {
    let mut wanted = Vec::new();
    for entry in [false, true] {
        for (number, planned) in plan.paths.iter().enumerate() {
            let Ok(mechanism) = manners.mechanism_of(planned) else { continue };
            if mechanism == Mechanism::Trampoline || is_attached(Place::of_path(number, entry)) {
                continue;
            }
            let (name, addresses, on_return) = points_of_path(&planned.path, mechanism, entry);
            wanted.extend(addresses.iter().map(|&address| (name, Wanted { address, on_return })));
        }
    }
    for planned in plan.sites.iter().filter(|planned| planned.mechanism == Ok(Mechanism::CallSite)) {
        for ends in [true, false] {
            let points = points_of_site(&planned.site, ends, manners.of_site(&planned.site, &plan.paths));
            if !is_attached(points.place) {
                let wanted_here = |&address| (points.program, Wanted { address, on_return: false });
                wanted.extend(points.addresses.iter().map(wanted_here));
            }
        }
    }
    wanted
}

/// What the programs have to know of path `number`.
pub(crate) fn cookie_of_path(number: usize, path: &Path) -> u64 {
    let destination = match path.destination {
        Destination::Kiocb => 0,
        Destination::FileAndSecond => COOKIE_FILE,
        Destination::FileAndThird => COOKIE_FILE | COOKIE_POSITION_IS_THIRD,
    };
    number as u64 | if path.copies { COOKIE_COPIES } else { 0 } | destination
}

/// What holds the bytes asked for and the iterator at a point.
fn cookie_of(holders: [ArgLocation; 2]) -> u64 {
    cookie_of_arguments(holders.map(|holder| match holder {
        ArgLocation::Register(number) => number.into(),
        ArgLocation::StackWord(word) => HELD_BY_STACK | u64::from(word),
        ArgLocation::RegisterBehind(_) => HELD_BY_NOTHING,
    }))
}

/// What is to be looked at behind a call.
fn cookie_behind(around: &ProbePlacement) -> u64 {
    let asked = match around.asked {
        ArgLocation::RegisterBehind(number) => number.into(),
        ArgLocation::Register(_) | ArgLocation::StackWord(_) => 0,
    };
    asked | if around.shared { COOKIE_SHARED } else { 0 }
}
