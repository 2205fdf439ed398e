"""Training the latency model from measured rows, and its figures on models left out.

The label of a row is log(measured / analytic estimate). An ensemble of `MEMBERS` boosters; each
leaves out all rows that some models asked for, every model being left out by `OUT` of them, so that
a model's rows are predicted by members that saw none of them: that gives rank correlation, error
and the scale of the uncertainty without a run of its own. Needs XGBoost; seconds for a thousand
rows. The same rows give the same model.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.learned.cost import family, with_threads
from tvm_dnnfusion.cost.learned.features import NAMES, features
from tvm_dnnfusion.cost.learned.forest import Forest
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.profile.blocks import block_graph
from tvm_dnnfusion.profile.records import Entry

MEMBERS = 8
OUT = 3
MAX_SPREAD = 0.3
"""Rows that were measured on a machine this busy (interquartile range over median) teach noise."""
MIN_ROWS = 40
"""Fewer rows give no model: a member would see some twenty of them."""
LEAST_US = 1.0
"""Shorter kernels count as this long: a call from TVM's virtual machine takes about as much."""
ROUNDS = 120
PARAMETERS: dict[str, Any] = {
    "max_depth": 6, "eta": 0.1, "subsample": 0.8, "colsample_bytree": 0.6, "min_child_weight": 3.0,
    "lambda": 2.0, "objective": "reg:squarederror", "base_score": 0.0, "tree_method": "hist",
    "nthread": 1,
}  # fmt: skip
INSIDE = 0.683
"""Part of the blocks of models left out that lie within one uncertainty: that of a normal error."""

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]


class TrainError(ValueError):
    """Rows from which no model can be made; the message says what is missing."""

    exit_code = 2


class MissingXGBoost(ImportError):
    """XGBoost is not installed."""

    exit_code = 3


def require() -> Any:
    """XGBoost. Raises MissingXGBoost, with what to install, where it is missing."""
    try:
        return importlib.import_module("xgboost")
    except ImportError as error:
        raise MissingXGBoost(
            "training the latency model needs XGBoost: pip install 'tvm-dnnfusion[tune]'. "
            "Planning with a trained model does without"
        ) from error


@dataclass(frozen=True)
class Rows:
    """Training data: features [rows, features], labels [rows], and the models that asked for each
    row. `estimate_us` is the analytic estimate; `versions` counts rows by version of the schedules
    that was measured."""

    x: Floats
    y: Floats
    estimate_us: Floats
    models: tuple[tuple[str, ...], ...]
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Score:
    """How predictions compare with measurements: Spearman's rank correlation, the median and the
    90th percentile of the factor by which they are wrong (1.1: 10 % too high or too low)."""

    rows: int
    rank: float
    median_factor: float
    p90_factor: float

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "rows": float(self.rows), "rank_correlation": self.rank,
            "median_factor": self.median_factor, "p90_factor": self.p90_factor,
        }  # fmt: skip


def rows_of(
    entries: Iterable[Entry],
    asked: Mapping[str, tuple[str, ...]],
    device: DeviceSpec,
    schedule: str,
) -> Rows:
    """Rows of one device as training data; those of other threads count as fewer cores.

    `asked` says which models asked for a key. What was measured with an older version of the
    schedules counts where nothing newer is there: most kernels do not change between two versions.
    Entries of other devices, those under a limit on Winograd's tiles and noisy ones are left out.
    """
    x: list[list[float]] = []
    y: list[float] = []
    estimates: list[float] = []
    models: list[tuple[str, ...]] = []
    versions: Counter[str] = Counter()
    for entry in _newest(entries, device, int(schedule)):
        ops, graph = block_graph(entry.block)
        spec = with_threads(device, entry.threads)
        parts = AnalyticCost(spec).parts(ops, graph)
        if parts is None:
            continue
        x.append(features(ops, graph, spec, parts))
        y.append(float(np.log(max(entry.latency_us, LEAST_US) / parts.us)))
        estimates.append(parts.us)
        models.append(tuple(sorted(asked.get(entry.key, ()))))
        versions[entry.schedule] += 1
    return Rows(
        np.array(x).reshape(len(x), len(NAMES)), np.array(y), np.array(estimates), tuple(models),
        dict(versions),
    )  # fmt: skip


def _newest(entries: Iterable[Entry], device: DeviceSpec, schedule: int) -> Iterable[Entry]:
    """The entries of a device that can be used, of each block and thread count the newest one."""
    found: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        fits = entry.device == device.name and entry.spread <= MAX_SPREAD
        if not fits or not entry.schedule.isdigit() or int(entry.schedule) > schedule:
            continue
        place = entry.block, entry.threads
        if place not in found or int(found[place].schedule) < int(entry.schedule):
            found[place] = entry
    return found.values()


