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
/// assert_eq!(needs.and(Needs::none().inputs(512)).and(Needs::none().inputs(2048)).inputs_up_to(), Some(2048));
/// assert!(Needs::none().is_none() && needs.covers(Needs::none().outputs()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub fn inputs(mut self, columns: usize) -> Self {
        self.activations.inputs = self.activations.inputs.max(Some(columns));
        self
    }

    /// Returns all that either needs.
    pub fn and(self, other: Self) -> Self {
        let ActivationNeeds { outputs, inputs } = self.activations;
        let activations = ActivationNeeds {
            outputs: outputs || other.activations.outputs,
            inputs: inputs.max(other.activations.inputs),
        };
        Self { activations, gradients: self.gradients || other.gradients, blocks: self.blocks || other.blocks }
    }

    /// Returns whether no pass is needed.
    pub fn is_none(self) -> bool {
        self == Self::none()
    }

    /// Returns whether means and zeros of outputs are needed.
    pub fn has_outputs(self) -> bool {
        self.activations.outputs
    }

    /// Returns whether gradients are needed.
    pub fn has_gradients(self) -> bool {
        self.gradients
    }

    /// Returns whether the streams around blocks are needed.
    pub fn has_blocks(self) -> bool {
        self.blocks
    }

    /// Returns the most columns of a Gram matrix with a column for each element, `None` if no such matrices are needed.
    pub fn inputs_up_to(self) -> Option<usize> {
        self.activations.inputs
    }

    /// Returns whether evidence gathered for these needs serves the others. Gram matrices serve whatever their limit
    /// was.
    pub fn covers(self, other: Self) -> bool {
        let is_missing = |own: bool, theirs: bool| theirs && !own;
        !(is_missing(self.has_outputs(), other.has_outputs())
            || is_missing(self.gradients, other.gradients)
            || is_missing(self.blocks, other.blocks)
            || is_missing(self.inputs_up_to().is_some(), other.inputs_up_to().is_some()))
    }

    /// What is read of the activations alone.
    pub(super) fn of_activations(self) -> Self {
        Self { gradients: false, blocks: false, ..self }
    }

    /// What the pass over the activations sums, `None` if none is needed.
    pub(super) fn activations(self) -> Option<ActivationNeeds> {
        (self.activations != ActivationNeeds::default()).then_some(self.activations)
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
