//! [`CenteredLayerNorm`], in the place of Burn's `LayerNorm`.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm};
use burn::tensor::{Device, Tensor};

use crate::recognize::{Marker, NnLayer};
use crate::shrink::{Scope, Shrink};

/// Epsilon of Burn's `LayerNormConfig` by default.
const EPSILON: f64 = 1e-5;

/// Configuration of a [`CenteredLayerNorm`], with the fields and defaults of Burn's [`LayerNormConfig`].
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp_nn::CenteredLayerNormConfig;
///
/// let norm = CenteredLayerNormConfig::new(8).with_epsilon(1e-6).with_bias(false).init(&Device::flex());
/// assert_eq!((norm.gamma.dims(), norm.epsilon, norm.beta.is_none()), ([8], 1e-6, true));
/// ```
#[derive(Config, Debug)]
pub struct CenteredLayerNormConfig {
    /// Number of channels.
    pub d_model: usize,
    /// Added to the variance. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the layer adds a shift (beta). Default: true
    #[config(default = true)]
    pub bias: bool,
}

impl CenteredLayerNormConfig {
    /// Initializes the layer.
    pub fn init(&self, device: &Device) -> CenteredLayerNorm {
        let burns = LayerNormConfig::new(self.d_model).with_epsilon(self.epsilon).with_bias(self.bias);
        CenteredLayerNorm::new(burns.init(device), self.epsilon)
    }
}

/// Layer normalisation over the last axis, whose channels can be removed where what it reads is a sum of the outputs of linear layers,
/// embeddings and tables: the residual stream of a pre-norm transformer.
///
/// It computes (Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv 1607.06450)
///
/// `y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * gamma + beta`
///
/// and is Burn's [`LayerNorm`]: the same parameters under the same names, the same records (either loads the other's), the same
/// operation. In a model's code the type changes and the calls stay.
///
/// When pruning removes channels of the stream, the mean over the channels is taken out of everything that is added to the stream,
/// which changes no output, because this layer subtracts it anyway. On such a stream layer normalisation equals root-mean-square
/// normalisation (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv 1910.07467)
///
/// `y = x / sqrt(mean(x^2) + epsilon) * gamma + beta`
///
/// (Ashkboos et al., "SliceGPT: Compress Large Language Models by Deleting Rows and Columns", 2024, arXiv 2401.15024, section 3.2),
/// which can lose channels exactly. From then on [`centered`](Self::centered) is true and the layer computes this.
///
/// `centered` and `epsilon` are plain fields, which records do not hold: to load a pruned model, apply the plan to a freshly built one
/// and load the record into the result. (Burn's adapter for PyTorch weights renames the parameters of its own layers only: load those
/// into Burn's layer, then make this one from it.)
///
/// ```
/// use burn::nn::LayerNormConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_nn::CenteredLayerNorm;
///
/// let device = Device::flex();
/// let burns = LayerNormConfig::new(8).init(&device);
/// let x = Tensor::<3>::random([2, 3, 8], Distribution::Default, &device);
/// let expected = burns.forward(x.clone());
///
/// let mut norm = CenteredLayerNorm::from(burns);
/// assert_eq!(norm.forward(x.clone()).into_data(), expected.clone().into_data());
///
/// // Without the mean both forms are the same.
/// norm.centered = true;
/// let found = norm.forward(x.clone() - x.mean_dim(2));
/// assert!((found - expected).abs().max().into_scalar::<f32>() < 1e-5);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct CenteredLayerNorm {
    /// Scale, `[d_model]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[d_model]`, where there is one.
    pub beta: Option<Param<Tensor<1>>>,
    /// Added to the variance, or to the mean of squares.
    pub epsilon: f64,
    /// Whether what it reads has had its mean over the channels taken out, so that it divides by the root of the mean square.
    pub centered: bool,
    marker: Marker,
}

impl From<LayerNorm> for CenteredLayerNorm {
    fn from(burns: LayerNorm) -> Self {
        let epsilon = epsilon_of(&burns).unwrap_or(EPSILON);
        Self::new(burns, epsilon)
    }
}

