//! Average-pools the positions of a tap before the readout, where a grid is set.

use burn::tensor::Tensor;
use burn::tensor::module::{adaptive_avg_pool1d, adaptive_avg_pool2d};

use super::Grid;
use crate::network::{LayerKind, Tap};

/// Most features a layer keeps under [`Grid::Auto`].
const AUTO_FEATURES: usize = 2048;

/// The pooling of one layer: from its position axes to fewer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pooled {
    from: Vec<usize>,
    /// Positions left along each axis.
    pub to: Vec<usize>,
}

impl Pooled {
    /// Chooses the grid; `None` where every position counts.
    pub(crate) fn choose(grid: Grid, kind: LayerKind, tap: &Tap) -> Option<Self> {
        let from: Vec<usize> =
            (1..tap.shape.len()).filter(|axis| *axis != tap.filter_axis).map(|axis| tap.shape[axis]).collect();
        if from.is_empty() || from.len() > 2 || kind == LayerKind::Conv3d {
            return None;
        }
        let filters = tap.shape[tap.filter_axis];
        let limit = match grid {
            Grid::Full => return None,
            Grid::AtMost(limit) => limit,
            Grid::Auto if filters * tap.positions <= AUTO_FEATURES => return None,
            Grid::Auto => ((AUTO_FEATURES as f64 / filters as f64).powf(1.0 / from.len() as f64) as usize).max(1),
        };
        // Bins of equal size where a divisor is near: cheaper, and every position counts the same.
        let to: Vec<usize> = from
            .iter()
            .map(|&len| {
                let limit = limit.min(len);
                (1..=limit).rev().find(|g| len % g == 0 && 2 * g > limit).unwrap_or(limit)
            })
            .collect();
        (to != from).then_some(Self { from, to })
    }

    pub(crate) fn positions(&self) -> usize {
        self.to.iter().product()
    }

    /// Whether every position counts the same in the pooled mean.
    pub(crate) fn even(&self) -> bool {
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

    fn tap(shape: &[usize]) -> Tap {
        Tap {
            through: vec![],
            shape: shape.to_vec(),
            filter_axis: 1,
            positions: shape[2..].iter().product(),
            tensor: TensorId::new(0),
        }
    }

    #[test]
    fn auto_keeps_at_most_2048_features() {
        let pooled = Pooled::choose(Grid::Auto, LayerKind::Conv2d, &tap(&[2, 64, 32, 32])).unwrap();
        assert_eq!(pooled.to, [4, 4]);
        assert!(pooled.even());
        assert_eq!(Pooled::choose(Grid::Auto, LayerKind::Conv2d, &tap(&[2, 512, 2, 2])), None);
        let pooled = Pooled::choose(Grid::Auto, LayerKind::Conv2d, &tap(&[2, 2048, 7, 7])).unwrap();
        assert_eq!(pooled.to, [1, 1]);
        assert_eq!(Pooled::choose(Grid::AtMost(9), LayerKind::Conv2d, &tap(&[2, 8, 7, 7])), None);
    }
}
