//! Half of the latency of one image: channels chosen by seconds, and by multiply-adds until the model is as fast.
//!
//! All three take the same scores (the L2 norm of filters):
//!
//! | `chosen_by` | channels go in the order of | until |
//! | --- | --- | --- |
//! | `latency` | their score for each second that they save, by a table of the layers | [`LatencySearch`] has met the target |
//! | `macs` | their score for each multiply-add that they save | the model is as fast |
//! | `macs_score` | their score alone, the default of [`Keep::macs`] | the same |
//!
//! Each smaller model runs in turn with the original, and latencies are medians. Of the two ways by multiply-adds, what the next slower and the next
//! faster of the models tried keep is interpolated to the latency of the model by latency.

use std::path::Path;
use std::sync::Arc;

use burn::prelude::*;
use burn_sfp::graph::latency::{LayerLatencies, compare, forward};
use burn_sfp::prelude::*;
use burn_sfp::prune::group::Groups;
use serde::Serialize;
use serde_json::Value;
use support::write_rows;

use crate::networks::{Name, Size, Visit, visit};
use crate::table::{markdown, why_not};

/// Share of the latency that is asked for.
const ASKED: f64 = 0.5;
/// The unit of the rows.
const UNIT: &str = "latency_b1";
/// Models that are tried to find the multiply-adds for a latency.
const PROBES: usize = 7;

/// What came of one network.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    /// Name of the network.
    pub network: &'static str,
    /// `latency_b1`.
    pub unit: &'static str,
    /// Share of the latency that was asked for.
    pub asked: f64,
    /// Share of the latency that is left, measured in turn with the original.
    pub got: Option<f64>,
    /// How channels were chosen: `latency`, `macs` or `macs_score`.
    pub chosen_by: &'static str,
    /// Share of the scores of all channels that is kept, each over the mean of its layer.
    pub importance_kept: Option<f64>,
    /// Share of the multiply-adds that is left.
    pub macs_got: Option<f64>,
    /// Milliseconds of the smaller model, the median.
    pub milliseconds: Option<f64>,
    /// Whether the row lies between two models, one slower and one faster.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interpolated: bool,
    /// Why there is no model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Measures all networks, writes the rows under `budgets` in place of earlier ones, and returns the table.
///
/// # Errors
/// Those of pruning other than a budget that cannot be met, of forward passes and of the file.
pub fn run(
    size: Size,
    runs: usize,
    file: Option<&Path>,
    device: &Device,
    progress: &dyn Progress,
) -> Result<String, DataError> {
    let mut measured = Measured { runs, rows: Vec::new(), progress };
    for name in [Name::ResNet18, Name::ResNet50, Name::MobileNetV2] {
        visit(name, size, None, device, &mut measured)?;
    }
    if let Some(file) = file {
        write_rows(file, "budgets", &measured.rows, |row: &Value| row["unit"].as_str() == Some(UNIT))?;
    }
    Ok(table(&measured.rows))
}

fn table(rows: &[LatencyRow]) -> String {
    let header =
        ["network", "chosen by", "latency asked", "got", "ms", "importance kept", "multiply-adds left", "why not"];
    let mut table = markdown(&header, 2);
    let share = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    for row in rows {
        table.add_row([
            row.network.to_string(),
            row.chosen_by.to_string(),
            row.asked.to_string(),
            share(row.got),
            row.milliseconds.map_or_else(String::new, |value| format!("{value:.2}")),
            share(row.importance_kept),
            share(row.macs_got),
            why_not(row.error.as_deref()),
        ]);
    }
    table.to_string()
}

struct Measured<'a> {
    runs: usize,
    rows: Vec<LatencyRow>,
    progress: &'a dyn Progress,
}

impl Visit for Measured<'_> {
    fn visit<M: SfpModule<Inputs = Tensor<4>>>(
        &mut self,
        name: &'static str,
        model: M,
        image: Tensor<4>,
    ) -> Result<(), DataError> {
        let config = LatencyConfig::new().with_runs(self.runs);
        let fewer = LatencyConfig::new().with_runs((self.runs / 2).max(1));
        let importance = Importance::of(&Network::capture(&model, &image)?)?;
        let table = Arc::new(LayerLatencies::measure_with(&model, &image, &fewer, self.progress)?);
        let search = LatencySearch::share(ASKED, table).config(config.clone());
        let bench = Bench { model: &model, image: &image, config: &config, importance: &importance };
        // Measured once more, since the search took the model whose latency came nearest.
        let by_latency = search
            .run(&model, &image, |budget| prune(&model, &image, budget))
            .and_then(|timed| Ok(vec![bench.point(&timed.pruned)?]));
        let target = by_latency.as_ref().map_or(ASKED, |points| points[0].got);
        self.rows.push(row(name, "latency", by_latency, target)?);
        for (chosen_by, by_cost) in [("macs", true), ("macs_score", false)] {
            self.progress.start(&format!("{name} by {chosen_by}"), Some(PROBES));
            let found = bench.as_fast(target, |share| {
                self.progress.advance(1);
                prune(&model, &image, Keep::macs(share).by_cost(by_cost))
            });
            self.progress.finish();
            self.rows.push(row(name, chosen_by, found, target)?);
        }
        Ok(())
    }
}

fn prune<M: GraphModule<Inputs = Tensor<4>>>(
    model: &M,
    image: &Tensor<4>,
    budget: impl StopRule + 'static,
) -> Result<PrunedModule<M>, PruneError> {
    Planner::new().budget(budget).prune(model, image, &Magnitude::l2())
}

