#!/usr/bin/env bash
# What a newcomer does, by what docs/ says: a new crate outside the workspace, a network of its own with a residual block, trained,
# analysed, pruned to half of its multiply-adds, fine-tuned, saved, loaded in a second process (the same bits), exported to ONNX and run
# by another program (the same numbers).
#
#   scripts/newcomer.sh            in a temporary folder, which is removed afterwards
#   KEEP=1 scripts/newcomer.sh     keeps it
#
# With CARGO_TARGET_DIR set, Burn is built there once, for the CPU alone, as for the quickstart. The ONNX file is run by rten, and by
# onnxruntime where Python has it.
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

cargo build --release
newcomer=$CARGO_TARGET_DIR/release/newcomer
echo "== first process: train, prune, fine-tune, save, export"
"$newcomer" train .
echo "== second process: load, compare"
"$newcomer" load .

echo "== the ONNX file elsewhere"
"$newcomer" onnx .
if python3 -c 'import numpy, onnxruntime' 2>/dev/null; then
    python3 run_onnx.py net.onnx images.f32 logits.f32
else
    echo "onnxruntime is not installed for python3: skipped"
fi
ls -l net.safetensors net.onnx
echo "newcomer: all the same"
