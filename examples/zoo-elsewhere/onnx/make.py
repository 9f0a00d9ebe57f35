"""Writes the .onnx files of this folder: small networks as PyTorch's exporter writes them, with seeded random weights.

    pip install onnx numpy
    python make.py

The files are committed, so the build does not need Python.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Graph:
    """Collects nodes and initializers; every method returns the name of the tensor that it makes."""

    def __init__(self, name, seed):
        self.name = name
        self.random = np.random.default_rng(seed)
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []

    def node(self, kind, *inputs, outputs=1, **attributes):
        # Names as the exporter makes them: the kind and a number.
        label = f"{kind}_{len(self.nodes)}"
        made = [f"{label}_output_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=label, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, values, dtype=np.float32, label="constant"):
        name = f"{label}_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def ints(self, *values):
        return self.constant(values, np.int64, "shape")

    def index(self, value):
        """A scalar index, for Gather."""
        return self.constant(value, np.int64, "index")

    def normal(self, *shape, scale=1.0, label="weight"):
        return self.constant(self.random.normal(0.0, scale, shape), label=label)

    def positive(self, *shape, label="weight"):
        return self.constant(self.random.uniform(0.5, 1.5, shape), label=label)

    def input(self, name, shape, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, tensor, shape):
        self.node_named("Identity", tensor, "output")
        self.outputs.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, shape))

    def node_named(self, kind, tensor, name):
        self.nodes.append(helper.make_node(kind, [tensor], [name], name=f"{kind}_last"))

    # Convolutional networks.

    def conv(self, x, inputs, outputs, kernel=1, stride=1, groups=1, bias=True):
        fan_in = inputs // groups * kernel * kernel
        weight = self.normal(outputs, inputs // groups, kernel, kernel, scale=(2.0 / fan_in) ** 0.5)
        more = [self.normal(outputs, scale=0.1, label="bias")] if bias else []
        pad = kernel // 2
        return self.node(
            "Conv", x, weight, *more, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups, dilations=[1, 1]
        )

    def batch_norm(self, x, channels):
        gamma, beta = self.positive(channels), self.normal(channels, scale=0.1, label="bias")
        mean, variance = self.normal(channels, scale=0.1, label="mean"), self.positive(channels, label="variance")
        return self.node("BatchNormalization", x, gamma, beta, mean, variance, epsilon=1e-5, momentum=0.9)

    def conv_norm(self, x, inputs, outputs, kernel=1, stride=1, groups=1):
        return self.batch_norm(self.conv(x, inputs, outputs, kernel, stride, groups, bias=False), outputs)

    def relu6(self, x):
        return self.node("Clip", x, self.constant(0.0, label="min"), self.constant(6.0, label="max"))

    def shuffle(self, x, groups, channels, side):
        x = self.node("Reshape", x, self.ints(1, groups, channels // groups, side, side))
        x = self.node("Transpose", x, perm=[0, 2, 1, 3, 4])
        return self.node("Reshape", x, self.ints(1, channels, side, side))

    def classify(self, x, features, classes):
        """Global average pooling, flatten and the last linear layer."""
        x = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        weight = self.normal(classes, features, scale=(1.0 / features) ** 0.5)
        return self.node("Gemm", x, weight, self.normal(classes, scale=0.1, label="bias"), alpha=1.0, beta=1.0, transB=1)

    # Transformers.

    def linear(self, x, inputs, outputs):
        """A linear layer on tokens: a product and a sum, as the exporter writes it."""
        y = self.node("MatMul", x, self.normal(inputs, outputs, scale=(1.0 / inputs) ** 0.5))
        return self.node("Add", self.normal(outputs, scale=0.1, label="bias"), y)

    def layer_norm(self, x, width):
        return self.node(
            "LayerNormalization", x, self.positive(width), self.normal(width, scale=0.1, label="bias"), axis=-1, epsilon=1e-6
        )

    def gelu(self, x):
        inner = self.node("Erf", self.node("Div", x, self.constant(2.0**0.5)))
        product = self.node("Mul", x, self.node("Add", inner, self.constant(1.0)))
        return self.node("Mul", product, self.constant(0.5))

    def mlp(self, x, width, hidden):
        return self.linear(self.gelu(self.linear(x, width, hidden)), hidden, width)

    def scores(self, q, k, width):
        """Scaled products of queries and keys `[batch, heads, tokens, width]`."""
        products = self.node("MatMul", q, self.node("Transpose", k, perm=[0, 1, 3, 2]))
        return self.node("Div", products, self.constant(width**0.5))

    def expand(self, x, target):
        """`x.expand(target)` where -1 keeps a length: the exporter asks for these at run time."""
        ones = self.node(
            "ConstantOfShape", self.ints(len(target)), value=helper.make_tensor("value", TensorProto.INT64, [1], [1])
        )
        shape = self.ints(*target)
        kept = self.node("Equal", shape, self.node("Mul", ones, self.constant(-1, np.int64)))
        return self.node("Expand", x, self.node("Where", kept, ones, shape))

    def length(self, x, axis):
        """The length of an axis as a vector of one, computed when the network runs."""
        shape = self.node("Shape", x)
        return self.node("Unsqueeze", self.node("Gather", shape, self.index(axis), axis=0), self.ints(0))

    def save(self, folder):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(graph, producer_name="make.py", opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        path = folder / f"{self.name}.onnx"
        onnx.save(model, path)
        print(f"{path.name}: {path.stat().st_size} bytes")


def residual():
    """A residual network with an inverted bottleneck: batch normalisations folded in the stem and the head, kept elsewhere."""
    g = Graph("residual", 1)
    x = g.input("input", [1, 3, 32, 32])
    x = g.node("Relu", g.conv(x, 3, 16, kernel=3))
    for inputs, outputs, stride in [(16, 32, 2), (32, 32, 1)]:
        y = g.node("Relu", g.conv_norm(x, inputs, outputs, kernel=3, stride=stride))
        y = g.conv_norm(y, outputs, outputs, kernel=3)
        shortcut = x if stride == 1 else g.conv_norm(x, inputs, outputs, stride=stride)
        x = g.node("Relu", g.node("Add", y, shortcut))
    y = g.relu6(g.conv_norm(x, 32, 96))
    y = g.relu6(g.conv_norm(y, 96, 96, kernel=3, groups=96))
    x = g.node("Add", x, g.conv_norm(y, 96, 32))
    x = g.node("Relu", g.conv(x, 32, 128))
    g.output(g.classify(x, 128, 10), [1, 10])
    return g


def classifier():
    """A residual classifier of convolutions, normalisations and ReLU, whose batches may have any size."""
    g = Graph("classifier", 5)
    x = g.input("input", ["batch", 3, 32, 32])
    x = g.node("Relu", g.conv_norm(x, 3, 16, kernel=3))
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    for inputs, outputs, stride in [(16, 32, 2), (32, 32, 1), (32, 64, 2)]:
        y = g.node("Relu", g.conv_norm(x, inputs, outputs, kernel=3, stride=stride))
        y = g.conv_norm(y, outputs, outputs, kernel=3)
        shortcut = x if stride == 1 else g.conv_norm(x, inputs, outputs, stride=stride)
        x = g.node("Relu", g.node("Add", y, shortcut))
    g.output(g.classify(x, 64, 10), ["batch", 10])
    return g


def shuffle():
    """Units of ShuffleNet (grouped 1x1 convolutions) and of ShuffleNetV2 (halves), shapes written out as constants."""
    g = Graph("shuffle", 2)
    x = g.input("input", [1, 3, 32, 32])
    x = g.node("Relu", g.conv_norm(x, 3, 24, kernel=3, stride=2))
    # ShuffleNet: grouped, shuffled, depthwise, grouped; the pooled input beside it.
    groups, side = 3, 16
    y = g.node("Relu", g.conv_norm(x, 24, 36, groups=groups))
    y = g.shuffle(y, groups, 36, side)
    y = g.conv_norm(y, 36, 36, kernel=3, stride=2, groups=36)
    y = g.conv_norm(y, 36, 24, groups=groups)
    pooled = g.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    x = g.node("Relu", g.node("Concat", pooled, y, axis=1))
    # ShuffleNetV2: one half passes, both are shuffled together.
    for _ in range(2):
        half, y = g.node("Split", x, g.ints(24, 24), outputs=2, axis=1)
        y = g.node("Relu", g.conv_norm(y, 24, 24))
        y = g.conv_norm(y, 24, 24, kernel=3, groups=24)
        y = g.node("Relu", g.conv_norm(y, 24, 24))
        x = g.shuffle(g.node("Concat", half, y, axis=1), 2, 48, 8)
    x = g.node("Relu", g.conv_norm(x, 48, 128))
    g.output(g.classify(x, 128, 10), [1, 10])
    return g


def vit():
    """A vision transformer of two blocks: queries, keys and values in one product, the class token expanded to the batch."""
    width, heads, patch, side = 48, 3, 4, 32
    tokens = (side // patch) ** 2
    head = width // heads
    g = Graph("vit", 3)
    x = g.input("input", [1, 3, side, side])
    weight = g.normal(width, 3, patch, patch, scale=(1.0 / (3 * patch * patch)) ** 0.5)
    bias = g.normal(width, scale=0.1, label="bias")
    x = g.node("Conv", x, weight, bias, kernel_shape=[patch] * 2, strides=[patch] * 2, pads=[0] * 4, group=1, dilations=[1, 1])
    x = g.node("Transpose", g.node("Reshape", x, g.ints(1, width, tokens)), perm=[0, 2, 1])
    class_token = g.expand(g.normal(1, 1, width, label="class_token"), [1, -1, -1])
    x = g.node("Concat", class_token, x, axis=1)
    x = g.node("Add", x, g.normal(1, tokens + 1, width, scale=0.1, label="positions"))
    for _ in range(2):
        y = g.linear(g.layer_norm(x, width), width, 3 * width)
        y = g.node("Reshape", y, g.ints(1, tokens + 1, 3, heads, head))
        y = g.node("Transpose", y, perm=[2, 0, 3, 1, 4])
        q, k, v = (g.node("Gather", y, g.index(part), axis=0) for part in range(3))
        y = g.node("MatMul", g.node("Softmax", g.scores(q, k, head), axis=-1), v)
        y = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.ints(1, tokens + 1, width))
        x = g.node("Add", x, g.linear(y, width, width))
        x = g.node("Add", x, g.mlp(g.layer_norm(x, width), width, 4 * width))
    x = g.node("Gather", g.layer_norm(x, width), g.index(0), axis=1)
    weight = g.normal(10, width, scale=(1.0 / width) ** 0.5)
    g.output(g.node("Gemm", x, weight, g.normal(10, scale=0.1, label="bias"), transB=1), [1, 10])
    return g


def encoder():
    """A causal encoder of texts of any length: positions counted at run time, shapes computed from the input's, a mask."""
    vocabulary, width, heads, longest = 96, 48, 4, 32
    head = width // heads
    g = Graph("encoder", 4)
    ids = g.input("input", ["batch", "tokens"], TensorProto.INT64)
    batch, tokens = g.length(ids, 0), g.length(ids, 1)
    count = g.node("Squeeze", tokens, g.ints(0))
    places = g.node("Range", g.index(0), count, g.index(1))
    x = g.node("Gather", g.normal(vocabulary, width, label="embedding"), ids, axis=0)
    positions = g.node("Gather", g.normal(longest, width, scale=0.1, label="positions"), places, axis=0)
    x = g.node("Add", x, positions)
    lowest = helper.make_tensor("value", TensorProto.FLOAT, [1], [-1e4])
    later = g.node("ConstantOfShape", g.node("Concat", tokens, tokens, axis=0), value=lowest)
    mask = g.node("Trilu", later, g.index(1), upper=1)
    # The exporter keeps sizes of views in one vector; what is picked from it is known, but not folded.
    sizes = g.ints(heads, head, width)
    pick = lambda place: g.node("Unsqueeze", g.node("Gather", sizes, g.index(place), axis=0), g.ints(0))
    for _ in range(2):
        y = g.layer_norm(x, width)
        apart = g.node("Concat", batch, tokens, g.ints(heads), g.ints(head), axis=0)
        q, k, v = (
            g.node("Transpose", g.node("Reshape", g.linear(y, width, width), apart), perm=[0, 2, 1, 3]) for _ in range(3)
        )
        weights = g.node("Softmax", g.node("Add", g.scores(q, k, head), mask), axis=-1)
        y = g.node("Transpose", g.node("MatMul", weights, v), perm=[0, 2, 1, 3])
        y = g.node("Reshape", y, g.node("Concat", batch, g.ints(-1), pick(2), axis=0))
        x = g.node("Add", x, g.linear(y, width, width))
        x = g.node("Add", x, g.mlp(g.layer_norm(x, width), width, 4 * width))
    # A reshape whose target is read from a parameter.
    features = g.node("Reshape", g.layer_norm(x, width), g.node("Where", g.constant([True, False], np.bool_), g.ints(-1, 0), g.ints(0, width)))
    weight = g.normal(width, vocabulary, scale=(1.0 / width) ** 0.5)
    g.output(g.node("MatMul", features, weight), ["rows", vocabulary])
    return g


if __name__ == "__main__":
    here = Path(__file__).parent
    for make in [residual, classifier, shuffle, vit, encoder]:
        make().save(here)
