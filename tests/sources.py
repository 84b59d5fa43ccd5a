"""The sources of the three packages as syntax trees, for tests that read code instead of running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "edgeser": ROOT / "edgeser",
    "edgeser_export": ROOT / "export" / "edgeser_export",
    "edgeser_device": ROOT / "device" / "edgeser_device",
}


@dataclass(frozen=True)
class Module:
    """One source file: ``name`` is what one imports, ``place`` what a reader opens."""

    name: str
    place: str
    text: str
    tree: ast.Module


@dataclass(frozen=True)
class ErrorClass:
    """Where an error class is defined and what it directly inherits from our own tree."""

    parent: str
    module: str


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the three packages."""
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(name, str(path.relative_to(ROOT)), text, ast.parse(text, str(path))))
    return tuple(found)


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import anywhere in a tree, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: relative imports hide the arrow"
            yield node.module or "", node.lineno


def classes_below(root: str) -> dict[str, ErrorClass]:
    """Every class that inherits from ``root``, directly or not, in any module; classes are matched by name."""
    bases: dict[str, tuple[list[str], str]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                names = [
                    base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases
                ]
                bases[node.name] = (names, module.name)
    found: dict[str, ErrorClass] = {}
    known = {root}
    while True:
        new = {name: parents for name, parents in bases.items() if name not in known and known & set(parents[0])}
        if not new:
            return found
        for name, (parents, module_name) in new.items():
            found[name] = ErrorClass(next(parent for parent in parents if parent in known), module_name)
        known |= set(new)
