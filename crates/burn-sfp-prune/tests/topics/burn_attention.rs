//! Burn's attention and transformer layers.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_prune::GroupCut;

use crate::support::*;

#[derive(Module, Debug)]
struct Heads {
    stem: Linear,
    attention: MultiHeadAttention,
    hidden: Linear,
    fc: Linear,
}

graph!(Heads: Tensor<3> => Tensor<3>, |net, x| {
    let x = net.attention.forward(MhaInput::self_attn(net.stem.forward(x))).context;
    net.fc.forward(relu(net.hidden.forward(x)))
});

#[test]
fn multi_head_attention_keeps_its_width() {
    let attention = MultiHeadAttentionConfig::new(8, 2).with_dropout(0.0).init(&device());
    let net = random(Heads { stem: linear(5, 8), attention, hidden: linear(8, 6), fc: linear(6, 3) });
    let x = input([2, 4, 5]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    assert_eq!(smaller.model.attention.query.weight.dims(), [8, 8]);
    for path in ["stem", "attention.query", "attention.key", "attention.value", "attention.output"] {
        let kept = plan.unpruned.iter().find(|kept| kept.path == path).unwrap_or_else(|| panic!("{path}"));
        holds(&kept.reason, &["MultiHeadAttention", "the width of its input"]);
    }
    assert_eq!(kept(plan, "fc.weight", 0), strongest(&norms(&net.hidden.weight, 1), 3));
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[derive(Module, Debug)]
struct Encoder {
    encoder: TransformerEncoder,
}

graph!(Encoder: Tensor<3> => Tensor<3>, |net, x| net.encoder.forward(TransformerEncoderInput::new(x)));

#[test]
fn feed_forward_layers_of_a_transformer_shrink() {
    let encoder = TransformerEncoderConfig::new(8, 12, 2, 2).with_dropout(0.0).init(&device());
    let net = random(Encoder { encoder });
    let x = input([2, 4, 8]);
    let smaller = prune(&net, &x, 0.5);
    for (k, layer) in net.encoder.layers.iter().enumerate() {
        let stay = strongest(&norms(&layer.pwff.linear_inner.weight, 1), 6);
        let path = |name: &str| format!("encoder.layers.{k}.pwff.{name}");
        assert_eq!(kept(&smaller.plan, &path("linear_inner.weight"), 1), stay);
        assert_eq!(kept(&smaller.plan, &path("linear_outer.weight"), 0), stay);
        let gone = gone(&stay, 12);
        assert_eq!(gone.len(), 6);
    }
    let rest: Vec<&str> =
        smaller.plan.cuts.iter().map(|cut| cut.path.as_str()).filter(|path| !path.contains("pwff")).collect();
    assert!(rest.is_empty(), "{rest:?}");
    sweep(&net, &x, GroupCut::WithinGroups);
}
