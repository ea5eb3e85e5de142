//! Distributions in documents: sums, and the buckets that are not empty, each by its inclusive upper bound, which is null for the
//! last one. Counts are of each bucket alone.

extern crate alloc;

use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    Histogram, N_BUCKETS, N_ROUND_BUCKETS, Rounds, bucket_of, rounds_bucket_of, upper_bound_ns, upper_bound_of_rounds,
};

#[derive(Serialize, Deserialize)]
struct Latencies {
    sum_ns: u64,
    buckets: Vec<LatencyBucket>,
}

#[derive(Serialize, Deserialize)]
struct LatencyBucket {
    le_ns: Option<u64>,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct RoundsOf {
    sum: u64,
    buckets: Vec<RoundsBucket>,
}

#[derive(Serialize, Deserialize)]
struct RoundsBucket {
    le: Option<u64>,
    count: u64,
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets = filled.map(|(bucket, &count)| LatencyBucket { le_ns: upper_bound_ns(bucket), count }).collect();
        Latencies { sum_ns: self.sum_ns, buckets }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Latencies { sum_ns, buckets } = Latencies::deserialize(deserializer)?;
        let mut histogram = Self { sum_ns, ..Self::ZERO };
        for LatencyBucket { le_ns, count } in buckets {
            let bucket = le_ns.map_or(N_BUCKETS - 1, |bound| bucket_of(bound & (u64::MAX >> 1)));
            if upper_bound_ns(bucket) != le_ns {
                return Err(D::Error::custom("a bucket of latencies ends where none does"));
            }
            histogram.counts[bucket] = count;
        }
        Ok(histogram)
    }
}

impl Serialize for Rounds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets =
            filled.map(|(bucket, &count)| RoundsBucket { le: upper_bound_of_rounds(bucket), count }).collect();
        RoundsOf { sum: self.sum, buckets }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RoundsOf { sum, buckets } = RoundsOf::deserialize(deserializer)?;
        let mut rounds = Self { sum, ..Self::ZERO };
        for RoundsBucket { le, count } in buckets {
            let bucket = le.map_or(N_ROUND_BUCKETS - 1, |bound| rounds_bucket_of(bound as u32));
            if upper_bound_of_rounds(bucket) != le {
                return Err(D::Error::custom("a bucket of rounds ends where none does"));
            }
            rounds.counts[bucket] = count;
        }
        Ok(rounds)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{Ledger, WriteLedger};

    #[test]
    fn a_ledger_survives_being_written_and_read() {
        let mut ledger = Ledger::ZERO;
        ledger.write = WriteLedger { calls: 7, bytes: 1, ..WriteLedger::ZERO };
        for (bucket, count) in [(0, 3), (40, u64::MAX), (N_BUCKETS - 1, 1)] {
            ledger.write.latency.counts[bucket] = count;
        }
        ledger.copy.latency.sum_ns = 5;
        let text = serde_json::to_string(&ledger).expect("it is plain");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("just written"), ledger, "{text}");
        assert!(serde_json::from_str::<Ledger>(&text.replace(r#""le_ns":17"#, r#""le_ns":18"#)).is_err(), "{text}");
    }
}
