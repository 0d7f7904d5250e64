"""What `wmkit.training` offers by name, and that it costs nothing until it is used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import wmkit.training


def test_every_name_of_the_face_is_that_of_its_module() -> None:
    for name, home in wmkit.training.HOMES.items():
        assert getattr(wmkit.training, name) is getattr(importlib.import_module(f"wmkit.training.{home}"), name)


def test_type_checkers_see_the_same_names() -> None:
    source = ast.parse(Path(wmkit.training.__file__).read_text())
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == {name: f"wmkit.training.{home}" for name, home in wmkit.training.HOMES.items()}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fit'"):
        wmkit.training.fit  # noqa: B018


def test_importing_wmkit_loads_neither_the_loop_nor_the_command_line() -> None:
    code = "import sys, wmkit; print([name for name in ('accelerate', 'hydra', 'tensorboard') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