def train(
    rows: Rows, device: DeviceSpec, schedule: str, progress: Progress | None = None
) -> Forest:
    """Train an ensemble; its facts carry the figures on models left out.

    Raises TrainError for too few rows, or rows of fewer than two models; MissingXGBoost.
    """
    xgboost = require()
    names = sorted({m for row in rows.models for m in row})
    if len(rows.y) < MIN_ROWS or len(names) < 2:
        raise TrainError(
            f"{len(rows.y)} usable rows of {len(names)} models on {device.name}: a latency model "
            f"needs at least {MIN_ROWS} of 2 models. Measure more: dnnfusion profile MODEL..."
        )
    left_out = _left_out(names)
    boosters: list[Any] = []
    for member, out in enumerate(left_out):
        if progress is not None:
            progress("train", member, MEMBERS)
        seen = np.array([not out.intersection(models) for models in rows.models])
        if not seen.any():
            raise TrainError("every row was asked for by most of the models: measure other models")
        data = xgboost.DMatrix(rows.x[seen], rows.y[seen])
        boosters.append(xgboost.train({**PARAMETERS, "seed": member}, data, ROUNDS))
    forest = forest_of(boosters)
    return replace(forest, facts=_facts(forest, rows, device, schedule, names, left_out))


def _left_out(names: Sequence[str]) -> list[frozenset[str]]:
    """The models that each member does not see: every model is left out by OUT members."""
    rng = np.random.default_rng(0)
    out: list[set[str]] = [set() for _ in range(MEMBERS)]
    for name in names:
        fewest = sorted(range(MEMBERS), key=lambda m: (len(out[m]), rng.random()))
        for m in fewest[:OUT]:
            out[m].add(name)
    return [frozenset(s) for s in out]


def left_out_by(names: Sequence[str], model: str) -> list[int]:
    """The members that do not see a model's rows, when trained on rows of these models."""
    return [m for m, out in enumerate(_left_out(sorted(names))) if model in out]


def forest_of(boosters: Sequence[Any]) -> Forest:
    """The trees of XGBoost boosters as arrays, one member of the ensemble each."""
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    right: list[int] = []
    roots: list[int] = []
    members: list[int] = []
    for member, booster in enumerate(boosters):
        raw = json.loads(bytes(booster.save_raw("json")))
        for tree in raw["learner"]["gradient_booster"]["model"]["trees"]:
            base = len(feature)
            roots.append(base)
            members.append(member)
            feature += tree["split_indices"]
            threshold += tree["split_conditions"]
            left += [n + base if n >= 0 else -1 for n in tree["left_children"]]
            right += [n + base if n >= 0 else -1 for n in tree["right_children"]]
    ints = (np.array(a, np.int32) for a in (feature, left, right, roots, members))
    f, lt, rt, r, m = ints
    return Forest(f, np.array(threshold, np.float32), lt, rt, r, m)


def _facts(
    forest: Forest, rows: Rows, device: DeviceSpec, schedule: str,
    names: Sequence[str], left_out: Sequence[frozenset[str]],
) -> dict[str, Any]:  # fmt: skip
    members = np.array([forest.predict(x) for x in rows.x.tolist()])
    per_model: dict[str, Score] = {}
    base: dict[str, Score] = {}
    means: list[float] = []
    spreads: list[float] = []
    truths: list[float] = []
    for name in names:
        picked = np.array([name in models for models in rows.models])
        blind = [m for m, out in enumerate(left_out) if name in out]
        found = members[picked][:, blind]
        per_model[name] = score(found.mean(axis=1), rows.y[picked], rows.estimate_us[picked])
        base[name] = score(np.zeros(picked.sum()), rows.y[picked], rows.estimate_us[picked])
        means += found.mean(axis=1).tolist()
        spreads += found.std(axis=1).tolist()
        truths += rows.y[picked].tolist()
    floor, scale = _calibrated(np.abs(np.array(truths) - means), np.array(spreads))
    cores = rows.x[:, NAMES.index("cores")]
    return {
        "features": list(NAMES), "family": family(device), "devices": [device.name],
        "vector_bits": [device.vector_bits], "cores": [int(cores.min()), int(cores.max())],
        "schedule": schedule, "schedules": rows.versions, "rows": len(rows.y),
        "floor": floor, "scale": scale,
        "left_out": {n: s.figures for n, s in per_model.items()},
        "analytic": {n: s.figures for n, s in base.items()},
    }  # fmt: skip


def score(predicted: Floats, true: Floats, estimate_us: Floats) -> Score:
    """Figures of predicted against true labels, which are logarithms of factors on estimates."""
    wrong = np.exp(np.abs(predicted - true))
    base = np.log(estimate_us)
    return Score(
        len(true), spearman(predicted + base, true + base),
        float(np.median(wrong)), float(np.percentile(wrong, 90)),
    )  # fmt: skip


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation, equal values sharing their mean rank; 1 where there is nothing to rank."""
    if len(a) < 2:
        return 1.0
    ranks = [_ranks(v) for v in (a, b)]
    if any(float(r.std()) == 0 for r in ranks):
        return 1.0 if float(ranks[0].std()) == float(ranks[1].std()) else 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def _calibrated(wrong: Floats, spreads: Floats) -> tuple[float, float]:
    """(floor, scale) such that `INSIDE` of the errors are below scale * sqrt(floor^2 + spread^2).

    The floor is the median spread: members that agree by chance are not believed more than that.
    """
    floor = float(np.median(spreads))
    return floor, float(np.quantile(wrong / np.sqrt(floor**2 + spreads**2), INSIDE))
