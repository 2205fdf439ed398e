"""Cost from measurements: the profile database, then a latency model, then a measurement.

The order is the paper's (DNNFusion, PLDI'21, section 4.3): what was measured once is not measured
again, for this model or another. A model that states its uncertainty answers in place of a
measurement; where it leaves a decision open, `settle` measures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tvm_dnnfusion import __version__
from tvm_dnnfusion.cost.analytic import is_view
from tvm_dnnfusion.cost.protocol import Cost, Estimate
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.profile.database import ProfileDB, utc_now
from tvm_dnnfusion.profile.keys import canonical_block, entry_key
from tvm_dnnfusion.profile.records import Entry, Measurement
from tvm_dnnfusion.profile.store import ProfileError

T = TypeVar("T")
log = logging.getLogger(__name__)

Measure = Callable[[tuple[Op, ...], Graph], "Measurement | None"]
"""Measures ops as one kernel; None where it cannot (symbolic shapes, a barrier)."""


class DatabaseCost:
    """Latency from the database, else measured and written there, else from `fallback`.

    Parameters
    ----------
    db : ProfileDB
        Where measurements are looked up and kept.
    device : DeviceSpec
        The device that they belong to; part of the key.
    fallback : Cost
        Asked where nothing was measured: a latency model, or the analytic estimate.
    measure : callable or None
        Measures a group of ops. None: the database is only read. Where it fails the fallback is
        asked, with a warning, and the same group is not measured again by this object.
    schedule_version : str
        Version of the schedules that the latencies belong to; part of the key.
    threads : int or None
        Threads that they belong to; None for the device's cores.
    tag : callable or None
        What is added to the schedules' version for a group of ops, where a limit of the user's
        makes another kernel of it (`codegen/variants.py`).
    """

    def __init__(
        self,
        db: ProfileDB,
        device: DeviceSpec,
        fallback: Cost,
        measure: Measure | None = None,
        *,
        schedule_version: str,
        threads: int | None = None,
        tag: Callable[[tuple[Op, ...], Graph], str] | None = None,
    ) -> None:
        self.db = db
        self.device = device
        self.fallback = fallback
        self.measure = measure
        self.schedule_version = schedule_version
        self.threads = device.cores if threads is None else threads
        self.tag = tag
        self._known: dict[str, Estimate] = {}
        self._failed: set[str] = set()
        self._lost = False

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """Estimate for `ops` as one kernel; `source` says where it is from.

        Measures only where the fallback states no uncertainty.
        """
        return self._answer(ops, graph, lambda e: e.uncertainty > 0)

    def settle(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """As `latency_us`, but measured wherever that is possible."""
        return self._answer(ops, graph, lambda e: e.source in ("database", "measured"))

    def _answer(
        self, ops: tuple[Op, ...], graph: Graph, enough: Callable[[Estimate], bool]
    ) -> Estimate:
        if is_view(ops):
            return self.fallback.latency_us(ops, graph)
        block, schedule = canonical_block(ops, graph), self._schedule(ops, graph)
        key = entry_key(block, self.device.name, self.threads, schedule)
        if key not in self._known:
            self._known[key] = self._looked_up(key, ops, graph)
        known = self._known[key]
        if enough(known) or known.source == "database" or self.measure is None:
            return known
        if key in self._failed or known.source == "measured":
            return known
        found = self._measured(ops, graph)
        if found is None:
            self._failed.add(key)
            return known
        entry = self._entry(key, block, schedule, found)
        self._with_database(lambda db: db.put(entry))
        self._known[key] = Estimate(found.median_us, "measured")
        return self._known[key]

    def _schedule(self, ops: tuple[Op, ...], graph: Graph) -> str:
        return self.schedule_version + (self.tag(ops, graph) if self.tag is not None else "")

    def _looked_up(self, key: str, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        row = self._with_database(lambda db: db.get(key))
        if row is not None:
            return Estimate(row.latency_us, "database")
        return self.fallback.latency_us(ops, graph)

    def _with_database(self, action: Callable[[ProfileDB], T]) -> T | None:
        """Use the database; one that fails (a full disk) is done without, with one warning."""
        if self._lost:
            return None
        try:
            return action(self.db)
        except ProfileError as error:
            log.warning("%s; planning goes on without the profile database", error)
            self._lost = True
            return None

    def _measured(self, ops: tuple[Op, ...], graph: Graph) -> Measurement | None:
        if self.measure is None:
            return None
        try:
            return self.measure(ops, graph)
        except Exception as error:  # a group that cannot be built must not end the planning
            names = ", ".join(op.name for op in ops)
            log.warning("measuring %s failed (%s); an estimate is used", names, error)
            return None

    def _entry(self, key: str, block: str, schedule: str, found: Measurement) -> Entry:
        return Entry(
            key=key,
            block=block,
            device=self.device.name,
            threads=self.threads,
            schedule=schedule,
            latency_us=found.median_us,
            spread=found.spread,
            samples=found.samples,
            when=utc_now(),
            library=__version__,
        )
