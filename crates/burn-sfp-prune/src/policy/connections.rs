//! [`Connections`]: a keep mask over the connections of a layer.

use fixedbitset::FixedBitSet;

/// A keep mask over the connections of a layer: one bit for each pair of output (filter) and input (channel or feature).
///
/// ```
/// use burn_sfp_prune::Connections;
///
/// let diagonal = Connections::from_fn(3, 4, |output, input| output == input);
/// assert_eq!((diagonal.shape(), diagonal.kept()), ((3, 4), 3));
/// assert!(diagonal.keeps(1, 1) && !diagonal.keeps(1, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    outputs: usize,
    inputs: usize,
    /// The bit of `(output, input)` is at `output * inputs + input`.
    keep: FixedBitSet,
}

impl Connections {
    /// Creates a keep mask from a function of `(output, input)` that returns whether the connection stays.
    pub fn from_fn(outputs: usize, inputs: usize, mut keep: impl FnMut(usize, usize) -> bool) -> Self {
        let mut bits = FixedBitSet::with_capacity(outputs * inputs);
        for output in 0..outputs {
            for input in 0..inputs {
                bits.set(output * inputs + input, keep(output, input));
            }
        }
        Self { outputs, inputs, keep: bits }
    }

    /// Returns the number of outputs and of inputs.
    pub fn shape(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    /// Returns whether a connection stays; false if the indices are out of range.
    pub fn keeps(&self, output: usize, input: usize) -> bool {
        output < self.outputs && input < self.inputs && self.keep.contains(output * self.inputs + input)
    }

    /// Returns the number of connections that stay.
    pub fn kept(&self) -> usize {
        self.keep.count_ones(..)
    }

    /// Removes all connections of an output.
    pub(crate) fn remove_output(&mut self, output: usize) {
        if output < self.outputs {
            self.keep.remove_range(output * self.inputs..(output + 1) * self.inputs);
        }
    }

    /// Removes all connections of an input.
    pub(crate) fn remove_input(&mut self, input: usize) {
        if input < self.inputs {
            (0..self.outputs).for_each(|output| self.keep.remove(output * self.inputs + input));
        }
    }

    /// Returns which outputs and which inputs have a connection left.
    pub(crate) fn connected(&self) -> (FixedBitSet, FixedBitSet) {
        let mut outputs = FixedBitSet::with_capacity(self.outputs);
        let mut inputs = FixedBitSet::with_capacity(self.inputs);
        // The bits come in ascending order, so their row advances with them: no division for each.
        let mut output = 0;
        for bit in self.keep.ones() {
            while bit >= (output + 1) * self.inputs {
                output += 1;
            }
            outputs.insert(output);
            inputs.insert(bit - output * self.inputs);
        }
        (outputs, inputs)
    }
}
