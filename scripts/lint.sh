#!/usr/bin/env bash
# Runs the linters that are installed, and says which were skipped. Fails if one of them finds something.
#
#   scripts/lint.sh                      spelling, dependencies, packages, links of the book
#   SEMVER=v0.1.0 scripts/lint.sh        also compares the public API with that git revision (compiles for minutes)
#   FEATURES=1 scripts/lint.sh           also checks that features are additive (compiles for minutes)
#
# To install: cargo install --locked typos-cli cargo-deny mdbook cargo-semver-checks cargo-hack (typos also by pip)
set -uo pipefail
cd "$(dirname "$0")/.."

published=(burn-sfp-kernels burn-sfp-derive burn-sfp-ndarray burn-sfp-wgpu burn-sfp-nn burn-sfp-graph burn-sfp-core burn-sfp-prune burn-sfp)
if [ -d crates/burn-sfp-report ]; then published+=(burn-sfp-report); fi
selected=()
for crate in "${published[@]}"; do selected+=(-p "$crate"); done

failed=()
skipped=()

# Runs a command under a name if a tool is there.
lint() {
    local name=$1 tool=$2
    shift 2
    if ! command -v "$tool" >/dev/null; then
        skipped+=("$name ($tool is not installed)")
        return
    fi
    echo "== $name"
    "$@" || failed+=("$name")
}

lint "spelling" typos typos
# Not advisories: they change without a change here, and need the network.
lint "dependencies" cargo-deny cargo deny --offline check bans licenses sources
lint "format of the newcomer's crate" rustfmt rustfmt --edition 2024 --check scripts/newcomer/src/main.rs
lint "packages" cargo cargo package --no-verify --offline --allow-dirty --quiet "${selected[@]}"
lint "the book" mdbook mdbook build docs

# As Burn does: the default features, the crates that are published.
if [ -n "${SEMVER:-}" ]; then
    lint "public API against $SEMVER" cargo-semver-checks \
        cargo semver-checks --baseline-rev "$SEMVER" --default-features "${selected[@]}"
else
    skipped+=("public API (set SEMVER to a git revision)")
fi

# Each feature of the crates that have some, alone: the CPU's, because each of the others builds a GPU stack anew.
if [ -n "${FEATURES:-}" ]; then
    lint "features" cargo-hack cargo hack check --release --each-feature --no-dev-deps \
        --exclude-features wgpu,vulkan,cuda,wasm_js -p burn-sfp-nn -p burn-sfp-graph -p burn-sfp-core -p burn-sfp-prune -p burn-sfp
else
    skipped+=("features (set FEATURES=1)")
fi

for name in "${skipped[@]}"; do echo "skipped: $name"; done
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