/// Burn keeps epsilon in a private field, but displays it, with all the digits that it takes to read the same number back.
fn epsilon_of(burns: &LayerNorm) -> Option<f64> {
    let content = burns.custom_content(Content::new(DisplaySettings::new()))?;
    content.attributes.iter().find(|attribute| attribute.name == "epsilon")?.value.trim().parse().ok()
}

impl CenteredLayerNorm {
    fn new(burns: LayerNorm, epsilon: f64) -> Self {
        let LayerNorm { gamma, beta, .. } = burns;
        Self { gamma, beta, epsilon, centered: false, marker: Marker::new(NnLayer::CenteredLayerNorm) }
    }

    /// Normalises `x`, `[.., d_model]` to the same.
    ///
    /// # Panics
    /// As Burn's: where the last axis of `x` is not `d_model`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        if self.centered {
            let scaled = RmsNorm { gamma, epsilon: self.epsilon }.forward(x);
            return match beta {
                Some(beta) => scaled + beta.val().unsqueeze(),
                None => scaled,
            };
        }
        let [d_model] = gamma.lazy_shape().dims();
        let config = LayerNormConfig::new(d_model).with_epsilon(self.epsilon).with_bias(beta.is_some());
        // Parameters are made when they are first read; these never are.
        let mut burns = config.init(&gamma.lazy_device());
        (burns.gamma, burns.beta) = (gamma, beta);
        burns.forward(x)
    }
}

impl Shrink for CenteredLayerNorm {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(epsilon) = scope.value("epsilon") {
            self.epsilon = epsilon;
        }
        if let Some(centered) = scope.value("centered") {
            self.centered = centered != 0.0;
        }
    }
}

