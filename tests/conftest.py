"""Shared by all tests: hypothesis profiles, seeds, thread counts."""

import os

# Before anything imports Triton, whose own library looks at it on import: tests ask for kernels on CPU tensors.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
import torch
from hypothesis import settings

settings.register_profile("short", deadline=None, derandomize=True, max_examples=25)
settings.register_profile("long", deadline=None, derandomize=True, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

# The models of the tests are tiny: a second thread costs more in hand-overs than it computes, and one is repeatable.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
