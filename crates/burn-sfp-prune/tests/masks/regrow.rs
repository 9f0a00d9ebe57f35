//! Connections that move during training: their number stays, the right ones go and come, and what is masked is zero.

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Tensor;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{BiasCorrection, Budget, Planner, PruneError, PrunedModule, Regrowth};

use super::graph::inspect::{bytes, values};
use super::net::{LastFirst, Net, images};

fn made() -> (Net, PrunedModule<Net>) {
    let model = Net::new(1);
    let planner = Planner::new().budget(Budget::PerLayer(0.25)).bias_correction(BiasCorrection::Off);
    let made = planner.prune(&model, &images(2, 1), &LastFirst { masked: &["dilated", "hidden"] }).unwrap();
    (model, made)
}

fn loss(model: &Net) -> Tensor<1> {
    model.run(Tensor::from_inner(images(6, 5))).powi_scalar(2).mean()
}

/// The mask of a weight, for each connection.
fn mask<const D: usize>(weight: &Param<Tensor<D>>) -> Vec<bool> {
    let mask = weight.reparameterization::<burn_sfp_prune::ConnectionMask>().expect("it is masked");
    values(mask.values()).into_iter().map(|value| value != 0.0).collect()
}

fn norms(values: &[f32], connections: usize) -> Vec<f64> {
    let kernel = values.len() / connections;
    values
        .chunks(kernel)
        .map(|kernel| kernel.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt())
        .collect()
}

#[test]
fn the_weakest_go_and_the_steepest_come() {
    let (_, made) = made();
    let model = made.model.train();
    let before = bytes(&model);
    let regrowth = Regrowth::new(10, 100).share(0.4);
    let share = regrowth.share_at(20);
    let regrown = regrowth.update(&model, 20, loss).unwrap();
    assert_eq!(bytes(&model), before);
    // The gradients of all connections, by the loss of the model with zeros in place of the masks.
    let dense = model.clone().materialize();
    let gradients = loss(&dense).backward();
    let expected = |keep: &[bool], weight: Vec<f32>, gradient: Vec<f32>| {
        let (weight, gradient) = (norms(&weight, keep.len()), norms(&gradient, keep.len()));
        let active = keep.iter().filter(|keep| **keep).count();
        let count = (share * active as f64) as usize;
        let mut kept: Vec<usize> = (0..keep.len()).filter(|at| keep[*at]).collect();
        kept.sort_by(|a, b| weight[*b].total_cmp(&weight[*a]));
        kept.truncate(active - count);
        let mut rest: Vec<usize> = (0..keep.len()).filter(|at| !kept.contains(at)).collect();
        rest.sort_by(|a, b| gradient[*b].total_cmp(&gradient[*a]));
        kept.extend(&rest[..count]);
        (count, (0..keep.len()).map(|at| kept.contains(&at)).collect::<Vec<bool>>())
    };
    let (count, dilated) = expected(
        &mask(&model.dilated.weight),
        values(dense.dilated.weight.val()),
        values(dense.dilated.weight.val().grad(&gradients).unwrap()),
    );
    assert!(count > 5);
    assert_eq!(mask(&regrown.model.dilated.weight), dilated);
    assert_ne!(mask(&regrown.model.dilated.weight), mask(&model.dilated.weight));
    let (_, hidden) = expected(
        &mask(&model.hidden.weight),
        values(dense.hidden.weight.val()),
        values(dense.hidden.weight.val().grad(&gradients).unwrap()),
    );
    assert_eq!(mask(&regrown.model.hidden.weight), hidden);
    assert_eq!(
        regrown.moved.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["dilated.weight", "hidden.weight"]
    );
    // What came starts at zero, what stays is as it was.
    let (old, new) = (values(dense.hidden.weight.val()), values(regrown.model.hidden.weight.val()));
    let keep = mask(&regrown.model.hidden.weight);
    assert!(old.iter().zip(&new).zip(&keep).all(|((old, new), keep)| *new == if *keep { *old } else { 0.0 }));
    assert!(regrown.model.hidden.weight.base().is_require_grad());
}

#[test]
fn the_plan_takes_the_new_connections_over() {
    let (original, made) = made();
    let mut model = made.model.train();
    let mut optimizer = SgdConfig::new().init();
    let regrowth = Regrowth::new(2, 7);
    let mut moved = 0;
    for step in 1..=8 {
        let gradients = GradientsParams::from_grads(loss(&model).backward(), &model);
        model = optimizer.step(1e-2, model, gradients);
        let regrown = regrowth.update(&model, step, loss).unwrap();
        assert_eq!(regrown.moved.is_empty(), step % 2 == 1 || step > 6, "{step}");
        moved += regrown.moved.iter().map(|(_, count)| count).sum::<usize>();
        model = regrown.model;
    }
    assert!(moved > 20);
    let plan = made.plan.with_connections_of(&model).unwrap();
    assert_ne!(plan.masks, made.plan.masks);
    assert_eq!(plan.totals(), made.plan.totals());
    // The plan gives a fresh model the masks that the trained one has.
    let applied = plan.apply(&original).unwrap();
    assert_eq!(mask(&applied.hidden.weight), mask(&model.hidden.weight));
    assert_eq!(mask(&applied.dilated.weight), mask(&model.dilated.weight));
    assert_eq!(plan.with_connections_of(&model).unwrap(), plan);
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let (original, made) = made();
    let no_loss = |_: &Net| -> Tensor<1> { unreachable!("it is not time") };
    let regrowth = Regrowth::new(10, 100);
    assert!(matches!(regrowth.update(&original, 10, no_loss), Err(PruneError::NoMasks)));
    assert!(regrowth.update(&made.model, 11, no_loss).unwrap().moved.is_empty());
    for wrong in [Regrowth::new(0, 100), regrowth.share(0.0), regrowth.share(f64::NAN), regrowth.share(1.5)] {
        assert!(matches!(wrong.update(&made.model, 10, no_loss), Err(PruneError::Config(_))));
    }
    let nan = |model: &Net| loss(model) * f32::NAN;
    assert!(matches!(regrowth.update(&made.model, 10, nan), Err(PruneError::NonFiniteRegrowth { step: 10, .. })));
    assert!(matches!(made.plan.with_connections_of(&original), Err(PruneError::ModelMismatch { .. })));
    // A model in evaluation mode is asked for its gradients too, and stays in evaluation mode.
    let regrown = regrowth.update(&made.model, 10, loss).unwrap();
    assert!(!regrown.moved.is_empty() && !regrown.model.hidden.weight.base().is_require_grad());
}
