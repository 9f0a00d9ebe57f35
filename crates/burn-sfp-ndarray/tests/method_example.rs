//! The worked example of docs/method.md.

use burn_sfp_ndarray::{KernelError, class_sums, filter_performances, performance_matrix};
use ndarray::{Array3, array};

#[test]
fn the_worked_example_comes_out_as_written() -> Result<(), KernelError> {
    // [N, F, S]
    let acts = array![
        [[4.0_f32, 0.0], [0.0, 3.0], [1.0, 1.0]],
        [[3.0, 1.0], [0.0, 0.0], [1.0, 1.0]],
        [[1.0, 3.0], [0.0, 2.0], [1.0, 1.0]],
        [[0.0, 0.0], [5.0, 3.0], [1.0, 1.0]],
    ];
    let labels = [0, 1, 1, 2];
    // [F, S, C]
    let readout = array![
        [[1.0_f32, 0.5, -1.0], [0.0, 0.5, 0.25]],
        [[-1.0, 0.0, 1.0], [1.0, -1.0, 1.0]],
        [[-1.0, -1.0, -1.0], [0.0, 0.0, 0.0]],
    ];

    let mut sums = Array3::<f64>::zeros((3, 3, 2));
    class_sums(acts.view(), &labels, sums.view_mut())?;
    let counts = [1.0, 2.0, 1.0];
    let means = Array3::from_shape_fn(sums.dim(), |(c, f, p)| (sums[[c, f, p]] / counts[c]) as f32);

    let expected = [
        array![[4.0, 2.0, -4.0], [2.0, 2.0, -1.5], [0.0, 0.0, 0.0]],
        array![[3.0, -3.0, 3.0], [1.0, -1.0, 1.0], [-2.0, -3.0, 8.0]],
        array![[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]],
    ];
    for (filter, expected) in expected.iter().enumerate() {
        assert_eq!(performance_matrix(means.view(), readout.view(), filter)?, expected, "filter {filter}");
    }

    let filters = filter_performances(means.view(), readout.view(), 0.3)?;
    let clusters: Vec<_> = filters.iter().map(|filter| filter.clusters.clone()).collect();
    assert_eq!(clusters, [vec![vec![0, 1]], vec![vec![0], vec![2]], vec![]]);
    let noise: Vec<_> = filters.iter().map(|filter| (filter.noise, filter.column_noise)).collect();
    assert_eq!(noise, [(0, 0), (1, 1), (0, 0)]);
    Ok(())
}
