"""Figures that the papers print, or that the authors' program gives: DRAM in MiB unless said."""

from __future__ import annotations

HEAD = """# Memory planners

Made by `python -m benchmarks.planners`. MiB of DRAM traffic, 16-bit words. "authors" are figures of
Optimus' published program or of the GET paper, "here" are this library's.
"""

BATCH4: dict[str, tuple[float, float, float, float]] = {
    "alexnet-optimus": (13.33, 16.00, 16.00, 17.61),
    "vgg16-optimus": (362.1, 427.2, 427.2, 464.8),
    "squeezenet-optimus": (19.74, 37.88, 64.35, 74.78),
    "mobilenet-v1": (41.78, 48.46, 48.46, 68.12),
    "resnet18-optimus": (61.85, 70.08, 77.19, 80.07),
    "resnet50-optimus": (233.5, 304.0, 313.4, 317.8),
}
"""Optimus (DRAM objective), Efficient-S, DNNVM, no fusion; 128 KB, batch 4."""

OPTIMUS_SIZES: dict[str, tuple[float, ...]] = {
    "alexnet-optimus": (5.78, 5.28, 4.98, 13.33, 11.51, 8.27),
    "vgg16-optimus": (97.8, 70.4, 52.1, 362.1, 245.2, 162.2),
    "squeezenet-optimus": (5.25, 3.43, 3.12, 19.74, 9.48, 6.37),
    "mobilenet-v1": (13.72, 10.53, 9.19, 41.78, 27.90, 17.59),
    "resnet18-optimus": (28.72, 25.77, 23.51, 61.85, 45.12, 35.17),
    "resnet50-optimus": (83.22, 75.40, 66.15, 233.5, 182.1, 135.2),
}
"""128, 256, 512 KB at batch 1, then at batch 4."""

SQUEEZENET: dict[int, tuple[float, float, float, float]] = {
    16: (107.4, 112.4, 115.7, 115.7), 32: (78.5, 94.0, 100.6, 100.6),
    64: (38.0, 69.6, 84.5, 86.3), 128: (19.7, 37.9, 64.4, 74.8), 256: (9.5, 18.8, 56.7, 67.1),
    512: (6.4, 12.1, 52.6, 62.9), 1024: (4.3, 9.8, 51.5, 60.7),
}  # fmt: skip
"""KB -> Optimus, Efficient-S, DNNVM, no fusion on SqueezeNet, batch 4."""

BATCHES: dict[tuple[str, int], tuple[float, float, float, float]] = {
    ("squeezenet-optimus", 1): (5.25, 9.96, 16.40, 18.95),
    ("squeezenet-optimus", 2): (10.04, 19.20, 32.32, 37.50),
    ("squeezenet-optimus", 8): (39.3, 75.4, 128.6, 149.5),
    ("vgg16-optimus", 1): (91.5, 113.7, 113.7, 123.1),
    ("vgg16-optimus", 2): (169.6, 215.8, 215.8, 234.6),
    ("vgg16-optimus", 8): (663.4, 853.6, 853.6, 928.9),
}
"""128 KB; the VGG column of Optimus is that of the energy objective."""

SAVINGS = """Optimus' authors claim 17 to 75 %; the program that they published gives 14.6 to 73.6 %
in its own accounting, and 11 to 74 % here with DRAM as the objective. With everything charged it is
1 to 70 %, least on networks that are mostly weights: where weights exceed the buffer they stream
anew for every tile, fused or not ("each weight once": their share if they moved once).

"""
"""Above the table of savings."""

ENERGY: dict[str, tuple[float, float, float, float]] = {
    "alexnet-optimus": (0.540, 0.779, 0.779, 0.797),
    "vgg16-optimus": (12.81, 20.28, 20.28, 21.64),
    "squeezenet-optimus": (0.761, 1.141, 1.611, 1.908),
    "mobilenet-v1": (0.753, 2.056, 2.056, 2.812),
    "resnet18-optimus": (1.722, 2.537, 2.692, 2.841),
    "resnet50-optimus": (4.919, 11.71, 13.03, 13.20),
}
"""1e10 multiply-accumulates, whole networks: methods as in `BATCH4`, 128 KB, batch 4."""

_SOLVER = "their solver finds no block at 16 KB and their program falls back to closed forms; "
ENERGY_WHY = """authors: totals of their report, for plans by energy, with registers, hops and
arithmetic of a mapping that their program derives for each layer. here: the objective alone, DRAM
and buffer, of the plans of the tables above (Optimus' by DRAM, its baselines' by energy). gains:
against efficient-s / dnnvm / none.

"""
"""Above the table of energies."""

REASONS = {
    ("alexnet-optimus", "none"): "their solver fails on 11 x 11 kernels and their program falls "
    "back to closed forms; those give 17.61 here too",
    ("vgg16-optimus", "optimus"): "authors' column is of the energy objective",
    ("squeezenet-optimus", "efficient-s, 16 KB"): _SOLVER + "those give 112.44 here too",
    ("squeezenet-optimus", "dnnvm, 16 KB"): _SOLVER + "those give 115.68 here too",
    ("squeezenet-optimus", "none, 16 KB"): _SOLVER + "those give 115.68 here too",
}
