//! Which program runs where: the points of a path, of a site and of the floor, and the cookies that tell programs about them.

use std::slice;

use prefault_ebpf::{
    COOKIE_COPIES, COOKIE_FILE, COOKIE_POSITION_IS_THIRD, HELD_BY_NOTHING, HELD_BY_STACK, cookie_of_arguments, program,
};

use super::plan::Mechanism;
use crate::sites::{Around, Destination, FloorPlaces, Holder, Operation, Path, Site};

/// What a point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Entry(usize),
    Return(usize),
    Call(u64),
    AfterCall(u64),
    Target(u64),
}

impl Place {
    pub(super) fn of_path(number: usize, entry: bool) -> Self {
        if entry { Self::Entry(number) } else { Self::Return(number) }
    }
}

/// Program, addresses, and whether they are functions whose returns are probed, of the entry of a path or of everything that
/// returns from it, where kprobes do that.
pub(super) fn points_of_path(path: &Path, mechanism: Mechanism, entry: bool) -> (&'static str, &[u64], bool) {
    match (entry, &path.returns) {
        (true, _) => (program::ENTER_KPROBE, slice::from_ref(&path.entry), false),
        (false, Some(returns)) if mechanism == Mechanism::ReturnSites => {
            (program::LEAVE_KPROBE, returns.as_slice(), false)
        }
        (false, _) => (program::LEAVE_KRETPROBE, slice::from_ref(&path.address), true),
    }
}

/// The points before a call, or behind it.
pub(super) struct SitePoints<'a> {
    pub(super) program: &'static str,
    pub(super) place: Place,
    pub(super) addresses: &'a [u64],
    pub(super) cookie: u64,
}

/// The points behind a call if `ends`, else the one before it.
pub(super) fn points_of_site(site: &Site, ends: bool, without_cookies: bool) -> SitePoints<'_> {
    let (call, around) = (&site.call, &site.around);
    let (program, place) = match (site.target.signature.operation, ends) {
        (Operation::Prefault, false) => (program::PREFAULT_BEGIN, Place::Call(call.address)),
        (Operation::Prefault, true) => (program::PREFAULT_END, Place::AfterCall(call.address)),
        (Operation::Copy, false) => (program::COPY_BEGIN, Place::Call(call.address)),
        (Operation::Copy, true) => (program::COPY_END, Place::AfterCall(call.address)),
    };
    let (addresses, cookie) = match (without_cookies, ends) {
        (true, false) => (slice::from_ref(&call.address), 0),
        (true, true) => (slice::from_ref(&call.after), 0),
        (false, false) => (slice::from_ref(&around.begin), cookie_before(around)),
        (false, true) => (around.ends.as_slice(), cookie_behind(around)),
    };
    SitePoints { program, place, addresses, cookie }
}

/// Programs and addresses that measure the floor, ends before begins.
pub(super) fn points_of_floor(places: &FloorPlaces) -> Vec<(&'static str, u64)> {
    let ends = [(places.jumps, program::FLOOR_END), (places.traps, program::FLOOR_END_OF_TRAPS)];
    let mut points = Vec::new();
    for (place, end) in ends.into_iter().filter_map(|(place, end)| Some((place?, end))) {
        points.extend(place.blocker.map(|blocker| (end, blocker)));
        points.extend([(end, place.end), (program::FLOOR_BEGIN, place.begin)]);
    }
    points
}

/// What the programs have to know of path `number`.
pub(super) fn cookie_of_path(number: usize, path: &Path) -> u64 {
    let destination = match path.destination {
        Destination::Kiocb => 0,
        Destination::FileAndSecond => COOKIE_FILE,
        Destination::FileAndThird => COOKIE_FILE | COOKIE_POSITION_IS_THIRD,
    };
    number as u64 | if path.copies { COOKIE_COPIES } else { 0 } | destination
}

/// What holds the arguments at the point before a call.
fn cookie_before(around: &Around) -> u64 {
    cookie_of_arguments([around.asked, around.iter].map(|holder| match holder {
        Holder::Register(number) => number.into(),
        Holder::StackWord(word) => HELD_BY_STACK | u64::from(word),
        Holder::RegisterBehind(_) => HELD_BY_NOTHING,
    }))
}

/// What is to be looked at behind a call.
fn cookie_behind(around: &Around) -> u64 {
    match around.asked {
        Holder::RegisterBehind(number) => number.into(),
        Holder::Register(_) | Holder::StackWord(_) => 0,
    }
}
