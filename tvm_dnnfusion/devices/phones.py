"""Phones and boards as data: CPU clusters and GPU of a system on chip.

Each gives up to three devices: "NAME" its fast cores, "NAME-little" its small ones, "NAME-gpu" its
GPU. TVM pins to one cluster at a time and splits work evenly, so the fast cores of a device are the
kinds that are not the smallest; their count is what a benchmark may use. Sources: the vendors'
product briefs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm_dnnfusion.devices.arm import ANDROID, CORES, LINUX, cpu_spec
from tvm_dnnfusion.devices.gpus import SPECS as GPUS
from tvm_dnnfusion.devices.gpus import host_of, target_for
from tvm_dnnfusion.devices.spec import DeviceSpec


@dataclass(frozen=True, slots=True)
class Cluster:
    """Equal cores with one clock, in GHz."""

    core: str
    cores: int
    ghz: float


@dataclass(frozen=True, slots=True)
class Phone:
    """One system on chip; clusters from the fastest to the smallest, the order of their numbering
    is the reverse (the first processors of a phone are its small ones)."""

    name: str
    title: str
    clusters: tuple[Cluster, ...]
    gpu: str
    bandwidth_gbs: float
    triple: str = ANDROID

    @property
    def big(self) -> tuple[Cluster, ...]:
        """The clusters that are not the smallest; the only one where there is only one."""
        return self.clusters[:-1] or self.clusters

    def processors(self, cluster: Cluster) -> tuple[int, ...]:
        """Numbers of a cluster's processors, as Linux counts them."""
        at = self.clusters.index(cluster)
        first = sum(c.cores for c in self.clusters[at + 1 :])
        return tuple(range(first, first + cluster.cores))


def _phone(name: str, title: str, clusters: str, gpu: str, gbs: float, triple: str = ANDROID
           ) -> Phone:  # fmt: skip
    """`clusters` as "1 cortex-x1 2.84, 3 cortex-a78 2.42"."""
    rows = [row.split() for row in clusters.split(",")]
    made = tuple(Cluster(core, int(count), float(ghz)) for count, core, ghz in rows)
    return Phone(name, title, made, gpu, gbs, triple)


_ALL = (
    _phone("snapdragon-855", "Galaxy S10, the paper's second phone",
           "1 cortex-a76 2.84, 3 cortex-a76 2.42, 4 cortex-a55 1.78", "adreno-640", 34.1),
    _phone("snapdragon-865", "Galaxy S20, the paper's first phone",
           "1 cortex-a77 2.84, 3 cortex-a77 2.42, 4 cortex-a55 1.80", "adreno-650", 44.0),
    _phone("kirin-980", "Honor Magic 2, the paper's third phone",
           "2 cortex-a76 2.60, 2 cortex-a76 1.92, 4 cortex-a55 1.80", "mali-g76", 34.1),
    _phone("snapdragon-888", "Galaxy S21",
           "1 cortex-x1 2.84, 3 cortex-a78 2.42, 4 cortex-a55 1.80", "adreno-660", 51.2),
    _phone("snapdragon-8-gen-2", "Galaxy S23",
           "1 cortex-x3 3.20, 2 cortex-a715 2.80, 2 cortex-a710 2.80, 3 cortex-a510 2.00",
           "adreno-740", 67.0),
    _phone("snapdragon-8-gen-3", "Galaxy S24",
           "1 cortex-x4 3.30, 3 cortex-a720 3.20, 2 cortex-a720 3.00, 2 cortex-a520 2.30",
           "adreno-750", 77.0),
    _phone("tensor-g2", "Pixel 7",
           "2 cortex-x1 2.85, 2 cortex-a78 2.35, 4 cortex-a55 1.80", "mali-g710", 51.2),
    _phone("dimensity-9300", "vivo X100",
           "1 cortex-x4 3.25, 3 cortex-x4 2.85, 4 cortex-a720 2.00", "mali-g720", 76.8),
    _phone("rk3588", "Rock 5B, Orange Pi 5: boards with Linux",
           "4 cortex-a76 2.40, 4 cortex-a55 1.80", "mali-g610", 34.1, LINUX),
    _phone("raspberry-pi-4", "Raspberry Pi 4", "4 cortex-a72 1.50", "", 12.8, LINUX),
    _phone("raspberry-pi-5", "Raspberry Pi 5", "4 cortex-a76 2.40", "", 17.1, LINUX),
)  # fmt: skip

PHONES: dict[str, Phone] = {phone.name: phone for phone in _ALL}


def _specs(phone: Phone) -> tuple[DeviceSpec, ...]:
    """The devices of one phone."""
    fast, small = phone.big[-1], phone.clusters[-1]
    cores = sum(c.cores for c in phone.big)
    made = [_cpu(phone, phone.name, fast, cores)]
    if len(phone.clusters) > 1:
        made.append(_cpu(phone, f"{phone.name}-little", small, small.cores))
    made += [_gpu(phone, gpu, fast.core) for gpu in GPUS if gpu.name == phone.gpu]
    return tuple(made)


def _cpu(phone: Phone, name: str, cluster: Cluster, cores: int) -> DeviceSpec:
    """A CPU of cores that differ is described by the slowest kind in it: all get equal work, and
    code for it runs on the others."""
    core = CORES[cluster.core]
    return cpu_spec(
        name, core, cores, phone.triple, cluster.ghz, phone.bandwidth_gbs,
        f"{phone.title}: {cores} x {cluster.core}",
    )  # fmt: skip


def _gpu(phone: Phone, gpu: DeviceSpec, core: str) -> DeviceSpec:
    assert gpu.gpu is not None
    name = f"{phone.name}-gpu"
    return replace(
        gpu, name=name, bandwidth_gbs=phone.bandwidth_gbs, target=target_for(name, gpu.gpu),
        host=host_of(core, phone.triple), title=f"{phone.title}: {gpu.name}",
    )  # fmt: skip


SPECS: tuple[DeviceSpec, ...] = tuple(spec for phone in _ALL for spec in _specs(phone))
