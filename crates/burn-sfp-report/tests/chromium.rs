//! The page in a real browser: headless Chromium, as Debian packages it. Without it these tests say that they were skipped.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use burn_sfp_report::ReportExt;
use common::{LABELS, analysis_config, ranked};

/// The first of these programs that is there; `CHROMIUM` names another one.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    let found = named.into_iter().chain(usual).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: Chromium is not installed (Debian: apt-get install chromium)");
    }
    found
}

/// Counts texts of drawings that overlap another one or leave their drawing, by more than two pixels.
const OVERLAPS: &str = r#"
    const overlaps = () => {
        const clash = (a, b) => a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
        const outside = (a, b) => a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2;
        let count = 0, texts = 0;
        for (const svg of document.querySelectorAll('.plot svg, .graph svg')) {
            const frame = svg.getBoundingClientRect(), boxes = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
            texts += boxes.length;
            boxes.forEach((box, at) => { count += boxes.slice(at + 1).filter(other => clash(box, other)).length + outside(box, frame); });
        }
        return texts > 30 ? count + ' overlaps' : 'only ' + texts + ' texts';
    };
"#;

struct Shown {
    dom: String,
    log: String,
}

/// Opens a page and returns its elements after its scripts have run, and the browser's log.
fn open(chromium: &Path, page: &Path, hash: &str, more: &[&str]) -> Shown {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"])
        .args(more)
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--dump-dom")
        .arg(format!("file://{}{hash}", page.display()))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Shown { dom: text(&output.stdout), log: text(&output.stderr) }
}

impl Shown {
    /// What the page wrote to its console, errors and violations of its security policy included.
    fn console(&self) -> Vec<&str> {
        self.log.lines().filter(|line| line.contains("CONSOLE")).collect()
    }

    /// The text of the element with an id.
    fn text(&self, id: &str) -> &str {
        let start = self.dom.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("{id} is missing in {}", self.dom));
        let rest = &self.dom[start..];
        let text = &rest[rest.find('>').unwrap() + 1..];
        &text[..text.find("</").unwrap()]
    }
}

/// A report on the small network, in a folder of its own, and what it is about.
fn report() -> (tempfile::TempDir, PathBuf, String) {
    let (pruned, network) = ranked(analysis_config());
    let names = (0..LABELS).map(|label| if label == 1 { "<b>one</b>".into() } else { format!("name-{label}") });
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let report = pruned.report().network(&network).labels(names);
    report.write_html(&page).unwrap();
    let html = std::fs::read_to_string(&page).unwrap();
    // To look at: the folder must be there.
    if let Some(kept) = std::env::var_os("REPORT_PAGES") {
        std::fs::write(Path::new(&kept).join("small.html"), &html).unwrap();
        report.write_png(Path::new(&kept).join("plots")).unwrap();
    }
    (folder, page, html)
}

/// A copy of a page that runs one more script at its end.
fn with_script(folder: &Path, html: &str, script: &str) -> PathBuf {
    let page = folder.join("scripted.html");
    std::fs::write(&page, html.replace("</body>", &format!("<script>{script}</script></body>"))).unwrap();
    page
}

#[test]
fn the_page_runs_without_errors_and_picks_a_filter() {
    let Some(chromium) = chromium() else { return };
    let (folder, page, html) = report();
    let shown = open(&chromium, &page, "", &[]);
    assert!(shown.console().is_empty(), "{:?}", shown.console());
    assert!(shown.dom.contains("data-ready=\"true\""), "the script ran to its end");
    assert!(shown.text("picked").starts_with("wide, filter "), "{}", shown.text("picked"));
    let shown = open(&chromium, &page, "#filter=1:5", &[]);
    assert_eq!(shown.text("picked"), "narrow, filter 5");
    assert!(shown.console().is_empty(), "{:?}", shown.console());
    let shown = open(&chromium, &page, "#filter=99:5", &[]);
    assert!(shown.text("picked").starts_with("wide, filter ") && shown.console().is_empty());
    // The check can fail: a page with an error has a line in the console.
    let broken = with_script(folder.path(), &html, "missing();");
    assert!(open(&chromium, &broken, "", &[]).console().iter().any(|line| line.contains("missing is not defined")));
}

