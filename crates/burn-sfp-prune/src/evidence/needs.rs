//! [`Needs`]: which evidence a policy asks for.

use burn_sfp_core::ActivationNeeds;

/// Which passes over the calibration data a policy needs besides the analysis; returned by
/// [`RankingPolicy::needs`](crate::RankingPolicy::needs).
///
/// ```
/// use burn_sfp_prune::Needs;
///
/// let needs = Needs::none().outputs().gradients();
/// assert!(needs.has_outputs() && needs.has_gradients() && needs.inputs_up_to().is_none());
/// // What two policies need together.
/// assert_eq!(needs.clone().and(Needs::none().inputs(512)).and(Needs::none().inputs(2048)).inputs_up_to(), Some(2048));
/// assert!(Needs::none().is_none() && needs.covers(&Needs::none().outputs()));
/// // Gram matrices of some layers serve what needs those of fewer.
/// let some = Needs::none().inputs_of(512, ["a", "b"]);
/// assert!(some.covers(&Needs::none().inputs_of(512, ["b"])) && !some.covers(&Needs::none().inputs(512)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    activations: ActivationNeeds,
    gradients: bool,
    blocks: bool,
}

impl Needs {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds means and zeros of the outputs of filters: a forward pass a batch.
    pub fn outputs(mut self) -> Self {
        self.activations.outputs = true;
        self
    }

    /// Adds the gradients of the cross-entropy: a forward and a backward pass a batch.
    pub fn gradients(mut self) -> Self {
        self.gradients = true;
        self
    }

    /// Adds what residual blocks do to their streams: two forward passes a batch ([`gather_streams`](burn_sfp_core::gather_streams)).
    pub fn blocks(mut self) -> Self {
        self.blocks = true;
        self
    }

    /// Adds Gram matrices of the inputs of layers, summed in the forward pass of [`outputs`](Needs::outputs): with a
    /// column for each element of each channel where these are at most `columns`, else with a column for each channel
    /// ([`InputGram`](burn_sfp_core::InputGram)).
    pub fn inputs(self, columns: usize) -> Self {
        let activations = ActivationNeeds { inputs: Some(columns), ..ActivationNeeds::default() };
        self.and(Self { activations, ..Self::none() })
    }

    /// Adds Gram matrices as [`inputs`](Needs::inputs) does, of the layers at these module paths alone.
    pub fn inputs_of<S: Into<String>>(self, columns: usize, layers: impl IntoIterator<Item = S>) -> Self {
        let layers = Some(layers.into_iter().map(Into::into).collect());
        let activations = ActivationNeeds { inputs: Some(columns), layers, ..ActivationNeeds::default() };
        self.and(Self { activations, ..Self::none() })
    }

    /// Returns all that either needs.
    pub fn and(self, other: Self) -> Self {
        let ActivationNeeds { outputs, inputs, layers } = self.activations;
        let theirs = other.activations;
        let layers = match (inputs, theirs.inputs) {
            (None, _) => theirs.layers,
            (_, None) => layers,
            // Without a list they are those of all layers.
            _ => layers.zip(theirs.layers).map(|(mut all, more)| {
                all.extend(more);
                all
            }),
        };
        let activations =
            ActivationNeeds { outputs: outputs || theirs.outputs, inputs: inputs.max(theirs.inputs), layers };
        Self { activations, gradients: self.gradients || other.gradients, blocks: self.blocks || other.blocks }
    }

    /// Returns whether no pass is needed.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Returns whether means and zeros of outputs are needed.
    pub fn has_outputs(&self) -> bool {
        self.activations.outputs
    }

    /// Returns whether gradients are needed.
    pub fn has_gradients(&self) -> bool {
        self.gradients
    }

    /// Returns whether the streams around blocks are needed.
    pub fn has_blocks(&self) -> bool {
        self.blocks
    }

    /// Returns the most columns of a Gram matrix with a column for each element, `None` if no such matrices are needed.
    pub fn inputs_up_to(&self) -> Option<usize> {
        self.activations.inputs
    }

    /// Returns whether evidence gathered for these needs serves the others. Gram matrices serve whatever their limit
    /// was, if they are of all the layers that the others name.
    pub fn covers(&self, other: &Self) -> bool {
        let is_missing = |own: bool, theirs: bool| theirs && !own;
        let lacks_layers = match (&self.activations.layers, &other.activations.layers) {
            (None, _) => false,
            (Some(_), None) => other.inputs_up_to().is_some(),
            (Some(own), Some(theirs)) => !theirs.is_subset(own),
        };
        !(lacks_layers
            || is_missing(self.has_outputs(), other.has_outputs())
            || is_missing(self.gradients, other.gradients)
            || is_missing(self.blocks, other.blocks)
            || is_missing(self.inputs_up_to().is_some(), other.inputs_up_to().is_some()))
    }

    /// What is read of the activations alone.
    pub(super) fn of_activations(&self) -> Self {
        Self { gradients: false, blocks: false, activations: self.activations.clone() }
    }

    /// What the pass over the activations sums, `None` if none is needed.
    pub(super) fn activations(&self) -> Option<ActivationNeeds> {
        (self.activations != ActivationNeeds::default()).then(|| self.activations.clone())
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            (self.has_outputs(), "the outputs of filters"),
            (self.gradients, "gradients"),
            (self.blocks, "the streams around blocks"),
            (self.inputs_up_to().is_some(), "the inputs of layers"),
        ];
        let named: Vec<&str> = parts.into_iter().filter(|(needed, _)| *needed).map(|(_, name)| name).collect();
        f.write_str(if named.is_empty() { "nothing" } else { "" })?;
        f.write_str(&named.join(" and "))
    }
}
