//! Numbers and names as text.

use serde::Serialize;

use crate::limits;

/// The unit of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Count,
    Bytes,
    Seconds,
    Share,
}

/// A whole number with commas between thousands.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in short: 950, 12.3 k, 6.72 M, 1.81 G.
pub(crate) fn short(value: u64) -> String {
    let (scale, unit) = match value {
        0..10_000 => return value.to_string(),
        10_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    let scaled = value as f64 / scale;
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$} {unit}")
}

/// Bytes in short, in powers of 1000.
pub(crate) fn bytes(value: u64) -> String {
    match value {
        0..10_000 => format!("{value} B"),
        _ => format!("{}B", short(value)),
    }
}

/// A share in percent, with as many digits as tell it from 0 and 100 %.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let digits = if percent != 0.0 && (percent < 1.0 || (percent > 99.0 && percent < 100.0)) { 2 } else { 1 };
    format!("{percent:.digits$} %")
}

/// `after / before`; 1 where there is nothing.
pub(crate) fn ratio(before: u64, after: u64) -> f64 {
    if before == 0 { 1.0 } else { after as f64 / before as f64 }
}

/// A duration in milliseconds, or in seconds from one second on.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds >= 1.0 {
        return format!("{seconds:.2} s");
    }
    let value = 1e3 * seconds;
    let digits = match value {
        value if value < 10.0 => 3,
        value if value < 100.0 => 2,
        _ => 1,
    };
    format!("{value:.digits$} ms")
}

/// A quantity of a unit in short.
pub(crate) fn value(of: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => short(of as u64),
        Unit::Bytes => bytes(of as u64),
        Unit::Seconds => duration(of),
        Unit::Share => format!("{:.2} %", 100.0 * of),
    }
}

/// A number with some digits, a dash where there is none.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}

/// A text from outside, shortened in the middle where it is very long.
pub(crate) fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= limits::TEXT {
        return text.to_string();
    }
    let half = limits::TEXT / 2;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{start} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!([0, 12, 1_234, 1_234_567].map(count), ["0", "12", "1,234", "1,234,567"]);
        assert_eq!([9_999, 12_340, 6_720_000, 123_000_000_000].map(short), ["9999", "12.3 k", "6.72 M", "123 G"]);
        assert_eq!([500, 1_500_000].map(bytes), ["500 B", "1.50 MB"]);
        assert_eq!([0.0, 0.001, 0.294, 0.9995, 1.0].map(percent), ["0.0 %", "0.10 %", "29.4 %", "99.95 %", "100.0 %"]);
        assert_eq!([0.000_5, 0.0351, 1.5].map(duration), ["0.500 ms", "35.10 ms", "1.50 s"]);
        assert_eq!((ratio(0, 0), ratio(4, 1), number(None, 2)), (1.0, 0.25, "–".to_string()));
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let long = format!("start{}end", "ü".repeat(10_000));
        let text = shortened(&long);
        assert!(text.chars().count() < 310 && text.starts_with("startü") && text.ends_with("üend"));
        assert_eq!(shortened("short"), "short");
    }
}
