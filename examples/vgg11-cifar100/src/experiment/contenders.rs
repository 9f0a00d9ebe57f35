//! Which policies are compared, at which shares.

/// What chooses the connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Nothing goes.
    Nothing,
    /// AFCC at its own share.
    Afcc,
    /// AFCC with random label sets, at its own share.
    RandomAfcc,
    /// The kernels with the smallest norms go.
    Magnitude,
    /// The single weights with the smallest absolute values go.
    SingleWeights,
    /// What explains the original's outputs best stays, each output the same number.
    Reconstruction,
    /// The same, each layer the same number.
    ReconstructionByLayer,
    /// The same with errors measured in label fields, each layer the same number.
    LabelFields,
    /// The same, over all layers.
    LabelFieldsGlobal,
    /// The largest kernels among those that AFCC keeps.
    MagnitudeAmongAfcc,
    /// What explains most among the connections that AFCC keeps, each output the same number.
    ReconstructionAmongAfcc,
    /// The same in label fields, each layer the same number.
    LabelFieldsAmongAfcc,
}

/// How many connections go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// As many in each layer as AFCC takes at this threshold.
    OfAfcc(f64),
    /// This share of each layer.
    Even(f64),
}

/// A policy at a share.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name in the rows.
    pub name: String,
    /// What chooses.
    pub kind: Kind,
    /// How many go.
    pub share: Share,
    /// Threshold of the analysis that it reads, where it reads one.
    pub threshold: Option<f64>,
    /// Seed, where it draws.
    pub seed: u64,
}

impl Contender {
    fn new(kind: Kind, share: Share, threshold: Option<f64>, seed: u64) -> Self {
        let policy = match kind {
            Kind::Nothing => "nothing removed",
            Kind::Afcc => "AFCC",
            Kind::RandomAfcc => "random AFCC",
            Kind::Magnitude => "magnitude of kernels",
            Kind::SingleWeights => "magnitude of single weights",
            Kind::Reconstruction => "reconstruction",
            Kind::ReconstructionByLayer => "reconstruction, by layer",
            Kind::LabelFields => "reconstruction in label fields",
            Kind::LabelFieldsGlobal => "reconstruction in label fields, global",
            Kind::MagnitudeAmongAfcc => "magnitude among AFCC",
            Kind::ReconstructionAmongAfcc => "reconstruction among AFCC",
            Kind::LabelFieldsAmongAfcc => "reconstruction in label fields among AFCC",
        };
        let at = threshold.map_or(String::new(), |threshold| format!(" {threshold}"));
        let share_name = match share {
            _ if kind == Kind::Nothing => String::new(),
            Share::OfAfcc(threshold) => format!(" at the shares of AFCC {threshold}"),
            Share::Even(share) => format!(" at {} %", 100.0 * share),
        };
        Self { name: format!("{policy}{at}{share_name}"), kind, share, threshold, seed }
    }

    /// The key of its rows: whether it reads what filters recognise.
    pub fn key(&self) -> &'static str {
        match self.kind {
            Kind::Afcc
            | Kind::LabelFields
            | Kind::LabelFieldsGlobal
            | Kind::MagnitudeAmongAfcc
            | Kind::ReconstructionAmongAfcc
            | Kind::LabelFieldsAmongAfcc => "afcc",
            _ => "controls",
        }
    }
}

/// All contenders, in the order in which they are measured.
pub fn contenders(seed: u64) -> Vec<Contender> {
    let mut all = vec![Contender::new(Kind::Nothing, Share::Even(0.0), None, 0)];
    // Among what a lower threshold keeps, which is more.
    for (threshold, wider) in [(0.45, 0.3), (0.3, 0.2)] {
        let mut add = |kind, of: Option<f64>, seed| all.push(Contender::new(kind, Share::OfAfcc(threshold), of, seed));
        add(Kind::Magnitude, None, 0);
        add(Kind::Reconstruction, None, 0);
        add(Kind::Afcc, Some(threshold), 0);
        add(Kind::LabelFields, Some(threshold), 0);
        add(Kind::ReconstructionAmongAfcc, Some(wider), 0);
        add(Kind::MagnitudeAmongAfcc, Some(wider), 0);
        add(Kind::LabelFieldsAmongAfcc, Some(wider), 0);
        add(Kind::ReconstructionByLayer, None, 0);
        add(Kind::SingleWeights, None, 0);
        add(Kind::RandomAfcc, Some(threshold), seed);
        add(Kind::LabelFieldsGlobal, Some(threshold), 0);
    }
    for share in [0.9, 0.8, 0.95, 0.7] {
        for (kind, threshold) in [
            (Kind::Magnitude, None),
            (Kind::ReconstructionAmongAfcc, Some(0.2)),
            (Kind::LabelFields, Some(0.3)),
            (Kind::Reconstruction, None),
        ] {
            all.push(Contender::new(kind, Share::Even(share), threshold, 0));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::contenders;

    #[test]
    fn names_differ() {
        let mut names: Vec<String> = contenders(0).into_iter().map(|contender| contender.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
