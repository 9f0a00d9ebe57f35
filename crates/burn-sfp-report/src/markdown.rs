//! A report as Markdown: the tables.

use std::fmt::Write;

use crate::content::{Content, Kept, Recognised};
use crate::text::{count, duration, number, percent, ratio, short, value};

/// Text without meaning in Markdown or HTML, in one line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A table; all columns after the first `texts` ones are aligned to the right.
fn table(out: &mut String, head: &[&str], texts: usize, rows: impl Iterator<Item = Vec<String>>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(&head.iter().map(|cell| cell.to_string()).collect::<Vec<_>>()));
    let rule = |at| if at < texts { "---" } else { "---:" };
    out.push_str(&line(&(0..head.len()).map(|at| rule(at).to_string()).collect::<Vec<_>>()));
    for row in rows {
        out.push_str(&line(&row));
    }
    out.push('\n');
}

pub(crate) fn text(content: &Content) -> String {
    let mut out = format!("# {}\n\nPolicy: {}", escaped(&content.title), escaped(&content.policy));
    let _ = write!(out, ". {} of {} layers lost filters.", content.layers_pruned, content.layers_in_all);
    if let Some(asked) = content.asked {
        let (filters, removed) = (count(asked.filters as u64), count(asked.removed as u64));
        let _ = write!(out, " Asked for {} of {filters} filters, removed {removed}.", count(asked.asked as u64));
    }
    if let Some(blocks) = content.about_blocks() {
        let _ = write!(out, " {}", escaped(&blocks));
    }
    out.push_str("\n\n## Sizes\n\n");
    sizes(content, &mut out);
    layers(content, &mut out);
    if !content.kept.is_empty() || !content.warnings.is_empty() {
        out.push_str("## Why filters stay\n\n");
        for (number, kept) in content.kept.iter().enumerate() {
            let _ = writeln!(out, "{}. {}: {}", number + 1, layers_of(kept), escaped(&kept.reason));
        }
        for warning in &content.warnings {
            let _ = writeln!(out, "- Warning: {}", escaped(warning));
        }
        out.push('\n');
    }
    if let Some(recognised) = &content.recognised {
        recognises(recognised, &mut out);
    }
    if !content.left_out.is_empty() {
        out.push_str("## Left out\n\n");
        for line in &content.left_out {
            let _ = writeln!(out, "- {line}");
        }
    }
    out
}

fn layers_of(kept: &Kept) -> String {
    let names: Vec<String> = kept.layers.iter().map(|path| escaped(path)).collect();
    let more = if kept.more > 0 { format!(" and {} more", kept.more) } else { String::new() };
    let filters = kept.filters.map_or("all filters".into(), |filters| format!("{filters} filters"));
    format!("{}{more} ({filters})", names.join(", "))
}

fn sizes(content: &Content, out: &mut String) {
    let rows = content.measures.iter().map(|measure| {
        let cell = |of: Option<f64>| of.map_or("–".into(), |of| value(of, measure.unit));
        let left = measure.left().map_or("–".into(), percent);
        vec![escaped(&measure.name), cell(measure.before), cell(measure.pruned), cell(measure.tuned), left]
    });
    table(out, &["", "before", "pruned", "fine-tuned", "left"], 1, rows);
    if let Some(note) = content.about_masks() {
        let _ = writeln!(out, "{note}\n");
    }
    if content.latency.is_empty() {
        return;
    }
    let rows = content.latency.iter().map(|line| {
        let speedup = line.speedup.map_or("–".into(), |speedup| format!("{speedup:.2}x"));
        let macs = line.macs.map_or("–".into(), short);
        vec![escaped(&line.model), line.batch.to_string(), duration(line.median), speedup, macs]
    });
    table(out, &["model", "batch", "median", "speed-up", "multiply-adds"], 1, rows);
}

fn layers(content: &Content, out: &mut String) {
    out.push_str("## Layers\n\n");
    let pair = |[before, after]: [u64; 2]| format!("{} → {}", count(before), count(after));
    let rows = content.layers.iter().map(|row| {
        let kept: Vec<String> = row.kept.iter().map(|at| (at + 1).to_string()).collect();
        vec![
            escaped(&row.path),
            row.kind.to_string(),
            pair(row.filters.map(|filters| filters as u64)),
            pair(row.connections),
            percent(ratio(row.connections[0], row.connections[1])),
            pair(row.parameters),
            pair(row.macs),
            kept.join(", "),
        ]
    });
    let head = ["layer", "kind", "filters", "connections", "left", "parameters", "multiply-adds", "why filters stay"];
    table(out, &head, 2, rows);
}

fn recognises(recognised: &Recognised, out: &mut String) {
    let _ = writeln!(
        out,
        "## What the filters recognise\n\n{} samples, {} labels, threshold {}, top-1 of the original {}.\n",
        count(recognised.samples),
        count(recognised.classes as u64),
        recognised.threshold,
        percent(recognised.top1)
    );
    let rows = recognised.layers.iter().map(|row| {
        vec![
            escaped(&row.path),
            row.readout.to_string(),
            row.accuracy.map_or("–".into(), percent),
            row.filters.to_string(),
            row.silent.to_string(),
            format!("{:.2}", row.clusters_per_filter),
            format!("{:.2}", row.cluster_size),
            format!("{:.1}", row.noise),
            number(row.snr, 2),
            format!("{}–{}", row.labels.least, row.labels.most),
            row.labels.missing.to_string(),
        ]
    });
    let head = [
        "layer",
        "readout",
        "accuracy",
        "filters",
        "silent",
        "clusters per filter",
        "labels per cluster",
        "noise",
        "SNR",
        "filters per label",
        "labels without a filter",
    ];
    table(out, &head, 2, rows);
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_from_outside_means_nothing() {
        assert_eq!(super::escaped("<b>|`x`\n*"), "&lt;b&gt;\\|\\`x\\` \\*");
    }
}
