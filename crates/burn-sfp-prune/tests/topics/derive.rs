//! `#[derive(Shrink)]`: it finds the same places by the same names as Burn's `Module`.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::norm::{Normalization, NormalizationConfig};
use burn::nn::{BatchNorm, BatchNormConfig, GroupNormConfig, Linear, Relu};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_nn::{Scope, Shrink};
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// Remembers where it was reached.
#[derive(Default)]
struct Leaf(Option<String>);

impl Shrink for Leaf {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        assert_eq!(self.0.replace(scope.path()), None, "reached twice");
    }
}

/// Not `Shrink`, and not needed to be.
struct Setting;

#[derive(Shrink)]
struct Named<T, const N: usize> {
    generic: T,
    list: Vec<Leaf>,
    array: [Leaf; N],
    tuple: (Leaf, usize, Leaf),
    option: Option<Leaf>,
    none: Option<Leaf>,
    deep: Vec<Option<(Leaf, [Leaf; 1])>>,
    number: f64,
    _setting: Setting,
    _settings: Vec<Setting>,
}

#[derive(Shrink)]
struct Unnamed(Leaf, u8, Vec<Leaf>);

#[derive(Shrink)]
struct Nothing;

#[derive(Shrink)]
enum Kind<T> {
    None,
    One(T),
    Two(Leaf, Setting),
    Field { leaf: Leaf, number: usize },
}

fn reached(leaf: &Leaf) -> &str {
    leaf.0.as_deref().unwrap_or("not reached")
}

#[test]
fn structs() {
    let mut named: Named<Unnamed, 2> = Named {
        generic: Unnamed(Leaf::default(), 3, vec![Leaf::default()]),
        list: vec![Leaf::default(), Leaf::default()],
        array: [Leaf::default(), Leaf::default()],
        tuple: (Leaf::default(), 7, Leaf::default()),
        option: Some(Leaf::default()),
        none: None,
        deep: vec![None, Some((Leaf::default(), [Leaf::default()]))],
        number: 0.5,
        _setting: Setting,
        _settings: vec![Setting],
    };
    named.shrink(&mut Scope::new(&[], &[]));
    let deep = named.deep[1].as_ref().unwrap();
    for (leaf, path) in [
        (&named.generic.0, "generic.0"),
        (&named.generic.2[0], "generic.2.0"),
        (&named.list[0], "list.0"),
        (&named.list[1], "list.1"),
        (&named.array[1], "array.1"),
        (&named.tuple.0, "tuple.0"),
        (&named.tuple.2, "tuple.2"),
        (named.option.as_ref().unwrap(), "option"),
        (&deep.0, "deep.1.0"),
        (&deep.1[0], "deep.1.1.0"),
    ] {
        assert_eq!(reached(leaf), path);
    }
    assert_eq!((named.generic.1, named.tuple.1, named.number, named.none.is_none()), (3, 7, 0.5, true));
    Nothing.shrink(&mut Scope::new(&[], &[]));
}

#[test]
fn enums() {
    let walk = |mut kind: Kind<Leaf>| {
        kind.shrink(&mut Scope::new(&[], &[]));
        kind
    };
    assert!(matches!(walk(Kind::None), Kind::None));
    assert!(matches!(walk(Kind::One(Leaf::default())), Kind::One(leaf) if reached(&leaf) == "One"));
    assert!(matches!(walk(Kind::Two(Leaf::default(), Setting)), Kind::Two(leaf, _) if reached(&leaf) == "Two"));
    let field = walk(Kind::Field { leaf: Leaf::default(), number: 4 });
    assert!(matches!(field, Kind::Field { leaf, number: 4 } if reached(&leaf) == "Field"));
}

/// A block of anything.
#[derive(Module, Debug, Shrink)]
struct Block<A, N> {
    layer: A,
    norm: N,
    activation: Relu,
    residual: bool,
}

#[derive(Module, Debug, Shrink)]
enum Stage {
    Deep(Block<Conv2d, Normalization>),
    Pair((Conv2d, BatchNorm)),
    Point(Conv2d),
}

/// Depthwise convolutions and counted normalisations in every kind of container, next to layers that count nothing.
#[derive(Module, Debug, Shrink)]
struct Net {
    stem: Conv2d,
    stages: Vec<Stage>,
    array: [Conv2d; 2],
    tuple: (BatchNorm, Conv2d),
    option: Option<Conv2d>,
    none: Option<Conv2d>,
    block: Block<Conv2d, BatchNorm>,
    head: Block<Linear, Relu>,
    width: usize,
    name: String,
}

const WIDTH: usize = 8;

fn deep() -> Conv2d {
    grouped(WIDTH, WIDTH, WIDTH)
}

fn norm() -> BatchNorm {
    BatchNormConfig::new(WIDTH).init(&device())
}

fn block<A, N>(layer: A, norm: N) -> Block<A, N> {
    Block { layer, norm, activation: Relu::new(), residual: true }
}

fn net() -> Net {
    let counted = NormalizationConfig::from(GroupNormConfig::new(4, WIDTH)).init(&device());
    random(Net {
        stem: conv(2, WIDTH),
        stages: vec![
            Stage::Deep(block(deep(), counted)),
            Stage::Pair((deep(), norm())),
            Stage::Point(point(WIDTH, WIDTH)),
        ],
        array: [deep(), deep()],
        tuple: (norm(), deep()),
        option: Some(deep()),
        none: None,
        block: block(deep(), norm()),
        head: block(linear(WIDTH, 3), Relu::new()),
        width: WIDTH,
        name: "net".into(),
    })
}

graph!(shrink Net: Tensor<4> => Tensor<2>, |net, x| {
    let mut x = relu(net.stem.forward(x));
    for stage in &net.stages {
        x = relu(match stage {
            Stage::Deep(block) => block.norm.forward(block.layer.forward(x)),
            Stage::Pair((conv, norm)) => norm.forward(conv.forward(x)),
            Stage::Point(conv) => conv.forward(x),
        });
    }
    for conv in &net.array {
        x = relu(conv.forward(x));
    }
    x = net.tuple.1.forward(net.tuple.0.forward(x));
    for conv in net.option.iter().chain(&net.none) {
        x = conv.forward(x);
    }
    net.head.layer.forward(mean(net.block.activation.forward(net.block.norm.forward(net.block.layer.forward(x)))))
});

#[test]
fn modules() {
    let net = net();
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let model = &smaller.model;
    let mut groups: Vec<usize> = model.array.iter().map(|conv| conv.groups).collect();
    groups.extend([model.tuple.1.groups, model.option.as_ref().unwrap().groups, model.block.layer.groups]);
    for stage in &model.stages {
        match stage {
            Stage::Deep(block) => {
                let Normalization::Group(norm) = &block.norm else { panic!("another normalisation") };
                assert_eq!((norm.num_groups, norm.num_channels), (2, 4));
                groups.push(block.layer.groups);
            }
            Stage::Pair((conv, _)) => groups.push(conv.groups),
            Stage::Point(conv) => assert_eq!((conv.groups, conv.weight.dims()), (1, [4, 4, 1, 1])),
        }
    }
    assert_eq!(groups, [4; 7]);
    assert_eq!((model.width, model.name.as_str(), model.block.residual), (WIDTH, "net", true));
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}
