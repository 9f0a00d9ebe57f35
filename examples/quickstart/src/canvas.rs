//! Drawing on a small grey image.

use crate::font::{COLUMNS, ROWS, ink};

/// Side of an image, in pixels.
pub const SIDE: usize = 24;

/// Where and how large a letter stands.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    /// Centre, in pixels.
    pub center: [f32; 2],
    /// Pixels a cell of the bitmap takes.
    pub scale: f32,
    /// Rotation, in radians.
    pub angle: f32,
}

/// A square grey image of [`SIDE`] pixels, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    /// The pixels.
    pub pixels: Vec<f32>,
}

impl Canvas {
    /// An image of one grey level.
    pub fn new(level: f32) -> Self {
        Self { pixels: vec![level; SIDE * SIDE] }
    }

    /// Paints a letter, rotated and scaled, with bilinear edges.
    pub fn letter(&mut self, label: usize, pose: Pose, level: f32) {
        let (sin, cos) = pose.angle.sin_cos();
        self.paint(level, |x, y| {
            let (dx, dy) = ((x - pose.center[0]) / pose.scale, (y - pose.center[1]) / pose.scale);
            ink(label, cos * dx + sin * dy + COLUMNS as f32 / 2.0, cos * dy - sin * dx + ROWS as f32 / 2.0)
        });
    }

    /// Paints a straight stroke between two points with soft edges.
    pub fn stroke(&mut self, from: [f32; 2], to: [f32; 2], width: f32, level: f32) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let squared_length = (dx * dx + dy * dy).max(1e-6);
        self.paint(level, |x, y| {
            let along = (((x - from[0]) * dx + (y - from[1]) * dy) / squared_length).clamp(0.0, 1.0);
            let (ex, ey) = (x - from[0] - along * dx, y - from[1] - along * dy);
            (0.5 + width / 2.0 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0)
        });
    }

    /// Mixes a level in, as much of it as `cover` (0 to 1) says at each pixel's centre.
    fn paint(&mut self, level: f32, cover: impl Fn(f32, f32) -> f32) {
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            let cover = cover((index % SIDE) as f32 + 0.5, (index / SIDE) as f32 + 0.5);
            *pixel += cover * (level - *pixel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upright_letter_lands_where_it_should() {
        let mut canvas = Canvas::new(0.0);
        // T with two pixels a cell: its bar spans 10 pixels at rows 5 and 6, its stem is in the middle.
        canvas.letter(17, Pose { center: [12.0, 12.0], scale: 2.0, angle: 0.0 }, 1.0);
        let row = |y: usize| canvas.pixels[y * SIDE..(y + 1) * SIDE].iter().sum::<f32>();
        assert!(row(6) > 3.0 * row(14), "{} {}", row(6), row(14));
        assert_eq!(row(0), 0.0);
    }
}
