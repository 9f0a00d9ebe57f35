//! A hand-drawn 5x7 bitmap font of 24 capital letters (all but I and Q).

/// Columns of a letter.
pub const COLUMNS: usize = 5;
/// Rows of a letter.
pub const ROWS: usize = 7;
/// The letters, by label.
pub const LETTERS: &str = "ABCDEFGHJKLMNOPRSTUVWXYZ";
/// Number of letters.
pub const CLASSES: usize = 24;

/// A row a number, the leftmost column is the highest of five bits.
const BITMAPS: [[u8; ROWS]; CLASSES] = [
    [0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001], // A
    [0b11110, 0b10001, 0b10001, 0b11110, 0b10001, 0b10001, 0b11110], // B
    [0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110], // C
    [0b11100, 0b10010, 0b10001, 0b10001, 0b10001, 0b10010, 0b11100], // D
    [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111], // E
    [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000], // F
    [0b01110, 0b10001, 0b10000, 0b10111, 0b10001, 0b10001, 0b01111], // G
    [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001], // H
    [0b00111, 0b00010, 0b00010, 0b00010, 0b00010, 0b10010, 0b01100], // J
    [0b10001, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010, 0b10001], // K
    [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111], // L
    [0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001], // M
    [0b10001, 0b11001, 0b11001, 0b10101, 0b10011, 0b10011, 0b10001], // N
    [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110], // O
    [0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000], // P
    [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001], // R
    [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110], // S
    [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100], // T
    [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110], // U
    [0b10001, 0b10001, 0b10001, 0b01010, 0b01010, 0b01010, 0b00100], // V
    [0b10001, 0b10001, 0b10001, 0b10101, 0b10101, 0b11011, 0b10001], // W
    [0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001], // X
    [0b10001, 0b10001, 0b01010, 0b00100, 0b00100, 0b00100, 0b00100], // Y
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b10000, 0b11111], // Z
];

/// Ink of a letter in 0..=1 at a point, sampled bilinearly: x from 0 to 5, y from 0 to 7, cell centres at halves,
/// no ink outside. Labels count modulo [`CLASSES`].
pub fn ink(label: usize, x: f32, y: f32) -> f32 {
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (right, bottom) = (x - left, y - top);
    let cell = |column: f32, row: f32| {
        let inside = column >= 0.0 && row >= 0.0 && column < COLUMNS as f32 && row < ROWS as f32;
        let bits = if inside { BITMAPS[label % CLASSES][row as usize] >> (COLUMNS - 1 - column as usize) } else { 0 };
        f32::from(bits & 1)
    };
    let upper = cell(left, top) * (1.0 - right) + cell(left + 1.0, top) * right;
    let lower = cell(left, top + 1.0) * (1.0 - right) + cell(left + 1.0, top + 1.0) * right;
    upper * (1.0 - bottom) + lower * bottom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_differ() {
        assert_eq!(LETTERS.len(), CLASSES);
        for (i, a) in BITMAPS.iter().enumerate() {
            assert!(BITMAPS[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn ink_is_the_bitmap_at_cell_centres_and_linear_between() {
        // The top of an L: its stem is the leftmost column.
        let l = 10;
        assert_eq!(ink(l, 0.5, 0.5), 1.0);
        assert_eq!(ink(l, 1.0, 0.5), 0.5);
        assert_eq!(ink(l, 1.5, 0.5), 0.0);
        assert_eq!(ink(l, -3.0, 9.0), 0.0);
    }
}
