#!/usr/bin/env bash
# What a newcomer does, by what docs/ says: a new crate outside the workspace, a network of its own with a residual block, trained,
# analysed, pruned to half of its multiply-adds, fine-tuned, saved, loaded in a second process (the same bits), exported to ONNX and run
# by another program (the same numbers).
#
#   scripts/newcomer.sh            in a temporary folder, which is removed afterwards
#   KEEP=1 scripts/newcomer.sh     keeps it
#
# With CARGO_TARGET_DIR set, Burn is built there once, for the CPU alone, as for the quickstart. The ONNX file is run by onnxruntime where
# Python has it, and otherwise by rten.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
if [ -n "${KEEP:-}" ]; then echo "the crate is in $folder"; else trap 'rm -rf "$folder"' EXIT; fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

# The same versions as in the workspace, so that what is built there fits.
cp "$root/Cargo.lock" "$root/rust-toolchain.toml" "$folder"
cp -r "$root/scripts/newcomer/." "$folder"
sed -i "s|\$ROOT|$root|" "$folder/Cargo.toml"
cd "$folder"

features=()
if ! python3 -c 'import numpy, onnxruntime' 2>/dev/null; then features=(--features rten); fi
# Half of the optimisation for half of the time: what is tested is the way, not the speed.
cargo build --release --config profile.release.opt-level=1 --config 'profile.release.lto="off"' "${features[@]}"
newcomer=$CARGO_TARGET_DIR/release/newcomer
echo "== first process: train, prune, fine-tune, save, export"
"$newcomer" train .
echo "== second process: load, compare"
"$newcomer" load .

echo "== the ONNX file elsewhere"
if [ ${#features[@]} -eq 0 ]; then
    python3 run_onnx.py net.onnx images.f32 logits.f32
else
    "$newcomer" onnx .
fi
ls -l net.safetensors net.onnx
echo "newcomer: all the same"
