//! Burn's layers and the containers that modules are made of.

use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
use burn::nn::{GroupNorm, InstanceNorm, RmsNorm};

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
        for (index, item) in self.iter_mut().enumerate() {
            scope.enter(&index.to_string(), |scope| item.shrink(scope));
        }
    }
}

impl<T: Shrink, const N: usize> Shrink for [T; N] {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        for (index, item) in self.iter_mut().enumerate() {
            scope.enter(&index.to_string(), |scope| item.shrink(scope));
        }
    }
}

// As in Burn, an option leaves no trace in the path.
impl<T: Shrink> Shrink for Option<T> {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(item) = self {
            item.shrink(scope);
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
