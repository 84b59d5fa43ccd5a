"""Rules that hold over all modules: which way imports point, how little is loaded, what no source may hold."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import PACKAGES, ROOT, Module, classes_below, imported, modules

ARROWS = {
    "edgeser": {"edgeser", "edgeser_device", "edgeser_export"},
    "edgeser_device": {"edgeser_device", "edgeser_export"},
    "edgeser_export": {"edgeser_export"},
}

HOST_ONLY = {"torch", "librosa", "sklearn", "matplotlib", "onnxscript", "edgeser"}
HEAVY = {
    "torch",
    "onnxruntime",
    "numpy",
    "onnx",
    "scipy",
    "sklearn",
    "librosa",
    "soundfile",
    "joblib",
    "ai_edge_litert",
    "matplotlib",
}

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_MODULES = 13
"""The most modules of one folder."""

LONG_ON_PURPOSE: dict[str, str] = {
    "edgeser/cli/board.py:train_on_device": "one parameter for each flag, and a few lines that use them",
}
"""What may be longer than a reader's sitting, with the reason: "place" or "place:function" -> why."""

DISTRIBUTIONS = {"sklearn": "scikit-learn", "google": "protobuf", "paho": "paho-mqtt", "yaml": "pyyaml"}
"""Distributions that are named otherwise than what one imports."""

by_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.place)


def in_a_fresh_interpreter(program: str) -> list[str]:
    """What ``program`` prints as one JSON list, in an interpreter that has loaded nothing else."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def loaded_by_importing_all_of(package: str) -> set[str]:
    """The top-level names that are loaded after every module of ``package`` was imported."""
    return set(
        in_a_fresh_interpreter(
            "import importlib, json, pkgutil, sys\n"
            f"package = importlib.import_module({package!r})\n"
            "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
            "    if not module.name.endswith('__main__'):\n"
            "        importlib.import_module(module.name)\n"
            "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
        )
    )


# Imports -------------------------------------------------------------------------------------------------------------


@by_module
def test_imports_point_one_way(module: Module) -> None:
    own = module.name.partition(".")[0]
    for name, line in imported(module.tree):
        top = name.partition(".")[0]
        assert top not in PACKAGES or top in ARROWS[own], f"{module.place}:{line} imports {name}"


@pytest.mark.parametrize(("package", "forbidden"), [("edgeser_device", HOST_ONLY), ("edgeser_export", HOST_ONLY)])
def test_the_board_loads_nothing_of_the_host(package: str, forbidden: set[str]) -> None:
    assert loaded_by_importing_all_of(package) & forbidden == set()


@by_module
def test_the_command_line_loads_nothing_heavy_at_the_top(module: Module) -> None:
    if module.name not in {"edgeser", "edgeser.__main__", "edgeser.cli.entry", "edgeser.errors"}:
        return
    at_the_top = ast.Module([node for node in module.tree.body if not isinstance(node, ast.If)], [])
    for node in at_the_top.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, line in imported(node):
                assert name.partition(".")[0] not in HEAVY, f"{module.place}:{line} imports {name} at the top"


def test_help_loads_nothing_heavy() -> None:
    loaded = in_a_fresh_interpreter(
        "import contextlib, io, json, sys\n"
        "sys.argv = ['edgeser', '--help']\n"
        "from edgeser.cli.entry import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "assert 'distill' in out.getvalue(), out.getvalue()\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    assert set(loaded) & HEAVY == set()


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    declared = {re.split(r"[^\w-]", line, maxsplit=1)[0].replace("-", "_") for line in asked}
    known = set(sys.stdlib_module_names) | set(PACKAGES) | declared
    for module in modules():
        for name, line in imported(module.tree):
            top = name.partition(".")[0]
            assert DISTRIBUTIONS.get(top, top).replace("-", "_") in known, f"{module.place}:{line} imports {name}"


# Folders -------------------------------------------------------------------------------------------------------------


def test_no_folder_holds_many_modules_and_no_two_have_one_name() -> None:
    """A module may be called as its folder is, which it then stands for."""
    names: dict[str, str] = {}
    for folder, count in Counter(Path(module.place).parent.as_posix() for module in modules()).items():
        assert count - 1 <= MAX_MODULES, f"{folder} holds {count - 1} modules"
    for module in modules():
        name = Path(module.place).name
        if name not in ("__init__.py", "__main__.py", "errors.py"):
            assert name not in names, f"{module.place} and {names[name]}"
            names[name] = module.place


# What no source may hold ---------------------------------------------------------------------------------------------


def forbidden_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) for everything that would run code found in a file, or run text as code."""
    for name, line in imported(tree):
        if name.partition(".")[0] in {"pickle", "dill", "cloudpickle", "marshal", "shelve"}:
            yield line, f"imports {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in {"eval", "exec", "torch.load", "torch.save", "joblib.load", "joblib.dump"}:
            yield node.lineno, called
        if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords):
            yield node.lineno, "allow_pickle"
        if called in {"np.load", "numpy.load"} and not any(word.arg == "allow_pickle" for word in node.keywords):
            yield node.lineno, "numpy.load without allow_pickle=False"


