"""VGG-16 (Simonyan and Zisserman, 2014) and ResNet-50 (He et al., 2015), ImageNet's classes."""

from __future__ import annotations

from torch import nn

from benchmarks.zoo.layers import ConvNorm, Head, Residual, relu

CLASSES = 1000


def vgg16() -> nn.Module:
    """Thirteen 3x3 convolutions with bias, five poolings, three linear layers."""
    layers: list[nn.Module] = []
    inner = 3
    for outer, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), relu()]
            inner = outer
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(512 * 7 * 7, 4096), relu(), nn.Linear(4096, 4096), relu()]
    return nn.Sequential(*layers, nn.Linear(4096, CLASSES))


def resnet50() -> nn.Module:
    """Bottlenecks with the stride on the 3x3 convolution, as torchvision has it."""
    return nn.Sequential(*resnet50_stages(), Head(2048, CLASSES))


def resnet50_stages() -> list[nn.Module]:
    """The stem and the four stages; their strides are 4, 4, 8, 16 and 32 in all."""
    stem = nn.Sequential(ConvNorm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
    stages: list[nn.Module] = [stem]
    inner = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        blocks = []
        for index in range(depth):
            blocks.append(_bottleneck(inner, width, stride if index == 0 else 1))
            inner = 4 * width
        stages.append(nn.Sequential(*blocks))
    return stages


def _bottleneck(inner: int, width: int, stride: int) -> nn.Module:
    branch = nn.Sequential(
        ConvNorm(inner, width, 1),
        ConvNorm(width, width, 3, stride),
        ConvNorm(width, 4 * width, 1, act=None),
    )
    same = stride == 1 and inner == 4 * width
    shortcut = None if same else ConvNorm(inner, 4 * width, 1, stride, act=None)
    return Residual(branch, shortcut, relu)
