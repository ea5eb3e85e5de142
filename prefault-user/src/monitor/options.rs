//! What a session is started with, from what was typed.

use crate::{
    bpf::{filters::Filters, session::Options},
    cli::counting::{CountingArgs, Mechanism},
    data::Timing,
    host::clock::usable,
    plan::MechanismChoice,
};

/// What a session is started with, as typed. `events`: short copies and failed prefaults come one by one too. `descriptors`: what
/// the command needs itself.
pub fn options(args: &CountingArgs, filters: Filters, events: bool, descriptors: u64) -> Options {
    let timing = usable(Timing::wished(args.sample, args.no_latency));
    Options {
        verbose: args.verbose,
        events,
        slots: args.slots,
        filters,
        own_cost: args.own_cost || args.max_overhead.is_some(),
        timing,
        floor: timing.one_in().is_some() || (args.max_overhead.is_some() && timing.coarse_step_ns().is_none()),
        limit_percent: args.max_overhead,
        wish: wish_of(args),
        descriptors,
    }
}

/// How points are made. With a limit to the cost they come and go, for which trampolines take too long: on 6.12, up to 8 s beside a
/// writer that never sleeps, where kprobes take about 1 s.
fn wish_of(args: &CountingArgs) -> MechanismChoice {
    match args.mechanism {
        Mechanism::Auto if args.max_overhead.is_some() => MechanismChoice::Optimised,
        mechanism => wish(mechanism),
    }
}

/// How points are made, where nothing else decides.
pub fn wish(mechanism: Mechanism) -> MechanismChoice {
    match mechanism {
        Mechanism::Auto => MechanismChoice::Auto,
        Mechanism::Fentry => MechanismChoice::Fentry,
        Mechanism::Optimised => MechanismChoice::Optimised,
        Mechanism::Trap => MechanismChoice::Trap,
    }
}
