//! A policy of one's own, alone and combined with others, on a tiny network. It needs no data.

use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::*;

/// Scores a filter by the largest of its weights.
struct Largest;

impl RankingPolicy for Largest {
    fn name(&self) -> String {
        "largest weight".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            let kernels = context.kernels(layer)?;
            let (filters, inputs) = kernels.shape();
            let largest = |filter| {
                let weights = (0..inputs).flat_map(|input| kernels.kernel(filter, input));
                f64::from(weights.fold(0.0, |most: f32, weight| most.max(weight.abs())))
            };
            ranking.filters.insert(layer.path.clone(), (0..filters).map(largest).collect());
        }
        Ok(ranking)
    }
}

/// Two layers, `[samples, 2]` to `[samples, 3]`.
#[derive(Module, Debug)]
struct Mlp {
    hidden: Linear,
    classifier: Linear,
}

impl Mlp {
    /// The weights of the six hidden nodes are the columns; their largest ones are 0.1, 0.9, 0.5, 0.2, 0.7 and 0.3.
    fn new(device: &Device) -> Self {
        let mut hidden = LinearConfig::new(2, 6).init(device);
        hidden.weight = hidden.weight.map(|weight| {
            let weights = [[0.1, 0.3, -0.5, 0.2, 0.6, 0.0], [-0.1, -0.9, 0.4, 0.2, 0.7, 0.3]];
            Tensor::from_data(TensorData::from(weights), &weight.device())
        });
        Self { hidden, classifier: LinearConfig::new(6, 3).init(device) }
    }
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;

    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(relu(self.hidden.forward(x)))
    }
}

/// Half of the hidden nodes go, those that the policy scores lowest.
fn prune(mlp: &Mlp, policy: &dyn RankingPolicy) -> Result<PrunedModule<Mlp>, PruneError> {
    let example = Tensor::zeros([1, 2], &mlp.hidden.weight.device());
    Planner::new().budget(Budget::PerLayer(0.5)).prune(mlp, &example, policy)
}

fn main() -> Result<(), PruneError> {
    let mlp = Mlp::new(&Device::flex());
    let policies: [Box<dyn RankingPolicy>; 3] = [
        Box::new(Largest),
        Box::new(Largest.plus(0.5, Magnitude::l1())),
        Box::new(Largest.within(Random::new(1), 0.3)),
    ];
    for policy in policies {
        let smaller = prune(&mlp, &policy)?;
        println!("{}: the weights of the nodes that stay are {}", policy.name(), smaller.model.hidden.weight.val());
        println!("{}", smaller.plan.summary());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_the_largest_weights_stay() {
        let smaller = prune(&Mlp::new(&Device::flex()), &Largest).unwrap().model;
        let weights: Vec<f32> = smaller.hidden.weight.val().into_data().iter().collect();
        assert_eq!(weights, [0.3, -0.5, 0.6, -0.9, 0.4, 0.7]);
        assert_eq!(smaller.classifier.weight.dims(), [3, 3]);
    }

    #[test]
    fn combinations_change_what_stays() {
        let mlp = Mlp::new(&Device::flex());
        // The two nodes with the smallest sums go first, then that with the lowest of the largest weights.
        let policy = Largest.within(Magnitude::l1(), 1.0 / 3.0);
        let weights: Vec<f32> = prune(&mlp, &policy).unwrap().model.hidden.weight.val().into_data().iter().collect();
        assert_eq!(weights, [0.3, -0.5, 0.6, -0.9, 0.4, 0.7]);
        main().unwrap();
    }
}
