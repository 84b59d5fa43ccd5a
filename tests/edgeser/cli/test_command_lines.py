"""Wrong, missing and contradictory arguments of every verb, and surroundings that are not what a program expects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_lines import BASES, NO_NUMBERS, Place, is_numeric, make_place, options, verbs, wrong_lines

from edgeser.cli.entry import main
from edgeser.config.settings import METHODS, SETTINGS
from edgeser.config.values import owner

Outcome = tuple[int, str, str]
Call = Callable[..., Outcome]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def call(place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Exit code, output and complaints of the program's entry point, in the place and for a user of its own."""
    monkeypatch.chdir(place.folder)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "EDGESER_TRUST", "EDGESER_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(place.folder.parent))

    def run(*words: str) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        code = ended.value.code
        assert isinstance(code, int)
        return (code, *capfd.readouterr())

    yield run
    place.require_untouched()


def require_good_end(code: int, said: str) -> None:
    """Check the contract of exit codes, and of the two lines that explain a refusal."""
    assert code in (0, 1, 2, 130)
    assert "Traceback" not in said
    if code == 2:
        *_, error, hint = said.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        assert len(hint) > len("hint: ")
        assert sum(line.startswith("error: ") for line in said.splitlines()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_no_command_line_ends_in_a_traceback_or_touches_an_input(place: Place, call: Call, seed: int) -> None:
    for line in wrong_lines(100, seed):
        try:
            code, _, said = call(*line)
            require_good_end(code, said)
            place.require_untouched()
        except BaseException:
            print("edgeser", *map(ascii, line))
            raise


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_number_is_read_in_one_way(call: Call, verb: str) -> None:
    found = [(flag, one) for flag, one in options(verbs()[verb]) if is_numeric(one)]
    for flag, _ in found:
        for word in NO_NUMBERS:
            code, out, said = call(*verb.split(), *BASES.get(verb, ()), f"{flag}={word}")
            assert (code, out) == (2, ""), (flag, word)
            error, hint = said.splitlines()
            assert flag in error
            assert hint == f"hint: see edgeser {verb} --help"


def test_the_walk_of_the_verbs_finds_numbers() -> None:
    numeric = {f"{verb} {flag}" for verb, one in verbs().items() for flag, each in options(one) if is_numeric(each)}
    assert len(numeric) > 30
    assert {
        "listen --gain",
        "export --max-drop",
        "bench --budget-ms",
        "data check --jobs",
    } <= numeric
    assert set(BASES) == set(verbs()) - {"doctor", "demo", "serve"}


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999"])
def test_numbers_of_a_configuration_file_are_finite(call: Call, tmp_path: Path, word: str) -> None:
    numbers = [each for each in SETTINGS.values() if each.kind == "float"]
    assert numbers
    for name in (each.key for each in numbers):
        method = f'method = "{owner(name)}"\n' if owner(name) else ""
        (tmp_path / "c.toml").write_text(f"{method}ipc = 1\n{name} = {word}\n".replace("1e999", "inf"))
        code, _, said = call("distill", "corpus", "--corpus", "folder", "--config", str(tmp_path / "c.toml"))
        require_good_end(code, said)
        assert code == 2, name


# What is overwritten -------------------------------------------------------------------------------------------------

WRITERS = {
    "pack": ("run", "--target", "rpi4", "--sign", "lab.key", "--out"),
    "train-on-device": ("test.edgeser", "--steps", "1", "--threads", "1", "--out"),
    "export": ("model", "--format", "onnx", "--out"),
    "compare": ("run", "--html"),
    "distill": (*BASES["distill"], "--out"),
    "report": ("run", "--no-recordings", "--out"),
}
"""Verbs that write where they are told; what comes last is the option of it."""


@pytest.mark.parametrize("verb", sorted(WRITERS))
def test_nothing_but_what_edgeser_wrote_is_overwritten(call: Call, place: Place, verb: str) -> None:
    there = ["corpus", "corpus/anger", "corpus/anger/a_1.wav", "lab.key", "lab.pub", "run/distilled.safetensors"]
    for name in [*there, "notes.txt", "picture.png", "page.html", "/dev/null"]:
        path = place.folder / name
        before = path.read_bytes() if path.is_file() else sorted(path.iterdir()) if path.is_dir() else None
        code, _, said = call(verb, *WRITERS[verb], name)
        require_good_end(code, said)
        assert code == 2, name
        assert any(words in said for words in ("exists and is no", "names no", "is a directory")), said
        assert before == (path.read_bytes() if path.is_file() else sorted(path.iterdir()) if path.is_dir() else None)


def test_what_edgeser_wrote_is_overwritten(call: Call, tmp_path: Path) -> None:
    kit = str(tmp_path / "a.edgeser")
    for target in ("rpi4", "rpi5"):
        assert call("pack", "run", "--target", target, "--out", kit)[0] == 0
    assert json.loads(call("inspect", kit, "--json")[1])["target"]["name"] == "rpi5"
    (tmp_path / "empty.edgeser").touch()  # as mktemp makes it
    assert call("pack", "run", "--target", "rpi4", "--out", str(tmp_path / "empty.edgeser"))[0] == 0


# What has no effect --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (("listen", "model", "--wav", "corpus/anger/a_1.wav", "--device", "usb"), "--device"),
        (("listen", "model", "--wav", "corpus/anger/a_1.wav", "--backend", "arecord"), "--backend"),
        (("listen", "model", "--realtime"), "--realtime"),
        (("listen", "model", "--loop"), "--loop"),
        (("listen", "model", "--mqtt-ca", "lab.pub"), "--mqtt-ca"),
        (("listen", "model", "--clips-mb", "3"), "--clips-mb"),
        (("listen", "model", "--gate", "level", "--speech", "0.5"), "--speech"),
        (("record", "--label", "joy", "--out", "x", "--wav", "a.wav", "--device", "usb"), "--device"),
        (("pack", "run", "--target", "rpi4", "--out", "x", "--python", "3.11"), "--python"),
        (("report", "run", "--no-recordings", "--folder", "corpus"), "--folder"),
        (("train-on-device", "test.edgeser", "--out", "x", "--adapt", "head"), "--adapt"),
        (("audit", "run", "--shadows", "0", "--experts", "2"), "--experts"),
    ],
)
def test_flags_without_effect_are_refused(call: Call, line: tuple[str, ...], flag: str) -> None:
    code, _, said = call(*line)
    require_good_end(code, said)
    assert code == 2
    assert said.startswith(f"error: {flag} ")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_setting_that_the_method_does_not_read_is_refused(call: Call, tmp_path: Path, method: str) -> None:
    given = ("--corpus", "folder", "--ipc", "1", "--method", method, "--out", str(tmp_path / "run"))
    for key, setting in SETTINGS.items():
        if owner(key) in ("", method):
            continue
        code, _, said = call(
            "distill",
            "corpus",
            *given,
            "--set",
            f"{key}={setting.default or setting.high:g}" if setting.kind != "str" else f"{key}={setting.default}",
        )
        require_good_end(code, said)
        assert code == 2
        assert f"{key} is a setting of --method {owner(key)}" in said, said


