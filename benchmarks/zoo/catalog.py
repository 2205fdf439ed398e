"""What the zoo holds: a row per model, with its inputs and the paper's figures beside it.

The fifteen models of the paper (Niu et al., PLDI 2021, tables 5 and 6) and three more. Nothing here
imports torch: names, inputs and files can be had where only ONNX is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.light import image
from benchmarks.weights import rng

TOKENS = 128
"""Sequence length of the transformers."""

PADDED = 5
"""Positions at the end of a sequence that its mask switches off."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input: float32 pixels, or int64 tokens below `below`, a mask or positions."""

    name: str
    shape: tuple[int, ...]
    kind: str = "pixels"
    below: int = 0

    def value(self, gen: np.random.Generator) -> np.ndarray:
        """A random value."""
        if self.kind == "pixels":
            return image(self.shape, gen)
        if self.kind == "tokens":
            return gen.integers(0, self.below, self.shape)
        if self.kind == "positions":
            return np.broadcast_to(np.arange(self.shape[-1]), self.shape).copy()
        mask = np.ones(self.shape, np.int64)
        mask[..., self.shape[-1] - PADDED :] = 0
        return mask


@dataclass(frozen=True, slots=True)
class Paper:
    """The paper's figures: layers (table 5), parameters in millions, FLOPs in 1e9 (table 6)."""

    layers: int
    params_m: float
    gflops: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A model: `maker` is "file:function" in this package and gives the torch module.

    `ranked`: rows of the results are sorted by a score, so that rounding may swap near ties.
    """

    name: str
    title: str
    maker: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    paper: Paper | None = None
    note: str = ""
    ranked: bool = False


def _pixels(*shape: int) -> tuple[Input, ...]:
    return (Input("pixels", (1, 3, *shape)),)


def _text(below: int, positions: bool = False) -> tuple[Input, ...]:
    shape = (1, TOKENS)
    ids = (Input("input_ids", shape, "tokens", below), Input("attention_mask", shape, "mask"))
    return (*ids, Input("position_ids", shape, "positions")) if positions else ids


_HIDDEN = ("last_hidden_state",)
_CLASSES = ("logits",)
_WORDPIECES = 30522

ZOO: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "efficientnet_b0",
            "EfficientNet-B0",
            "efficient:efficientnet_b0",
            _pixels(224, 224),
            _CLASSES,
            Paper(309, 5.3, 0.8),
        ),
        Entry(
            "vgg16",
            "VGG-16",
            "classic:vgg16",
            _pixels(224, 224),
            _CLASSES,
            Paper(51, 138, 31.0),
        ),
        Entry(
            "mobilenet_v1_ssd",
            "MobileNetV1-SSD",
            "ssd:mobilenet_v1_ssd",
            _pixels(300, 300),
            ("scores", "boxes"),
            Paper(202, 9.5, 3.0),
            "scores and decoded boxes of all 3,000 anchors; no suppression",
        ),
        Entry(
            "yolo_v4",
            "YOLO-V4",
            "yolo:yolo_v4",
            _pixels(416, 416),
            ("boxes", "scores"),
            Paper(398, 64, 34.6),
            "decoded boxes and scores of all 10,647 anchors; no suppression",
        ),
        Entry(
            "c3d",
            "C3D",
            "video:c3d",
            _pixels(16, 112, 112),
            _CLASSES,
            Paper(27, 78, 77.0),
        ),
        Entry(
            "s3d",
            "S3D",
            "video:s3d",
            _pixels(16, 224, 224),
            _CLASSES,
            Paper(272, 8.0, 79.6),
            "16 frames",
        ),
        Entry(
            "unet",
            "U-Net",
            "unet:unet",
            _pixels(256, 256),
            ("mask",),
            Paper(292, 2.1, 15.0),
            "the original's 64 to 1,024 channels, padded; the paper's is a smaller one",
        ),
        Entry(
            "faster_rcnn",
            "Faster R-CNN",
            "rcnn:faster_rcnn",
            _pixels(320, 320),
            ("boxes", "scores"),
            Paper(3640, 41, 47.0),
            "300 proposals, no suppression",
            ranked=True,
        ),
        Entry(
            "mask_rcnn",
            "Mask R-CNN",
            "rcnn:mask_rcnn",
            _pixels(320, 320),
            ("boxes", "scores", "masks"),
            Paper(3999, 44, 184),
            "300 proposals, 100 masks, no suppression",
            ranked=True,
        ),
        Entry(
            "tinybert",
            "TinyBERT",
            "text:tinybert",
            _text(_WORDPIECES),
            _HIDDEN,
            Paper(366, 15, 4.1),
        ),
        Entry(
            "distilbert",
            "DistilBERT",
            "text:distilbert",
            _text(_WORDPIECES),
            _HIDDEN,
            Paper(457, 66, 35.5),
        ),
        Entry(
            "albert",
            "ALBERT",
            "text:albert",
            _text(30000),
            _HIDDEN,
            Paper(936, 83, 65.7),
            "weights shared by all layers; the paper counts them per layer",
        ),
        Entry(
            "bert_base",
            "BERT-Base",
            "text:bert_base",
            _text(_WORDPIECES),
            _HIDDEN,
            Paper(976, 108, 67.3),
        ),
        Entry(
            "mobilebert",
            "MobileBERT",
            "text:mobilebert",
            _text(_WORDPIECES),
            _HIDDEN,
            Paper(2387, 25, 17.6),
        ),
        Entry(
            "gpt2",
            "GPT-2",
            "text:gpt2",
            _text(50257, positions=True),
            _HIDDEN,
            Paper(2533, 125, 69.1),
            "a prompt of 128 tokens, no cache; without the language-model head",
        ),
        Entry(
            "resnet50",
            "ResNet-50",
            "classic:resnet50",
            _pixels(224, 224),
            _CLASSES,
        ),
        Entry(
            "mobilenet_v2",
            "MobileNetV2",
            "efficient:mobilenet_v2",
            _pixels(224, 224),
            _CLASSES,
        ),
        Entry(
            "efficientnet_b3",
            "EfficientNet-B3",
            "efficient:efficientnet_b3",
            _pixels(300, 300),
            _CLASSES,
        ),
    )
}
"""Name -> row, the paper's fifteen first, in its order."""


def inputs(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for each input of a model, the same on every machine."""
    return {item.name: item.value(rng(f"{name}/{item.name}", seed)) for item in ZOO[name].inputs}
