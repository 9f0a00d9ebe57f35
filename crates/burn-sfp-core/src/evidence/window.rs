//! [`Window`]: which position of its input each element of a layer's kernel reads.

use burn_sfp_graph::{Layer, Network};

/// No position: the element reads zero padding there, or a gap between the inputs of a transposed convolution.
const NONE: u32 = u32::MAX;

/// Where the elements of a kernel read, for each position of the output.
#[derive(Clone, Debug)]
pub(crate) enum Window {
    /// A layer without kernel: each position of the output reads the same position of the input.
    Same,
    /// `table[position * elements + element]` is a position of the input.
    Table { table: Vec<u32>, elements: usize },
}

/// One position axis of a convolution.
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
}

impl Axis {
    /// The index of the input that element `k` reads for index `at` of the output.
    fn source(&self, is_transposed: bool, at: usize, k: usize) -> Option<usize> {
        let found = if is_transposed {
            let reached = (at + self.padding).checked_sub(k * self.dilation)?;
            (reached % self.stride == 0).then_some(reached / self.stride)?
        } else {
            (at * self.stride + k * self.dilation).checked_sub(self.padding)?
        };
        (found < self.input).then_some(found)
    }
}

impl Window {
    /// Reads the geometry of a layer; `None` if its shapes do not agree with each other.
    pub fn of(network: &Network, layer: &Layer) -> Option<Self> {
        let rank = layer.kind.kernel_rank();
        if rank == 0 {
            return Some(Self::Same);
        }
        let (input, output) = (layer.input_shape().get(2..)?, network.output_shape(layer));
        let output = output.get(2..)?;
        let axis = |k: usize| {
            Some(Axis {
                input: *input.get(k)?,
                output: *output.get(k)?,
                kernel: *layer.kernel().get(k)?,
                stride: (*layer.stride().get(k)?).max(1),
                dilation: *layer.dilation().get(k)?,
                padding: layer.padding.get(k)?.0,
            })
        };
        let axes = (0..rank).map(axis).collect::<Option<Vec<Axis>>>()?;
        Some(Self::table(&axes, layer.kind.is_transposed()))
    }

    fn table(axes: &[Axis], is_transposed: bool) -> Self {
        let positions: usize = axes.iter().map(|axis| axis.output).product();
        let elements: usize = axes.iter().map(|axis| axis.kernel).product();
        let mut table = Vec::with_capacity(positions * elements);
        for position in 0..positions {
            for element in 0..elements {
                // Row-major: the last axis runs fastest.
                let (mut position, mut element, mut source, mut step) = (position, element, Some(0), 1);
                for axis in axes.iter().rev() {
                    let own = axis.source(is_transposed, position % axis.output, element % axis.kernel);
                    source = source.zip(own).map(|(source, own)| source + own * step);
                    (position, element, step) = (position / axis.output, element / axis.kernel, step * axis.input);
                }
                table.push(source.map_or(NONE, |source: usize| source as u32));
            }
        }
        Self::Table { table, elements }
    }

    /// Elements of the kernel.
    pub fn elements(&self) -> usize {
        match self {
            Self::Same => 1,
            Self::Table { elements, .. } => *elements,
        }
    }

    /// Positions of the output, for an input of so many positions.
    pub fn positions(&self, inputs: usize) -> usize {
        match self {
            Self::Same => inputs,
            Self::Table { table, elements } => table.len() / (*elements).max(1),
        }
    }

    /// The position of the input that an element reads, `None` where it reads a zero.
    pub fn source(&self, position: usize, element: usize) -> Option<usize> {
        match self {
            Self::Same => Some(position),
            Self::Table { table, elements } => {
                let source = table[position * elements + element];
                (source != NONE).then_some(source as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::{conv_transpose2d, conv2d};
    use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
    use burn::tensor::{Device, Distribution, Tensor};
    use ndarray::Array4;

    fn values(tensor: Tensor<4>) -> Array4<f32> {
        let dims = tensor.dims();
        Array4::from_shape_vec(dims, tensor.into_data().try_into_vec::<f32>().unwrap()).unwrap()
    }

    /// The convolution of one channel, as sums over the window.
    fn check(axes: &[Axis; 2], is_transposed: bool, x: &Tensor<4>, weight: &Tensor<4>, expected: Tensor<4>) {
        let window = Window::table(axes, is_transposed);
        let (x, weight, expected) = (values(x.clone()), values(weight.clone()), values(expected));
        let (x, weight): (Vec<f32>, Vec<f32>) = (x.into_iter().collect(), weight.into_iter().collect());
        assert_eq!(window.positions(x.len()), expected.len());
        for (position, &expected) in expected.iter().enumerate() {
            let read = (0..weight.len()).filter_map(|k| Some(x[window.source(position, k)?] * weight[k]));
            assert!((read.sum::<f32>() - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn sums_over_windows_are_convolutions() {
        let device = Device::flex();
        let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
        let (x, weight) = (random([1, 1, 7, 6]), random([1, 1, 3, 2]));
        let axis = |input, output, kernel, stride, dilation, padding| Axis {
            input,
            output,
            kernel,
            stride,
            dilation,
            padding,
        };
        let out = conv2d(x.clone(), weight.clone(), None, ConvOptions::new([2, 1], [1, 2], [2, 1], 1));
        let [_, _, h, w] = out.dims();
        check(&[axis(7, h, 3, 2, 2, 1), axis(6, w, 2, 1, 1, 2)], false, &x, &weight, out);
        let options = ConvTransposeOptions::new([2, 3], [1, 0], [1, 0], [1, 2], 1);
        let out = conv_transpose2d(x.clone(), weight.clone(), None, options);
        let [_, _, h, w] = out.dims();
        check(&[axis(7, h, 3, 2, 1, 1), axis(6, w, 2, 3, 2, 0)], true, &x, &weight, out);
    }
}
