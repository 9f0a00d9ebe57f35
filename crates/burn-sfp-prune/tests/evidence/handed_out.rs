//! How policies get their evidence: from a pruner, or handed over; what is missing, cancelled or of another model.

use std::cell::Cell;

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use burn_sfp_core::{NoProgress, Progress, SfpError, TensorCalibration};
use burn_sfp_graph::Network;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_prune::{
    ActivationMean, Afcc, Apoz, Evidence, HessianDiagonal, Magnitude, Needs, Planner, PruneError, Pruner,
    RankingPolicy, ReconstructionError, Taylor,
};

use super::small::{Small, bytes, images};
use super::{BATCH, SAMPLES, close, data, try_rank};

pub fn policies() -> Vec<Box<dyn RankingPolicy + Send + Sync>> {
    vec![
        Box::new(ActivationMean::new()),
        Box::new(Apoz::new()),
        Box::new(Taylor::new()),
        Box::new(Taylor::elements()),
        Box::new(HessianDiagonal::new()),
        Box::new(ReconstructionError::new()),
        Box::new(ReconstructionError::new().columns(0)),
    ]
}

pub fn all_needs() -> Needs {
    policies().iter().fold(Needs::none(), |needs, policy| needs.and(policy.needs()))
}

#[test]
fn a_pruner_gathers_what_its_policy_needs() {
    let model = Small::new(21, true);
    let before = bytes(&model);
    for policy in policies() {
        let evidence = Evidence::gather(&model, &data(), policy.needs(), &NoProgress).unwrap();
        assert_eq!(evidence.gathered(), policy.needs());
        let calibration = data();
        let pruned = Pruner::new(&calibration).policy(&policy).analyze_and_prune(&model).unwrap();
        let planned = Planner::new().prune(&model, &images(3).0, &evidence.policy(&policy)).unwrap();
        assert_eq!(pruned.plan.channels, planned.plan.channels, "{}", policy.name());
        assert_eq!(pruned.plan.policy, policy.name());
        assert_eq!(pruned.model.first.weight.dims()[0], 4, "{}", policy.name());
        // Handed over, it needs nothing more.
        assert!(evidence.policy(&policy).needs().is_none());
        assert_eq!(bytes(&model), before, "{}", policy.name());
    }
    assert!(Magnitude::l2().needs().is_none());
    let boxed: Box<dyn RankingPolicy> = Box::new(Taylor::new());
    let borrowed: &dyn RankingPolicy = &&boxed;
    assert!(borrowed.needs().has_gradients());
}

#[test]
fn what_was_not_gathered_is_an_error() {
    let model = Small::new(22, false);
    let network = Network::capture(&model, &images(3).0).unwrap();
    let outputs = Evidence::gather(&model, &data(), Needs::none().outputs(), &NoProgress).unwrap();
    assert!(try_rank(&network, Some(&outputs), &Apoz::new()).is_ok());
    for (evidence, policy, needed) in [
        (None, &ActivationMean::new() as &dyn RankingPolicy, "the outputs of filters"),
        (Some(&outputs), &Taylor::new(), "gradients"),
        (Some(&outputs), &ReconstructionError::new(), "the inputs of layers"),
    ] {
        match try_rank(&network, evidence, policy) {
            Err(PruneError::NeedsEvidence { policy: found, needs }) => {
                assert_eq!((found, needs.as_str()), (policy.name(), needed));
            }
            other => panic!("{other:?}"),
        }
    }
    let plan = Planner::new().prune(&model, &images(3).0, &Taylor::new());
    let message = plan.unwrap_err().to_string();
    assert!(message.contains("policy taylor reads gradients") && message.contains("Evidence::gather"), "{message}");

    let mut other = model.clone();
    other.second.weight = Param::from_tensor(other.second.weight.val() * 1.5);
    let network = Network::capture(&other, &images(3).0).unwrap();
    let error = try_rank(&network, Some(&outputs), &Apoz::new()).unwrap_err();
    assert!(matches!(&error, PruneError::ModelMismatch { what } if what.contains("second.weight")), "{error}");
}

#[test]
fn values_that_are_not_finite() {
    let model = Small::new(23, false);
    let (x, labels) = images(SAMPLES);
    let broken = x.slice_fill([7..8, 0..1, 0..1, 0..1], f32::NAN);
    let calibration = TensorCalibration::new(broken, labels, BATCH);
    let gather = |needs| Evidence::gather(&model, &calibration, needs, &NoProgress).unwrap_err();
    let error = gather(Needs::none().outputs());
    assert!(matches!(error, PruneError::Analysis(SfpError::NonFiniteOutput { .. })), "{error}");
    let error = gather(Needs::none().inputs(100));
    assert!(matches!(error, PruneError::Analysis(SfpError::NonFiniteInput { .. })), "{error}");
}

/// Cancels once this many steps are done.
struct Stop {
    after: usize,
    done: Cell<usize>,
}