#[test]
fn controls_work() {
    let Some(chromium) = chromium() else { return };
    let (folder, _, html) = report();
    let script = r#"
        const at = id => document.getElementById(id), told = [];
        const choose = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event('change')); };
        choose('layer', 0);
        told.push(at('picked').textContent);
        choose('filter', 3);
        told.push(at('picked').textContent);
        at('next').click();
        told.push(at('picked').textContent, location.hash);
        at('previous').click(); at('previous').click();
        told.push(at('picked').textContent);
        at('all').children[7].click();
        told.push(at('picked').textContent, at('all').children[7].getAttribute('aria-pressed'));
        const box = at('matrix').getBoundingClientRect();
        at('matrix').dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + box.width - 2, clientY: box.top + 2 }));
        told.push(/^shown: .+ → output: .+: /.test(at('cell').textContent) ? 'cell' : at('cell').textContent);
        at('matrix').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown' }));
        told.push(/^shown: /.test(at('cell').textContent) ? 'cell' : at('cell').textContent);
        const labels = at('labels').getBoundingClientRect();
        at('labels').dispatchEvent(new PointerEvent('pointermove', { clientX: labels.left + labels.width / 4, clientY: labels.top + 5 }));
        told.push(at('label').textContent.replace(/\d+ of/, 'N of'));
        const back = () => getComputedStyle(document.body).backgroundColor;
        for (let turn = 0; turn < 3; turn++) { at('theme').click(); told.push(at('theme').textContent + ' ' + back()); }
        choose('map-layer', 1);
        told.push(at('map-text').textContent);
        told.push(overlaps());
        told.push(document.querySelectorAll('output b, #clusters b').length + ' elements of names');
        at('probe').textContent = told.join(' | ');
    "#;
    let page = with_script(folder.path(), &html, &format!("{OVERLAPS}{script}"));
    let shown = open(&chromium, &page, "", &[]);
    assert!(shown.console().is_empty(), "{:?}", shown.console());
    let told: Vec<&str> = shown.text("probe").split(" | ").collect();
    let expected = [
        "stem, filter 0",
        "stem, filter 3",
        "stem, filter 4",
        "#filter=0:4",
        "stem, filter 2",
        "stem, filter 7",
        "true",
        "cell",
        "cell",
        "&lt;b&gt;one&lt;/b&gt;: N of 12",
        "Theme: light rgb(244, 246, 248)",
        "Theme: dark rgb(18, 23, 29)",
        "Theme: auto rgb(244, 246, 248)",
        "8 outputs, 12 inputs",
        "0 overlaps",
        "0 elements of names",
    ];
    assert_eq!(told, expected);
}

#[test]
fn nothing_is_wider_than_a_phone() {
    let Some(chromium) = chromium() else { return };
    let (folder, _, html) = report();
    // Windows of a headless browser are not this narrow; a frame is.
    let frame = folder.path().join("frame.html");
    let script = "const root = document.documentElement; parent.postMessage(`${innerWidth}: ${root.scrollWidth - root.clientWidth}, ${overlaps()}`, '*');";
    let page = with_script(folder.path(), &html, &format!("{OVERLAPS}{script}"));
    let outer = format!(
        "<!DOCTYPE html><body><p id=\"width\"></p><script>addEventListener('message', event => \
         {{ document.getElementById('width').textContent = event.data; }});</script>\
         <iframe width=\"390\" height=\"800\" style=\"border:0\" src=\"file://{}\"></iframe></body>",
        page.display()
    );
    std::fs::write(&frame, outer).unwrap();
    let shown = open(&chromium, &frame, "", &["--virtual-time-budget=5000", "--allow-file-access-from-files"]);
    assert_eq!(shown.text("width"), "390: 0, 0 overlaps");
    assert!(shown.console().is_empty(), "{:?}", shown.console());
}
