"""Runs an .onnx file with onnxruntime on images from a file and compares the logits: run_onnx.py NET IMAGES LOGITS."""

import sys

import numpy as np
import onnxruntime

net, images, logits = sys.argv[1:]
images = np.fromfile(images, dtype="<f4").reshape(-1, 1, 16, 16)
expected = np.fromfile(logits, dtype="<f4").reshape(len(images), -1)
session = onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"])
# Two batches of different sizes: the batch axis is dynamic.
name = session.get_inputs()[0].name
found = np.concatenate([session.run(None, {name: part})[0] for part in (images[:5], images[5:])])
difference = np.abs(found - expected).max() / np.abs(expected).max()
print(f"onnxruntime {onnxruntime.__version__}: largest difference {difference:.1e} of the largest logit")
sys.exit(int(difference > 1e-4))
