//! Forward passes that read values, and modules that store their device: what code generated from ONNX does.

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use burn_sfp_graph::{GraphError, GraphModule, Network};
use burn_sfp_prune::{Budget, Magnitude, Planner, PruneError};

use crate::support::*;

/// The target of a reshape is computed from a constant parameter and read, twice.
#[derive(Module, Debug)]
struct Reads {
    a: Linear,
    b: Linear,
    target: Param<Tensor<1, Int>>,
}

graph!(Reads: Tensor<2> => Tensor<2>, |net, x| {
    let read = |shift: i64| {
        let data = (net.target.val() + shift).to_data().convert::<i64>();
        data.as_slice::<i64>().unwrap().to_vec()
    };
    let x = relu(net.a.forward(x));
    let (first, second) = (read(1), read(2));
    let x = x.reshape([first[0] as usize, first[1] as usize, 4]);
    net.b.forward(x.reshape([second[0] as usize - 1, 4 * (second[1] as usize - 1)]))
});

fn reads() -> Reads {
    let target = Tensor::<1, Int>::from_ints([1, 1], &device());
    random(Reads { a: linear(3, 8), b: linear(8, 5), target: Param::initialized(ParamId::new(), target) })
}

#[test]
fn values_of_constants_can_be_read() {
    let x = input([2, 3]);
    let network = Network::capture(&reads(), &x).unwrap();
    assert_eq!(network.layers().len(), 2);
    // The constant says how wide `a` is: it stays.
    let plan = prune(&reads(), &x, 0.5).plan;
    holds(why(&plan, "a"), &["Reshape"]);
}

/// A value that depends on the input.
#[derive(Module, Debug)]
struct Peeks {
    a: Linear,
    b: Linear,
}

graph!(Peeks: Tensor<2> => Tensor<2>, |net, x| {
    let x = net.a.forward(x);
    let largest = x.clone().max().into_scalar::<f32>();
    net.b.forward(x * largest)
});

#[test]
fn values_that_depend_on_the_input_cannot() {
    let net = random(Peeks { a: linear(3, 8), b: linear(8, 5) });
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    let error = prune_with(&net, &input([2, 3]), &planner, &Magnitude::l2()).unwrap_err();
    assert!(matches!(&error, PruneError::Graph(GraphError::ReadsValues { name, .. }) if name == "Max"), "{error}");
    holds(error, &["(Max) after layer `a`", "shapes of the input only"]);
}

/// Makes a tensor on the device that it was made on.
#[derive(Module, Debug)]
struct Stored {
    a: Linear,
    b: Linear,
    #[module(skip)]
    device: Device,
}

impl Stored {
    fn new(device: &Device) -> Self {
        Self { a: linear(4, 8), b: linear(8, 5), device: device.clone() }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let positions = Tensor::<1, Int>::arange(0..4, &self.device).float();
        self.b.forward(relu(self.a.forward(x + positions.unsqueeze())))
    }
}

graph!(Stored: Tensor<2> => Tensor<2>, |net, x| net.forward(x));

#[derive(Module, Debug)]
struct Rebuilt {
    net: Stored,
}

impl GraphModule for Rebuilt {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.net.forward(x)
    }
    fn rebuild(&self, device: &Device) -> Option<Self> {
        Some(Self { net: Stored::new(device) })
    }
}

#[test]
fn a_stored_device() {
    let x = input([2, 4]);
    let net = random(Stored::new(&device()));
    let error = Network::capture(&net, &x).unwrap_err();
    holds(error, &["on a device that the module stores", "`&self.NAME.device()`", "`GraphModule::rebuild`"]);
    let smaller = prune(&Rebuilt { net }, &x, 0.5);
    assert_eq!(smaller.model.net.a.weight.dims(), [4, 4]);
}
