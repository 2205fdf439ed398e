"""Cost from measurements: the profile database, then a measurement, then another cost.

The order is the paper's (DNNFusion, PLDI'21, section 4.3): what was measured once is not measured
again, for this model or another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tvm_dnnfusion import __version__
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
        Asked where nothing was measured.
    measure : callable or None
        Measures a group of ops. None: the database is only read. Where it fails the fallback is
        asked, with a warning, and the same group is not measured again by this object.
    schedule_version : str
        Version of the schedules that the latencies belong to; part of the key.
    threads : int or None
        Threads that they belong to; None for the device's cores.
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
    ) -> None:
        self.db = db
        self.device = device
        self.fallback = fallback
        self.measure = measure
        self.schedule_version = schedule_version
        self.threads = device.cores if threads is None else threads
        self._known: dict[str, Estimate] = {}
        self._lost = False

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """Estimate for `ops` as one kernel; `source` says which of the three it is from."""
        block = canonical_block(ops, graph)
        key = entry_key(block, self.device.name, self.threads, self.schedule_version)
        if key not in self._known:
            self._known[key] = self._find(key, block, ops, graph)
        return self._known[key]

    def _find(self, key: str, block: str, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        row = self._with_database(lambda db: db.get(key))
        if row is not None:
            return Estimate(row.latency_us, "database")
        found = self._measured(ops, graph)
        if found is None:
            return self.fallback.latency_us(ops, graph)
        entry = self._entry(key, block, found)
        self._with_database(lambda db: db.put(entry))
        return Estimate(found.median_us, "measured")

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

    def _entry(self, key: str, block: str, found: Measurement) -> Entry:
        return Entry(
            key=key,
            block=block,
            device=self.device.name,
            threads=self.threads,
            schedule=self.schedule_version,
            latency_us=found.median_us,
            spread=found.spread,
            samples=found.samples,
            when=utc_now(),
            library=__version__,
        )
