//! How a ledger is made of its table (`counters.rs`): the struct that both sides share, sums over CPUs, differences between
//! snapshots, and the list of its counters, from which documents and metrics are made.

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Calls, page faults and other whole things.
    Count,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Its name in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
        }
    }
}

/// Where a counter is in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name of the metric.
    pub name: &'static str,
    /// What tells it from the other counters of that metric: a label and its value.
    pub label: Option<(&'static str, &'static str)>,
    /// What the metric is, in a sentence, where it is more than this counter; the first of its counters has it.
    pub help: Option<&'static str>,
}

/// One counter of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Counter<L: 'static> {
    /// Name of the ledger in documents, such as `write`.
    pub ledger: &'static str,
    /// Name of the counter.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// Where it is in the metrics, if it is there by itself.
    pub metric: Option<Metric>,
    /// Reads it.
    pub value: fn(&L) -> u64,
}

/// One distribution of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<L: 'static, D: 'static> {
    /// Name of the ledger in documents.
    pub ledger: &'static str,
    /// Name of the distribution.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// Where it is in the metrics.
    pub metric: Metric,
    /// Reads it.
    pub value: fn(&L) -> &D,
}

/// A counter was lower than before, which is an error of the one who read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBackwards {
    /// Its ledger.
    pub ledger: &'static str,
    /// Its name.
    pub counter: &'static str,
    /// Its value in the earlier snapshot.
    pub earlier: u64,
    /// Its value in the later snapshot.
    pub later: u64,
}

/// How much a counter has grown.
///
/// # Errors
/// If it is lower than it was.
pub fn grown(ledger: &'static str, counter: &'static str, earlier: u64, later: u64) -> Result<u64, WentBackwards> {
    later.checked_sub(earlier).ok_or(WentBackwards { ledger, counter, earlier, later })
}

/// Makes a ledger of its table.
macro_rules! ledger {
    (
        $(#[$about:meta])*
        $ledger:ident is $name:literal;
        $(
            $(#[doc = $help:literal])+
            $field:ident: $unit:ident $(=> $metric:literal $({ $label:literal: $value:literal })? $($of_metric:literal)?)?;
        )+
        $(latencies:
            $(
                $(#[doc = $latency_help:literal])+
                $latency:ident $(flattened $flattened:tt)?
                    => $latency_metric:literal $({ $latency_label:literal: $latency_value:literal })? $($of_latency:literal)?;
            )+
        )?
        $(rounds: $(#[doc = $rounds_help:literal])+ $rounds:ident => $rounds_metric:literal;)?
    ) => {
        $(#[$about])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $ledger {
            $($(#[doc = $help])+ pub $field: u64,)+
            $($($(#[doc = $latency_help])+ $(#[cfg_attr(feature = "serde", serde(flatten))] #[doc = $flattened])? pub $latency: $crate::Histogram,)+)?
            $($(#[doc = $rounds_help])+ pub $rounds: $crate::Rounds,)?
        }

        impl $ledger {
            /// A ledger in which nothing has been counted.
            pub const ZERO: Self = Self {
                $($field: 0,)+
                $($($latency: $crate::Histogram::ZERO,)+)?
                $($rounds: $crate::Rounds::ZERO,)?
            };

            /// Its counters.
            pub const COUNTERS: &'static [$crate::Counter<Self>] = &[$($crate::Counter {
                ledger: $name,
                name: stringify!($field),
                unit: $crate::Unit::$unit,
                help: concat!($($help),+).trim_ascii(),
                metric: $crate::ledgers::metric!($($metric $({ $label: $value })? $($of_metric)?)?),
                value: |of| of.$field,
            }),+];

            /// Its distributions of latencies.
            pub const LATENCIES: &'static [$crate::Distribution<Self, $crate::Histogram>] = &[$($($crate::Distribution {
                ledger: $name,
                name: stringify!($latency),
                help: concat!($($latency_help),+).trim_ascii(),
                metric: $crate::ledgers::metric!(
                    only $latency_metric $({ $latency_label: $latency_value })? $($of_latency)?
                ),
                value: |of| &of.$latency,
            }),+)?];

            /// Its distribution of rounds, if it has one.
            pub const ROUNDS: &'static [$crate::Distribution<Self, $crate::Rounds>] = &[$($crate::Distribution {
                ledger: $name,
                name: stringify!($rounds),
                help: concat!($($rounds_help),+).trim_ascii(),
                metric: $crate::ledgers::metric!(only $rounds_metric),
                value: |of| &of.$rounds,
            })?];

            /// Adds what was counted elsewhere.
            pub fn add(&mut self, part: &Self) {
                $(self.$field += part.$field;)+
                $($(self.$latency.add(&part.$latency);)+)?
                $(self.$rounds.add(&part.$rounds);)?
            }

            /// What was counted since `earlier`.
            ///
            /// # Errors
            /// Naming the counter, if one is lower than it was then.
            pub fn since(&self, earlier: &Self) -> Result<Self, $crate::WentBackwards> {
                Ok(Self {
                    $($field: $crate::grown($name, stringify!($field), earlier.$field, self.$field)?,)+
                    $($($latency: self.$latency.since(&earlier.$latency, $name, stringify!($latency))?,)+)?
                    $($rounds: self.$rounds.since(&earlier.$rounds, $name, stringify!($rounds))?,)?
                })
            }
        }

        impl Default for $ledger {
            fn default() -> Self {
                Self::ZERO
            }
        }

        // The two sides are compiled for different targets; a difference in layout must not compile.
        const _: () = {
            let n_distributions = size_of::<$crate::Histogram>() * $ledger::LATENCIES.len()
                + size_of::<$crate::Rounds>() * $ledger::ROUNDS.len();
            assert!(size_of::<$ledger>() == 8 * $ledger::COUNTERS.len() + n_distributions);
            assert!(align_of::<$ledger>() == 8);
        };
    };
}
pub(crate) use ledger;

/// The place of a counter in the metrics; of a distribution, which always has one, behind `only`.
macro_rules! metric {
    () => { None };
    (only $name:literal $({ $label:literal: $value:literal })? $($help:literal)?) => {
        $crate::Metric {
            name: $name,
            label: $crate::ledgers::optional!($(($label, $value))?),
            help: $crate::ledgers::optional!($($help)?),
        }
    };
    ($($metric:tt)+) => { Some($crate::ledgers::metric!(only $($metric)+)) };
}
pub(crate) use metric;

/// `Some` of what there is.
macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}
pub(crate) use optional;
