"""What a benchmark runs on: the machine, the device in it, and the two rates that bound a model there."""

import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwen35_local import _core

_SPARE_SHARE = 0.4  # of the memory that is free, at most, for the buffer that is read
_LEAST_BUFFER = 1 << 30
_LEAST_BUFFER_OF_A_CARD = 1 << 28
_CPU = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Peak:
    """A rate of one core (None of a card), and of the whole device: all threads that the benchmark uses."""

    one: float | None
    all: float


@dataclass(frozen=True)
class Machine:
    """The processor, and of the device that is measured: `caches` in bytes by name ("L1d", "L2", "L3"), of the
    processor as one core sees them; its memory; `read_gb_per_s`, the rate at which that is read from a buffer of
    `read_buffer_bytes`; `int8_gops`, that of 8-bit multiplications and additions, counted apart, out of registers, with
    the instructions that the kernels use. Units of 1e9. `card` names a device that is not the processor."""

    cpu: str
    isa: str
    threads: int
    caches: dict[str, int]
    memory_bytes: int
    read_buffer_bytes: int
    read_gb_per_s: Peak
    int8_gops: Peak
    device: str = "cpu"
    card: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(device: str, threads: int) -> Machine:
    """Takes a few seconds. `threads` 0: as many as this process may use. Raises InputError, OutOfMemory,
    Unavailable."""
    memory = _core.device_memory(device)
    team = threads or _core.usable_threads()
    if memory.is_host:
        caches, (free, total), teams = cache_bytes(), memory_bytes(), [1, team]
        buffer = buffer_bytes(caches, free)
    else:
        caches = {"L2": memory.cache} if memory.cache else {}
        free, total, teams = memory.free, memory.total, [team]
        buffer = buffer_bytes(caches, free, _LEAST_BUFFER_OF_A_CARD)
    reads = [_core.read_memory(buffer, device=memory.device, threads=n).per_second / 1e9 for n in teams]
    multiplies = [_core.multiply_int8(device=memory.device, threads=n).per_second / 1e9 for n in teams]
    return Machine(
        cpu=cpu_name(),
        isa=_core.isa(),
        threads=team,
        caches=caches,
        memory_bytes=total,
        read_buffer_bytes=buffer,
        read_gb_per_s=_peak(reads),
        int8_gops=_peak(multiplies),
        device=memory.device,
        card=None if memory.is_host else dict(_core.device_facts(memory.device)).get("name", memory.device),
    )


def _peak(rates: list[float]) -> Peak:
    return Peak(rates[0] if len(rates) > 1 else None, rates[-1])


def buffer_bytes(caches: dict[str, int], free: int, least: int = _LEAST_BUFFER) -> int:
    """Two and a half times the last-level cache, so that at most two fifths of it can still be there when it is read
    again; `least` at least, less where memory is short."""
    wanted = max(least, 5 * max(caches.values(), default=0) // 2)
    return min(wanted, int(_SPARE_SHARE * free)) if free else wanted


def cpu_name() -> str:
    if sys.platform == "linux":
        for line in _lines(Path("/proc/cpuinfo")):
            if line.lower().startswith(("model name", "hardware")):
                return " ".join(line.partition(":")[2].split())
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def cache_bytes() -> dict[str, int]:
    """By name; empty where the system does not tell."""
    if sys.platform == "darwin":
        names = {"L1d": "hw.l1dcachesize", "L2": "hw.l2cachesize", "L3": "hw.l3cachesize"}
        sizes = {name: _sysctl(key) for name, key in names.items()}
        return {name: int(size) for name, size in sizes.items() if size.isdecimal() and int(size)}
    found: dict[str, int] = {}
    for folder in sorted(_CPU.glob("index*")):
        level, kind, size = ("".join(_lines(folder / name)[:1]) for name in ("level", "type", "size"))
        if kind != "Instruction" and size[:-1].isdecimal() and size[-1] in "KMG":
            name = f"L{level}{'d' if kind == 'Data' else ''}"
            found[name] = int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1]]
    return found


def memory_bytes() -> tuple[int, int]:
    """Free and all memory of this machine; 0 for what the system does not tell."""
    memory = _core.device_memory("cpu")
    return memory.free + zfs_cache() if memory.free else 0, memory.total


def zfs_cache(statistics: Path = Path("/proc/spl/kstat/zfs/arcstats")) -> int:
    """Bytes that the cache of ZFS gives back when memory gets short, which MemAvailable does not count: its size beyond
    the least it keeps."""
    values = {
        words[0]: int(words[2])
        for line in _lines(statistics)
        if len(words := line.split()) == 3 and words[2].isdecimal()
    }
    return max(values.get("size", 0) - values.get("c_min", 0), 0)


def memory_budget(device: str = "auto") -> tuple[int, str] | None:
    """Bytes that a model can have on a device, and what sets that limit. In the machine's own memory what this process
    already holds is included, and the limit is the memory that is free, the control group's or the address space's.
    None where the system does not tell. Raises InputError, Unavailable."""
    memory = _core.device_memory(device)
    if not memory.is_host:
        return (memory.free, "memory that is free on the device") if memory.free else None
    if sys.platform == "darwin":
        total = memory_bytes()[1]
        return (total, "all memory of this machine") if total else None
    held, mapped = status_bytes("VmRSS"), status_bytes("VmSize")
    limits = []
    if free := memory_bytes()[0]:
        limits.append((free + held, "memory that is free"))
    if (room := group_room()) is not None:
        limits.append((room + held, "this control group's limit"))
    if (room := _address_room(mapped)) is not None:
        limits.append((room + held, "this process's address space limit"))
    return min(limits, default=None)


def status_bytes(field: str) -> int:
    """A size of this process as Linux counts it ("VmRSS", "VmHWM", "VmSize"); 0 elsewhere."""
    for line in _lines(Path("/proc/self/status")):
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) << 10
    return 0


def group_room(mounts: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the tightest memory limit of this process's control groups leaves, their cache of files counted as free.
    Inside a container the path may be the host's, so its ancestors down to the mount itself are looked at too."""
    rooms = []
    for line in _lines(groups):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, names = mounts, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = mounts / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            limit, used = (_number(group / name) for name in names[:2])
            if limit is not None and used is not None and limit < 1 << 60:
                rooms.append(max(limit - used + _statistic(group / "memory.stat", names[2]), 0))
    return min(rooms, default=None)


def _address_room(mapped: int) -> int | None:
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else max(limit - mapped, 0)


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)[:1])
    return int(text) if text.isdecimal() else None


def _statistic(path: Path, name: str) -> int:
    found = (line.split() for line in _lines(path))
    return next((int(words[1]) for words in found if len(words) == 2 and words[0] == name), 0)


def forget_peak_memory() -> None:
    """From here on the process's highest resident memory counts anew, where the system can do that (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
