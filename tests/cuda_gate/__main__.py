"""What the CUDA compiler made of every kernel on every architecture, against docs/gpu_kernels.tsv: `make gate`.

Needs no card. Registers, shared memory and blocks per multiprocessor may change only together with the table
(--update). No kernel may use local memory, where spilled registers and indexed arrays lie; and each must hold the
instructions that its speed comes from.
"""

import argparse
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine_code import Compiled, read_cubin
from occupancy import MULTIPROCESSORS, resident_blocks

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/gpu_kernels.tsv"
MOST_IMAGE_BYTES = 8 << 20
HEADER = ["kernel", "arch", "threads", "registers", "shared", "launched", "blocks", "local"]

# Instructions by kernel: products of 8-bit integers on tensor cores and by DP4A, f16 ones, loads of 16 bytes.
NEEDED = {
    r"gemm.*": ["IMMA", "LDGSTS.E.BYPASS.128"],
    r"(matmul|swiglu)_8": ["IMMA"],
    r"(matmul|swiglu)_[12]|moe_gather|moe_combine": ["IDP.4A", "LDG.E.128"],
    r"attend_.*": ["IMMA", "HMMA", "LDG.E.128"],
    r"gated_delta_net": ["LDG.E.128 or LD.E.128"],
    r"read_memory": ["LDG.E.NA.128"],
    r"multiply_int8": ["IMMA"],
}


def launches(folder: Path) -> dict[str, tuple[int, int]]:
    """Threads of a block, and bytes of shared memory given at the launch, by kernel."""
    program = folder / "list_kernels"
    source = Path(__file__).with_name("list_kernels.cpp")
    subprocess.run(["c++", "-std=c++20", f"-I{ROOT / 'csrc'}", source, "-o", program], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split("\n")
    return {name: (int(threads), int(given)) for name, threads, given in map(str.split, filter(None, lines))}


def table_row(name: str, arch: str, kernel: Compiled, threads: int, launched: int) -> str:
    blocks = resident_blocks(arch, threads, kernel.registers, kernel.shared + launched)
    fields = [name, arch, threads, kernel.registers, kernel.shared, launched, blocks, kernel.stack]
    return "\t".join(map(str, fields))


def faults_of(name: str, arch: str, kernel: Compiled) -> list[str]:
    accesses = kernel.count("LDL") + kernel.count("STL")
    faults = []
    if kernel.stack or accesses:
        faults.append(f"{kernel.stack} bytes of local memory, {accesses} accesses; expected none")
    for pattern, instructions in NEEDED.items():
        if re.fullmatch(pattern, name):
            faults += [f"no {wanted}" for wanted in instructions if not any(map(kernel.count, wanted.split(" or ")))]
    return [f"{name} on sm_{arch}: {fault}" for fault in faults]


def differences(old: list[str], new: list[str]) -> list[str]:
    key = {row: tuple(row.split("\t")[:2]) for row in (*old, *new)}
    order = list(dict.fromkeys(key[row] for row in (*new, *old)))
    signed = [(key[r], "- " + r) for r in old if r not in new] + [(key[r], "+ " + r) for r in new if r not in old]
    return [line for _, line in sorted(signed, key=lambda pair: (order.index(pair[0]), pair[1] > "-"))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make gate", description=__doc__)
    parser.add_argument("build", type=Path, help="where sm_*.cubin and kernels.fatbin lie")
    parser.add_argument("tools", type=Path, help="where nvdisasm and cuobjdump lie")
    parser.add_argument("--update", action="store_true", help=f"write {TABLE.relative_to(ROOT)}")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        listed = launches(Path(folder))
    with ThreadPoolExecutor(2) as pool:
        cubins = [(given.build / f"sm_{arch}.cubin", arch, given.tools) for arch in MULTIPROCESSORS]
        compiled = dict(zip(MULTIPROCESSORS, pool.map(lambda cubin: read_cubin(*cubin), cubins), strict=True))

    rows, faults = [], []
    for name in sorted(listed):
        for arch, kernels in compiled.items():
            rows.append(table_row(name, arch, kernels[name], *listed[name]))
            faults += faults_of(name, arch, kernels[name])
    image_bytes = (given.build / "kernels.fatbin").stat().st_size
    if image_bytes > MOST_IMAGE_BYTES:
        faults.append(f"the image has {image_bytes:,} bytes, expected at most {MOST_IMAGE_BYTES:,}")
    lines = ["\t".join(HEADER), *rows]
    if given.update:
        TABLE.write_text("\n".join(lines) + "\n")
    changed = differences(TABLE.read_text().splitlines() if TABLE.exists() else [], lines)
    print(*(f"{fault}\n" for fault in faults), *(f"{line}\n" for line in changed), sep="", end="")
    if changed:
        print(f"{TABLE.relative_to(ROOT)} holds the lines with -, this build those with +: make gate ARGS=--update")
    print(f"{len(listed)} kernels on {len(compiled)} architectures, an image of {image_bytes / 1e6:.2f} MB")
    if faults or changed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
