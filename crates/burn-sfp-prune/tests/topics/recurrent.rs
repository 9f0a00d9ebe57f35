//! Recurrent layers of Burn keep their state; what they read and what reads them shrinks.

use burn::module::Module;
use burn::nn::{BiLstm, BiLstmConfig, Gru, GruConfig, Linear, Lstm, LstmConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_prune::GroupCut;

use crate::support::*;

#[derive(Module, Debug)]
struct Recurrent {
    stem: Linear,
    gru: Gru,
    lstm: Lstm,
    both: BiLstm,
    hidden: Linear,
    fc: Linear,
}

graph!(Recurrent: Tensor<3> => Tensor<3>, |net, x| {
    let x = relu(net.stem.forward(x));
    let parts =
        vec![net.gru.forward(x.clone(), None), net.lstm.forward(x.clone(), None).0, net.both.forward(x, None).0];
    net.fc.forward(relu(net.hidden.forward(Tensor::cat(parts, 2))))
});

#[test]
fn recurrent_layers_keep_their_state() {
    let net = random(Recurrent {
        stem: linear(3, 8),
        gru: GruConfig::new(8, 4, true).init(&device()),
        lstm: LstmConfig::new(8, 4, true).init(&device()),
        both: BiLstmConfig::new(8, 2, true).init(&device()),
        hidden: linear(12, 6),
        fc: linear(6, 2),
    });
    let x = input([2, 3, 3]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    let stay = strongest(&norms(&net.stem.weight, 1), 4);
    assert_eq!(kept(plan, "stem.weight", 1), stay);
    for path in ["gru.new_gate", "lstm.cell_gate", "both.forward.input_gate", "both.reverse.output_gate"] {
        assert_eq!(kept(plan, &format!("{path}.input_transform.weight"), 0), stay, "{path}");
        let kept = plan.unpruned.iter().find(|kept| kept.path == format!("{path}.hidden_transform"));
        holds(&kept.unwrap_or_else(|| panic!("{path}")).reason, &["recurrent layers keep the width of their state"]);
    }
    assert_eq!(kept(plan, "fc.weight", 0), strongest(&norms(&net.hidden.weight, 1), 3));
    sweep(&net, &x, GroupCut::WithinGroups);
}