@pytest.mark.parametrize("method", ["random", "herding", "kcenter"])
@pytest.mark.parametrize("flag", [("--from", "mix"), ("--set", "check_every=3"), ("--set", "patience=2")])
def test_chosen_clips_have_no_start_and_no_checks(
    call: Call, tmp_path: Path, method: str, flag: tuple[str, str]
) -> None:
    given = ("--corpus", "folder", "--ipc", "1", "--method", method, "--out", str(tmp_path / "run"))
    code, _, said = call("distill", "corpus", *given, *flag)
    require_good_end(code, said)
    assert code == 2
    assert "has no effect" in said


# Surroundings --------------------------------------------------------------------------------------------------------

NO_ACCOUNT = (
    "import os, pwd, sys\n"
    "def nobody(number): raise KeyError(number)\n"
    "pwd.getpwuid = nobody\n"  # what the system answers for a user id without an account
    "from edgeser.cli.entry import main\n"
    "main()\n"
)
QUICK = (
    ("data", "list"),
    ("data", "check", "corpus", "--corpus", "folder", "--jobs", "1", "--json"),
    ("predict", "model", "corpus/anger", "--csv"),
    ("listen", "model", "--wav", "corpus/anger/a_1.wav", "--gate", "level", "--json"),
    ("inspect", "test.edgeser"),
    ("--help",),
)


