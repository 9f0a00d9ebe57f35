//! Means and zeros of outputs.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{NoProgress, TensorCalibration};
use burn_sfp_prune::{ActivationMean, Apoz, Evidence, Needs};

use super::plain::{Plain, values};
use super::small::{SIDE, Small, images};
use super::varied::{LENGTH, Mixer, Varied, signals};
use super::{SAMPLES, close, gathered, ranking};

/// For both convolutions and each filter the values of its output.
fn outputs(model: &Small) -> [Vec<Vec<f64>>; 2] {
    let (plain, x) = (Plain::of(model), values(images(SAMPLES).0));
    let mut all = [vec![Vec::new(); plain.filters], vec![Vec::new(); plain.filters]];
    for sample in x.chunks(2 * SIDE * SIDE) {
        let [first, second, _] = plain.run(sample);
        for (all, map) in all.iter_mut().zip([first, second]) {
            all.iter_mut().zip(map.chunks(SIDE * SIDE)).for_each(|(all, values)| all.extend_from_slice(values));
        }
    }
    all
}

fn mean(values: &[f64], read: impl Fn(f64) -> f64) -> f64 {
    values.iter().map(|&value| read(value)).sum::<f64>() / values.len() as f64
}

#[test]
fn outputs_of_a_small_network() {
    let model = Small::new(3, false);
    let (_, evidence) = gathered(&model, &ActivationMean::new());
    assert_eq!(evidence.samples, SAMPLES as u64);
    let scores = [ranking(&model, &ActivationMean::new()), ranking(&model, &Apoz::new())];
    for (path, expected) in ["first", "second"].into_iter().zip(outputs(&model)) {
        let of = |read: &dyn Fn(f64) -> f64| expected.iter().map(|values| mean(values, read)).collect::<Vec<f64>>();
        let found = &evidence.outputs[path];
        close(&found.mean, &of(&|v| v), 1e-5);
        close(&found.mean_absolute, &of(&f64::abs), 1e-5);
        let zeros = of(&|v| f64::from(u8::from(v == 0.0)));
        assert_eq!(found.zeros, zeros);
        assert!(zeros.iter().any(|share| *share > 0.2 && *share < 0.8));
        close(&scores[0].filters[path], &of(&f64::abs), 1e-5);
        assert_eq!(scores[1].filters[path], zeros.iter().map(|share| 1.0 - share).collect::<Vec<f64>>());
    }
    assert_eq!(scores[0].filters.len(), 2, "the classifier cannot be pruned");
}

#[test]
fn a_dead_filter_scores_zero_and_negative_outputs_count_by_size() {
    let device = Device::flex();
    let mut model = Small::new(4, false);
    let dead = Tensor::<1>::from_floats([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], &device);
    model.norm.gamma = Param::from_tensor(model.norm.gamma.val() * dead.clone());
    model.norm.beta = Param::from_tensor(model.norm.beta.val() * dead);
    for scores in [ranking(&model, &ActivationMean::new()), ranking(&model, &Apoz::new())] {
        assert_eq!(scores.filters["first"][..4], [0.0; 4]);
        assert!(scores.filters["first"][4..].iter().any(|score| *score > 0.0));
    }
    // GELU is negative at times and never zero.
    let varied = Varied::new(&device);
    let (x, labels) = signals(7, &device);
    let data = TensorCalibration::new(x.clone(), labels, 4);
    let evidence = Evidence::gather(&varied, &data, Needs::none().outputs(), &NoProgress).unwrap();
    let hidden = values(varied.inputs(x).4);
    let of = |read: &dyn Fn(f64) -> f64| {
        (0..5).map(|k| hidden.iter().skip(k).step_by(5).map(|v| read(*v)).sum::<f64>() / 7.0).collect::<Vec<f64>>()
    };
    let found = &evidence.outputs["hidden"];
    close(&found.mean, &of(&|v| v), 1e-5);
    close(&found.mean_absolute, &of(&f64::abs), 1e-5);
    assert_eq!(found.zeros, [0.0; 5]);
    let paths: Vec<&str> = evidence.outputs.keys().map(String::as_str).collect();
    assert_eq!(paths, ["depthwise", "fc", "grouped", "hidden", "stem", "up"]);
    assert_eq!(evidence.outputs["up"].mean.len(), 4);
}

#[test]
fn one_tensor_is_read_along_two_axes() {
    let device = Device::flex();
    let model = Mixer::new(&device);
    let (x, labels) = signals(8, &device);
    let data = TensorCalibration::new(x.clone(), labels, 3);
    let evidence = Evidence::gather(&model, &data, Needs::none().outputs().inputs(64), &NoProgress).unwrap();
    let map = values(burn::tensor::activation::relu(model.conv.forward(x)));
    let filter =
        |f: usize| map.chunks(LENGTH).skip(f).step_by(4).flatten().map(|v| v.abs()).sum::<f64>() / (8 * LENGTH) as f64;
    close(&evidence.outputs["conv"].mean_absolute, &(0..4).map(filter).collect::<Vec<f64>>(), 1e-5);
    assert_eq!(evidence.outputs["mix"].mean.len(), 5);
    if let Some(gram) = evidence.inputs.get("mix") {
        assert_eq!(gram.columns(), [LENGTH]);
    }
}
