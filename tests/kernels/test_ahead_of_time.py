"""The DPLR kernels in Triton become machine code for sm_80 and sm_90 without a GPU, and fit its registers."""

import pytest

OPS = ("dplr_kernel", "dplr_scan")


@pytest.mark.parametrize("op", OPS)
def test_kernels_compile_for_both_architectures_and_spill_nothing(op, ahead_of_time):
    kernels = ahead_of_time(f"wmkit_kernels.{op}.triton_impl")
    assert any("forward" in name for name in kernels)
    assert any("backward" in name for name in kernels)
    for name, by_architecture in kernels.items():
        assert set(by_architecture) == {"80", "90"}
        for architecture, found in by_architecture.items():
            assert found["spill_stores"] == found["spill_loads"] == 0, (name, architecture)
            assert found["registers"] <= 255, (name, architecture)
