//! The table: a row a network, also where pruning fails.

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::Device;
use burn_sfp::prelude::GraphModule;
use comfy_table::{CellAlignment, Table, presets};

use crate::measure::{Measured, measure};
use crate::networks::{Entry, Size, Visit, visit_all};

/// Networks, pruned one after the other.
#[derive(Clone, Debug)]
pub struct Report {
    share: f64,
    only: Option<String>,
    rows: Vec<(Entry, Result<Measured, String>)>,
}

impl Report {
    /// Removes a share of every layer of the networks whose name contains `only`, or of all.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use zoo_elsewhere::networks::Size;
    /// use zoo_elsewhere::report::Report;
    ///
    /// let report = Report::measure(Size::Small, 0.5, Some("ResNet"), &Device::flex());
    /// println!("{report}{}", report.kept());
    /// assert!(report.rows().len() == 2 && report.all_exact());
    /// ```
    pub fn measure(size: Size, share: f64, only: Option<&str>, device: &Device) -> Self {
        let mut report = Self { share, only: only.map(str::to_lowercase), rows: Vec::new() };
        visit_all(size, device, &mut report);
        report
    }

    /// The networks and what came of each, an error's message where pruning failed.
    pub fn rows(&self) -> &[(Entry, Result<Measured, String>)] {
        &self.rows
    }

    /// Whether every network was pruned exactly.
    pub fn all_exact(&self) -> bool {
        self.rows.iter().all(|(_, row)| row.as_ref().is_ok_and(Measured::exact))
    }

    /// The layers that keep all their filters, by network and reason.
    pub fn kept(&self) -> String {
        let mut text = String::new();
        for (entry, row) in &self.rows {
            let Ok(measured) = row else { continue };
            let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for kept in &measured.kept {
                by_reason.entry(&kept.reason).or_default().push(&kept.path);
            }
            for (reason, paths) in by_reason {
                text += &format!("- {}: {} ({reason})\n", entry.name, paths.join(", "));
            }
        }
        text
    }
}

impl Visit for Report {
    fn visit<M: GraphModule>(&mut self, entry: Entry, make: impl FnOnce() -> (M, M::Inputs)) {
        if self.only.as_ref().is_some_and(|only| !entry.name.to_lowercase().contains(only)) {
            return;
        }
        let (model, input) = make();
        let measured = measure(&model, &input, self.share);
        self.rows.push((entry, measured.map_err(|error| error.to_string())));
    }
}

/// The table, and the messages of errors below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "network",
            "from",
            "filters prunable",
            "parameters",
            "left",
            "MACs",
            "left",
            "layers kept",
            "pruned in",
            "forward pass",
            "difference",
        ];
        let mut table = table(&header, 2);
        for (entry, row) in &self.rows {
            let cells = match row {
                Ok(measured) => cells(measured),
                Err(_) => vec!["error".to_string()],
            };
            table.add_row([entry.name.to_string(), entry.source.to_string()].into_iter().chain(cells));
        }
        writeln!(f, "{table}")?;
        for (entry, row) in &self.rows {
            if let Err(message) = row {
                writeln!(f, "- {}: {message}", entry.name)?;
            }
        }
        Ok(())
    }
}

fn cells(measured: &Measured) -> Vec<String> {
    let millions = |number: u64| format!("{:.2} M", number as f64 / 1e6);
    let share = |(before, after): (u64, u64)| format!("{:.1} %", 100.0 * after as f64 / before.max(1) as f64);
    vec![
        format!("{:.0} %", 100.0 * measured.prunable),
        millions(measured.parameters.0),
        share(measured.parameters),
        millions(measured.macs.0),
        share(measured.macs),
        format!("{} of {}", measured.kept.len(), measured.layers),
        format!("{:.2} s", measured.seconds),
        format!("{:.3} s", measured.forward),
        format!("{:.0e}", measured.difference),
    ]
}

/// An empty table in the form of Markdown, numbers from column `first` on.
fn table(header: &[&str], first: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The names of all networks and what they are.
#[derive(Clone, Debug)]
pub struct Listing(Vec<Entry>);

impl Listing {
    /// Lists all networks. None is made.
    pub fn new(device: &Device) -> Self {
        let mut listing = Self(Vec::new());
        visit_all(Size::Standard, device, &mut listing);
        listing
    }
}

impl Visit for Listing {
    fn visit<M: GraphModule>(&mut self, entry: Entry, _make: impl FnOnce() -> (M, M::Inputs)) {
        self.0.push(entry);
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table(&["network", "from", "what it is"], 3);
        for entry in &self.0 {
            table.add_row([entry.name, entry.source, entry.about]);
        }
        write!(f, "{table}")
    }
}
