//! Layer normalisations whose channels stay, and why; and plans that do not fit.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, RmsNorm, RmsNormConfig};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{CenteredLayerNorm, Shrink};
use burn_sfp_prune::{Budget, GroupCut, Magnitude, MagnitudeConnections, Planner, PruneError, PrunePlan};

use crate::support::*;

fn burns(width: usize) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(0.1).init(&device())
}

fn norm(width: usize) -> CenteredLayerNorm {
    burns(width).into()
}

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

/// Prunes by half, checks that what is asked for keeps its filters, and returns the reason.
fn reason<M: GraphModule>(net: &M, x: &M::Inputs, path: &str) -> String {
    let plan = prune_with(net, x, &half(), &Magnitude::l2()).unwrap().plan;
    assert!(plan.centered.is_empty());
    let layer = plan.layer(path).unwrap();
    assert_eq!(layer.filters_before, layer.filters_after);
    plan.unpruned.iter().find(|kept| kept.path == path).unwrap().reason.clone()
}

/// Two layers, each with a normalisation behind its sum.
#[derive(Module, Debug, Shrink)]
struct PostNorm {
    words: Embedding,
    norm: CenteredLayerNorm,
    a: Linear,
    a_norm: CenteredLayerNorm,
    b: Linear,
    b_norm: CenteredLayerNorm,
    head: Linear,
}

graph!(shrink PostNorm: Tensor<2, Int> => Tensor<3>, |net, x| {
    let x = net.norm.forward(net.words.forward(x));
    let x = net.a_norm.forward(x.clone() + net.a.forward(gelu(x)));
    let x = net.b_norm.forward(x.clone() + net.b.forward(gelu(x)));
    net.head.forward(x)
});

fn words() -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(vec![1i64, 4, 0, 3, 3, 2], [2, 3]), &device())
}

fn table() -> Embedding {
    EmbeddingConfig::new(5, 8).init(&device())
}

#[test]
fn a_post_norm_stream_stays() {
    let net = PostNorm {
        words: table(),
        norm: norm(8),
        a: linear(8, 8),
        a_norm: norm(8),
        b: linear(8, 8),
        b_norm: norm(8),
        head: linear(8, 3),
    };
    let net = random(net);
    for path in ["words", "a"] {
        let reason = reason(&net, &words(), path);
        holds(
            reason,
            &["`a_norm` mixes its channels, and layer normalisation `norm` gives them a mean", "(post-norm)"],
        );
    }
    holds(reason(&net, &words(), "b"), &["(post-norm)"]);
}

/// The same as BERT has it, with Burn's layers: the advice would not help.
#[derive(Module, Debug)]
struct Bert {
    words: Embedding,
    norm: LayerNorm,
    a: Linear,
    a_norm: LayerNorm,
    head: Linear,
}

graph!(Bert: Tensor<2, Int> => Tensor<3>, |net, x| {
    let x = net.norm.forward(net.words.forward(x));
    net.head.forward(net.a_norm.forward(x.clone() + net.a.forward(gelu(x))))
});

#[test]
fn embeddings_of_a_post_norm_network_name_the_true_cause() {
    let net = Bert { words: table(), norm: burns(8), a: linear(8, 8), a_norm: burns(8), head: linear(8, 3) };
    let reason = reason(&random(net), &words(), "words");
    holds(&reason, &["`a_norm` mixes its channels", "(post-norm)"]);
    assert!(!reason.contains("CenteredLayerNorm"));
}

#[derive(Module, Debug)]
struct Burns {
    a: Linear,
    norm: LayerNorm,
    head: Linear,
}

graph!(Burns: Tensor<2> => Tensor<2>, |net, x| net.head.forward(net.norm.forward(net.a.forward(x))));

#[test]
fn burns_layer_stays_and_its_replacement_is_named() {
    let net = random(Burns { a: linear(4, 8), norm: burns(8), head: linear(8, 3) });
    let reason = reason(&net, &input([2, 4]), "a");
    holds(reason, &["layer normalisation `norm`", "`CenteredLayerNorm` of burn-sfp-nn", "`into`"]);
}

/// What else a stream can be made of and be read by.
#[derive(Module, Debug, Shrink)]
struct Stream {
    a: Linear,
    b: Linear,
    scale: Param<Tensor<1>>,
    norm: CenteredLayerNorm,
    rms: RmsNorm,
    head: Linear,
    other: Linear,
    #[module(skip)]
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    ReadByWriter,
    Twice,
    Activated,
    Input,
    ReadBare,
    ReadByOther,
    ReadByRms,
    ScaledChannels,
    Shifted,
}

graph!(shrink Stream: Tensor<2> => (Tensor<2>, Tensor<2>), |net, x| {
    let way = net.way;
    let mut stream = net.a.forward(x.clone());
    match way {
        Way::Activated => stream = relu(stream),
        Way::Input => stream = stream + x.clone(),
        Way::ScaledChannels => stream = stream * net.scale.val().unsqueeze(),
        Way::Shifted => stream = stream + 0.5,
        _ => {}
    }
    let own = if way == Way::ReadByWriter { stream.clone() } else { x.clone() };
    stream = stream + net.b.forward(own);
    let second = match way {
        Way::ReadBare => net.other.forward(stream.clone()),
        Way::ReadByOther => net.other.forward(relu(stream.clone())),
        Way::ReadByRms => net.other.forward(net.rms.forward(stream.clone())),
        Way::Twice => net.other.forward(net.norm.forward(stream.clone())),
        _ => net.other.forward(x),
    };
    (net.head.forward(net.norm.forward(stream)), second)
});

