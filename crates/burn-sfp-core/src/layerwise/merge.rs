//! The sums of a [`Regression`] put together from those of parts of the data.

use burn_sfp_ndarray::KernelError;
use ndarray::Array2;

use super::regression::Regression;
use crate::SfpError;

impl Regression {
    /// The same without samples.
    pub fn empty(&self) -> Self {
        Self {
            path: self.path.clone(),
            window: self.window.clone(),
            targets: self.targets.clone(),
            input_sums: Array2::zeros((self.input_sums.nrows(), 0)),
            target_sums: vec![0.0; self.target_sums.len()],
            samples: 0,
            positions: 0,
            sums: Vec::new(),
            on_device: None,
            ..*self
        }
    }

    /// Adds the sums over other batches for the same layer; both are read from their devices first.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # use burn_sfp_core::{Regression, Ridge};
    /// # #[derive(Module, Debug)]
    /// # struct Layer { linear: Linear }
    /// # impl GraphModule for Layer {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.linear.forward(x) }
    /// # }
    /// # let device = Device::flex();
    /// # let layer = Layer { linear: LinearConfig::new(1, 1).init(&device) };
    /// # let network = Network::capture(&layer, &Tensor::zeros([3, 1], &device))?;
    /// let mut first = Regression::new(&network, &network.layers()[0], vec![0], 100).unwrap();
    /// let mut second = first.empty();
    /// first.add(0, &Tensor::from_floats([[[0.0]], [[1.0]]], &device), &Tensor::from_floats([[[1.0]], [[3.0]]], &device), 100)?;
    /// second.add(1, &Tensor::from_floats([[[2.0]]], &device), &Tensor::from_floats([[[5.0]]], &device), 100)?;
    /// first.merge(second)?;
    /// let solution = first.solve(&[0.0], None, Ridge::OfWeights(0.0), true)?;
    /// assert!((solution.weight[0] - 2.0).abs() < 1e-9);
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`settle`](Regression::settle); [`SfpError::Kernel`] where the sums are of another layer.
    pub fn merge(&mut self, mut other: Self) -> Result<(), SfpError> {
        self.settle()?;
        other.settle()?;
        let sizes = |sums: &Self| {
            let (columns, filters) = (sums.columns(), sums.target_sums.len());
            [("groups", sums.groups), ("columns", columns), ("filters", filters), ("inputs", sums.input_sums.nrows())]
        };
        let differing = sizes(self).into_iter().zip(sizes(&other)).find(|(expected, found)| expected != found);
        if let Some(((what, expected), (_, found))) = differing {
            let source = KernelError::Shape { what, expected, found };
            return Err(SfpError::Kernel { path: self.path.clone(), source });
        }
        if self.samples == 0 {
            *self = other;
            return Ok(());
        }
        if other.samples == 0 {
            return Ok(());
        }
        self.samples += other.samples;
        self.input_sums += &other.input_sums;
        self.target_sums.iter_mut().zip(&other.target_sums).for_each(|(all, own)| *all += own);
        for (all, own) in self.sums.iter_mut().zip(&other.sums) {
            all.matrix += &own.matrix;
            all.totals.iter_mut().zip(&own.totals).for_each(|(all, own)| *all += own);
            all.rows += own.rows;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::solve::Ridge;
    use super::*;
    use crate::evidence::patches::tests::{network, numbers};

    #[test]
    fn parts_are_the_whole() {
        let (network, mut rng) = (network(), ChaCha8Rng::seed_from_u64(4));
        let positions = |shape: &[usize]| shape[2..].iter().product::<usize>();
        let layers = network.layers();
        for layer in layers {
            let mut whole = Regression::new(&network, layer, (0..layer.filters).collect(), 4096).unwrap();
            let mut parts = whole.empty();
            let (read, returned) = (positions(layer.input_shape()), positions(&network.output_shape(layer)));
            for (batch, samples) in [9, 7, 4].into_iter().enumerate() {
                let input = numbers([samples, layer.inputs, read], &mut rng);
                let target = numbers([samples, layer.filters, returned], &mut rng);
                whole.add(batch, &input, &target, 60).unwrap();
                let mut part = parts.empty();
                // One of them on a device.
                match batch {
                    1 => part.add_on_device(batch, &input, &target, 60),
                    _ => part.add(batch, &input, &target, 60).unwrap(),
                }
                parts.merge(part).unwrap();
                // One without samples changes nothing.
                parts.merge(parts.empty()).unwrap();
            }
            let current = vec![0.1; layer.filters * whole.columns()];
            let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(near(&whole.intercept(&current).unwrap(), &parts.intercept(&current).unwrap()), "{}", layer.path);
            if whole.is_summed() {
                let solve = |sums: &mut Regression| sums.solve(&current, None, Ridge::OfChange(0.1), true).unwrap();
                assert!(near(&solve(&mut whole).weight, &solve(&mut parts).weight), "{}", layer.path);
            }
        }
        let of = |k: usize| Regression::new(&network, &layers[k], (0..layers[k].filters).collect(), 4096).unwrap();
        let error = of(0).merge(of(1)).unwrap_err();
        assert!(matches!(error, SfpError::Kernel { source: KernelError::Shape { .. }, .. }), "{error}");
    }
}