@by_module
def test_nothing_runs_code_that_it_reads(module: Module) -> None:
    assert list(forbidden_calls(module.tree)) == [], module.place


def test_the_search_for_forbidden_calls_finds_them() -> None:
    planted = "import pickle\nx = torch.load(p)\nnp.load(p, allow_pickle=True)\nnp.load(p)\neval('1')"
    assert [line for line, _ in sorted(forbidden_calls(ast.parse(planted)))] == [1, 2, 3, 4, 5]


def sources_of_every_kind() -> Iterator[Path]:
    for folder in ("edgeser", "export", "device", "tests", "benchmarks", "scripts", "docs", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and b"\0" not in path.read_bytes():
                yield path
    yield from (path for path in sorted(ROOT.glob("*.*")) if path.suffix in {".toml", ".txt", ".md"})


def test_no_source_names_a_folder_of_one_machine() -> None:
    # Written so that this file does not find itself. A Raspberry Pi's own /home/pi is what its reader has.
    pattern = re.compile(r"(?<![\w.~}-])/(?:wor[k]|roo[t]|hom[e]/(?!pi\b))(?=/\w)")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources_of_every_kind()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


# What a reader can rely on -------------------------------------------------------------------------------------------


def test_every_error_says_what_it_means() -> None:
    definitions = {
        node.name: ast.get_docstring(node)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    assert [name for name in classes_below("EdgeserError") if not definitions[name]] == []


@by_module
def test_a_module_is_read_in_one_sitting(module: Module) -> None:
    lines = module.text.count("\n")
    assert lines <= MAX_MODULE_LINES or module.place in LONG_ON_PURPOSE, f"{module.place} has {lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            place = f"{module.place}:{node.name}"
            assert lines <= MAX_FUNCTION_LINES or place in LONG_ON_PURPOSE, f"{place} has {lines} lines"


def test_the_list_of_long_ones_is_not_longer_than_needed() -> None:
    for place, reason in LONG_ON_PURPOSE.items():
        name, _, function = place.partition(":")
        module = next((module for module in modules() if module.place == name), None)
        assert module is not None, f"{place} is gone"
        assert not function or f"def {function}(" in module.text, f"{place} is gone"
        assert reason


def public_without_docstring(tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "the module"
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    while scopes:
        for node in scopes.pop().body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            is_overload = any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)
            if not ast.get_docstring(node) and not is_overload:
                yield node.name
            if isinstance(node, ast.ClassDef):
                scopes.append(node)


@by_module
def test_everything_public_is_described(module: Module) -> None:
    assert list(public_without_docstring(module.tree)) == [], module.place
