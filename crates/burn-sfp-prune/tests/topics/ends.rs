//! Several inputs and several outputs.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::{GraphModule, InputMapper, ModuleInput};
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// A picture and values about it.
#[derive(Clone)]
struct Record {
    picture: Tensor<4>,
    facts: Tensor<2>,
}

impl ModuleInput for Record {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self { picture: self.picture.map_tensors(mapper), facts: self.facts.map_tensors(mapper) }
    }
}

/// The class, a picture, and features that someone else reads.
#[derive(Clone)]
struct Answer {
    class: Tensor<2>,
    picture: Tensor<4>,
    features: Vec<Tensor<2>>,
}

impl ModuleInput for Answer {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self {
            class: self.class.map_tensors(mapper),
            picture: self.picture.map_tensors(mapper),
            features: self.features.map_tensors(mapper),
        }
    }
}

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    about: Linear,
    join: Linear,
    seen: Linear,
    class: Linear,
    picture: Conv2d,
}

graph!(Net: Record => Answer, |net, x| {
    let maps = relu(net.stem.forward(x.picture));
    let both = mean(maps.clone()) + relu(net.about.forward(x.facts.clone()));
    let joined = relu(net.join.forward(Tensor::cat(vec![both, x.facts], 1)));
    let seen = net.seen.forward(joined.clone());
    let class = net.class.forward(Tensor::cat(vec![joined, relu(seen.clone())], 1));
    Answer { class, picture: net.picture.forward(maps), features: vec![seen] }
});

#[test]
fn several_inputs_and_outputs() {
    let net = random(Net {
        stem: conv(3, 8),
        about: linear(5, 8),
        join: linear(13, 6),
        seen: linear(6, 4),
        class: linear(10, 3),
        picture: conv(8, 2),
    });
    let x = Record { picture: input([2, 3, 4, 4]), facts: input([2, 5]) };
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    let stay = strongest(&together(&[&norms(&net.stem.weight, 0), &norms(&net.about.weight, 1)]), 4);
    assert_eq!(kept(plan, "stem.weight", 0), stay);
    assert_eq!(kept(plan, "about.weight", 1), stay);
    assert_eq!(kept(plan, "picture.weight", 1), stay);
    // The input's own values follow and stay.
    let read: Vec<usize> = stay.iter().copied().chain(8..13).collect();
    assert_eq!(kept(plan, "join.weight", 0), read);
    let joined = strongest(&norms(&net.join.weight, 1), 3);
    let read: Vec<usize> = joined.iter().copied().chain(6..10).collect();
    assert_eq!(kept(plan, "class.weight", 0), read);
    for path in ["seen", "class", "picture"] {
        let kept = plan.unpruned.iter().find(|kept| kept.path == path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(kept.reason, "it is an output of the network");
    }
    let (stem, join) = (gone(&stay, 8), gone(&joined, 6));
    let zero = silence(
        &net,
        &[
            ("stem.weight", 0, &stem),
            ("stem.bias", 0, &stem),
            ("about.weight", 1, &stem),
            ("about.bias", 0, &stem),
            ("join.weight", 1, &join),
            ("join.bias", 0, &join),
        ],
    );
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// An input that need not be there.
#[derive(Module, Debug)]
struct Maybe {
    a: Linear,
    extra: Linear,
    fc: Linear,
}

graph!(Maybe: (Tensor<2>, Option<Tensor<2>>) => Tensor<2>, |net, (x, extra)| {
    let x = net.a.forward(x);
    let x = extra.map_or(x.clone(), |extra| x + net.extra.forward(extra));
    net.fc.forward(relu(x))
});

#[test]
fn an_input_that_need_not_be_there() {
    let net = random(Maybe { a: linear(4, 6), extra: linear(2, 6), fc: linear(6, 3) });
    let with = (input([3, 4]), Some(input([3, 2])));
    let smaller = prune(&net, &with, 0.5);
    assert_eq!(smaller.model.extra.weight.dims(), [2, 3]);
    // The plan holds for both ways, because both are in it.
    let without = (input([3, 4]), None);
    let zeroed = smaller.plan.zeroed(&net).unwrap();
    assert!(difference(smaller.model.run(without.clone()), zeroed.run(without.clone())) < TOLERANCE);
    // What was captured without the extra input knows nothing of its layer.
    let smaller = prune(&net, &without, 0.5);
    assert_eq!(smaller.model.extra.weight.dims(), [2, 6]);
    sweep(&net, &with, GroupCut::WithinGroups);
}
