//! Published numbers: some are exact, most are rounded.

use std::fmt;

/// A number as somebody published it.
///
/// ```
/// use models::figure::Figure;
///
/// let macs = Figure::rounded(4_090_000_000, 10_000_000);
/// assert_eq!((macs.to_string().as_str(), macs.agrees(4_089_184_256)), ("4.09 G", true));
/// assert!(!Figure::exact(11_689_512).agrees(11_689_513));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The number.
    pub value: u64,
    /// What it is given in multiples of, a power of ten; 1 where it is exact.
    pub step: u64,
}

impl Figure {
    /// A number with all its digits.
    pub const fn exact(value: u64) -> Self {
        Self { value, step: 1 }
    }

    /// A number given in multiples of `step`, a power of ten from 1000 on.
    pub const fn rounded(value: u64, step: u64) -> Self {
        Self { value, step }
    }

    /// Whether a count, rounded or cut off to as many digits (both are common), is this number.
    pub fn agrees(&self, count: u64) -> bool {
        let cut = count / self.step;
        let rounded = (count + self.step / 2) / self.step;
        [cut, rounded].contains(&(self.value / self.step))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.step == 1 {
            return f.write_str(&grouped(self.value));
        }
        let (digits, name) = if self.value >= 100_000_000 { (9, 'G') } else { (6, 'M') };
        let decimals = digits - self.step.ilog10().min(digits);
        write!(f, "{:.*} {name}", decimals as usize, self.value as f64 / 10f64.powi(digits as i32))
    }
}

/// Digits in groups of three.
///
/// ```
/// assert_eq!(models::figure::grouped(1_234_567), "1,234,567");
/// ```
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_shorten_agree() {
        let figure = Figure::rounded(22_360_000, 10_000);
        assert!(figure.agrees(22_367_273) && figure.agrees(22_355_000));
        assert!(!figure.agrees(22_370_000) && !figure.agrees(22_354_999));
    }

    #[test]
    fn text() {
        assert_eq!(Figure::exact(999).to_string(), "999");
        assert_eq!(Figure::rounded(500_000, 100_000).to_string(), "0.5 M");
        assert_eq!(Figure::rounded(145_000_000, 1_000_000).to_string(), "0.145 G");
        assert_eq!(Figure::rounded(31_000_000, 1_000_000).to_string(), "31 M");
    }
}
