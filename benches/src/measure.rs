//! Pairs in turn, medians and spread.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use crate::Result;

/// What a ratio means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ours over against: smaller is better.
    Cost,
    /// Against over ours: larger is better.
    Speedup,
}

impl Kind {
    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Speedup => "speedup",
        }
    }

    fn ratio(self, ours: f64, against: f64) -> f64 {
        match self {
            Self::Cost => ours / against,
            Self::Speedup => against / ours,
        }
    }
}

/// What the two numbers of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Mebibytes.
    #[serde(rename = "MiB")]
    Mebibytes,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the measurement.
    pub name: &'static str,
    /// Which way the ratio goes.
    pub kind: Kind,
    /// Unit of the next two.
    pub unit: Unit,
    /// Median of ours (seconds, unless the unit is another).
    pub ours_s: f64,
    /// Median of what it is measured against.
    pub against_s: f64,
    /// Ratio of the medians, as the kind says.
    pub ratio: f64,
    /// Largest less smallest ratio of a pair, over the pairs' median ratio.
    pub spread: f64,
    /// What against what and, where it is known, the floor.
    pub note: String,
}

/// Two numbers measured in turn.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    ours: Vec<f64>,
    against: Vec<f64>,
}

impl Pairs {
    /// Measures one pair to warm up, then `count` pairs that count, ours first in each.
    ///
    /// # Errors
    /// Whatever the two return, and a number that is not above 0.
    pub fn in_turn(
        count: usize,
        mut ours: impl FnMut() -> Result<f64>,
        mut against: impl FnMut() -> Result<f64>,
    ) -> Result<Self> {
        let mut pairs = Self::default();
        for pair in 0..=count {
            let (a, b) = (ours()?, against()?);
            if !(a > 0.0 && b > 0.0) {
                return Err(format!("pair {pair} measured {a} against {b}: nothing that has a ratio").into());
            }
            if pair > 0 {
                pairs.ours.push(a);
                pairs.against.push(b);
            }
        }
        Ok(pairs)
    }

    /// The row of these pairs.
    pub fn row(&self, name: &'static str, kind: Kind, unit: Unit, note: String) -> Row {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.against).map(|(&a, &b)| kind.ratio(a, b)).collect();
        let (low, high) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
        let (ours_s, against_s) = (median(&self.ours), median(&self.against));
        let ratio = kind.ratio(ours_s, against_s);
        Row { name, kind, unit, ours_s, against_s, ratio, spread: (high - low) / median(&ratios), note }
    }
}

/// Median seconds of passes in a row, after one that does not count: what a server takes that does nothing else.
///
/// # Errors
/// As the pass.
pub fn steady(passes: usize, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    pass()?;
    let each = (0..passes).map(|_| seconds(&mut pass)).collect::<Result<Vec<f64>>>()?;
    Ok(median(&each))
}

/// Mean seconds of `runs` passes.
///
/// # Errors
/// As the pass.
pub fn mean<T>(runs: usize, mut pass: impl FnMut() -> Result<T>) -> Result<f64> {
    let all = seconds(|| {
        for _ in 0..runs {
            black_box(pass()?);
        }
        Ok(())
    })?;
    Ok(all / runs as f64)
}

/// Sum of the seconds of some parts; `best` keeps the least of each.
///
/// # Errors
/// As a part.
pub fn sum(parts: impl Iterator<Item = Result<f64>>, best: &mut [f64]) -> Result<f64> {
    let mut all = 0.0;
    for (seconds, best) in parts.zip(best) {
        let seconds = seconds?;
        *best = best.min(seconds);
        all += seconds;
    }
    Ok(all)
}

/// Seconds that some work takes.
///
/// # Errors
/// As the work.
pub fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

/// The middle value, or the mean of the middle two; NaN where there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().wrapping_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn pairs_take_turns_and_the_first_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let mut time = 100.0;
        let ours = || {
            order.borrow_mut().push('A');
            time /= 10.0;
            Ok(time)
        };
        let against = || {
            order.borrow_mut().push('B');
            Ok(2.0)
        };
        let pairs = Pairs::in_turn(2, ours, against).unwrap();
        assert_eq!(*order.borrow(), "ABABAB");
        assert_eq!(pairs.ours, [1.0, 0.1]);
        assert!(Pairs::in_turn(1, || Ok(0.0), || Ok(1.0)).is_err());
    }

    #[test]
    fn ratios_go_as_the_kind_says() {
        let pairs = Pairs { ours: vec![1.0, 2.0, 4.0], against: vec![4.0, 4.0, 4.0] };
        let cost = pairs.row("x", Kind::Cost, Unit::Seconds, String::new());
        assert_eq!((cost.ours_s, cost.against_s, cost.ratio, cost.spread), (2.0, 4.0, 0.5, 1.5));
        let speedup = pairs.row("x", Kind::Speedup, Unit::Seconds, String::new());
        assert_eq!((speedup.ratio, speedup.spread), (2.0, 1.5));
    }
}
