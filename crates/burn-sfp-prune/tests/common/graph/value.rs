//! Tensors of any rank, and which of their axes is the channels'.

use burn::tensor::Tensor;

#[derive(Clone, Debug)]
pub enum Value {
    Two(Tensor<2>),
    Three(Tensor<3>),
    Four(Tensor<4>),
    Five(Tensor<5>),
}

/// The same expression for every rank, which it keeps.
macro_rules! each {
    ($value:expr, $x:ident => $made:expr) => {
        match $value {
            Value::Two($x) => Value::Two($made),
            Value::Three($x) => Value::Three($made),
            Value::Four($x) => Value::Four($made),
            Value::Five($x) => Value::Five($made),
        }
    };
}

/// The same expression for every rank, of another type.
macro_rules! read {
    ($value:expr, $x:ident => $made:expr) => {
        match $value {
            Value::Two($x) => $made,
            Value::Three($x) => $made,
            Value::Four($x) => $made,
            Value::Five($x) => $made,
        }
    };
}

/// The same expression of two values of equal rank.
macro_rules! both {
    ($a:expr, $b:expr, $x:ident, $y:ident => $made:expr) => {
        match ($a, $b) {
            (Value::Two($x), Value::Two($y)) => Value::Two($made),
            (Value::Three($x), Value::Three($y)) => Value::Three($made),
            (Value::Four($x), Value::Four($y)) => Value::Four($made),
            (Value::Five($x), Value::Five($y)) => Value::Five($made),
            (a, b) => panic!("{:?} meets {:?}", a.dims(), b.dims()),
        }
    };
}
pub(super) use {both, each};

impl Value {
    pub fn dims(&self) -> Vec<usize> {
        read!(self, x => x.dims().to_vec())
    }

    pub fn largest(&self) -> f32 {
        read!(self, x => x.clone().abs().max().into_scalar::<f32>())
    }

    pub fn two(self) -> Tensor<2> {
        if let Self::Two(x) = self { x } else { panic!("rank 2 expected, not {:?}", self.dims()) }
    }

    pub fn three(self) -> Tensor<3> {
        if let Self::Three(x) = self { x } else { panic!("rank 3 expected, not {:?}", self.dims()) }
    }

    pub fn four(self) -> Tensor<4> {
        if let Self::Four(x) = self { x } else { panic!("rank 4 expected, not {:?}", self.dims()) }
    }

    pub fn five(self) -> Tensor<5> {
        if let Self::Five(x) = self { x } else { panic!("rank 5 expected, not {:?}", self.dims()) }
    }
}

/// What the axes of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// `[samples, channels]`.
    Vector,
    /// `[samples, channels, length]`.
    Signal,
    /// `[samples, tokens, channels]`.
    Tokens,
    /// `[samples, channels, height, width]`.
    Map,
    /// `[samples, channels, depth, height, width]`.
    Volume,
}

impl Layout {
    pub fn channels(self) -> usize {
        if self == Self::Tokens { 2 } else { 1 }
    }

    pub fn rank(self) -> usize {
        match self {
            Self::Vector => 2,
            Self::Signal | Self::Tokens => 3,
            Self::Map => 4,
            Self::Volume => 5,
        }
    }

    /// The axes that are neither samples nor channels.
    pub fn positions(self) -> Vec<usize> {
        (1..self.rank()).filter(|&axis| axis != self.channels()).collect()
    }
}
