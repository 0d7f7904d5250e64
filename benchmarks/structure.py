"""The shape of the source tree in figures: `python -m benchmarks.structure [--root TREE] [--once] [--way]`.

Files, lengths, rooms, import arrows, circles and helpers that are called once are read from the syntax trees; the files
that a batch passes are those whose functions run between the request for the first batch and the optimiser's step, in
two steps of the memory maze recipe at size tiny; those of the config run before it. A hop is a pair of files of which
one calls the other. Another checkout is measured with its own environment:
`OTHER/.venv/bin/python benchmarks/structure.py --root OTHER`.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGES = {"wmkit": "wmkit", "wmkit_kernels": "wmkit_kernels", "wmkit_envs": "envs/wmkit_envs"}
SHORT_FACE = 40
"""An `__init__.py` of at most so many lines only exports names and is not counted as a source file."""
PURPOSE = "files from the batch's request to the optimiser's step, and from the loss to the kernel and back"

Trees = dict[Path, ast.Module]
Graph = dict[str, set[str]]


def source_files(root: Path, package: str) -> list[Path]:
    """The package's modules, sorted."""
    return sorted((root / PACKAGES[package]).rglob("*.py"))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's signature and body, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def called_once(trees: Trees) -> tuple[list[str], int]:
    """Private functions that are referred to in one place only, as `file:line name`; and how many are private."""
    uses: Counter[str] = Counter()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                uses[node.id] += 1
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                uses[node.attr] += 1
    private = [
        (file, function)
        for file, tree in trees.items()
        for function in functions(tree)
        if function.name.startswith("_") and not function.name.startswith("__")
    ]
    once = [f"{file}:{function.lineno} {function.name}" for file, function in private if uses[function.name] == 1]
    return once, len(private)


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names of what a module imports, inside functions too; what only a type checker reads is left out."""
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_graph(root: Path, package: str) -> Graph:
    """Which files of a package import which others of it."""
    folder = root / PACKAGES[package]
    names = {".".join((package, *f.relative_to(folder).with_suffix("").parts)): f for f in source_files(root, package)}
    graph: Graph = {}
    for name, file in names.items():
        found = set()
        for target in imports(ast.parse(file.read_text())):
            parts = target.split(".")
            heads = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
            hit = next((f"{h}.__init__" if f"{h}.__init__" in names else h for h in heads
                        if h in names or f"{h}.__init__" in names), None)  # fmt: skip
            if hit and hit != name:
                found.add(hit)
        graph[name] = found
    return graph


def room(name: str) -> str:
    """The folder of a module below its package, or the module itself where it lies loose in the package's root."""
    parts = name.split(".")
    return parts[1] if len(parts) > 2 else f"{parts[1]}.py"


def room_graph(graph: Graph) -> Graph:
    """Arrows between rooms; the package's own face belongs to none."""
    rooms: Graph = defaultdict(set)
    for source, targets in graph.items():
        if room(source) == "__init__.py":
            continue
        rooms[room(source)] |= {room(t) for t in targets} - {room(source), "__init__.py"}
    return rooms