fn stream(way: Way) -> Stream {
    random(Stream {
        a: linear(8, 8),
        b: linear(8, 8),
        scale: bare([8]),
        norm: norm(8),
        rms: RmsNormConfig::new(8).init(&device()),
        head: linear(8, 3),
        other: linear(8, 2),
        way,
    })
}

#[test]
fn what_takes_no_part_in_centering_is_named() {
    let x = input([2, 8]);
    let cases: [(Way, &[&str]); 7] = [
        (Way::ReadByWriter, &["`b` reads them too and needs their mean"]),
        (Way::Activated, &["Relu after `a` gives them a mean"]),
        (Way::ReadBare, &["`other` reads them too and needs their mean"]),
        (Way::ReadByOther, &["Relu after `", "reads them too and needs their mean"]),
        (Way::ReadByRms, &["reads them too and needs their mean"]),
        (Way::ScaledChannels, &["`scale` gives them a mean"]),
        (Way::Shifted, &["AddScalar after `a` gives them a mean"]),
    ];
    for (way, texts) in cases {
        let reason = reason(&stream(way), &x, "a");
        holds(&reason, texts);
        assert!(reason.starts_with("layer normalisation `norm` mixes its channels, and "), "{way:?}: {reason}");
    }
    holds(reason(&stream(Way::Input), &x, "a"), &["it meets an input of the network or a constant"]);
}

/// One normalisation for two readers.
#[test]
fn a_normalisation_may_run_twice() {
    let x = input([2, 8]);
    let net = stream(Way::Twice);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.model.a.weight.dims(), [8, 4]);
    assert_eq!(smaller.plan.scales.iter().filter(|scale| scale.path == "norm.gamma").count(), 1);
    sweep(&net, &x, GroupCut::WithinGroups);
    let again = prune(&smaller.model, &x, 0.5);
    assert_eq!(again.model.norm.gamma.dims(), [2]);
}

/// The table of words is the classifier's weight too.
#[derive(Module, Debug, Shrink)]
struct Tied {
    words: Embedding,
    norm: CenteredLayerNorm,
}

graph!(shrink Tied: Tensor<2, Int> => Tensor<3>, |net, x| {
    let x = net.norm.forward(net.words.forward(x));
    x.matmul(net.words.weight.val().transpose().unsqueeze())
});

#[test]
fn a_table_that_is_the_classifier_too_stays() {
    let net = random(Tied { words: table(), norm: norm(8) });
    holds(reason(&net, &words(), "words"), &["`words.weight`, which writes to them, is also read by Matmul"]);
}

/// A layer that a mask was attached to has no mean that could be taken out.
#[derive(Module, Debug, Shrink)]
struct Plain {
    a: Linear,
    norm: CenteredLayerNorm,
    head: Linear,
}

graph!(shrink Plain: Tensor<2> => Tensor<2>, |net, x| net.head.forward(net.norm.forward(net.a.forward(x))));

/// The same parameters, in a model that does not hand itself out.
#[derive(Module, Debug)]
struct Closed {
    a: Linear,
    norm: CenteredLayerNorm,
    head: Linear,
}

graph!(Closed: Tensor<2> => Tensor<2>, |net, x| net.head.forward(net.norm.forward(net.a.forward(x))));

fn plain() -> Plain {
    random(Plain { a: linear(4, 8), norm: norm(8), head: linear(8, 3) })
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let (net, x) = (plain(), input([2, 4]));
    let plan = prune(&net, &x, 0.5).plan;
    let Plain { a, norm, head } = net.clone();
    let closed = Closed { a, norm, head };
    for error in [plan.apply(&closed).unwrap_err(), plan.zeroed(&closed).unwrap_err()] {
        assert!(
            matches!(&error, PruneError::NeedsShrink { container, .. } if container == "CenteredLayerNorm"),
            "{error}"
        );
    }
    let connections = MagnitudeConnections::l1().layers(["a"]).removing(0.25);
    let masked = Planner::new().keep_empty(true).prune(&net, &x, &connections).unwrap().model;
    for error in [plan.apply(&masked).unwrap_err(), plan.zeroed(&masked).unwrap_err()] {
        assert!(matches!(&error, PruneError::AlreadyMasked { path } if path == "a.weight"), "{error}");
    }
    let network = capture(&masked, &x);
    holds(network.layer("a").unwrap().not_prunable.as_ref().unwrap(), &["`a", "gives them a mean"]);
    let changes: [fn(&mut PrunePlan); 2] = [
        |plan| plan.centered[0].axis = 2,
        |plan| {
            let again = plan.centered[0].clone();
            plan.centered.push(again);
        },
    ];
    for change in changes {
        let mut broken = plan.clone();
        change(&mut broken);
        let error = broken.apply(&net).unwrap_err();
        assert!(matches!(&error, PruneError::InvalidPlan(_)), "{error}");
        holds(error, &["`a.weight`"]);
    }
}
