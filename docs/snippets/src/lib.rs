//! Compiles and runs the Rust blocks of `README.md` and of the pages in `docs/` as doc tests.
//!
//! `cargo test --profile gate --workspace --doc` runs each block. Lines that start with `# ` are hidden by mdBook; those of the pages use what
//! this crate exports: small networks with residual blocks, and data for them. `tests/pages.rs` checks what doc tests cannot see.

mod network;

pub use network::{Conv, Net, Residual, samples};

/// One module a page, so that a failing block is reported under the name of its page.
macro_rules! pages {
    ($($name:ident = $path:literal,)*) => {
        $(
            #[doc = include_str!(concat!("../../", $path))]
            pub mod $name {}
        )*
    };
}

pages! {
    readme = "../README.md",
    getting_started = "getting-started.md",
    policies = "policies.md",
    budgets = "budgets.md",
    recovery = "recovery.md",
    masks = "masks.md",
    fine_tuning = "fine-tuning.md",
    networks = "networks.md",
    saving = "saving.md",
    deployment = "deployment.md",
    backends = "backends.md",
    devices = "devices.md",
    report = "report.md",
    long_work = "long-work.md",
    troubleshooting = "troubleshooting.md",
    torch_pruning = "torch-pruning.md",
}