impl Progress for Stop {
    fn advance(&self, steps: usize) {
        self.done.set(self.done.get() + steps);
    }
    fn is_cancelled(&self) -> bool {
        self.done.get() >= self.after
    }
}

#[test]
fn cancelled_work_is_that_of_the_samples_seen() {
    let model = Small::new(24, false);
    let gather = |after, needs| Evidence::gather(&model, &data(), needs, &Stop { after, done: Cell::new(0) }).unwrap();
    let (x, labels) = images(SAMPLES);
    let first = TensorCalibration::new(x.slice_dim(0, 0..BATCH), labels[..BATCH].to_vec(), BATCH);
    let alone = Evidence::gather(&model, &first, all_needs(), &NoProgress).unwrap();
    let part = gather(1, Needs::none().outputs());
    assert_eq!((part.samples, &part.outputs), (BATCH as u64, &alone.outputs));
    let part = gather(1, Needs::none().gradients());
    assert_eq!((part.samples, &part.filter_gradients), (BATCH as u64, &alone.filter_gradients));
    // The pass over gradients does not start, and says so.
    let part = gather(1, Needs::none().outputs().gradients());
    assert_eq!(part.gathered(), Needs::none().outputs());
    let part = gather(SAMPLES + 1, Needs::none().outputs().gradients());
    assert_eq!((part.samples, part.gathered()), (BATCH as u64, Needs::none().outputs().gradients()));

    // The analysis makes a pass, the evidence another.
    let calibration = data();
    let stop = Stop { after: SAMPLES + 4, done: Cell::new(0) };
    let pruner = Pruner::new(&calibration).policy(Taylor::new()).progress(&stop);
    let error = pruner.analyze_and_prune(&model).unwrap_err();
    assert!(matches!(error, PruneError::Cancelled { .. }), "{error}");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let model = Small::new(25, true);
    let network = Network::capture(&model, &images(3).0).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let evidence = Evidence::gather(&model, &data(), all_needs(), &NoProgress).unwrap();
            let rankings = policies().into_iter().flat_map(|policy| {
                try_rank(&network, Some(&evidence), &policy).unwrap().filters.into_values().collect::<Vec<_>>()
            });
            rankings.flatten().map(f64::to_bits).collect::<Vec<u64>>()
        })
    };
    let one = run(1);
    assert!(one.len() > 50);
    assert_eq!(run(2), one);
    assert_eq!(run(5), one);
}

/// Casts every parameter and running statistic.
struct Cast(DType);

impl ParamMapper for Cast {
    fn float<const D: usize>(&mut self, _: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.cast(self.0))
    }
}

#[test]
fn other_float_types_rank_alike() {
    let model = Small::new(26, true);
    let (x, labels) = images(SAMPLES);
    let rank = |dtype: DType| {
        let model = map_params(model.clone(), &mut Cast(dtype));
        let x = x.clone().cast(dtype);
        let network = Network::capture(&model, &x).unwrap();
        let data = TensorCalibration::new(x, labels.clone(), BATCH);
        let evidence = Evidence::gather(&model, &data, all_needs(), &NoProgress).unwrap();
        let of = |policy: Box<dyn RankingPolicy + Send + Sync>| {
            try_rank(&network, Some(&evidence), &policy).unwrap().filters.remove("first").unwrap()
        };
        policies().into_iter().map(of).collect::<Vec<Vec<f64>>>()
    };
    let expected = rank(DType::F32);
    for (dtype, share) in [(DType::F64, 1e-4), (DType::F16, 0.05), (DType::BF16, 0.3)] {
        for (found, expected) in rank(dtype).iter().zip(&expected) {
            close(found, expected, share);
        }
    }
}

#[test]
fn removed_connections_count_nothing() {
    let model = Small::new(27, false);
    let calibration = data();
    let pruned = Pruner::new(&calibration).policy(Afcc::new()).keep_empty(true).analyze_and_prune(&model).unwrap();
    let masks = &pruned.plan.totals();
    assert!(masks.connections_after < masks.connections_before);
    let evidence = Evidence::gather(&pruned.model, &calibration, all_needs(), &NoProgress).unwrap();
    let gradients = &evidence.parameter_gradients["second.weight"];
    let weights: Vec<f32> = pruned.model.second.weight.val().into_data().try_into_vec().unwrap();
    let zeros = weights.iter().filter(|weight| **weight == 0.0).count();
    assert!(zeros > 0 && zeros < weights.len());
    for (k, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight == 0.0) {
        assert_eq!((*weight, gradients.mean[k], gradients.fisher[k]), (0.0, 0.0, 0.0));
    }
    let network = Network::capture(&pruned.model, &images(3).0).unwrap();
    for policy in policies() {
        assert_eq!(try_rank(&network, Some(&evidence), &policy).unwrap().filters.len(), 2, "{}", policy.name());
    }
}
