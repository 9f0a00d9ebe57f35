//! Pooling, resampling and reductions over positions.

use burn::nn::interpolate::{Interpolate1dConfig, Interpolate2dConfig, InterpolateMode};
use burn::nn::pool::{
    AdaptiveAvgPool1dConfig, AdaptiveAvgPool2dConfig, AdaptiveAvgPool3dConfig, AvgPool1dConfig, AvgPool2dConfig,
    MaxPool1dConfig, MaxPool2dConfig,
};
use burn::nn::{PaddingConfig1d, PaddingConfig2d, Unfold4dConfig};

use super::super::call::Reduce;
use super::super::value::{Value, each};

pub fn max_pool(x: Value, kernel: usize, stride: usize, padding: usize) -> Value {
    match x {
        Value::Three(x) => {
            let config = MaxPool1dConfig::new(kernel).with_stride(stride);
            Value::Three(config.with_padding(PaddingConfig1d::Explicit(padding, padding)).init().forward(x))
        }
        x => {
            let config = MaxPool2dConfig::new([kernel; 2]).with_strides([stride; 2]);
            let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
            Value::Four(config.with_padding(padding).init().forward(x.four()))
        }
    }
}

pub fn avg_pool(x: Value, kernel: usize, stride: usize, padding: usize) -> Value {
    match x {
        Value::Three(x) => {
            let config = AvgPool1dConfig::new(kernel).with_stride(stride);
            Value::Three(config.with_padding(PaddingConfig1d::Explicit(padding, padding)).init().forward(x))
        }
        x => {
            let config = AvgPool2dConfig::new([kernel; 2]).with_strides([stride; 2]);
            let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
            Value::Four(config.with_padding(padding).init().forward(x.four()))
        }
    }
}

pub fn adaptive(x: Value, side: usize) -> Value {
    match x {
        Value::Three(x) => Value::Three(AdaptiveAvgPool1dConfig::new(side).init().forward(x)),
        Value::Four(x) => Value::Four(AdaptiveAvgPool2dConfig::new([side; 2]).init().forward(x)),
        x => Value::Five(AdaptiveAvgPool3dConfig::new([side; 3]).init().forward(x.five())),
    }
}

pub fn interpolate(x: Value, side: usize, linear: bool) -> Value {
    let mode = if linear { InterpolateMode::Linear } else { InterpolateMode::Nearest };
    match x {
        Value::Three(x) => {
            let config = Interpolate1dConfig::new().with_output_size(Some(side)).with_mode(mode);
            Value::Three(config.init().forward(x))
        }
        x => {
            let config = Interpolate2dConfig::new().with_output_size(Some([side; 2])).with_mode(mode);
            Value::Four(config.init().forward(x.four()))
        }
    }
}

pub fn unfold(x: Value, kernel: usize, stride: usize) -> Value {
    let config = Unfold4dConfig::new([kernel; 2]).with_stride([stride; 2]);
    Value::Three(config.init().forward(x.four()))
}

pub fn reduce(x: Value, how: Reduce, axis: usize) -> Value {
    match how {
        Reduce::Mean => each!(x, x => x.mean_dim(axis)),
        Reduce::Sum => each!(x, x => x.sum_dim(axis)),
        Reduce::Max => each!(x, x => x.max_dim(axis)),
        Reduce::Min => each!(x, x => x.min_dim(axis)),
    }
}
