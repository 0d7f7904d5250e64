"""Compile Triton kernels without a GPU: `python -m wmkit_kernels.triton_common.ahead_of_time MODULE`.


A module of kernels lists in `BUILDS` how it launches them. Each is compiled for every architecture named here, down to
machine code, and what the assembler says of registers and spills is printed as one JSON object,
`{"kernel-name": {"80": {"registers": .., "spill_stores": .., "spill_loads": .., "shared": ..}, "90": ..}}`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import re
import sys
from typing import Any

ARCHITECTURES = (80, 90)

OPTIONS = {"enable_fp_fusion": True}
"""For every launch: a product and a sum become one instruction, rounded once. Triton warns where it is left open."""


@dataclasses.dataclass(frozen=True)
class Build:
    """One way in which a kernel is launched."""

    kernel: Any
    """The `@triton.jit` function."""
    types: dict[str, str]
    """Triton's type for every argument that is not a constant: "*fp32", "*i1", "i32", ..."""
    constants: dict[str, Any]
    """Values of the `tl.constexpr` arguments."""
    num_warps: int
    label: str = ""
    """Tells builds of one kernel apart."""

    @property
    def name(self) -> str:
        """The kernel's name, with the label."""
        return "-".join(part for part in (self.kernel.__name__, self.label) if part)


def resources(build: Build, architecture: int) -> dict[str, int]:
    """Registers per thread, bytes of spills, and bytes of shared memory; needs a process without TRITON_INTERPRET."""
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: build.types.get(name, "constexpr") for name in build.kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind.startswith("*")}
    source = ASTSource(build.kernel, types, build.constants, aligned)
    options = {"num_warps": build.num_warps, **OPTIONS}
    knobs.nvidia.dump_ptxas_log = knobs.compilation.always_compile = True
    with contextlib.redirect_stdout(io.StringIO()) as log:
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return {**_read(log.getvalue()), "shared": compiled.metadata.shared}


def _read(log: str) -> dict[str, int]:
    """The worst of what `ptxas -v` says."""
    patterns = {
        "registers": r"Used (\d+) registers",
        "spill_stores": r"(\d+) bytes spill stores",
        "spill_loads": r"(\d+) bytes spill loads",
    }
    return {name: max(int(n) for n in re.findall(pattern, log)) for name, pattern in patterns.items()}


def main() -> None:
    """Print the resources of all builds of the modules named on the command line."""
    builds = [build for name in sys.argv[1:] for build in importlib.import_module(name).BUILDS]
    print(json.dumps({build.name: {arch: resources(build, arch) for arch in ARCHITECTURES} for build in builds}))


if __name__ == "__main__":
    main()
