//! Shift and flip, and the way from bytes to numbers.

use rand::{Rng, RngExt};

use super::SIDE;

/// Largest shift in pixels.
const SHIFT: i8 = 4;

/// What happens to an image before it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augmentation {
    /// Rows that the image moves up.
    pub rows: isize,
    /// Columns that the image moves to the left.
    pub columns: isize,
    /// Whether left and right change places.
    pub flip: bool,
}

impl Augmentation {
    /// A shift of up to 4 pixels each way and a flip in half of the cases.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self {
            rows: isize::from(rng.random_range(-SHIFT..=SHIFT)),
            columns: isize::from(rng.random_range(-SHIFT..=SHIFT)),
            flip: rng.random(),
        }
    }

    /// Appends the planes of an image, scaled to [-1, 1]; what comes in from outside is 0.
    pub fn append(self, image: &[u8], to: &mut Vec<f32>) {
        for plane in image.chunks_exact(SIDE * SIDE) {
            for row in 0..SIDE {
                let source = inside(row, self.rows).map(|row| &plane[row * SIDE..(row + 1) * SIDE]);
                for column in 0..SIDE {
                    let column = if self.flip { SIDE - 1 - column } else { column };
                    let byte = source.and_then(|source| Some(source[inside(column, self.columns)?]));
                    to.push(byte.map_or(0.0, scaled));
                }
            }
        }
    }
}

/// The position that is shown after a shift, where it is in the image.
fn inside(position: usize, shift: isize) -> Option<usize> {
    position.checked_add_signed(shift).filter(|&position| position < SIDE)
}

/// A byte as a number from -1 to 1.
fn scaled(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(augmentation: Augmentation) -> Vec<f32> {
        let image: Vec<u8> = (0..3 * SIDE * SIDE).map(|k| (k % 251) as u8).collect();
        let mut shown = Vec::new();
        augmentation.append(&image, &mut shown);
        shown
    }

    #[test]
    fn the_scale_is_from_minus_one_to_one() {
        assert_eq!((scaled(0), scaled(255)), (-1.0, 1.0));
    }

    #[test]
    fn a_shift_moves_and_pads_with_zero() {
        let plain = apply(Augmentation::default());
        let moved = apply(Augmentation { rows: 2, columns: -3, flip: false });
        assert_eq!(moved[0], 0.0);
        assert_eq!(moved[3], plain[2 * SIDE]);
        assert_eq!(moved[(SIDE - 2) * SIDE + 5], 0.0);
    }

    #[test]
    fn two_flips_are_none() {
        let plain = apply(Augmentation::default());
        let flipped = apply(Augmentation { flip: true, ..Default::default() });
        assert_ne!(plain, flipped);
        let again: Vec<f32> = flipped.chunks_exact(SIDE).flat_map(|row| row.iter().rev().copied()).collect();
        assert_eq!(plain, again);
    }
}
