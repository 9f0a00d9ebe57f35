//! [`ReconstructionConnections`]: connections by how well those that stay explain what the layer returned.

use burn_sfp_core::Pursuit;
use burn_sfp_graph::Layer;

use super::choice::{ConnectionChoice, ConnectionPolicy, Spread, Wanted, choose_connections, connection_settings};
use super::context::PolicyContext;
use super::output_weights::{behind_norm, in_label_fields};
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// Share of the mean diagonal of a Gram matrix that is added to the diagonal.
const RIDGE: f64 = 1e-3;
/// Columns up to which a layer is pruned, by default: 512 inputs of a 3x3 kernel (170 MB a layer).
const COLUMNS: usize = 4608;
/// Connections of an output that are searched one by one, over the mean number kept, where outputs keep different numbers.
const SEARCHED: usize = 2;

/// Keeps the connections that explain best what the outputs of a layer returned, their weights solved anew: orthogonal matching
/// pursuit over kernels (Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, Asilomar 1993; for kernels of convolutions see
/// [`InputGram::pursue`](burn_sfp_core::InputGram::pursue)). Each output keeps the same number, or
/// ([`spread`](Self::spread)) a layer or all layers those that take most off the error.
///
/// The score of a connection is what the squared error of its output fell by when the pursuit chose it, over the mean square of what the
/// layer returned. Outputs are weighed against each other as what follows sees them: behind a batch normalisation with scale `gamma` and
/// variance `sigma^2` the error counts `gamma^2 / (sigma^2 + epsilon)` times. With [`in_label_fields`](Self::in_label_fields) it counts as the
/// labels see it that the output recognises.
///
/// The choice holds for weights that are solved anew, as [`recover`](crate::recover()) does ([`Pruner`](crate::Pruner) by default). Means are taken
/// out where the layer has a bias or a batch normalisation directly behind it.
///
/// Layers with groups are left whole, and so are those that read no channels, or more than 4,608 columns (inputs times elements of the kernel;
/// [`columns`](Self::columns)).
///
/// Needs the [inputs](Needs::inputs) of layers. For n columns and k kept ones the choice takes about `n k^2 / 2 + k^3 / 3` multiply-adds for each
/// output, at most `64 n k` where more than 64 inputs are kept. Where outputs keep different numbers, twice as many as they keep on average
/// are searched; more are taken, where they have to be, by what each alone takes off the error.
///
/// ```
/// use burn_sfp_prune::{RankingPolicy, ReconstructionConnections};
/// let policy = ReconstructionConnections::new().layers(["convs.9", "fc"]).removing(0.9);
/// assert_eq!((policy.name().as_str(), policy.needs().inputs_up_to()), ("reconstruction-connections", Some(4608)));
/// assert_eq!(policy.in_label_fields().name(), "reconstruction-connections-in-label-fields");
/// ```
#[derive(Clone, Debug)]
pub struct ReconstructionConnections {
    choice: ConnectionChoice,
    columns: usize,
    in_label_fields: bool,
}

impl Default for ReconstructionConnections {
    fn default() -> Self {
        Self::new()
    }
}

impl ReconstructionConnections {
    /// Creates the policy that removes half of the connections of each layer.
    pub fn new() -> Self {
        Self { choice: ConnectionChoice::new(), columns: COLUMNS, in_label_fields: false }
    }

