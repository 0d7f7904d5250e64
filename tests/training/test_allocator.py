import ctypes
import resource
import subprocess
import sys

import pytest

from wmkit.training.allocator import keep_freed_memory

COUNT = """
import ctypes, resource, sys

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: where everyone gets huge pages, faults are few anyway
import torch
from wmkit.training.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    return int(subprocess.run([sys.executable, "-c", COUNT, mode], capture_output=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_large_temporaries_cause_no_page_faults_after_the_first() -> None:
    pages = 10 * 10_000_000 * 4 // resource.getpagesize()
    assert page_faults("keep") < pages // 20 < page_faults("default")


def test_without_glibc_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
