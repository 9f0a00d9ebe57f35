//! Average pooling of the positions of a tap before the readout (docs/method.md, section 1, grid).

use burn::tensor::Tensor;
use burn::tensor::module::{adaptive_avg_pool1d, adaptive_avg_pool2d};
use burn_sfp_graph::OutputTap;

use crate::analysis::UnitKind;
use crate::config::Grid;

/// Most features a layer keeps under [`Grid::Auto`].
const AUTO_FEATURES: usize = 2048;

/// The pooling of one layer, from its position axes to fewer positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pooled {
    from: Vec<usize>,
    /// Positions left along each axis.
    pub to: Vec<usize>,
}

impl Pooled {
    /// Chooses the grid; `None` where every position counts. Of heads only the tokens are pooled, never the width: its elements
    /// are different nodes, not places.
    pub(crate) fn choose(grid: Grid, kind: UnitKind, tap: &OutputTap) -> Option<Self> {
        let from: Vec<usize> =
            (1..tap.shape.len()).filter(|axis| *axis != tap.filter_axis).map(|axis| tap.shape[axis]).collect();
        if from.is_empty() || from.len() > 2 {
            return None;
        }
        let filters = tap.shape[tap.filter_axis];
        let (pooled, whole) = if kind == UnitKind::Heads { from.split_at(1) } else { from.split_at(from.len()) };
        let fixed = filters * whole.iter().product::<usize>();
        let limit = match grid {
            Grid::Full => return None,
            Grid::AtMost(limit) => limit,
            Grid::Auto if filters * tap.positions <= AUTO_FEATURES => return None,
            Grid::Auto => ((AUTO_FEATURES as f64 / fixed as f64).powf(1.0 / pooled.len() as f64) as usize).max(1),
        };
        // Bins of equal size where a divisor is near: they are cheaper, and every position has the same weight.
        let bins = pooled.iter().map(|&len| {
            let limit = limit.min(len);
            (1..=limit).rev().find(|g| len % g == 0 && 2 * g > limit).unwrap_or(limit)
        });
        let to: Vec<usize> = bins.chain(whole.iter().copied()).collect();
        (to != from).then_some(Self { from, to })
    }

    pub(super) fn positions(&self) -> usize {
        self.to.iter().product()
    }

    /// Whether every position has the same weight in the mean over the pooled positions.
    pub(super) fn is_even(&self) -> bool {
        self.from.iter().zip(&self.to).all(|(from, to)| from % to == 0)
    }

    pub(crate) fn apply(&self, acts: Tensor<3>) -> Tensor<3> {
        let [samples, filters, _] = acts.dims();
        match (self.from.as_slice(), self.to.as_slice()) {
            (_, &[to]) => adaptive_avg_pool1d(acts, to),
            (&[h, w], &[th, tw]) => adaptive_avg_pool2d(acts.reshape([samples, filters, h, w]), [th, tw]).reshape([
                samples,
                filters,
                th * tw,
            ]),
            _ => acts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ir::TensorId;
    use burn_sfp_graph::LayerKind;

    fn tap(shape: &[usize]) -> OutputTap {
        OutputTap {
            through: vec![],
            shape: shape.to_vec(),
            filter_axis: 1,
            positions: shape[2..].iter().product(),
            tensor: TensorId::new(0),
        }
    }

    #[test]
    fn heads_keep_their_width() {
        // 6 heads of width 64 on 197 tokens, as in a small vision transformer.
        let tap = tap(&[2, 6, 197, 64]);
        let pooled = Pooled::choose(Grid::Auto, UnitKind::Heads, &tap).unwrap();
        assert_eq!(pooled.to, [5, 64]);
        assert_eq!(Pooled::choose(Grid::AtMost(9), UnitKind::Heads, &tap).unwrap().to, [9, 64]);
        assert_eq!(Pooled::choose(Grid::Full, UnitKind::Heads, &tap), None);
        let device = burn::tensor::Device::flex();
        let acts = Tensor::<1, burn::tensor::Int>::arange(0..2 * 10 * 3, &device).float().reshape([1, 2, 30]);
        let pooled = Pooled { from: vec![10, 3], to: vec![2, 3] }.apply(acts);
        // Tokens 0 to 4 of head 0, element 1: 1, 4, 7, 10, 13.
        assert_eq!(pooled.into_data().iter::<f32>().nth(1), Some(7.0));
    }

    #[test]
    fn auto_keeps_at_most_2048_features() {
        let conv = UnitKind::Layer(LayerKind::Conv2d);
        let pooled = Pooled::choose(Grid::Auto, conv, &tap(&[2, 64, 32, 32])).unwrap();
        assert_eq!(pooled.to, [4, 4]);
        assert!(pooled.is_even());
        assert_eq!(Pooled::choose(Grid::Auto, conv, &tap(&[2, 512, 2, 2])), None);
        let pooled = Pooled::choose(Grid::Auto, conv, &tap(&[2, 2048, 7, 7])).unwrap();
        assert_eq!(pooled.to, [1, 1]);
        assert_eq!(Pooled::choose(Grid::AtMost(9), conv, &tap(&[2, 8, 7, 7])), None);
    }
}
