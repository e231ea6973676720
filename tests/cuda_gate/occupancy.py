"""How many blocks of threads a multiprocessor holds: the arithmetic of NVIDIA's occupancy calculator, with the limits
of "CUDA C++ Programming Guide, Compute Capabilities"."""

from dataclasses import dataclass

REGISTERS = 65536
REGISTER_UNIT = 256  # a warp's registers come in so many
SCHEDULERS = 4  # each has a fourth of the registers and takes whole warps
SHARED_UNIT = 128
SYSTEM_SHARED = 1024  # of each block


@dataclass(frozen=True)
class Multiprocessor:
    warps: int
    blocks: int
    shared_kib: int


MULTIPROCESSORS = {
    "80": Multiprocessor(64, 32, 164),
    "86": Multiprocessor(48, 16, 100),
    "89": Multiprocessor(48, 24, 100),
    "90": Multiprocessor(64, 32, 228),
    "100": Multiprocessor(64, 32, 228),
    "120": Multiprocessor(48, 24, 100),
}


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def resident_blocks(arch: str, threads: int, registers: int, shared: int) -> int:
    """`shared`: the bytes of a block, declared and given at the launch."""
    limits = MULTIPROCESSORS[arch]
    warps = -(-threads // 32)
    by_scheduler = REGISTERS // SCHEDULERS // round_up(32 * registers, REGISTER_UNIT)
    by_shared = limits.shared_kib * 1024 // round_up(shared + SYSTEM_SHARED, SHARED_UNIT)
    return min(limits.blocks, limits.warps // warps, by_scheduler * SCHEDULERS // warps, by_shared)
