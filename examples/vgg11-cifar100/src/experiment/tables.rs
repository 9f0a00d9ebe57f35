//! What docs/results.md shows, table after table.

use clap::Parser;

use super::Args;

/// The settings of each table, in the order in which they are measured.
pub(super) fn tables(args: &Args) -> Vec<Args> {
    let with = |names: &[String]| Args { only: names.to_vec(), ..plain(args) };
    let late = |names: &[String]| Args { epochs: 5.0, distill: 0.7, ..with(names) };
    let unfitted = |names: &[String], seed: u64| Args { without_fit: true, seed, ..late(names) };

    let [magnitude, reconstruction, afcc, random] =
        ["magnitude of kernels", "reconstruction", "AFCC 0.45", "random AFCC 0.45"].map(at_afcc);
    let among = ["magnitude among AFCC 0.3", "reconstruction among AFCC 0.3"].map(at_afcc);
    let [fields, single] = ["reconstruction in label fields 0.45", "magnitude of single weights"].map(at_afcc);
    let fewer = [
        "magnitude of single weights",
        "reconstruction",
        "magnitude among AFCC 0.2",
        "magnitude of kernels",
        "AFCC 0.3",
        "random AFCC 0.3",
    ];
    let fewer = fewer.map(|policy| format!("{policy} at the shares of AFCC 0.3"));
    let nothing = "nothing removed".to_string();

    let untrained = [&reconstruction, &magnitude, &fields, &among[0], &afcc].map(Clone::clone);
    let mut trained = vec![nothing, single, magnitude.clone(), reconstruction.clone(), fields, afcc.clone()];
    trained.extend(among);
    trained.push(random.clone());
    trained.extend(fewer);
    let curve: Vec<String> = [70, 80, 90, 95]
        .iter()
        .flat_map(|share| {
            ["magnitude of kernels", "reconstruction in label fields 0.3"]
                .map(|policy| format!("{policy} at {share} %"))
        })
        .collect();
    let best = [magnitude.clone(), reconstruction.clone()];
    let channels = ["taylor", "sfp-ranking * taylor"].map(String::from);
    vec![
        with(&untrained),
        late(&trained),
        late(&curve),
        Args { distill: 0.0, ..late(&[magnitude.clone(), afcc.clone()]) },
        unfitted(&[magnitude.clone(), reconstruction, afcc, random], 0),
        unfitted(&best, 1),
        unfitted(&best, 2),
        Args { learning_rate: 0.005, ..late(std::slice::from_ref(&magnitude)) },
        Args { from: 0, epochs: 12.0, copies: 12, ..late(&[magnitude]) },
        Args { channels: true, epochs: 2.0, then: 5.0, ..unfitted(&channels, 0) },
    ]
}

/// The defaults, with the files and the device that were given.
fn plain(args: &Args) -> Args {
    let required = ["experiment", "rows.json", "--data", ".", "--weights", "."];
    Args {
        rows: args.rows.clone(),
        data: args.data.clone(),
        weights: args.weights.clone(),
        train: args.train.clone(),
        tune: args.tune.clone(),
        cache: args.cache.clone(),
        device: args.device,
        ..Args::parse_from(required)
    }
}

/// A policy at as many connections as AFCC takes at 0.45.
fn at_afcc(policy: &str) -> String {
    format!("{policy} at the shares of AFCC 0.45")
}

#[cfg(test)]
mod tests {
    use super::super::{channels, contenders};
    use super::*;

    #[test]
    fn every_name_is_known() {
        let given =
            ["experiment", "rows.json", "--data", ".", "--weights", "w", "--tables", "--epochs", "3", "--channels"];
        let args = Args::parse_from(given);
        for table in tables(&args) {
            let known: Vec<String> = match table.channels {
                true => channels::policies().iter().map(|policy| policy.name()).collect(),
                false => contenders(table.seed).into_iter().map(|contender| contender.name).collect(),
            };
            assert!(!table.only.is_empty() && !table.tables && table.epochs != 3.0);
            table.check_names(|name| known.iter().any(|known| known == name)).unwrap();
        }
    }
}
