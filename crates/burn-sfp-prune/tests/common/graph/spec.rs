//! What proptest draws: steps of small numbers, every list of which is a valid graph.

use proptest::prelude::*;

macro_rules! steps {
    ($($name:ident),+ $(,)?) => {
        /// One kind of step of a drawn graph.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($name),+ }
        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$name),+];
        }
    };
}

steps!(
    Convolution,
    Linear,
    Activation,
    BatchNorm,
    Binary,
    Concat,
    Chunk,
    Slice,
    Grouped,
    Depthwise,
    Transposed,
    Shuffle,
    Attention,
    Joint,
    Gate,
    Matrix,
    MatrixLeft,
    TokenMix,
    Scores,
    Gram,
    Deformable,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RmsNorm,
    MaxPool,
    AvgPool,
    Adaptive,
    Interpolate,
    Prelu,
    Softmax,
    SoftmaxChannels,
    Scale,
    Shift,
    Wide,
    Constant,
    ConcatPositions,
    CatSplit,
    Stack,
    Select,
    SelectChannels,
    Gather,
    Sort,
    Flip,
    FlipChannels,
    Pad,
    PadChannels,
    Reduce,
    ReduceChannels,
    PixelShuffle,
    PixelUnshuffle,
    Maxout,
    Expand,
    Repeat,
    RepeatChannels,
    CumSum,
    Unfold,
    Unflatten,
    Transpose,
    Ones,
    Roll,
    Assign,
    Step,
    Again,
    ToTokens,
    ToSignal,
    ToMap,
    ToVector,
    ToVolume,
    Embed,
    Unit,
    Thin,
);

/// A step: what to do, with which earlier values (counted back from the latest, modulo how many there are), how wide, and
/// in which of its variants.
#[derive(Clone, Debug)]
pub struct Step {
    pub kind: Kind,
    pub a: usize,
    pub b: usize,
    pub width: usize,
    pub variant: usize,
}

/// What is returned: an earlier value, through which kind of head.
#[derive(Clone, Debug)]
pub struct Head {
    pub of: usize,
    pub kind: usize,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub steps: Vec<Step>,
    pub heads: Vec<Head>,
    /// Height and width of the image.
    pub sides: (usize, usize),
    pub seed: u64,
}

pub fn specs() -> impl Strategy<Value = Spec> {
    // The first few are what networks are mostly made of.
    let kind = prop_oneof![
        2 => prop::sample::select(&Kind::ALL[..16]),
        3 => prop::sample::select(Kind::ALL),
    ];
    let step = (kind, prop_oneof![3 => Just(0..2usize), 1 => Just(0..12usize)], 0..8usize, 1..13usize, 0..12usize);
    let step = step.prop_map(|(kind, from, b, width, variant)| (kind, from, b, width, variant));
    let step = (step, 0..12usize).prop_map(|((kind, from, b, width, variant), a)| Step {
        kind,
        a: if from.end == 2 { a / 8 } else { a },
        b,
        width,
        variant,
    });
    let head = (0..6usize, 0..8usize).prop_map(|(of, kind)| Head { of, kind });
    (prop::collection::vec(step, 1..14), prop::collection::vec(head, 0..3), (4..7usize, 4..7usize), any::<u64>())
        .prop_map(|(steps, heads, sides, seed)| Spec { steps, heads, sides, seed })
}
