"""Runs .onnx files with onnxruntime on inputs saved beside them and compares the outputs with those saved there.

    pip install onnxruntime numpy
    python3 scripts/check_onnx.py net.onnx

For `net.onnx` with the input `input` and the output `output`, `net.0.input.npy` and `net.0.output.npy` are the first case,
`net.1.input.npy` .. the second. Prints the largest difference of each file, relative to the largest number of the tensor, and
exits with 1 where it exceeds the tolerance.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def cases(file):
    """Numbers of the saved cases."""
    found = {path.name[len(file.stem) + 1 :].split(".")[0] for path in file.parent.glob(f"{file.stem}.*.npy")}
    return sorted(number for number in found if number.isdigit())


def difference(file):
    """The largest relative difference over all cases and outputs of a file."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst = 0.0
    numbers = cases(file)
    if not numbers:
        sys.exit(f"{file}: no case beside it ({file.stem}.0.NAME.npy)")
    for number in numbers:
        saved = lambda tensor: np.load(file.parent / f"{file.stem}.{number}.{tensor.name}.npy")
        inputs = {tensor.name: saved(tensor).astype(TYPES[tensor.type]) for tensor in session.get_inputs()}
        outputs = session.run(None, inputs)
        for tensor, found in zip(session.get_outputs(), outputs):
            expected = saved(tensor).astype(np.float64)
            if found.shape != expected.shape:
                sys.exit(f"{file}, case {number}: `{tensor.name}` has shape {found.shape}, expected {expected.shape}")
            off = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
            worst = max(worst, off / max(np.abs(expected).max(initial=0.0), 1e-6)) if np.isfinite(off) else float("inf")
    return worst, len(numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative difference allowed (default: 1e-4)")
    arguments = parser.parse_args()
    worst = 0.0
    for file in arguments.files:
        off, count = difference(file)
        print(f"{file.name}: largest difference {off:.2e} in {count} cases")
        worst = max(worst, off)
    if worst > arguments.tolerance:
        sys.exit(f"the largest difference, {worst:.2e}, exceeds {arguments.tolerance:.0e}")


if __name__ == "__main__":
    main()
