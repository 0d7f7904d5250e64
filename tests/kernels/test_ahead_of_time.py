"""The Triton kernels become machine code for sm_80 and sm_90 without a GPU, and fit its registers."""

import json
import os

import pytest

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

# Registers per thread that the kernels of each op may take.
REGISTERS = {
    "dplr_kernel_forward": 255, "dplr_kernel_backward": 255, "dplr_scan_forward": 255, "dplr_scan_backward": 255,
    "vandermonde_forward": 128, "vandermonde_backward": 128,
    "scan_forward": 64, "scan_carry": 64, "scan_backward": 64,
}  # fmt: skip
OPS = ("dplr_kernel", "dplr_scan", "vandermonde", "diagonal_scan")

# Of three sizes the smallest and the largest; `make test-long` has the one between them too.
WITHOUT_THE_MIDDLE = """
import importlib, sys
from wmkit_kernels.triton_common import ahead_of_time

for module in map(importlib.import_module, sys.argv[1:]):
    module.BUILDS = [build for build in module.BUILDS if "N32" not in build.name]
ahead_of_time.main()
"""


@pytest.mark.early
def test_every_kernel_compiles_for_both_architectures_and_spills_nothing(without_interpreter):
    """In one process: starting the compiler takes seconds."""
    modules = [f"wmkit_kernels.{op}.triton_impl" for op in OPS]
    command = ("-m", "wmkit_kernels.triton_common.ahead_of_time") if LONG else ("-c", WITHOUT_THE_MIDDLE)
    builds = json.loads(without_interpreter(*command, *modules))
    assert {name.partition("-")[0] for name in builds} == REGISTERS.keys()
    assert sum(name.startswith("vandermonde") for name in builds) == 4, "each precision under a name of its own"
    for name, by_architecture in builds.items():
        assert set(by_architecture) == {"80", "90"}
        for architecture, found in by_architecture.items():
            assert found["spill_stores"] == found["spill_loads"] == 0, (name, architecture)
            assert found["registers"] <= REGISTERS[name.partition("-")[0]], (name, architecture)