/// Measures smaller models of a network.
struct Bench<'a, M> {
    model: &'a M,
    image: &'a Tensor<4>,
    config: &'a LatencyConfig,
    importance: &'a Importance,
}

impl<M: GraphModule<Inputs = Tensor<4>>> Bench<'_, M> {
    /// Runs a smaller model in turn with the original.
    fn point(&self, pruned: &PrunedModule<M>) -> Result<Point, PruneError> {
        let run = |model: &M| forward(model, self.image);
        let both = compare(self.config, &[&|| run(self.model), &|| run(&pruned.model)])?;
        Ok(Point {
            got: both[1].median / both[0].median,
            milliseconds: 1e3 * both[1].median,
            importance: self.importance.kept(&pruned.plan),
            macs: pruned.plan.macs_after as f64 / pruned.plan.macs_before as f64,
        })
    }

    /// Finds the share of the multiply-adds at which the latency is the target, by bisection, and returns all points that were measured.
    fn as_fast(
        &self,
        target: f64,
        mut prune: impl FnMut(f64) -> Result<PrunedModule<M>, PruneError>,
    ) -> Result<Vec<Point>, PruneError> {
        let (mut low, mut high) = (0.0, 1.0);
        let mut points = Vec::new();
        let mut held = None;
        for _ in 0..PROBES {
            let share = (low + high) / 2.0;
            match prune(share) {
                Ok(pruned) => {
                    let point = self.point(&pruned)?;
                    points.push(point);
                    if point.got > target { high = share } else { low = share }
                }
                // So few multiply-adds are out of reach.
                Err(error @ PruneError::BudgetNotMet { .. }) => (low, held) = (share, Some(error)),
                Err(error) => return Err(error),
            }
        }
        match held {
            Some(error) if points.is_empty() => Err(error),
            _ => Ok(points),
        }
    }
}

/// What one smaller model is.
#[derive(Clone, Copy)]
struct Point {
    got: f64,
    milliseconds: f64,
    importance: f64,
    macs: f64,
}

impl Point {
    /// The point at a latency: between the next slower and the next faster one, or else the nearest.
    fn at(points: &[Self], got: f64) -> Option<(Self, bool)> {
        let off = |point: &&Self| (point.got - got).abs();
        let nearest = |slower: bool| {
            let side = points.iter().filter(|point| (point.got > got) == slower);
            side.min_by(|a, b| off(a).total_cmp(&off(b)))
        };
        let (Some(a), Some(b)) = (nearest(false), nearest(true)) else {
            let nearest = points.iter().min_by(|a, b| off(a).total_cmp(&off(b)));
            return nearest.map(|point| (*point, false));
        };
        let way = (got - a.got) / (b.got - a.got);
        let between = |of: fn(&Self) -> f64| of(a) + way * (of(b) - of(a));
        let point = Self {
            got,
            milliseconds: between(|point| point.milliseconds),
            importance: between(|point| point.importance),
            macs: between(|point| point.macs),
        };
        Some((point, way > 0.0))
    }
}

/// The row of what was measured, at a latency.
fn row(
    network: &'static str,
    chosen_by: &'static str,
    points: Result<Vec<Point>, PruneError>,
    latency: f64,
) -> Result<LatencyRow, PruneError> {
    let empty = LatencyRow {
        network,
        unit: UNIT,
        asked: ASKED,
        got: None,
        chosen_by,
        importance_kept: None,
        macs_got: None,
        milliseconds: None,
        interpolated: false,
        error: None,
    };
    match points {
        Ok(points) => Ok(match Point::at(&points, latency) {
            Some((point, interpolated)) => LatencyRow {
                got: Some(point.got),
                importance_kept: Some(point.importance),
                macs_got: Some(point.macs),
                milliseconds: Some(point.milliseconds),
                interpolated,
                ..empty
            },
            None => empty,
        }),
        Err(error @ PruneError::BudgetNotMet { .. }) => Ok(LatencyRow { error: Some(error.to_string()), ..empty }),
        Err(error) => Err(error),
    }
}

/// The score of each channel set, as a planner compares them.
struct Importance(Vec<(u32, f64)>);

impl Importance {
    fn of(network: &Network) -> Result<Self, PruneError> {
        let ranking = Magnitude::l2().rank(&PolicyContext::new(network, None))?;
        let scores: Vec<Option<Vec<f64>>> = network
            .layers()
            .iter()
            .map(|layer| Some(Normalizer::Mean.apply(ranking.filters.get(&layer.path)?)))
            .collect();
        let groups = Groups::of(network);
        let channels = groups.groups.iter().flat_map(|group| &group.channels);
        let of = |id: &u32| {
            let producers = groups.channels.get(id)?.producers.iter();
            let own: Option<Vec<f64>> =
                producers.map(|&(layer, filter)| Some(scores[layer].as_ref()?[filter])).collect();
            Some((*id, Reduction::Mean.of(&own?)))
        };
        let mut all: Vec<(u32, f64)> = channels.filter_map(of).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.dedup_by_key(|(id, _)| *id);
        Ok(Self(all))
    }

    /// Share of all scores that stays.
    fn kept(&self, plan: &PrunePlan) -> f64 {
        let stays = |id: &u32| plan.channels.binary_search(id).is_err();
        let kept: f64 = self.0.iter().filter(|(id, _)| stays(id)).map(|(_, score)| score).sum();
        kept / self.0.iter().map(|(_, score)| score).sum::<f64>()
    }
}
