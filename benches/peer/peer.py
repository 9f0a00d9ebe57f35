"""Times PyTorch's forward passes on the CPU: peer.py NETWORK SHARE BATCH SIDE

NETWORK: resnet18, resnet50, mobilenet_v2 or vgg11 (that of examples/vgg11-cifar100); SHARE: share of every layer's channels. Prints the version of
PyTorch, and then, for each line with a number of passes on the standard input, the seconds of a forward pass of the network as it is and in channels last: the median of some
passes after one that does not count.
"""

import statistics
import sys
import time

import torch
from torch import nn


def conv(inputs, outputs, kernel, stride=1, groups=1, act=nn.ReLU):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    if act is not None:
        layers.append(act(inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, branch, shortcut, relu):
        super().__init__()
        self.branch, self.shortcut, self.relu = branch, shortcut, relu

    def forward(self, x):
        y = self.branch(x) + (x if self.shortcut is None else self.shortcut(x))
        return torch.relu_(y) if self.relu else y


def resnet(blocks, bottleneck, share, classes=1000):
    of = lambda width: int(width * share)
    layers = [conv(3, of(64), 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = of(64)
    for stage, count in enumerate(blocks):
        width = of(64 << stage)
        outputs = of(256 << stage) if bottleneck else width
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            if bottleneck:
                branch = [conv(inputs, width, 1), conv(width, width, 3, stride), conv(width, outputs, 1, act=None)]
            else:
                branch = [conv(inputs, width, 3, stride), conv(width, outputs, 3, act=None)]
            shortcut = conv(inputs, outputs, 1, stride, act=None) if stride > 1 or inputs != outputs else None
            layers.append(Residual(nn.Sequential(*branch), shortcut, True))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def mobilenet_v2(share, classes=1000):
    of = lambda width: int(width * share)
    layers = [conv(3, of(32), 3, 2, act=nn.ReLU6)]
    inputs = of(32)
    for expand, width, count, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ]:
        for block in range(count):
            step, hidden, outputs = stride if block == 0 else 1, inputs * expand, of(width)
            branch = [] if expand == 1 else [conv(inputs, hidden, 1, act=nn.ReLU6)]
            branch += [conv(hidden, hidden, 3, step, hidden, nn.ReLU6), conv(hidden, outputs, 1, act=None)]
            branch = nn.Sequential(*branch)
            layers.append(Residual(branch, None, False) if step == 1 and inputs == outputs else branch)
            inputs = outputs
    layers += [conv(inputs, of(1280), 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(of(1280), classes))


def vgg11(share, classes=100):
    of = lambda width: int(width * share)
    layers, inputs = [], 3
    for width, pool in [
        (64, False), (64, True), (128, False), (128, True), (256, False), (256, False), (256, True), (512, False),
        (512, False), (512, True)
    ]:
        layers += [nn.Conv2d(inputs, of(width), 3, padding=1), nn.BatchNorm2d(of(width)), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if pool else []
        inputs = of(width)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * 4, classes))


def timed(network, images):
    started = time.perf_counter()
    network(images)
    return time.perf_counter() - started


def main():
    name, share, batch, side = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    networks = {
        "resnet18": lambda: resnet([2, 2, 2, 2], False, share),
        "resnet50": lambda: resnet([3, 4, 6, 3], True, share),
        "mobilenet_v2": lambda: mobilenet_v2(share),
        "vgg11": lambda: vgg11(share),
    }
    x = torch.randn(batch, 3, side, side)
    with torch.inference_mode():
        plain, last = networks[name]().eval(), networks[name]().eval().to(memory_format=torch.channels_last)
        both = [(plain, x), (last, x.contiguous(memory_format=torch.channels_last))]
        for network, images in both * 5:
            network(images)
        print(torch.__version__, torch.get_num_threads(), flush=True)
        for passes in sys.stdin:
            seconds = [[timed(network, images) for _ in range(1 + int(passes))] for network, images in both]
            print(*(statistics.median(each[1:]) for each in seconds), flush=True)


main()
