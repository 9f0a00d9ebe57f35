//! [`Shrink`] of Burn's layers and of the containers that modules are made of.

use burn::module::Param;
use burn::nn::activation::Activation;
use burn::nn::attention::MultiHeadAttention;
use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, DeformConv2d};
use burn::nn::interpolate::{Interpolate1d, Interpolate2d};
use burn::nn::norm::Normalization;
use burn::nn::pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d,
};
use burn::nn::transformer::{PositionWiseFeedForward, TransformerDecoder, TransformerEncoder};
use burn::nn::{
    BatchNorm, Dropout, Embedding, Gelu, GroupNorm, HardSigmoid, Identity, InstanceNorm, LayerNorm, LeakyRelu, Linear,
    LocalResponseNorm, PRelu, PixelShuffle, PixelUnshuffle, Relu, RmsNorm, Sigmoid, SwiGlu, Tanh,
};
use burn::tensor::{Bool, Int, Tensor};

use super::{Scope, Shrink};

macro_rules! grouped {
    ($($layer:ty),+ $(,)?) => {$(
        impl Shrink for $layer {
            fn shrink(&mut self, scope: &mut Scope<'_>) {
                if let Some(groups) = scope.count("groups") {
                    self.groups = groups;
                }
            }
        }
    )+};
}
grouped!(Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d);

impl Shrink for DeformConv2d {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(groups) = scope.count("weight_groups") {
            self.weight_groups = groups;
        }
    }
}

// These have no field that follows. They implement `Shrink` so that they can be used where it is required: in a tuple, in an option, as
// the type parameter of a block.
macro_rules! plain {
    ($($layer:ty),+ $(,)?) => {$(
        impl Shrink for $layer {
            fn shrink(&mut self, _scope: &mut Scope<'_>) {}
        }
    )+};
}
plain!(Linear, Embedding, BatchNorm, LayerNorm, LocalResponseNorm, MultiHeadAttention);
plain!(PositionWiseFeedForward, TransformerDecoder, TransformerEncoder);
plain!(Activation, Gelu, HardSigmoid, LeakyRelu, PRelu, Relu, Sigmoid, SwiGlu, Tanh, Dropout, Identity);
plain!(AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d);
plain!(Interpolate1d, Interpolate2d, PixelShuffle, PixelUnshuffle);
plain!(bool, f32, f64, i32, i64, u32, u64, usize, String);

macro_rules! parameter {
    ($($kind:ty),*) => {$(
        impl<const D: usize> Shrink for Param<Tensor<D, $kind>> {
            fn shrink(&mut self, _scope: &mut Scope<'_>) {}
        }
    )*};
}
parameter!(Int, Bool);

impl<const D: usize> Shrink for Param<Tensor<D>> {
    fn shrink(&mut self, _scope: &mut Scope<'_>) {}
}

impl Shrink for Normalization {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        match self {
            Self::Group(norm) => scope.enter("Group", |scope| norm.shrink(scope)),
            Self::Instance(norm) => scope.enter("Instance", |scope| norm.shrink(scope)),
            Self::Rms(norm) => scope.enter("Rms", |scope| norm.shrink(scope)),
            _ => {}
        }
    }
}

impl Shrink for GroupNorm {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(groups) = scope.count("num_groups") {
            self.num_groups = groups;
        }
        if let Some(channels) = scope.count("num_channels") {
            self.num_channels = channels;
        }
    }
}

impl Shrink for InstanceNorm {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(channels) = scope.count("num_channels") {
            self.num_channels = channels;
        }
    }
}

impl Shrink for RmsNorm {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(epsilon) = scope.value("epsilon") {
            self.epsilon = epsilon;
        }
    }
}

impl<T: Shrink> Shrink for Vec<T> {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        let mut index = 0;
        self.retain_mut(|item| {
            let mut stays = true;
            scope.enter(&index.to_string(), |scope| {
                item.shrink(scope);
                stays = !scope.removes(true);
            });
            index += 1;
            stays
        });
    }
}

impl<T: Shrink, const N: usize> Shrink for [T; N] {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        for (index, item) in self.iter_mut().enumerate() {
            scope.enter(&index.to_string(), |scope| item.shrink(scope));
        }
    }
}

// As in Burn, an option adds nothing to the path.
impl<T: Shrink> Shrink for Option<T> {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(item) = self {
            item.shrink(scope);
            if scope.removes(false) {
                *self = None;
            }
        }
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Shrink),+> Shrink for ($($name,)+) {
            fn shrink(&mut self, scope: &mut Scope<'_>) {
                $(scope.enter(stringify!($index), |scope| self.$index.shrink(scope));)+
            }
        }
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
