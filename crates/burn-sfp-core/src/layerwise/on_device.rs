//! The sums of a [`Regression`] on devices with memory of their own, by Burn's operations.

use burn::tensor::{DType, Tensor};
use ndarray::Array2;

use super::regression::{GroupSums, OnDevice, ROW_VALUES, Regression};
use super::sample::sample;
use crate::SfpError;
use crate::evidence::patches::indices;
use crate::sums::doubles;

impl Regression {
    pub(super) fn add_on_device(&mut self, batch: usize, input: &Tensor<3>, target: &Tensor<3>, patches: usize) {
        let [samples, _, read] = input.dims();
        let [_, channels, positions] = target.dims();
        let device = input.device();
        self.positions = positions;
        self.samples += samples as u64;
        let width = self.columns() + self.filters;
        let of_input = input.clone().sum_dim(0);
        let of_target = target.clone().sum_dim(2).sum_dim(0);
        let mut sums = match self.on_device.take() {
            None => {
                let zeros = |rows: usize| Tensor::zeros([rows, width], (&device, DType::F32));
                let groups = (0..self.groups).filter(|_| self.is_summed).map(|_| (zeros(width), zeros(1))).collect();
                OnDevice { inputs: of_input, targets: of_target, groups, rows: 0 }
            }
            Some(sums) => OnDevice { inputs: sums.inputs + of_input, targets: sums.targets + of_target, ..sums },
        };
        let chosen = sample(batch, samples * self.window.positions(read), patches.max(1));
        let by_row: Tensor<2> = target.clone().permute([0, 2, 1]).reshape([samples * positions, channels]);
        let steps = chosen.chunks((ROW_VALUES / (width * self.groups)).max(256)).filter(|_| self.is_summed);
        for rows in steps {
            let patches = self.window.gather_rows(input.clone(), rows);
            let numbers = indices(rows.iter().map(|&row| row as i64).collect(), &device);
            let targets = indices(self.targets.iter().map(|&channel| channel as i64).collect(), &device);
            let targets = by_row.clone().select(0, numbers).select(1, targets);
            for (group, (matrix, totals)) in sums.groups.iter_mut().enumerate() {
                let own = patches.clone().narrow(1, group * self.inputs, self.inputs);
                let own = own.reshape([rows.len(), self.inputs * self.elements]);
                let target = targets.clone().narrow(1, group * self.filters, self.filters);
                let own = Tensor::cat(vec![own, target], 1);
                *totals = totals.clone() + own.clone().sum_dim(0);
                *matrix = matrix.clone() + own.clone().transpose().matmul(own);
            }
            sums.rows += rows.len() as u64;
        }
        self.on_device = Some(sums);
    }

    /// Takes the sums from the device, if they are on one.
    ///
    /// # Errors
    /// [`SfpError::Layer`] where the device does not return them, and the errors of [`add`](Regression::add) for values that are not finite.
    pub fn settle(&mut self) -> Result<(), SfpError> {
        let Some(sums) = self.on_device.take() else { return Ok(()) };
        let [_, channels, positions] = sums.inputs.dims();
        let inputs = doubles(sums.inputs)?;
        if self.input_sums.ncols() == 0 {
            self.input_sums = Array2::zeros((channels, positions));
        }
        self.input_sums.indexed_iter_mut().for_each(|((c, p), sum)| *sum += inputs[c * positions + p]);
        let targets = doubles(sums.targets)?;
        self.target_sums.iter_mut().zip(&self.targets).for_each(|(sum, &channel)| *sum += targets[channel]);
        self.check_finite()?;
        let width = self.columns() + self.filters;
        if self.sums.is_empty() {
            self.sums = sums.groups.iter().map(|_| GroupSums::new(width)).collect();
        }
        for (all, (matrix, totals)) in self.sums.iter_mut().zip(sums.groups) {
            let (matrix, totals) = (doubles(matrix)?, doubles(totals)?);
            all.matrix.indexed_iter_mut().for_each(|((a, b), sum)| *sum += matrix[a * width + b]);
            all.totals.iter_mut().zip(totals).for_each(|(sum, own)| *sum += own);
            all.rows += sums.rows;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::solve::Ridge;
    use super::*;
    use crate::evidence::patches::tests::{network, numbers};

    #[test]
    fn regressions_are_those_of_the_cpu() {
        let (network, mut rng) = (network(), ChaCha8Rng::seed_from_u64(2));
        for layer in network.layers() {
            let targets: Vec<usize> = (0..layer.filters).rev().collect();
            for columns in [4096, 0] {
                let new = || Regression::new(&network, layer, targets.clone(), columns).unwrap();
                let (mut here, mut there) = (new(), new());
                let positions = |shape: &[usize]| shape[2..].iter().product::<usize>();
                let (read, returned) = (positions(layer.input_shape()), positions(&network.output_shape(layer)));
                for (batch, samples) in [9, 7].into_iter().enumerate() {
                    let input = numbers([samples, layer.inputs, read], &mut rng);
                    let target = numbers([samples, layer.filters + 1, returned], &mut rng);
                    here.add(batch, &input, &target, 60).unwrap();
                    there.add_on_device(batch, &input, &target, 60);
                }
                let current = vec![0.1; layer.filters * here.columns()];
                let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
                if here.is_summed() {
                    let solve = |sums: &mut Regression| sums.solve(&current, None, Ridge::OfChange(0.1), true).unwrap();
                    let (here, there) = (solve(&mut here), solve(&mut there));
                    assert!(near(&here.weight, &there.weight), "{}", layer.path);
                    assert!((here.error_after - there.error_after).abs() < 1e-4);
                }
                // Sums go on where they were read.
                let (input, target) =
                    (numbers([4, layer.inputs, read], &mut rng), numbers([4, layer.filters + 1, returned], &mut rng));
                here.add(2, &input, &target, 60).unwrap();
                there.add_on_device(2, &input, &target, 60);
                if here.is_summed() {
                    let solve = |sums: &mut Regression| sums.solve(&current, None, Ridge::OfChange(0.1), true).unwrap();
                    assert!(near(&solve(&mut here).weight, &solve(&mut there).weight), "{}", layer.path);
                }
                assert!(
                    near(&here.intercept(&current).unwrap(), &there.intercept(&current).unwrap()),
                    "{}",
                    layer.path
                );
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_found_when_sums_are_read() {
        let network = network();
        let layer = network.layer("hidden").unwrap();
        let device = Device::flex();
        let mut values = vec![1.0_f32; 2 * layer.inputs];
        values[7] = f32::NAN;
        let input = Tensor::from_data(TensorData::new(values, [2, layer.inputs, 1]), &device);
        let target = Tensor::ones([2, layer.filters, 1], &device);
        let mut sums = Regression::new(&network, layer, (0..layer.filters).collect(), 4096).unwrap();
        sums.add_on_device(0, &input, &target, 10);
        let error = sums.intercept(&[]).unwrap_err();
        assert!(matches!(error, SfpError::NonFiniteInput { input: 7, .. }), "{error}");
    }
}
