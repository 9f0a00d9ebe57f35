//! Plots: drawn once for each backend, as SVG for the page and as PNG.

mod charts;
mod colours;
mod plot;
mod png;

use std::sync::OnceLock;

use plotters::prelude::{BitMapBackend, DrawingBackend, IntoDrawingArea, SVGBackend};
use plotters::style::{FontStyle, register_font};

use crate::ReportError;
use charts::Style;
pub(crate) use plot::{Plot, all};

/// Width and height of a plot of the page, in pixels.
const SIZE: (u32, u32) = (480, 270);
/// How much larger a picture file is.
const PNG_SCALE: u32 = 3;

/// A plot as an SVG element without background; the page's style replaces its colours in the dark.
pub(crate) fn svg(plot: &Plot<'_>) -> Result<String, ReportError> {
    let mut text = String::new();
    draw(plot, SVGBackend::with_string(&mut text, SIZE), Style { scale: 1, caption: None })?;
    Ok(text)
}

/// A plot as a PNG file on white ground.
pub(crate) fn png(plot: &Plot<'_>) -> Result<Vec<u8>, ReportError> {
    let (width, height) = (SIZE.0 * PNG_SCALE, SIZE.1 * PNG_SCALE);
    let mut pixels = vec![255; (width * height * 3) as usize];
    let style = Style { scale: PNG_SCALE, caption: Some(plot.caption()) };
    draw(plot, BitMapBackend::with_buffer(&mut pixels, (width, height)), style)?;
    png::encode(&pixels, width, height)
        .map_err(|error| ReportError::Plot { plot: plot.name(), message: error.to_string() })
}

fn draw<B: DrawingBackend>(plot: &Plot<'_>, backend: B, style: Style) -> Result<(), ReportError> {
    font();
    let area = backend.into_drawing_area();
    let drawn = charts::draw(plot, &area, style).and_then(|()| area.present());
    drawn.map_err(|error| ReportError::Plot { plot: plot.name(), message: error.to_string() })
}

/// Registers the font that measures and draws all text, so that no font of the system is needed.
fn font() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // The font is part of the program and valid.
        let _ = register_font(charts::FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Measure;
    use crate::text::Unit;

    fn measures() -> Vec<Measure> {
        let size = |name: &str, before, pruned| Measure {
            name: name.into(),
            unit: Unit::Count,
            before: Some(before),
            pruned: Some(pruned),
            tuned: None,
        };
        vec![size("parameters", 100.0, 30.0), size("multiply-adds", 80.0, 79.0), size("nothing", 0.0, 0.0)]
    }

    #[test]
    fn every_colour_of_a_plot_is_one_of_the_style() {
        let measures = measures();
        let text = svg(&Plot::Sizes(&measures)).unwrap();
        let style = include_str!("../html/style.css");
        let mut found = 0;
        for part in text.split("=\"#").skip(1) {
            let colour = format!("\"#{}\"", &part[..6]);
            assert!(style.contains(&colour), "{colour} is not in the style");
            found += 1;
        }
        assert!(found > 5, "{text}");
    }

    #[test]
    fn pictures_are_the_same_each_time_and_show_something() {
        let measures = measures();
        let first = png(&Plot::Sizes(&measures)).unwrap();
        assert_eq!(first, png(&Plot::Sizes(&measures)).unwrap());
        assert!(first.starts_with(b"\x89PNG\r\n\x1a\n") && first.len() > 2_000, "{} bytes", first.len());
        assert!(png(&Plot::Sizes(&[])).is_ok());
    }
}