def program(
    place: Place, words: tuple[str, ...], redirect: str = "", code: str | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """The program in the place, through a shell that redirects its streams."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HOME")}
    if code is None:
        variables["HOME"] = str(place.folder.parent)
    start = [sys.executable, *(["-c", code] if code else ["-m", "edgeser"]), *words]
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", *start],
        cwd=place.folder, env=variables | environment, capture_output=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def require_refusal(done: subprocess.CompletedProcess[bytes], words: bytes) -> None:
    error, hint = done.stderr.splitlines()
    assert done.returncode == 2
    assert error.startswith(b"error: " + words)
    assert hint.startswith(b"hint: ")


@pytest.mark.parametrize("words", QUICK[:1])
def test_standard_output_that_is_full_is_an_error(place: Place, words: tuple[str, ...]) -> None:
    require_refusal(program(place, words, ">/dev/full"), b"cannot write to standard output: No space left")


@pytest.mark.slow
@pytest.mark.parametrize("words", QUICK)
def test_output_that_cannot_be_written(place: Place, words: tuple[str, ...]) -> None:
    require_refusal(program(place, words, ">/dev/full"), b"cannot write to standard output: No space left")
    require_refusal(program(place, words, ">&-"), b"cannot write to standard output: Bad file descriptor")
    require_refusal(program(place, words, "<&- >&-"), b"cannot write to standard output: Bad file descriptor")


@pytest.mark.slow
@pytest.mark.parametrize("words", QUICK)
def test_a_reader_that_is_gone_is_no_error(place: Place, words: tuple[str, ...]) -> None:
    done = program(place, words, "2>err | true; cat err >&2; rm err")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("words", QUICK)
def test_complaints_that_nobody_can_read_end_nothing(place: Place, words: tuple[str, ...]) -> None:
    for redirect in ("2>&-", "2>/dev/full"):
        done = program(place, words, redirect)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout
        assert program(place, ("data", "check", "nowhere", "--corpus", "folder"), redirect).returncode == 2


@pytest.mark.parametrize("words", [QUICK[2], ("device", "status"), ("listen", "model", "--print-unit")])
def test_a_user_without_account_and_home(place: Place, words: tuple[str, ...]) -> None:
    done = program(place, words, code=NO_ACCOUNT)
    require_good_end(done.returncode, done.stderr.decode())
    assert done.returncode == (2 if words[0] == "device" else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        *QUICK,
        ("train-on-device", "test.edgeser", "--out", "out/nobody", "--steps", "1", "--threads", "1"),
        ("distill", "corpus", "--corpus", "folder", "--ipc", "1", "--method", "random", "--dry-run"),
    ],
)
def test_a_user_without_account_and_home_does_all(place: Place, words: tuple[str, ...]) -> None:
    done = program(place, words, code=NO_ACCOUNT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1", "COLUMNS": "20"},
        {"TMPDIR": "/nowhere", "COLUMNS": "1"},
        {"HOME": "/nowhere"},
        {"HOME": ""},
        {"XDG_CACHE_HOME": "relative"},
        {"TERM": "dumb", "NO_COLOR": "1"},
    ],
)
def test_environments(place: Place, environment: dict[str, str]) -> None:
    for words in QUICK[:4]:
        done = program(place, words, **environment)
        assert done.returncode == 0, (words, done.stderr)
    refused = program(place, ("predict", "model", "caf\udce9.wav"), **environment)
    require_good_end(refused.returncode, refused.stderr.decode(errors="replace"))
    assert refused.returncode == 2


def test_a_folder_that_is_gone(place: Place, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    start = f'cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && "$@"'
    for words in (("predict", "model", "a.wav"), ("export", "model", "--format", "onnx")):
        done = subprocess.run(
            ["sh", "-c", start, "sh", sys.executable, "-m", "edgeser", *words], capture_output=True, timeout=120
        )
        (tmp_path / "gone").mkdir()
        require_good_end(done.returncode, done.stderr.decode())
        assert done.returncode == 2
