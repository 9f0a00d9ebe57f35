"""Writes random weights of a narrow ResNet-18 with torchvision's names, as a .pt and as a .safetensors file.

    python3 scripts/resnet_weights.py FOLDER

Needs nothing but Python: the .pt file is written as `torch.save` writes it, a zip archive with a pickle and a file for each tensor. Where
torch is installed, torch itself writes it, and `whole.0.input.npy` and `whole.0.output.npy` hold an input and the logits that torch
computes for it, for `check_onnx.py` on an exported `whole.onnx`.
"""

import argparse
import collections
import json
import pickle
import random
import struct
import sys
import types
import zipfile
from pathlib import Path

WIDTHS = [8, 16, 32, 64]
BLOCKS = 2
CLASSES = 10
SIDE = 32

Tensor = collections.namedtuple("Tensor", "kind shape values")


def floats(source, shape, low, high):
    size = 1
    for length in shape:
        size *= length
    return Tensor("F32", shape, [source.uniform(low, high) for _ in range(size)])


def weights():
    """Names and tensors, in torchvision's order."""
    source = random.Random(1)
    state = collections.OrderedDict()

    def conv(name, inputs, outputs, kernel):
        half = (3.0 / (inputs * kernel * kernel)) ** 0.5
        state[f"{name}.weight"] = floats(source, [outputs, inputs, kernel, kernel], -half, half)

    def norm(name, channels):
        state[f"{name}.weight"] = floats(source, [channels], 0.5, 1.5)
        state[f"{name}.bias"] = floats(source, [channels], -0.3, 0.3)
        state[f"{name}.running_mean"] = floats(source, [channels], -0.3, 0.3)
        state[f"{name}.running_var"] = floats(source, [channels], 0.5, 2.0)
        state[f"{name}.num_batches_tracked"] = Tensor("I64", [], [1000])

    conv("conv1", 3, WIDTHS[0], 7)
    norm("bn1", WIDTHS[0])
    inputs = WIDTHS[0]
    for stage, outputs in enumerate(WIDTHS, 1):
        for block in range(BLOCKS):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", inputs, outputs, 3)
            norm(f"{name}.bn1", outputs)
            conv(f"{name}.conv2", outputs, outputs, 3)
            norm(f"{name}.bn2", outputs)
            if inputs != outputs:
                conv(f"{name}.downsample.0", inputs, outputs, 1)
                norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    state["fc.weight"] = floats(source, [CLASSES, inputs], -0.2, 0.2)
    state["fc.bias"] = floats(source, [CLASSES], -0.3, 0.3)
    return state


def data(tensor):
    code = {"F32": "f", "I64": "q"}[tensor.kind]
    return struct.pack(f"<{len(tensor.values)}{code}", *tensor.values)


def save_safetensors(state, path):
    head, body = {}, b""
    for name, tensor in state.items():
        values = data(tensor)
        head[name] = {"dtype": tensor.kind, "shape": tensor.shape, "data_offsets": [len(body), len(body) + len(values)]}
        body += values
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)


def save_pt(state, path):
    """A state dict as `torch.save` writes it, without torch: its names stand in the pickle, its modules are made up."""
    modules = {name: types.ModuleType(name) for name in ["torch", "torch._utils"]}
    sys.modules.update(modules)

    def global_of(module, name, value):
        value.__module__, value.__qualname__, value.__name__ = module, name, name
        setattr(modules[module], name, value)
        return value

    rebuild = global_of("torch._utils", "_rebuild_tensor_v2", lambda *arguments: None)
    storages = {
        "F32": global_of("torch", "FloatStorage", type("FloatStorage", (), {})),
        "I64": global_of("torch", "LongStorage", type("LongStorage", (), {})),
    }

    class Storage:
        def __init__(self, key, tensor):
            self.key, self.tensor = key, tensor

    class Saved:
        def __init__(self, key, tensor):
            self.storage = Storage(key, tensor)

        def __reduce__(self):
            shape = self.storage.tensor.shape
            strides = [1] * len(shape)
            for axis in reversed(range(len(shape) - 1)):
                strides[axis] = strides[axis + 1] * shape[axis + 1]
            return rebuild, (self.storage, 0, tuple(shape), tuple(strides), False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", storages[value.tensor.kind], value.key, "cpu", len(value.tensor.values))
            return None

    root = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(f"{root}/data.pkl", "w") as file:
            saved = [(name, Saved(str(key), tensor)) for key, (name, tensor) in enumerate(state.items())]
            Pickler(file, protocol=2).dump(collections.OrderedDict(saved))
        archive.writestr(f"{root}/byteorder", "little")
        for key, tensor in enumerate(state.values()):
            archive.writestr(f"{root}/data/{key}", data(tensor))
        archive.writestr(f"{root}/version", "3\n")


def save_with_torch(state, folder, torch):
    import numpy

    types_ = {"F32": torch.float32, "I64": torch.int64}
    tensors = collections.OrderedDict(
        (name, torch.tensor(tensor.values, dtype=types_[tensor.kind]).reshape(tensor.shape)) for name, tensor in state.items()
    )
    torch.save(tensors, folder / "resnet.pt")
    run = torch.nn.functional

    def norm(x, name):
        mean, variance = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        return run.batch_norm(x, mean, variance, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def conv(x, name, **settings):
        return run.conv2d(x, tensors[f"{name}.weight"], **settings)

    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, SIDE, SIDE, generator=generator) * 2 - 1
    x = run.max_pool2d(run.relu(norm(conv(images, "conv1", stride=2, padding=3), "bn1")), 3, 2, 1)
    for stage in range(1, len(WIDTHS) + 1):
        for block in range(BLOCKS):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = run.relu(norm(conv(x, f"{name}.conv1", stride=stride, padding=1), f"{name}.bn1"))
            y = norm(conv(y, f"{name}.conv2", padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in tensors:
                x = norm(conv(x, f"{name}.downsample.0", stride=stride), f"{name}.downsample.1")
            x = run.relu(x + y)
    logits = run.linear(x.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])
    numpy.save(folder / "whole.0.input.npy", images.numpy())
    numpy.save(folder / "whole.0.output.npy", logits.numpy())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    state = weights()
    save_safetensors(state, folder / "resnet.safetensors")
    try:
        import torch
    except ImportError:
        save_pt(state, folder / "resnet.pt")
    else:
        save_with_torch(state, folder, torch)


if __name__ == "__main__":
    main()
