"""Scans of the diagonal backbones as one graph: the compiler neither breaks off nor changes anything."""

import subprocess
import sys

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


def test_a_scan_compiles_to_one_graph_with_the_same_results_and_gradients():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCANS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
