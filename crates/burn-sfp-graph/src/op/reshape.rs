//! Reshape: channels as runs of features, blocks of channels, heads.

use std::ops::Range;

use burn::backend::ir::TensorIr;

use super::description::dims;
use crate::channels::context::Context;
use crate::channels::ids::{Axes, ChannelId};

const CUTS_ACROSS: &str = "a reshape cuts across its channel axis";
const ONLY: &str = "a reshape drops its axis, which has this one channel only";

/// Splits both shapes into the smallest runs of axes with equal products. Inside a run both sides are refined to common
/// coordinates: an input axis is split into them, an output axis is joined from them.
pub(super) fn reshape(input: &TensorIr, out: &TensorIr, context: &mut Context) -> Axes {
    let axes = context.axes(input);
    let (from, to) = (dims(input), dims(out));
    let mut result: Axes = vec![None; to.len()];
    for (i, o) in runs(&from, &to) {
        if i.len() == 1 && o.len() == 1 {
            result[o.start].clone_from(&axes[i.start]);
        } else {
            run(&axes[i.clone()], &from[i], &to[o.clone()], &mut result[o], context);
        }
    }
    result
}

/// The axes of the input whose indices an axis of the result is made of.
pub(super) fn sources(input: &TensorIr, out: &TensorIr, axis: usize) -> Range<usize> {
    let found = runs(&dims(input), &dims(out)).into_iter().find(|(_, to)| to.contains(&axis));
    found.map_or(0..0, |(from, _)| from)
}

/// The smallest runs of axes of both shapes with equal products, in order.
fn runs(from: &[usize], to: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut all = Vec::new();
    // Axes of length 1 carry nothing that could be moved; one that stays in place between the same neighbours is kept.
    let (mut i, mut o) = (0, 0);
    while i < from.len() || o < to.len() {
        if i < from.len() && o < to.len() && from[i] == to[o] {
            all.push((i..i + 1, o..o + 1));
            (i, o) = (i + 1, o + 1);
            continue;
        }
        let (i0, o0) = (i, o);
        let (mut p, mut q) = (1, 1);
        loop {
            if i < from.len() && (p < q || o >= to.len() || (p == q && from[i] != 1)) {
                p *= from[i];
                i += 1;
            } else if o < to.len() {
                q *= to[o];
                o += 1;
            } else if i < from.len() {
                p *= from[i];
                i += 1;
            } else {
                break;
            }
            if p == q {
                break;
            }
        }
        all.push((i0..i, o0..o));
    }
    all
}

fn run(
    axes: &[Option<Vec<ChannelId>>],
    from: &[usize],
    to: &[usize],
    result: &mut [Option<Vec<ChannelId>>],
    context: &mut Context,
) {
    if axes.iter().all(Option::is_none) {
        return;
    }
    let Some(lengths) = refine(from, to) else {
        context.pin_axes(axes, CUTS_ACROSS);
        return;
    };
    let mut parts: Axes = Vec::new();
    let mut at = 0;
    for (ids, &length) in axes.iter().zip(from) {
        if length == 1 {
            if let Some(ids) = ids {
                context.sets.pin(ids, ONLY);
            }
            continue;
        }
        let count = take(&lengths[at..], length);
        match ids {
            Some(ids) => parts.extend(context.split(ids, &lengths[at..at + count])),
            None => parts.extend(std::iter::repeat_n(None, count)),
        }
        at += count;
    }
    let mut at = 0;
    for (slot, &length) in result.iter_mut().zip(to) {
        if length == 1 {
            continue;
        }
        let count = take(&lengths[at..], length);
        *slot = context.join(&parts[at..at + count], &lengths[at..at + count]);
        at += count;
    }
}

/// How many of the lengths multiply to `length`.
fn take(lengths: &[usize], length: usize) -> usize {
    let mut product = 1;
    lengths
        .iter()
        .take_while(|&&part| {
            let more = product < length;
            product *= part;
            more
        })
        .count()
}

/// The coarsest factors that both shapes are made of, none where one cuts across the other.
fn refine(from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let boundaries =
        |shape: &[usize]| (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect::<Vec<usize>>();
    let mut all = boundaries(from);
    all.extend(boundaries(to));
    all.push(from.iter().product());
    all.sort_unstable();
    all.dedup();
    all.windows(2).rev().map(|pair| (pair[1] % pair[0] == 0).then(|| pair[1] / pair[0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_refine_to_common_factors() {
        assert_eq!(refine(&[6, 4], &[3, 8]), Some(vec![3, 2, 4]));
        assert_eq!(refine(&[24], &[2, 3, 4]), Some(vec![2, 3, 4]));
        assert_eq!(refine(&[8, 1, 9], &[72]), Some(vec![8, 9]));
        assert_eq!(refine(&[3, 4], &[2, 6]), None);
    }
}
