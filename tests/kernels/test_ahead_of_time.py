"""Every Triton kernel becomes machine code for sm_80 and sm_90 on a machine without a GPU, and fits its registers."""

from pathlib import Path

import pytest

import wmkit_kernels

MODULES = sorted(path.parent.name for path in Path(wmkit_kernels.__file__).parent.glob("*/triton_impl.py"))


@pytest.mark.parametrize("op", MODULES)
def test_kernels_compile_for_both_architectures_and_spill_nothing(op, ahead_of_time):
    kernels = ahead_of_time(f"wmkit_kernels.{op}.triton_impl")
    assert any("forward" in name for name in kernels)
    assert any("backward" in name for name in kernels)
    for name, by_architecture in kernels.items():
        assert set(by_architecture) == {"80", "90"}
        for architecture, found in by_architecture.items():
            assert found["spill_stores"] == found["spill_loads"] == 0, (name, architecture)
            assert found["registers"] <= 255, (name, architecture)
