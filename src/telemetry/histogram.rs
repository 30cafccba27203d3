//! A histogram of durations with fixed log-linear buckets.
//!
//! Four buckets to each power of two of microseconds: a value is known to within 25 % at worst, recording is one
//! addition, and histograms of all workers add up bucket by bucket. (Exact samples, as general-purpose libraries
//! keep them, would allocate on the request path.)

use std::time::Duration;

use super::counter::Counter;

/// Buckets to a power of two.
const PER_OCTAVE_BITS: u32 = 2;
/// Durations under 2^6 us (64 us) share the first bucket.
const FIRST_OCTAVE: u32 = 6;
/// Durations from 2^26 us (67 s) on share the last bucket.
const LAST_OCTAVE: u32 = 26;

/// How many buckets a histogram has.
pub const BUCKETS: usize = (((LAST_OCTAVE - FIRST_OCTAVE) << PER_OCTAVE_BITS) + 2) as usize;

/// Counts of durations, written by one worker.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_micros: Counter,
}

/// A duration with its bucket, found once for all histograms that count it.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    micros: u64,
    bucket: usize,
}

/// A histogram's counts at one moment, or several added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramCounts {
    /// Counts by bucket; see [`upper_bound`].
    pub buckets: [u64; BUCKETS],
    /// The sum of all recorded durations, in microseconds.
    pub sum_micros: u64,
}

/// The bucket that a duration falls into.
fn bucket_of(micros: u64) -> usize {
    if micros < 1 << FIRST_OCTAVE {
        return 0;
    }
    let octave = micros.ilog2();
    if octave >= LAST_OCTAVE {
        return BUCKETS - 1;
    }
    let within = (micros >> (octave - PER_OCTAVE_BITS)) as usize & ((1 << PER_OCTAVE_BITS) - 1);
    1 + (((octave - FIRST_OCTAVE) as usize) << PER_OCTAVE_BITS) + within
}

/// The exclusive upper bound of a bucket, in microseconds; `None` for the last, which has none.
pub fn upper_bound(bucket: usize) -> Option<u64> {
    if bucket == 0 {
        return Some(1 << FIRST_OCTAVE);
    }
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let octave = FIRST_OCTAVE + ((bucket - 1) >> PER_OCTAVE_BITS) as u32;
    let within = ((bucket - 1) & ((1 << PER_OCTAVE_BITS) - 1)) as u64;
    Some((1 << octave) + ((within + 1) << (octave - PER_OCTAVE_BITS)))
}

impl Measured {
    /// Finds a duration's bucket.
    #[inline]
    pub fn new(duration: Duration) -> Self {
        let micros =
            duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()));
        Self { micros, bucket: bucket_of(micros) }
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, measured: Measured) {
        self.buckets[measured.bucket].add(1);
        self.sum_micros.add(measured.micros);
    }

    /// Adds this histogram's counts to `into`.
    pub fn add_to(&self, into: &mut HistogramCounts) {
        for (sum, bucket) in into.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.value();
        }
        into.sum_micros += self.sum_micros.value();
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum_micros: Counter::default() }
    }
}

impl Default for HistogramCounts {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_micros: 0 }
    }
}

impl HistogramCounts {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_lies_under_its_bucket_s_bound_and_not_under_the_one_before() {
        for micros in (0..5_000).chain((5_000..80_000_000).step_by(7_919)) {
            let bucket = bucket_of(micros);
            if let Some(bound) = upper_bound(bucket) {
                assert!(micros < bound, "{micros} us in bucket {bucket} under {bound}");
            }
            if bucket > 0 {
                let below = upper_bound(bucket - 1).expect("only the last bucket is unbounded");
                assert!(micros >= below, "{micros} us in bucket {bucket} above {below}");
            }
        }
    }

    #[test]
    fn counts_and_sums() {
        let histogram = Histogram::default();
        for millis in [1, 2, 1_000_000] {
            histogram.record(Measured::new(Duration::from_millis(millis)));
        }
        let mut counts = HistogramCounts::default();
        histogram.add_to(&mut counts);
        assert_eq!((counts.count(), counts.sum_micros), (3, 1_000_003_000));
        assert_eq!(counts.buckets[BUCKETS - 1], 1);
    }
}
