//! What doc tests cannot see: that the pages are listed, that their links lead somewhere, that no Rust block escapes the compiler, and that
//! no error is missing from the troubleshooting page.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `README.md`, `CONTRIBUTING.md` and the pages of the book, with their paths from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let docs =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let all = pages.chain(["README.md".into(), "CONTRIBUTING.md".into()]);
    all.map(|path| (path.clone(), read(path))).collect()
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

/// The targets of the links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for (page, text) in pages() {
        for target in prose(&text).flat_map(links).filter(|target| !target.starts_with("http")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(root().join(&to).exists(), "{}: the link {target} leads nowhere", page.display());
            let found = anchor.is_empty() || anchors(&read(&to)).contains(anchor);
            assert!(found, "{}: {} has no heading #{anchor}", page.display(), to.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} links were found");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = read("docs/SUMMARY.md");
    for (page, _) in pages().iter().filter(|(page, _)| page.starts_with("docs")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name} is not in docs/SUMMARY.md");
    }
}

#[test]
fn every_rust_block_is_compiled() {
    let compiled = read("docs/snippets/src/lib.rs");
    for (page, text) in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        let tested = compiled.contains(&format!("{name}\""));
        let (mut fenced, mut before) = (false, "");
        for line in text.lines() {
            let place = || format!("{}: `{line}`", page.display());
            if let Some(language) = line.trim_start().strip_prefix("```") {
                let opens = !fenced;
                fenced = opens;
                assert!(!language.contains("ignore"), "{}: Rust blocks are compiled, `no_run` at least", place());
                assert!(!opens || !language.is_empty(), "{}: a block needs its language", place());
                assert!(!opens || !language.starts_with("rust") || tested, "{}: add the page to lib.rs", place());
            } else if !fenced && tested {
                // rustdoc takes a block by indentation for Rust.
                assert!(!(line.starts_with("    ") && before.is_empty()), "{}: fence this block", place());
            }
            before = line;
        }
    }
}

/// The variants of an enum in a source file.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("pub enum {name} {{");
    let body = source.split_once(&head).unwrap_or_else(|| panic!("no {head}")).1;
    let body = body.split_once("\n}").unwrap().0;
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let starts = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    starts.map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect()
}

#[test]
fn every_error_is_on_the_troubleshooting_page() {
    let page = read("docs/troubleshooting.md");
    let mut found = 0;
    for (name, source) in [
        ("PruneError", "crates/burn-sfp-prune/src/error.rs"),
        ("SfpError", "crates/burn-sfp-core/src/error.rs"),
        ("GraphError", "crates/burn-sfp-graph/src/error.rs"),
        ("NnError", "crates/burn-sfp-nn/src/error.rs"),
        ("FileError", "crates/burn-sfp-graph/src/file/error.rs"),
        ("OnnxError", "crates/burn-sfp-prune/src/onnx/error.rs"),
        ("ReportError", "crates/burn-sfp-report/src/error.rs"),
        ("KernelError", "crates/burn-sfp-kernels/src/error.rs"),
    ] {
        let section = page.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no heading {name}")).1;
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
        for variant in variants(&read(source), name) {
            let row = format!("`{variant}`");
            assert!(
                rows.iter().any(|first| first.contains(&row)),
                "{name}::{variant} is not in docs/troubleshooting.md"
            );
            found += 1;
        }
    }
    assert!(found > 80, "only {found} variants were found");
}

/// This block cannot be compiled here, because burn-onnx is a build dependency of the example alone; there it is compiled.
#[test]
fn the_build_script_of_the_page_is_that_of_the_example() {
    let page = read("docs/networks.md");
    let shown = page.split_once("```rs\n").unwrap().1.split_once("```").unwrap().0;
    let script = read("examples/zoo-elsewhere/build.rs");
    assert!(script.ends_with(shown), "docs/networks.md shows\n{shown}and examples/zoo-elsewhere/build.rs is\n{script}");
}
