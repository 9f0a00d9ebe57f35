//! [`Bounds`]: how few and how many filters of a group stay.

use num_integer::Integer;

/// How many filters of each layer of a group stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// At least so many.
    pub least: usize,
    /// At most so many, whatever the budget.
    pub most: usize,
    /// A multiple of this, if the group shrinks at all.
    pub multiple: usize,
    /// The group loses this share of its filters, and the budget does not ask it.
    pub share: Option<f64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { least: 1, most: usize::MAX, multiple: 1, share: None }
    }
}

impl Bounds {
    /// The bounds in channels that stand for `each` filters, of which the group has `all`.
    pub fn in_channels(self, each: usize, all: usize) -> Self {
        let each = each.max(1);
        let mut bounds = Self {
            least: self.least.div_ceil(each).max(1),
            most: if self.most == usize::MAX { all } else { (self.most / each).max(1) },
            multiple: self.multiple.max(1) / self.multiple.max(1).gcd(&each),
            share: self.share,
        };
        bounds.most = bounds.most.max(bounds.least);
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_channels() {
        let bounds = Bounds { least: 10, most: 31, multiple: 8, share: None };
        assert_eq!(bounds.in_channels(1, 64), bounds);
        assert_eq!(bounds.in_channels(4, 16), Bounds { least: 3, most: 7, multiple: 2, share: None });
        assert_eq!(bounds.in_channels(3, 16), Bounds { least: 4, most: 10, multiple: 8, share: None });
        assert_eq!(Bounds::default().in_channels(2, 16), Bounds { most: 16, ..Bounds::default() });
    }
}
