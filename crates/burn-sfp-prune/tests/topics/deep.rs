//! Deep networks: nothing recurses with the depth, and what is found for all layers at once is what each layer would find by itself.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};
use burn_sfp_graph::{Layer, Network};
use burn_sfp_prune::{BiasCorrection, Budget, Magnitude, Planner};

use crate::support::*;

/// Linear layers one after the other, perhaps with a way around each two of them but the first.
#[derive(Module, Debug)]
struct Tower {
    layers: Vec<Linear>,
    last: Linear,
    residual: bool,
}

impl Tower {
    fn new(layers: usize, width: usize, residual: bool) -> Self {
        random(Self { layers: (0..layers).map(|_| linear(width, width)).collect(), last: linear(width, 2), residual })
    }
}

graph!(Tower: Tensor<2> => Tensor<2>, |net, x| {
    let (stem, rest) = net.layers.split_first().unwrap();
    let x = stem.forward(x);
    net.last.forward(if net.residual {
        rest.chunks(2).fold(x, |x, block| x.clone() + block.iter().fold(x, |x, layer| layer.forward(relu(x))))
    } else {
        rest.iter().fold(x, |x, layer| layer.forward(relu(x)))
    })
});

/// A stack of half a megabyte is little for 4,000 layers.
#[test]
fn thousands_of_layers_on_a_small_stack() {
    let work = |residual: bool| {
        let (net, x) = (Tower::new(4_000, 4, residual), input([1, 4]));
        let network = capture(&net, &x);
        let planner = Planner::new().budget(Budget::PerLayer(0.5));
        for correction in [BiasCorrection::Channels, BiasCorrection::Constants] {
            let plan = planner.clone().bias_correction(correction);
            let plan = plan.plan(&network, None, &Magnitude::l2()).unwrap();
            let smaller = plan.apply(&net).unwrap();
            plan.verify(&network, &capture(&smaller, &x)).unwrap();
            plan.zeroed(&net).unwrap();
            assert!(plan.layers.iter().rev().skip(1).all(|layer| layer.filters_after == 2));
            assert!(plan.summary().to_string().lines().count() >= 4_000);
        }
        assert!(!network.consumers(&network.layers()[3_990]).is_empty());
        assert!(planner.prune(&net, &x, &Magnitude::l2()).unwrap().plan.unpruned.len() == 1);
    };
    for residual in [false, true] {
        let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || work(residual));
        thread.unwrap().join().unwrap();
    }
}

/// An attention in a residual stream that starts with the input, and a sum of tokens that mixes along another axis.
#[derive(Module, Debug)]
struct Mixed {
    qkv: Vec<Linear>,
    inner: Linear,
    tokens: Linear,
    joined: Linear,
    last: Linear,
}

graph!(Mixed: Tensor<3> => Tensor<3>, |net, x| {
    let [q, k, v] = [0, 1, 2].map(|index| net.qkv[index].forward(x.clone()));
    let mixed = softmax(q.matmul(k.transpose()), 2).matmul(v);
    let y = relu(net.inner.forward(mixed.clone())) + mixed.clone();
    let tokens = net.tokens.forward(y.clone().swap_dims(1, 2)).swap_dims(1, 2);
    let z = net.joined.forward(Tensor::cat(vec![y.clone(), tokens + y], 2));
    net.last.forward(relu(z) + x)
});

fn each_finds_the_same(network: &Network) {
    type Made = BTreeSet<(String, usize)>;
    let of = |layer: &Layer| (0..layer.filters).map(|filter| Made::from([(layer.path.clone(), filter)])).collect();
    let gathered = network.gather(of, |all, more| all.extend(more.iter().cloned()));
    for (layer, gathered) in network.layers().iter().zip(gathered) {
        let sources = network.sources(layer);
        assert_eq!(gathered.complete, sources.complete, "{}", layer.path);
        assert_eq!(gathered.fed, !network.producers(layer).is_empty(), "{}", layer.path);
        for (channel, found) in layer.input_channels().iter().zip(&gathered.inputs) {
            let mut expected = Made::new();
            for producer in &sources.layers {
                let own = (0..producer.filters).filter(|&filter| Some(producer.output_channels()[filter]) == *channel);
                expected.extend(own.map(|filter| (producer.path.clone(), filter)));
            }
            assert_eq!(found.clone().unwrap_or_default(), expected, "{}", layer.path);
        }
        for other in network.layers() {
            let reads = network.consumers(layer).iter().any(|consumer| consumer.path == other.path);
            let read = network.producers(other).iter().any(|producer| producer.path == layer.path);
            assert_eq!(reads, read, "{} and {}", layer.path, other.path);
        }
    }
}

#[test]
fn all_layers_at_once_find_what_each_finds() {
    for residual in [false, true] {
        each_finds_the_same(&capture(&Tower::new(9, 3, residual), &input([2, 3])));
    }
    let net = Mixed {
        qkv: (0..3).map(|_| linear(6, 6)).collect(),
        inner: linear(6, 6),
        tokens: linear(4, 4),
        joined: linear(12, 6),
        last: linear(6, 2),
    };
    each_finds_the_same(&capture(&random(net), &input([2, 4, 6])));
}
