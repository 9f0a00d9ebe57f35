//! [`epoch_order`]: the order of the samples in each epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The order in which an epoch on a store takes its samples: a shuffle of `0..samples` that depends on the seed and on the number of the
/// epoch alone.
///
/// ```
/// use burn_sfp_prune::epoch_order;
///
/// let (first, second) = (epoch_order(100, 7, 0), epoch_order(100, 7, 1));
/// assert!(first != second && first == epoch_order(100, 7, 0));
/// let mut sorted = first;
/// sorted.sort();
/// assert_eq!(sorted, (0..100).collect::<Vec<_>>());
/// ```
pub fn epoch_order(samples: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    let mut order: Vec<usize> = (0..samples).collect();
    order.shuffle(&mut rng);
    order
}
