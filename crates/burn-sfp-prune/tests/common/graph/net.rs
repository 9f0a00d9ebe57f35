//! The module: layers and the program that runs them.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::Shrink;

use super::call::Node;
use super::layers::Layers;
use super::value::Value;

/// Image, vector, words.
pub type Inputs = (Tensor<4>, Tensor<2>, Tensor<2, Int>);

/// By rank.
pub type Outputs = (Vec<Tensor<2>>, Vec<Tensor<3>>, Vec<Tensor<4>>, Vec<Tensor<5>>);

/// Calls in the order in which they run, each on values that are there by then: the image, the vector, one more each call.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub nodes: Vec<Node>,
    pub outputs: Vec<usize>,
}

/// Number of values that are inputs.
pub const GIVEN: usize = 2;

#[derive(Module, Debug, Shrink)]
pub struct Net {
    pub layers: Layers,
    #[module(skip)]
    pub program: Program,
}

impl Net {
    /// Every value of a forward pass.
    pub fn values(&self, (image, vector, words): Inputs) -> Vec<Value> {
        let mut values = vec![Value::Four(image), Value::Two(vector)];
        for node in &self.program.nodes {
            let from = node.from.iter().map(|&at| values[at].clone()).collect();
            values.push(self.layers.run(node, from, &words));
        }
        values
    }
}

impl GraphModule for Net {
    type Inputs = Inputs;
    type Outputs = Outputs;

    fn run(&self, inputs: Inputs) -> Outputs {
        let values = self.values(inputs);
        let mut outputs = Outputs::default();
        for &at in &self.program.outputs {
            match values[at].clone() {
                Value::Two(x) => outputs.0.push(x),
                Value::Three(x) => outputs.1.push(x),
                Value::Four(x) => outputs.2.push(x),
                Value::Five(x) => outputs.3.push(x),
            }
        }
        outputs
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}