    /// Measures the error in the label fields of the layer's readout: an error that no label sees which the output recognises costs
    /// nothing. A layer's outputs are compared then ([`Spread::PerLayer`], unless [`spread`](Self::spread) says
    /// otherwise); under [`Spread::PerOutput`] nothing changes.
    ///
    /// Unit f alone adds `sum over s of R[f, s, j] A[f, s]` to label j (docs/method.md, section 2), R the readout. An error e of its output
    /// before normalisation changes that to first order by `sum over s of R[f, s, j] k_f d[f, s] e[f, s]`, with
    /// `k_f^2 = gamma_f^2 / (sigma_f^2 + epsilon)` of the normalisation (1 without), and d 1 where the activation lets it through, else 0. With
    /// errors that do not depend on d, nor on those at other positions, the labels L_f that the unit recognises see the mean square
    ///
    /// ```text
    /// v_f * mean of e_f^2,     v_f = k_f^2 (1 - z_f) * sum over s, and over j in L_f, of R[f, s, j]^2
    /// ```
    ///
    /// z_f is the share of samples and positions at which the unit's output A is zero, the sum is
    /// [`FilterPerformance::label_weight`](burn_sfp_core::performance::FilterPerformance::label_weight). An output of the classifier is a label
    /// itself: v is 1. For one position and no activation v is exact.
    ///
    /// Needs an analysis of these layers, and the [outputs](Needs::outputs) of filters besides. Layers that were not analysed are left whole;
    /// naming one is an error.
    pub fn in_label_fields(mut self) -> Self {
        self.in_label_fields = true;
        self
    }

    /// Sets up to how many columns a layer is pruned. A matrix of n columns takes `8 n^2` bytes, those of all layers at once.
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    connection_settings!();

    /// What the error of each output of a layer counts; `None` where the layer is left whole.
    fn weights(&self, context: &PolicyContext<'_>, layer: &Layer) -> Result<Option<Vec<f64>>, PruneError> {
        if !self.in_label_fields {
            return Ok(Some(behind_norm(context.network, layer)));
        }
        let weights = in_label_fields(context, &self.name(), self.needs(), layer);
        match weights {
            Err(PruneError::NotAnalyzed { .. }) if self.choice.chosen_layers().is_none() => Ok(None),
            weights => weights.map(Some),
        }
    }
}

impl ConnectionPolicy for ReconstructionConnections {
    fn choice(&self) -> &ConnectionChoice {
        &self.choice
    }

    fn scores(
        &self,
        context: &PolicyContext<'_>,
        layer: &Layer,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Vec<f64>>, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let Some(gram) = evidence.inputs.get(&layer.path) else { return Ok(None) };
        let Some(weights) = self.weights(context, layer)? else { return Ok(None) };
        let kernels = context.kernels(layer)?;
        let (outputs, inputs) = kernels.shape();
        let is_even = wanted.spread == Spread::PerOutput;
        let first = |output: usize, input: usize| wanted.first.is_none_or(|first| first.keeps(output, input));
        let ask = Pursuit {
            count: if is_even { wanted.count } else { (SEARCHED * wanted.count).min(inputs) },
            ridge: RIDGE,
            // Whether something takes in the mean of what the layer returns.
            centered: layer.bias().is_some() || layer.running_mean.is_some(),
            first: Some(&first),
        };
        let kernel = |output: usize, input: usize| kernels.kernel(output, input);
        let Some(explained) = gram.pursue(&layer.path, outputs, &kernel, &ask)? else { return Ok(None) };
        let whole: f64 = explained.iter().zip(&weights).map(|(found, weight)| weight * found.power).sum();
        let unit = if whole > 0.0 { 1.0 / whole } else { 1.0 };
        let scores = explained.iter().zip(&weights).flat_map(|(found, weight)| {
            // Within an output its weight changes no order, but 0 would.
            let factor = if is_even { 1.0 } else { weight * unit };
            found.gains.iter().map(move |gain| gain * factor)
        });
        Ok(Some(scores.collect()))
    }

    fn own_spread(&self) -> Spread {
        if self.in_label_fields { Spread::PerLayer } else { Spread::PerOutput }
    }

    fn normalizer(&self) -> Normalizer {
        // Shares of what the layer returned.
        Normalizer::None
    }
}

impl RankingPolicy for ReconstructionConnections {
    fn name(&self) -> String {
        let name = "reconstruction-connections";
        if self.in_label_fields { format!("{name}-in-label-fields") } else { name.into() }
    }

    fn needs(&self) -> Needs {
        let needs = match self.choice.chosen_layers() {
            Some(layers) => Needs::none().inputs_of(self.columns, layers),
            None => Needs::none().inputs(self.columns),
        };
        if self.in_label_fields { needs.outputs() } else { needs }
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        choose_connections(self, context)
    }
}