impl ModuleDisplay for CenteredLayerNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_model] = self.gamma.lazy_shape().dims();
        let content = content.add("d_model", &d_model).add("epsilon", &self.epsilon);
        let content = content.add("bias", &self.beta.is_some());
        if self.centered { content.add("centered", &true) } else { content }.optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shrink::FieldEdit;
    use burn::tensor::{Distribution, TensorData};

    const ROWS: usize = 4;
    const WIDTH: usize = 6;

    fn burns(device: &Device, epsilon: f64, bias: bool) -> LayerNorm {
        let mut norm = LayerNormConfig::new(WIDTH).with_epsilon(epsilon).with_bias(bias).init(device);
        let random = |low, high| Param::from_tensor(Tensor::random([WIDTH], Distribution::Uniform(low, high), device));
        norm.gamma = random(0.5, 1.5);
        norm.beta = bias.then(|| random(-1.0, 1.0));
        norm
    }

    fn random(device: &Device) -> Tensor<2> {
        Tensor::random([ROWS, WIDTH], Distribution::Uniform(-1.0, 2.0), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter().collect()
    }

    /// Both forms by their formulas, in double precision.
    fn reference(norm: &CenteredLayerNorm, x: &[f64]) -> Vec<f64> {
        let gamma = values(norm.gamma.val());
        let beta = norm.beta.as_ref().map_or(vec![0.0; gamma.len()], |beta| values(beta.val()));
        let rows = x.chunks(gamma.len()).flat_map(|row| {
            let mean = if norm.centered { 0.0 } else { row.iter().sum::<f64>() / row.len() as f64 };
            let square = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / row.len() as f64;
            let root = (square + norm.epsilon).sqrt();
            let of = |k: usize| (row[k] - mean) / root * gamma[k] + beta[k];
            (0..row.len()).map(of).collect::<Vec<_>>()
        });
        rows.collect()
    }

    #[test]
    fn both_forms_are_their_formulas() {
        let device = Device::flex();
        for (epsilon, bias) in [(1e-5, true), (1e-5, false), (0.3, true), (0.3, false)] {
            let mut norm = CenteredLayerNorm::from(burns(&device, epsilon, bias));
            let x = random(&device);
            for centered in [false, true] {
                norm.centered = centered;
                let expected = reference(&norm, &values(x.clone()));
                let found = values(norm.forward(x.clone()));
                let off = found.iter().zip(&expected).fold(0.0, |off: f64, (a, b)| off.max((a - b).abs()));
                assert!(off < 1e-5, "{epsilon}, {bias}, {centered}: {off}");
            }
        }
    }

    #[test]
    fn it_is_burns_until_it_is_centered() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for (epsilon, bias) in [(1e-5, true), (1e-12, false), (0.1 + 0.2, true)] {
                let burns = burns(&device, epsilon, bias);
                let ours = CenteredLayerNorm::from(burns.clone());
                assert_eq!((ours.epsilon, ours.centered), (epsilon, false));
                let x = random(&device);
                assert_eq!(values(ours.forward(x.clone())), values(burns.forward(x.clone())));
                if device.is_autodiff() {
                    let mut centered = ours.clone();
                    centered.centered = true;
                    for norm in [ours, centered] {
                        let grads = norm.forward(x.clone()).powi_scalar(3).sum().backward();
                        assert!(norm.gamma.val().grad(&grads).is_some());
                        assert!(norm.beta.is_none_or(|beta| beta.val().grad(&grads).is_some()));
                    }
                }
            }
        }
    }

    /// Of a stream without a mean.
    #[test]
    fn both_forms_are_the_same_without_a_mean() {
        let device = Device::flex();
        let mut norm = CenteredLayerNorm::from(burns(&device, 0.1, true));
        let x = random(&device);
        let expected = norm.forward(x.clone());
        norm.centered = true;
        let off = |x: Tensor<2>| (norm.forward(x) - expected.clone()).abs().max().into_scalar::<f32>();
        assert!(off(x.clone() - x.clone().mean_dim(1)) < 1e-5);
        assert!(off(x) > 1e-2);
    }

    #[test]
    fn configurations_and_records_are_those_of_burns_layer() {
        let device = Device::flex();
        let config = CenteredLayerNormConfig::new(WIDTH).with_epsilon(0.2);
        assert_eq!(config.to_string(), LayerNormConfig::new(WIDTH).with_epsilon(0.2).to_string());
        assert_eq!(CenteredLayerNormConfig::new(3).epsilon, LayerNormConfig::new(3).epsilon);
        let theirs = burns(&device, 0.2, true);
        let x = random(&device);
        let expected = values(theirs.forward(x.clone()));
        let ours = config.init(&device);
        let shown = ours.to_string().replace("CenteredLayerNorm", "LayerNorm");
        assert_eq!(shown, theirs.to_string());
        // Burn's record into ours, and back.
        let ours = ours.load_record(theirs.into_record());
        assert_eq!(values(ours.forward(x.clone())), expected);
        let back = burns(&device, 0.2, true).load_record(ours.into_record());
        assert_eq!(values(back.forward(x)), expected);
    }

    #[test]
    fn plain_fields_follow() {
        let edit = |field: &str, before, after| FieldEdit {
            path: "norm".into(),
            container: "CenteredLayerNorm".into(),
            field: field.into(),
            before,
            after,
        };
        let edits = [edit("epsilon", 1e-5, 2e-5), edit("centered", 0.0, 1.0)];
        let mut norm = CenteredLayerNormConfig::new(4).init(&Device::flex());
        let mut scope = Scope::new(&edits, &[]);
        scope.enter("norm", |scope| norm.shrink(scope));
        assert!(scope.missed().is_empty());
        assert_eq!((norm.epsilon, norm.centered), (2e-5, true));
        assert!(norm.to_string().contains("centered: true"));
    }

    #[test]
    #[should_panic(expected = "axis 1 expected 6, got 5")]
    fn another_width_panics_as_in_burns_layer() {
        let device = Device::flex();
        let x = Tensor::from_data(TensorData::zeros::<f32, _>([2, WIDTH - 1]), &device);
        CenteredLayerNorm::from(burns(&device, 1e-5, true)).forward::<2>(x);
    }
}
