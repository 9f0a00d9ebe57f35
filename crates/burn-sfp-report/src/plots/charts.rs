//! The charts, for any backend of plotters.

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::colours::{AFTER, BEFORE, GRID, INK};
use super::plot::Plot;
use crate::content::{LayerRow, Measure, UnitRow};
use crate::limits;
use crate::text::percent;

/// The font of all text.
pub(super) const FONT: &str = "sans-serif";

pub(super) type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// How large a plot is drawn, and its title where it needs one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub scale: u32,
    pub caption: Option<&'static str>,
}

impl Style {
    fn pixels(self, size: u32) -> u32 {
        self.scale * size
    }

    fn text(self, size: u32) -> TextStyle<'static> {
        TextStyle::from((FONT, self.pixels(size)).into_font()).color(&INK)
    }
}

/// A chart of values over numbered bars or points.
struct Chart<'a> {
    x: &'a str,
    y: &'a str,
    /// The number of the first bar and that of the last.
    range: (f64, f64),
    highest: f64,
    lowest: f64,
}

pub(super) fn draw<B: DrawingBackend>(plot: &Plot<'_>, area: &Area<B>, style: Style) -> Drawn<B> {
    match plot {
        Plot::Sizes(measures) => sizes(measures, area, style),
        Plot::Filters(layers) => filters(layers, area, style),
        Plot::Accuracy(layers) => {
            line(layers, "accuracy in %", |row| row.accuracy.map(|share| 100.0 * share), area, style)
        }
        Plot::Snr(layers) => line(layers, "SNR", |row| row.snr, area, style),
        Plot::Clusters(layers) => clusters(layers, area, style),
        Plot::Labels(layer) => labels(layer, area, style),
    }
}

/// A bar for each size: what is left of it.
fn sizes<B: DrawingBackend>(measures: &[Measure], area: &Area<B>, style: Style) -> Drawn<B> {
    let shown: Vec<(&Measure, f64)> = measures.iter().filter_map(|measure| Some((measure, measure.left()?))).collect();
    let (width, height) = area.dim_in_pixel();
    let pixels = |size: u32| style.pixels(size) as i32;
    let top = if style.caption.is_some() { pixels(34) } else { pixels(8) };
    if let Some(caption) = style.caption {
        area.draw(&Text::new(caption, (pixels(10), pixels(8)), style.text(18)))?;
    }
    let row = (height as i32 - top - pixels(8)) / shown.len().max(1) as i32;
    let row = row.min(pixels(58));
    let (left, right) = (pixels(206), width as i32 - pixels(76));
    // What became slower or larger has the full width.
    let most = shown.iter().map(|(_, left)| *left).fold(1.0, f64::max);
    for (at, (measure, share)) in shown.iter().enumerate() {
        let middle = top + row * at as i32 + row / 2;
        let text = style.text(17).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(measure.name.clone(), (left - pixels(8), middle), text))?;
        let end = |share: f64| left + (f64::from(right - left) * share / most) as i32;
        let bar = |end: i32| [(left, middle - row / 3), (end, middle + row / 3)];
        area.draw(&Rectangle::new(bar(end(1.0)), BEFORE.filled()))?;
        area.draw(&Rectangle::new(bar(end(*share)), AFTER.filled()))?;
        let text = style.text(17).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(percent(*share), (end(share.max(1.0)) + pixels(6), middle), text))?;
    }
    Ok(())
}

fn filters<B: DrawingBackend>(layers: &[LayerRow], area: &Area<B>, style: Style) -> Drawn<B> {
    let bars =
        |side: usize| layers.iter().enumerate().map(move |(at, row)| (at as f64 + 1.0, row.filters[side] as f64));
    let highest = bars(0).map(|(_, value)| value).fold(0.0, f64::max);
    let chart = Chart { x: "layer", y: "filters", range: (1.0, layers.len() as f64), highest, lowest: 0.0 };
    let both: Vec<(f64, f64, RGBColor)> =
        bars(0).map(|(x, y)| (x, y, BEFORE)).chain(bars(1).map(|(x, y)| (x, y, AFTER))).collect();
    columns(&chart, &both, 0.38, area, style)
}

