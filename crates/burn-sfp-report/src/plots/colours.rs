//! The colours of plots. The page's style names each of them, to replace them in the dark.

use plotters::style::RGBColor;

pub(super) const INK: RGBColor = RGBColor(0x1F, 0x29, 0x33);
pub(super) const GRID: RGBColor = RGBColor(0xD9, 0xDE, 0xE3);
pub(super) const BEFORE: RGBColor = RGBColor(0xA9, 0xC1, 0xDE);
pub(super) const AFTER: RGBColor = RGBColor(0x1F, 0x6F, 0xB4);
