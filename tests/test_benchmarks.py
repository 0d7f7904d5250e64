"""`benchmarks/gpu.py` cannot be timed without a GPU, but what it checks and refuses can be tried on a CPU."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

CODE = """
import dataclasses, sys
from benchmarks import gpu

{change}
sys.argv = ["gpu", "--interpret"]
try:
    gpu.main()
finally:
    heavy = {{"hydra", "zarr", "gymnasium", "minigrid"}} & set(sys.modules)
    assert not heavy, heavy
"""


def run(change=""):
    done = subprocess.run([sys.executable, "-c", CODE.format(change=change)], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr[-2000:]


def test_every_kernel_is_checked_and_the_table_comes_last():
    status, lines, errors = run()
    assert status == 0, errors
    header = next(i for i, line in enumerate(lines) if line.startswith("op "))
    rows = {line.split()[0]: line for line in lines[header + 1 :] if "S4 block" not in line}
    assert set(rows) == {"dplr_kernel", "dplr_scan", "vandermonde", "diagonal_scan"}
    assert all(row.endswith("right") for row in rows.values())


def test_a_wrong_op_gets_no_times_and_fails_the_run():
    wrong = "lambda xs, length, backend: (1.001 if backend == 'triton' else 1) * gpu.vandermonde(**xs, length=length)"
    status, lines, _ = run(f"gpu.CASES = (dataclasses.replace(gpu.CASES[2], run={wrong}),)")
    assert status == 1
    (row,) = {line for line in lines if line.startswith("vandermonde")}
    assert "NOT RIGHT" in row
    assert "output 0 is off by 1.0e-03" in row
    assert row.count("nan") == 6