def circles(graph: Graph) -> list[set[str]]:
    """Sets of nodes that reach each other."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for node in graph.get(stack.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
        return seen

    reached = {node: reach(node) for node in graph}
    found: list[set[str]] = []
    for node in graph:
        circle = {other for other in reached[node] if node in reached.get(other, ())}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def arrows_up(rooms: Graph) -> int:
    """The fewest arrows between rooms without which there would be no circle."""
    number = 0
    for circle in circles(rooms):
        inside = [(a, b) for a in circle for b in rooms[a] & circle]
        for count in range(1, len(inside) + 1):
            if any(not circles({a: {b for x, b in inside if x == a and (x, b) not in cut} for a in circle})
                   for cut in map(set, itertools.combinations(inside, count))):  # fmt: skip
                number += count
                break
    return number


def shape(root: Path) -> dict[str, Any]:
    """The figures that are read from the syntax trees."""
    figures: dict[str, Any] = {}
    trees: Trees = {}
    graphs = {package: file_graph(root, package) for package in PACKAGES}
    for package in PACKAGES:
        files = [
            file
            for file in source_files(root, package)
            if file.name != "__init__.py" or len(file.read_text().splitlines()) > SHORT_FACE
        ]
        trees |= {file.relative_to(root): ast.parse(file.read_text()) for file in files}
        figures[f"source files, {package}"] = len(files)
    lengths = [len((root / file).read_text().splitlines()) for file in trees]
    bodies = [code_lines(function) for tree in trees.values() for function in functions(tree)]
    once, private = called_once(trees)
    rooms = {package: room_graph(graph) for package, graph in graphs.items()}
    return figures | {
        "source files": len(trees),
        "lines": sum(lengths),
        "lines of a file, median": statistics.median(lengths),
        "functions": len(bodies),
        "lines of a function, median": statistics.median(bodies),
        "lines of a function, mean": round(statistics.mean(bodies), 1),
        "functions of at most 3 lines": sum(lines <= 3 for lines in bodies),
        "private helpers": private,
        "private helpers called once": len(once),
        "folders": len({file.parent for file in trees}),
        **{f"rooms, {package}": len(graph) for package, graph in rooms.items()},
        **{f"arrows between rooms, {package}": sum(map(len, graph.values())) for package, graph in rooms.items()},
        "import arrows between files": sum(len(targets) for graph in graphs.values() for targets in graph.values()),
        "arrows up": sum(arrows_up(graph) for graph in rooms.values()),
        "circles of files": sum(len(circles(graph)) for graph in graphs.values()),
    }


class Way:
    """The files of our packages whose functions run between two moments of a training step."""

    def __init__(self, root: Path) -> None:
        self.prefixes = tuple(f"{root / folder}{os.sep}" for folder in PACKAGES.values())
        self.root = root
        self.batch: dict[str, None] = {}
        self.loss: dict[str, None] = {}
        self.config: dict[str, None] = {}
        self.hops: dict[str, set[tuple[str, str]]] = {"batch": set(), "config": set()}
        self.asked = self.inside = self.done = False

    def record(self, frame: FrameType, event: str, argument: object) -> None:
        """To be set as the profile function of all threads."""
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event != "call" or self.done or not file.startswith(self.prefixes) or name == "<module>":
            return
        short = str(Path(file).relative_to(self.root))
        main = threading.current_thread() is threading.main_thread()
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        if main and name == "__next__" and caller.endswith("training/loop.py"):  # validations ask elsewhere
            self.asked = True
        if main and name == "loss" and file.endswith("world_model.py"):
            self.inside = True
        if main and self.inside and file.endswith("optimiser.py"):
            self.batch[short] = None
            self.done = True
            return
        before = main and not self.asked  # the config is on its way: from the command line to what it builds
        (self.config if before else self.batch)[short] = None
        if caller.startswith(self.prefixes) and caller != file:
            self.hops["config" if before else "batch"].add((caller, file))
        if main and self.inside and "/training/" not in file:  # the loop that asks for the loss is not part of it
            self.loss[short] = None


def walk(root: Path, backbone: str) -> Way:
    """Train two steps of the memory maze at size tiny, episodes made in this process, and note the way of a batch."""
    from wmkit.training.command import run_recipe

    config = runpy.run_path(str(root / "recipes" / "memory_maze.py"))["config"]()
    way = Way(root)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"backbone={backbone}", "size=tiny", "train.steps=2", "data.workers=0", "data.batch_size=2"]
        overrides += [
            "data.episode_length=16",
            "eval.context=8",
            "eval.horizon=8",
            "eval.episodes=2",
            f"run_dir={folder}/run",
        ]
        threading.setprofile(way.record)
        sys.setprofile(way.record)
        try:
            status = run_recipe(config, lambda path: None, overrides=overrides)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # typeshed knows no None here
    assert status == 0, f"the recipe ended with {status}"
    assert way.done, "no optimiser step was seen"
    return way


def main() -> int:
    """Print the table, or with --json one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout (default: this one)")
    parser.add_argument("--once", action="store_true", help="list private helpers that are called once, and end")
    parser.add_argument("--way", action="store_true", help=f"list the {PURPOSE}")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.once:
        trees = {f.relative_to(root): ast.parse(f.read_text()) for p in PACKAGES for f in source_files(root, p)}
        print("\n".join(called_once(trees)[0]))
        return 0
    sys.path[:0] = [str(root), str(root / "envs")]
    figures = shape(root)
    for backbone in ("s4", "gru"):
        way = walk(root, backbone)
        figures[f"files on a batch's way, {backbone}"] = len(way.batch)
        figures[f"hops from file to file on it, {backbone}"] = len(way.hops["batch"])
        figures[f"files from the loss to the kernel and back, {backbone}"] = len(way.loss)
        figures[f"files on the config's way to the first batch, {backbone}"] = len(way.config)
        figures[f"hops on it, {backbone}"] = len(way.hops["config"])
        if arguments.way:
            print(f"\n{backbone}, loss to kernel:", *way.loss, sep="\n  ")
            print(
                f"\n{backbone}, the other files of the batch:", *(f for f in way.batch if f not in way.loss), sep="\n  "
            )
    if arguments.json:
        print(json.dumps(figures))
        return 0
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    width = max(map(len, figures))
    print(f"\n{'commit':{width}}  {commit.stdout.strip() or 'unknown'}")
    for name, value in figures.items():
        print(f"{name:{width}}  {value:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