fn clusters<B: DrawingBackend>(layers: &[UnitRow], area: &Area<B>, style: Style) -> Drawn<B> {
    // The layers have bars of different widths: each is drawn at its middle in the widest ones.
    let widest = layers.iter().filter_map(|layer| layer.sizes.first()).map(|(low, high, _)| high - low + 1).max();
    let widest = widest.unwrap_or(1);
    let mut counts: Vec<usize> = Vec::new();
    for &(low, high, count) in layers.iter().flat_map(|layer| &layer.sizes) {
        let bar = ((low + high) / 2).saturating_sub(1) / widest;
        if counts.len() <= bar {
            counts.resize(bar + 1, 0);
        }
        counts[bar] += count;
    }
    let middle = |bar: usize| (bar * widest) as f64 + (widest as f64 + 1.0) / 2.0;
    let bars: Vec<_> = counts.iter().enumerate().map(|(bar, &count)| (middle(bar), count as f64, AFTER)).collect();
    let highest = bars.iter().map(|(_, count, _)| *count).fold(0.0, f64::max);
    let range = (1.0, (counts.len() * widest) as f64);
    let chart = Chart { x: "labels in the cluster", y: "clusters", range, highest, lowest: 0.0 };
    columns(&chart, &bars, 0.42 * widest as f64, area, style)
}

fn labels<B: DrawingBackend>(layer: &UnitRow, area: &Area<B>, style: Style) -> Drawn<B> {
    let bars = &layer.labels.bars;
    let width = layer.labels.width as f64;
    let all: Vec<_> =
        bars.iter().enumerate().map(|(at, &count)| (at as f64 * width + (width - 1.0) / 2.0, count, AFTER)).collect();
    let highest = bars.iter().copied().fold(0.0, f64::max);
    let last = (bars.len() as f64 * width - 1.0).max(0.0);
    let chart = Chart { x: "label", y: "filters", range: (0.0, last), highest, lowest: 0.0 };
    columns(&chart, &all, 0.42 * width, area, style)
}

/// Draws bars as `(middle, height, colour)`, each to both sides of its middle.
fn columns<B: DrawingBackend>(
    chart: &Chart<'_>,
    bars: &[(f64, f64, RGBColor)],
    half: f64,
    area: &Area<B>,
    style: Style,
) -> Drawn<B> {
    let rectangle =
        |(x, y, colour): &(f64, f64, RGBColor)| Rectangle::new([(x - half, 0.0), (x + half, *y)], colour.filled());
    framed(chart, area, style, |context| {
        context.draw_series(bars.iter().map(rectangle))?;
        Ok(())
    })
}

/// A point for each layer that has a value, and lines between neighbours.
fn line<B: DrawingBackend>(
    layers: &[UnitRow],
    y: &str,
    value: impl Fn(&UnitRow) -> Option<f64>,
    area: &Area<B>,
    style: Style,
) -> Drawn<B> {
    let values = layers.iter().take(limits::PLOTTED).enumerate();
    let points: Vec<(f64, f64)> =
        values.filter_map(|(at, row)| Some((at as f64 + 1.0, value(row).filter(|value| value.is_finite())?))).collect();
    let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let chart = Chart { x: "analysed layer", y, range: (1.0, layers.len() as f64), highest, lowest: 0.0 };
    framed(&chart, area, style, |context| {
        context.draw_series(LineSeries::new(points.iter().copied(), AFTER.stroke_width(2 * style.scale)))?;
        if points.len() <= 100 {
            let radius = style.pixels(3);
            context.draw_series(points.iter().map(|&point| Circle::new(point, radius, AFTER.filled())))?;
        }
        Ok(())
    })
}

type Context<'a, B> =
    ChartContext<'a, B, Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>>;

/// Draws axes with whole numbers below, and then what they frame.
fn framed<B: DrawingBackend>(
    chart: &Chart<'_>,
    area: &Area<B>,
    style: Style,
    series: impl FnOnce(&mut Context<'_, B>) -> Drawn<B>,
) -> Drawn<B> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(style.pixels(8)).x_label_area_size(style.pixels(48)).y_label_area_size(style.pixels(66));
    if let Some(caption) = style.caption {
        builder.caption(caption, style.text(18));
    }
    let (first, last) = chart.range;
    let highest = if chart.highest > chart.lowest { chart.highest * 1.05 } else { chart.lowest + 1.0 };
    let mut context = builder.build_cartesian_2d(first - 0.6..last.max(first) + 0.6, chart.lowest..highest)?;
    let whole = |value: &f64| if value.fract() == 0.0 { format!("{value}") } else { String::new() };
    let short = |value: &f64| match *value {
        value if value >= 10_000.0 => crate::text::short(value as u64),
        value if value.fract() == 0.0 => format!("{value}"),
        value => format!("{value:.2}"),
    };
    context
        .configure_mesh()
        .disable_x_mesh()
        .set_all_tick_mark_size(style.pixels(5))
        .x_labels(10)
        .y_labels(5)
        .x_label_formatter(&whole)
        .y_label_formatter(&short)
        .x_desc(chart.x)
        .y_desc(chart.y)
        .axis_desc_style(style.text(17))
        .label_style(style.text(16))
        .axis_style(INK.stroke_width(style.scale))
        .bold_line_style(GRID.stroke_width(style.scale))
        .light_line_style(TRANSPARENT)
        .draw()?;
    series(&mut context)
}
