"""Phones and boards as data: CPU clusters and GPU of a system on chip.

Each gives up to three devices: "NAME" its fast cores, "NAME-little" its small ones, "NAME-gpu" its
GPU. TVM pins to one cluster at a time and splits work evenly, so the fast cores of a device are the
kinds that are not the smallest; their count is what a benchmark may use.

Sources: the vendors' product briefs (cores, clocks, memory); caches, which those leave out, from
the boards' manuals, device trees in Linux, and reviews that measured them. For the L2 of Tensor
G2's Cortex-A78 and of Dimensity 9300 no source was found: they stand here with what the middle
cores of Tensor G1 have, and with a small one of those that the cores' manuals offer. Caches behind
L3, which GPU and others use too, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm_dnnfusion.devices.arm import ANDROID, CORES, KIB, LINUX, cpu_spec
from tvm_dnnfusion.devices.gpus import SPECS as GPUS
from tvm_dnnfusion.devices.gpus import host_of, target_for
from tvm_dnnfusion.devices.spec import DeviceSpec, entries


@dataclass(frozen=True, slots=True)
class Cluster:
    """Equal cores with one clock, in GHz, and an L2 for every `l2_cores` of them."""

    core: str
    cores: int
    ghz: float
    l2_bytes: int
    l2_cores: int = 1


@dataclass(frozen=True, slots=True)
class Phone:
    """One system on chip; clusters from the fastest to the smallest, the order of their numbering
    is the reverse (the first processors of a phone are its small ones). All clusters share one L3
    of `l3_bytes`, 0 for none."""

    name: str
    title: str
    clusters: tuple[Cluster, ...]
    l3_bytes: int
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


def _phone(
    name: str, title: str, clusters: str, l3_kib: int, gpu: str, gbs: float, triple: str = ANDROID
) -> Phone:
    """`clusters` as "1 cortex-x1 2.84 1024, 3 cortex-a78 2.42 512": L2 in KiB; "1024/4" is one for
    four cores."""
    made = tuple(_cluster(*row.split()) for row in clusters.split(","))
    return Phone(name, title, made, l3_kib * KIB, gpu, gbs, triple)


def _cluster(cores: str, core: str, ghz: str, l2: str) -> Cluster:
    size, _, sharing = l2.partition("/")
    return Cluster(core, int(cores), float(ghz), int(size) * KIB, int(sharing or 1))


_ALL = (
    _phone("snapdragon-855", "Galaxy S10, the paper's second phone",
           "1 cortex-a76 2.84 512, 3 cortex-a76 2.42 256, 4 cortex-a55 1.78 128", 2048,
           "adreno-640", 34.1),
    _phone("snapdragon-865", "Galaxy S20, the paper's first phone",
           "1 cortex-a77 2.84 512, 3 cortex-a77 2.42 256, 4 cortex-a55 1.80 128", 4096,
           "adreno-650", 44.0),
    _phone("kirin-980", "Honor Magic 2, the paper's third phone",
           "2 cortex-a76 2.60 512, 2 cortex-a76 1.92 512, 4 cortex-a55 1.80 128", 4096,
           "mali-g76", 34.1),
    _phone("snapdragon-888", "Galaxy S21",
           "1 cortex-x1 2.84 1024, 3 cortex-a78 2.42 512, 4 cortex-a55 1.80 128", 4096,
           "adreno-660", 51.2),
    _phone("snapdragon-8-gen-2", "Galaxy S23",
           "1 cortex-x3 3.20 1024, 2 cortex-a715 2.80 512, 2 cortex-a710 2.80 512, "
           "3 cortex-a510 2.00 256", 8192, "adreno-740", 67.0),
    _phone("snapdragon-8-gen-3", "Galaxy S24",
           "1 cortex-x4 3.30 2048, 3 cortex-a720 3.20 512, 2 cortex-a720 3.00 512, "
           "2 cortex-a520 2.30 512/2", 12288, "adreno-750", 77.0),
    _phone("tensor-g2", "Pixel 7",
           "2 cortex-x1 2.85 1024, 2 cortex-a78 2.35 256, 4 cortex-a55 1.80 128", 4096,
           "mali-g710", 51.2),
    _phone("dimensity-9300", "vivo X100",
           "1 cortex-x4 3.25 512, 3 cortex-x4 2.85 512, 4 cortex-a720 2.00 256", 8192,
           "mali-g720", 76.8),
    _phone("rk3588", "Rock 5B, Orange Pi 5: boards with Linux",
           "4 cortex-a76 2.40 512, 4 cortex-a55 1.80 128", 3072, "mali-g610", 34.1, LINUX),
    _phone("raspberry-pi-4", "Raspberry Pi 4", "4 cortex-a72 1.50 1024/4", 0, "", 12.8, LINUX),
    _phone("raspberry-pi-5", "Raspberry Pi 5", "4 cortex-a76 2.40 512", 2048, "", 17.1, LINUX),
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
    core = replace(
        CORES[cluster.core],
        l2_bytes=cluster.l2_bytes,
        l2_cores=cluster.l2_cores,
        l3_bytes=phone.l3_bytes,
    )
    made = cpu_spec(
        name, core, cores, phone.triple, cluster.ghz, phone.bandwidth_gbs,
        f"{phone.title}: {cores} x {cluster.core}",
    )  # fmt: skip
    # Its name among the keys, by which `spec_for_target` tells it from others of the same core.
    return replace(made, target=entries({**dict(made.target), "keys": [name, "arm_cpu", "cpu"]}))


def _gpu(phone: Phone, gpu: DeviceSpec, core: str) -> DeviceSpec:
    assert gpu.gpu is not None
    name = f"{phone.name}-gpu"
    return replace(
        gpu, name=name, bandwidth_gbs=phone.bandwidth_gbs, target=target_for(name, gpu.gpu),
        host=host_of(core, phone.triple), title=f"{phone.title}: {gpu.name}",
    )  # fmt: skip


SPECS: tuple[DeviceSpec, ...] = tuple(spec for phone in _ALL for spec in _specs(phone))
