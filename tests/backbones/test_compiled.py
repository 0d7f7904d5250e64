"""Diagonal backbones and models on them as one graph: the compiler neither breaks off nor changes anything."""

import subprocess
import sys

import pytest

SCANS = """
import torch
from wmkit.registry import get_entry

PATHS = {"s4d": ({"return_state": False}, {}, {"is_first": torch.rand(2, 20) < 0.2}), "s5": ({},)}
PATHS["lru"] = PATHS["s4d"][2:]  # with `s5` both ways through the recurrence that the two share
for name, paths in PATHS.items():
    config = get_entry(name).config.for_size("tiny")
    backbone, x = get_entry(name).cls(config.input_dim, config), torch.randn(2, 20, config.input_dim)
    for options in paths:

        def scan(x):
            return backbone.scan(x, **options)[0]

        torch._dynamo.reset()
        results = []
        for run in (scan, torch.compile(scan, fullgraph=True, backend="aot_eager")):
            y = run(x)
            results.append([y, *torch.autograd.grad(y.square().sum(), list(backbone.parameters()))])
        for plain, compiled in zip(*results, strict=True):
            torch.testing.assert_close(compiled, plain)
"""

MODELS = """
import contextlib
import os
from wmkit import build_world_model
from wmkit.tree import leaves

image, action = torch.rand(2, 2, 3, 16, 16), torch.randn(2, 2, 2)
is_first = torch.tensor([[1, 1], [1, 0]]).bool()
# `lru` takes the steps of `s5` by another system, which the scans have
for name in ("s4d", "s5", "transformer_xl", *(["lru"] if os.environ.get("HYPOTHESIS_PROFILE") == "long" else [])):
    model = build_world_model(name, "tiny", (3, 16, 16), 2)
    torch._dynamo.reset()
    backend = "aot_eager" if name == "s4d" else "eager"  # the scans above have the others
    observe, imagine = (torch.compile(f, fullgraph=True, backend=backend) for f in (model.observe, model.imagine))
    # the second time where tables are kept
    for block in (contextlib.nullcontext, model.prepared)[: 1 if name == "s5" else 2]:
        with torch.no_grad(), block():
            seen, state = model.observe(image, action, is_first)
            after = model.imagine(action, state)
            for plain, compiled in ((seen.features, observe(image, action, is_first)[0].features),
                                    (after.features, imagine(action, state).features),
                                    *zip(leaves(after.state), leaves(imagine(action, state).state), strict=True)):
                torch.testing.assert_close(compiled, plain)
"""


@pytest.mark.early
def test_scans_with_gradients_and_observing_and_imagining_without_compile_to_one_graph_each():
    """In one process, as the compiler takes seconds to start."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCANS + MODELS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
