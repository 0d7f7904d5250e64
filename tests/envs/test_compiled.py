"""Compiled functions work wherever their machine code can be kept, or cannot."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching

from wmkit_envs.compiled import compiled
from wmkit_kernels.dplr_scan.cpu.numba_impl import has_a_place


def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.reported(
    "machines",
    "librosa/librosa#1156, numba/numba#4032, birdnet-team/BirdNET-V1#23",
    "packages read-only and no home: no folder for Numba's cache",
    "worlds compile anew in each process",
)
def test_without_a_folder_for_the_code_a_function_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CodeLibraryCacheImpl, "_locator_classes", [])
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        caching.FunctionCache(add)
    function = compiled(add)
    assert function(2, 3) == 5
    assert not function.stats.cache_path


@pytest.mark.reported(
    "machines",
    "",
    "the disk is full when Numba keeps its code (errno 28)",
    "the compiled function is used, the code is not kept",
)
def test_code_that_cannot_be_kept_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.Cache, "save_overload", full)
    assert compiled(add)(2.5, 3.0) == 5.5


@pytest.mark.reported(
    "machines", "", "a file of Numba's cache cut short by a crash or a full disk", "the function is compiled again"
)
def test_damaged_code_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*arguments: Any) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(caching.Cache, "load_overload", damaged)
    assert compiled(add)(2, 3) == 5


@pytest.mark.reported("settings", "", "`NUMBA_DISABLE_JIT=1`", "plain Python, with the same numbers")
def test_with_compiling_turned_off_functions_are_what_they_are() -> None:
    code = "from wmkit_envs.compiled import compiled; f = lambda a: a + 1; assert compiled(f) is f"
    subprocess.run([sys.executable, "-c", code], env={"NUMBA_DISABLE_JIT": "1"}, check=True)


@pytest.mark.reported(
    "machines",
    "birdnet-team/BirdNET-V1#23",
    "a container's user without home and entry in passwd, packages read-only",
    "compiles for each process; no folder called `~` is made in the current one",
)
def test_without_a_home_no_folder_called_tilde_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert compiled(add)(2, 3) == 5
    assert not has_a_place(add)
    assert list(tmp_path.iterdir()) == []
