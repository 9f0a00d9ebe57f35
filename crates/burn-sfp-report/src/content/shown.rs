//! Which part of a long list is shown.

use crate::limits;

/// Keeps the first entries and says how many there were.
pub(super) fn first<T>(mut all: Vec<T>, most: usize, what: &str, left_out: &mut Vec<String>) -> Vec<T> {
    if all.len() > most {
        left_out.push(format!("{what}: the first {most} of {} are shown", all.len()));
        all.truncate(most);
    }
    all
}

/// How many layers are listed.
pub(super) fn listed(all: usize) -> usize {
    all.min(limits::LAYERS)
}

/// At most `most` of the first `length` numbers, evenly spread.
pub(super) fn spread(length: usize, most: usize) -> Vec<usize> {
    let count = length.min(most);
    (0..count).map(|at| at * length / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_shown_and_said() {
        assert_eq!(spread(5, 9), [0, 1, 2, 3, 4]);
        assert_eq!(spread(10, 3), [0, 3, 6]);
        assert!(spread(0, 3).is_empty());
        let mut left_out = Vec::new();
        assert_eq!(first(vec![1, 2], 2, "numbers", &mut left_out), [1, 2]);
        assert!(left_out.is_empty());
        assert_eq!(first(vec![1, 2, 3], 2, "numbers", &mut left_out), [1, 2]);
        assert_eq!(left_out, ["numbers: the first 2 of 3 are shown"]);
    }
}
