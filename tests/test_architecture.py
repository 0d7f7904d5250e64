"""Import arrows, the wheel's contents, which tests run, and what `import wmkit` costs."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import structure

ROOT = Path(__file__).parents[1]
OURS = {"wmkit", "wmkit_envs", "wmkit_kernels", "recipes"}
MAY_IMPORT = {
    "wmkit": (ROOT / "wmkit", {"wmkit", "wmkit_kernels"}),
    "wmkit_kernels": (ROOT / "wmkit_kernels", {"wmkit_kernels"}),
    "wmkit_envs": (ROOT / "envs" / "wmkit_envs", {"wmkit_envs"}),
    "recipes": (ROOT / "recipes", {"wmkit", "wmkit_envs"}),
}


def imported_packages(source: str) -> set[str]:
    """Top-level names of every absolute import, those inside functions too, and those by `import_module("...")`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                names.add(module)
    return {name.partition(".")[0] for name in names}


def test_imports_of_every_form_are_seen() -> None:
    source = (
        "import a.b\nfrom c.d import e\nfrom . import f\ndef g():\n    import h\n    importlib.import_module('i.j')\n"
    )
    assert imported_packages(source) == {"a", "c", "h", "i"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_only_point_down(package: str) -> None:
    folder, allowed = MAY_IMPORT[package]
    files = sorted(folder.rglob("*.py"))
    wrong = {
        str(file.relative_to(ROOT)): sorted((imported_packages(file.read_text()) & OURS) - allowed)
        for file in files
        if (imported_packages(file.read_text()) & OURS) - allowed
    }
    assert files
    assert not wrong


LAYERS = (
    "networks",
    "backbones",
    "dynamics",
    "video_models",
    "testing",
    "data",
    "training",
    "evaluation",
    "probing",
    "acting",
    "comparison",
    "diagnostics",
    "cli",
)
"""The packages inside wmkit, lowest first: each imports from those before it alone."""


def parts_imported(file: Path) -> set[str]:
    """Packages and root modules of wmkit that a file of it imports; its face, `wmkit/__init__.py`, is `wmkit`."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ImportFrom(module="wmkit", level=0):
                parts.update(a.name if (ROOT / "wmkit" / a.name).exists() or (ROOT / "wmkit" / f"{a.name}.py").exists()
                             else "wmkit" for a in node.names)  # fmt: skip
            case ast.ImportFrom(module=str(module), level=0) if module.startswith("wmkit."):
                parts.add(module.split(".")[1])
            case ast.Import():
                modules = (alias.name.split(".") for alias in node.names)
                parts.update(names[1] if len(names) > 1 else "wmkit" for names in modules if names[0] == "wmkit")
    return parts


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """What each package and each root module of wmkit imports of the others."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "wmkit").rglob("*.py")):
        part = file.relative_to(ROOT / "wmkit").parts[0].removesuffix(".py")
        part = "wmkit" if part == "__init__" else part
        found.setdefault(part, set()).update(parts_imported(file) - {part})
    return found


def test_every_package_of_wmkit_has_its_place(arrows: dict[str, set[str]]) -> None:
    packages = {folder.parent.name for folder in (ROOT / "wmkit").glob("*/__init__.py")}
    assert packages == set(LAYERS), "a new package needs a place in LAYERS"
    assert packages <= arrows.keys()


def test_packages_of_wmkit_import_from_those_below_alone(arrows: dict[str, set[str]]) -> None:
    up = {layer: sorted(arrows[layer] & set(LAYERS[number + 1 :])) for number, layer in enumerate(LAYERS)}
    assert not {layer: above for layer, above in up.items() if above}


def test_there_is_no_circle_between_the_parts_of_wmkit(arrows: dict[str, set[str]]) -> None:
    left = dict(arrows)
    while free := [part for part, imported in left.items() if not imported & left.keys()]:
        for part in free:
            del left[part]
    assert not {part: sorted(imported & left.keys()) for part, imported in left.items()}


def test_a_recipe_does_not_hide_a_library() -> None:
    """A script's folder comes first on the path: recipes/zarr.py would be imported instead of zarr."""
    sources = [*ROOT.glob("wmkit*/**/*.py"), *ROOT.glob("envs/**/*.py"), *ROOT.glob("recipes/*.py")]
    libraries = set().union(*(imported_packages(file.read_text()) for file in sources)) | set(sys.stdlib_module_names)
    assert not libraries & {file.stem for file in (ROOT / "recipes").glob("*.py")}


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    for folder in ("wmkit", "wmkit_kernels", "envs", "recipes", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "wmkit", "wmkit_envs", "wmkit_kernels",
    }  # fmt: skip
    for package in ("wmkit", "wmkit_envs", "wmkit_kernels"):
        assert f"{package}/py.typed" in names
    assert "wmkit/comparison/report.html.j2" in names
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "wmkit").rglob("*.py")}
    assert modules <= set(names)


def test_every_test_file_has_the_name_of_one_and_holds_tests(pytestconfig: pytest.Config) -> None:
    files = {file for file in (ROOT / "tests").rglob("*.py") if file.name != "conftest.py"}
    files -= set((ROOT / "tests/references").glob("*.py"))  # slow definitions that tests compare with
    files -= {ROOT / "tests/reliability.py"}  # makes a page of the marks of tests
    assert pytestconfig.getini("python_files") == ["test_*.py", "*_test.py"]
    assert not {file for file in files if not file.name.startswith("test_")}
    assert not [file for file in (ROOT / "tests").rglob("conftest.py") if "collect_ignore" in file.read_text()]
    bodies = {file: ast.parse(file.read_text()).body for file in files}
    assert not {
        file
        for file, body in bodies.items()
        if not any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in body)
    }


def test_importing_wmkit_loads_no_world_no_simulator_and_no_compiler() -> None:
    heavy = ["minigrid", "dm_control", "mujoco", "triton", "numba", "matplotlib", "labmaze", "wmkit_envs"]
    code = f"import sys, wmkit, wmkit.backbones; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", structure.PACKAGES)
def test_neither_files_nor_rooms_import_each_other_in_circles(package: str) -> None:
    files = structure.file_graph(ROOT, package)
    assert structure.circles(files) == []
    assert structure.arrows_up(structure.room_graph(files)) == 0


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert structure.circles(graph) == [{"b", "c"}]
    assert structure.arrows_up(graph) == 1
