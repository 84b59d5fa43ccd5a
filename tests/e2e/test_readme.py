"""The commands in README.md and docs: every verb and flag exists, and blocks marked ``<!-- run -->`` are executed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer
from sources import ROOT

from edgeser.cli.app import app

PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if path.is_file()]
BLOCK = re.compile(r"(?P<mark><!-- run -->\s*\n)?^```(?:bash|sh|console)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "2>", "<"}
"""Where a command ends inside a line."""


def blocks(text: str) -> list[tuple[bool, str]]:
    """(marked to be run, body) of every fenced block of shell commands."""
    return [(bool(found["mark"]), found["body"]) for found in BLOCK.finditer(text)]


def commands(body: str) -> list[list[str]]:
    """The words of every ``edgeser`` call in a block, as the shell would split them."""
    found = []
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for place, word in enumerate(words):
            starts = place == 0 or words[place - 1] in ENDS or "=" in words[place - 1]
            if word.rsplit("/")[-1] == "edgeser" and starts:
                end = next((at for at in range(place, len(words)) if words[at] in ENDS), len(words))
                found.append(words[place + 1 : end])
    return found


@cache
def options_by_verb() -> dict[tuple[str, ...], set[str]]:
    """The flags of every verb of the real program; verbs under a group have two words."""
    always = {"--help"}
    root = typer.main.get_command(app)
    found = {(): always | {flag for option in root.params for flag in option.opts}}
    for name, command in root.commands.items():
        below = {(name, sub): one for sub, one in getattr(command, "commands", {}).items()}
        for path, each in {(name,): command, **below}.items():
            found[path] = always | {flag for option in each.params for flag in (*option.opts, *option.secondary_opts)}
    return found


def complaints(words: list[str]) -> list[str]:
    """What is wrong with the words behind ``edgeser``: an unknown verb, or flags that the verb does not have."""
    table = options_by_verb()
    plain = [word for word in words if not word.startswith("-")]
    verb = next((path for path in (tuple(plain[:2]), tuple(plain[:1])) if path in table), None)
    if plain and verb is None:
        return [f"there is no verb {plain[0]!r}"]
    groups = {path[0] for path in table if len(path) == 2}
    if verb and len(verb) == 1 < len(plain) and verb[0] in groups:
        return [f"there is no verb {' '.join(plain[:2])!r}"]
    flags = {word.partition("=")[0] for word in words if re.match(r"-+[a-z]", word)}
    return [f"{' '.join(verb or ())} has no {flag}" for flag in sorted(flags - table[verb or ()] - {"--debug"})]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_on_a_page_exists(page: Path) -> None:
    wrong = [
        f"{page.name}: edgeser {shlex.join(words)}: {complaint}"
        for _, body in blocks(page.read_text(encoding="utf-8"))
        for words in commands(body)
        for complaint in complaints(words)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_readme_shows_commands() -> None:
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("there is no README.md yet")
    assert sum(len(commands(body)) for _, body in blocks(readme.read_text(encoding="utf-8"))) >= 3


PAGE = """
Text with `edgeser nonsense` in it.

<!-- run -->
```bash
edgeser demo --out /tmp/x   # takes --minutes
A=1 edgeser distill data --corpus ravdess \\
    --ipc 6 --out runs/rav && .venv/bin/edgeser evaluate runs/rav --fulll
```

```python
edgeser.nothing()
```

```sh
pip install edgeser --upgrade
edgeser data lst
edgeser predct model
edgeser data check data --corpus emodb | head -n 3
```
"""


def test_the_reader_of_pages_finds_what_a_shell_would_run() -> None:
    found = [(mark, commands(body)) for mark, body in blocks(PAGE)]
    assert [mark for mark, _ in found] == [True, False]
    assert found[0][1] == [
        ["demo", "--out", "/tmp/x"],
        ["distill", "data", "--corpus", "ravdess", "--ipc", "6", "--out", "runs/rav"],
        ["evaluate", "runs/rav", "--fulll"],
    ]
    assert found[1][1] == [["data", "lst"], ["predct", "model"], ["data", "check", "data", "--corpus", "emodb"]]
    said = [complaint for _, calls in found for words in calls for complaint in complaints(words)]
    assert said == ["evaluate has no --fulll", "there is no verb 'data lst'", "there is no verb 'predct'"]


MARKED = [
    pytest.param(body, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in PAGES
    for number, (mark, body) in enumerate(blocks(page.read_text(encoding="utf-8")), start=1)
    if mark
]


@pytest.mark.slow
@pytest.mark.parametrize("body", MARKED)
def test_marked_blocks_run_as_they_stand(tmp_path: Path, body: str) -> None:
    """In an empty folder, with the environment's programs first in PATH; every line must succeed."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", re.sub(r"^\$ ", "", body, flags=re.MULTILINE)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
