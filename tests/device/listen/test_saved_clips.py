"""Stored utterances, recorded clips, the systemd unit, the watchdog."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgeser_device.errors import AudioError, ClipsError, ListenError
from edgeser_device.listen import saved_clips as clips
from edgeser_device.listen import unit
from edgeser_device.listen.program import notify
from edgeser_device.listen.record import find_label, record_clips, remarks
from edgeser_device.listen.saved_clips import ClipFolder, clip_name, wav_bytes
from edgeser_device.listen.speech import SpeechSettings
from edgeser_device.listen.unit import NAME, _command, unit_text, waits_for, write_service
from edgeser_device.model.model import Model
from edgeser_export.utilities.errors import StorageError, TextError

RATE = 16000
Run = Callable[..., subprocess.CompletedProcess[str]]


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_clips_are_whole_files_of_16_bits(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path / "clips", RATE, 10)
    path = folder(np.array([0, 0.5, -1, 2, -2], np.float32), "anger")
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert list(samples) == [0, 16384, -32768, 32767, -32768]
    assert [file.name for file in (tmp_path / "clips").iterdir()] == [Path(path).name]


def test_the_oldest_clips_go_and_nothing_else(tmp_path: Path) -> None:
    folder = ClipFolder(tmp_path, RATE, 0.1)
    (tmp_path / "notes.wav").write_bytes(b"0" * 200_000)
    paths = [folder(noise(1), "joy") for _ in range(6)]
    left = sorted(str(path) for path in tmp_path.iterdir() if path.name != "notes.wav")
    assert left == paths[-3:]
    assert (tmp_path / "notes.wav").is_file()


def test_names_hold_no_path() -> None:
    assert clip_name("20260102", "../a b/ü") == "20260102-_a_b_ü.wav"
    assert clip_name("20260102", "") == "20260102-clip.wav"


@given(st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=12), st.integers(1, 4))
def test_the_oldest_go_whatever_the_clock_says(jumps: list[int], fit: int) -> None:
    """A clip after each jump of the clock, in seconds; some were stored before names had numbers."""
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder = ClipFolder(Path(place), RATE, fit * 1044 / 1e6)
        for second in (0, 1):
            (Path(place) / f"20991231-00000{second}-000000-joy.wav").write_bytes(b"0" * 1044)
        stored: list[str] = []
        now = datetime(2026, 1, 1)
        for jump in jumps:
            now += timedelta(seconds=jump)
            patch.setattr(clips, "datetime", SimpleNamespace(now=lambda: now))  # noqa: B023  called at once
            stored.append(str(folder(np.zeros(500, np.float32), "joy")))
        left = {str(path) for path in Path(place).iterdir()}
        assert set(stored[-fit:]) <= left
        assert len(left) == min(fit, len(jumps) + 2)


def test_recorded_clips_are_not_those_that_go(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "said.wav", np.concatenate([noise(1), np.zeros(RATE, np.float32)]), RATE)
    source = tmp_path / "said.wav"
    report = record_clips("joy", tmp_path, 1, source, None, None, "level", SpeechSettings(), lambda _: None)
    folder = ClipFolder(tmp_path / "joy", RATE, 0.001)
    for _ in range(3):
        folder(noise(1), "joy")
    assert all(Path(name).is_file() for name in report.files)
    assert len(list((tmp_path / "joy").iterdir())) == len(report.files) + 1


@pytest.mark.parametrize("cap", [0, -1, float("nan")])
def test_an_impossible_cap(tmp_path: Path, cap: float) -> None:
    with pytest.raises(ListenError, match="a cap of"):
        ClipFolder(tmp_path, RATE, cap)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ClipFolder(tmp_path / "file" / "below", RATE, 1)


# Recording -----------------------------------------------------------------------------------------------------------


def test_recording_cuts_a_long_file_into_a_folder_for_each_label(tmp_path: Path, run_edgeser: Run) -> None:
    pause = np.zeros(RATE, np.float32)
    spoken = np.concatenate([pause, noise(1), pause, noise(2), pause, noise(0.7)])
    soundfile.write(tmp_path / "long.wav", np.repeat(spoken, 3), 3 * RATE)
    flags = ("--out", "clips", "--wav", "long.wav", "--gate", "level")
    done = run_edgeser("record", "--label", "anger", *flags, "--json", check=True)
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert found["label"] == "anger"
    assert len(found["files"]) == 3
    for name in found["files"]:
        samples, rate = soundfile.read(tmp_path / name)
        assert rate == RATE
        assert Path(name).parent.as_posix() == "clips/anger"
        assert 0.6 < len(samples) / RATE < 3
    few = run_edgeser("record", "--label", "joy", *flags, "--count", 2, check=True).stdout
    assert "2 clips of joy" in few
    assert "--clips clips" in few
    assert len(list((tmp_path / "clips" / "joy").iterdir())) == 2


@pytest.mark.parametrize("label", ["", "../x", "a/b", ".hidden", "-x", "x" * 49, "a\u200bb", "caf\udce9"])
def test_labels_that_are_no_folder(tmp_path: Path, label: str) -> None:
    with pytest.raises(TextError, match="--label: the label"):
        find_label(label, tmp_path, ())


@given(
    st.lists(st.sampled_from(["anger", "Angry", "joy", "fear", "Neutral"]), max_size=3),
    st.sampled_from([(), ("anger", "Fear"), ("angry",)]),
    st.sampled_from(["anger", "ANGER", "angry", "fear", "joy", "boredom"]),
)
def test_a_label_is_spelled_as_what_is_there_or_refused(there: list[str], labels: tuple[str, ...], label: str) -> None:
    with TemporaryDirectory() as folder:
        for name in there:
            (Path(folder) / name).mkdir(exist_ok=True)
        known = {name.lower(): name for name in labels or sorted(there)}
        if labels and label.lower() not in known:
            with pytest.raises(ClipsError, match="does not know the emotion"):
                find_label(label, Path(folder), labels)
            return
        found, near = find_label(label, Path(folder), labels)
        assert found == known.get(label.lower(), label)
        assert near in (() if label.lower() in known else there) or near is None


@pytest.mark.parametrize(
    ("label", "there", "words"),
    [
        ("angry", ["anger", "joy"], "note: 'angry' is another emotion than 'anger' for a model; --label anger if"),
        ("angry", [], "note: 'angry' is another emotion than 'anger' for a model; --label anger if"),
        ("irritation", ["irritated"], "note: 'irritation' is another emotion than 'irritated' for a model"),
        ("anger", ["joy"], "error: "),
        ("Anger", ["anger"], "error: "),
    ],
)
def test_a_label_that_is_nearly_another_is_remarked_on(
    label: str, there: list[str], words: str, run_edgeser: Run, tmp_path: Path
) -> None:
    for name in there:
        (tmp_path / "clips" / name).mkdir(parents=True)
    done = run_edgeser("record", "--label", label, "--out", "clips", "--wav", "none.wav", "--gate", "level")
    assert done.stderr.startswith(words)
    assert "none.wav" in done.stderr


def test_a_label_that_the_model_does_not_know_is_refused(run_edgeser: Run, model: Model) -> None:
    done = run_edgeser("record", "--label", "angry", "--out", "clips", "--wav", "none.wav", "--model", model.folder)
    assert done.returncode == 2
    assert done.stderr == "error: the model does not know the emotion 'angry'\nhint: did you mean 'anger'?\n"


def test_a_recording_in_which_nobody_speaks(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match="nobody speaks in"):
        record_clips("x", tmp_path, 1, tmp_path / "a.wav", None, None, None, SpeechSettings(), lambda _: None)


def test_remarks_on_what_was_recorded() -> None:
    assert remarks(noise(1)) == ""
    assert remarks(0.01 * noise(1)) == "; very quiet: -60 dB"
    assert "clipped" in remarks(np.clip(20 * noise(1), -1, 1))
    assert len(wav_bytes(noise(1), RATE)) == 44 + 2 * RATE


# The service ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [("a", "a"), ("a b", '"a b"'), ("50%", "50%%"), ("$HOME", "$$HOME"), ('say "x"', '"say \\"x\\""'), ("", '""')],
)
def test_words_of_a_unit(word: str, expected: str, tmp_path: Path) -> None:
    (command,) = [
        line for line in unit_text(["listen", word], tmp_path, None).splitlines() if line.startswith("ExecStart=")
    ]
    assert command.endswith(f" -m edgeser listen {expected}")


@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]).filter(str.isprintable)), max_size=4))
def test_a_command_of_a_unit_is_read_back(words: list[str]) -> None:
    line = _command(words)
    assert line.isprintable()
    assert not re.search(r"(?<![%])%(?:%%)*(?!%)", line)  # no specifier
    assert not re.search(r"(?<![$])\$(?:\$\$)*(?!\$)", line)  # no variable
    assert [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)] == words


@pytest.mark.parametrize("name", ["line\nbreak", "nul\x01", "latin-\udce9"])
def test_a_name_that_no_unit_can_hold(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ListenError, match="cannot stand in a unit"):
        unit_text(["listen", str(tmp_path / name)], tmp_path / name, None)


def test_the_unit_starts_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    clips = tmp_path / "clips"
    arguments = ["listen", str(tmp_path / "my model"), "--web", "--save-clips", str(clips)]
    text = unit_text(arguments, tmp_path / "my model", clips, user="pi")
    assert f'-m edgeser listen "{tmp_path}/my model" --web --save-clips {clips}' in text
    assert f"ReadWritePaths={clips}" in text
    assert "User=pi" in text
    assert "{" not in text
    with pytest.raises(ListenError, match="is no folder"):
        unit_text(arguments, tmp_path / "none", None)


@pytest.mark.system
def test_systemd_reads_the_unit(tmp_path: Path, run_edgeser: Run) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs the Debian package systemd")
    (tmp_path / "model").mkdir()
    text = run_edgeser("listen", "model", "--web", "--print-unit", check=True).stdout
    unit = tmp_path / "edgeser-listen.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    # 0 is locked up, 10 is a service without any sandbox. A listener needs a network and a sound card.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-300:]


def test_an_installation_gets_a_service_and_a_script(tmp_path: Path, run_edgeser: Run) -> None:
    """systemctl and sudo write down what they are asked for: no system manager runs where tests do."""
    folder, programs = tmp_path / "edgeser", tmp_path / "programs"
    (folder / "current" / "model").mkdir(parents=True)
    programs.mkdir()
    for name in ("sudo", "systemctl", "install", "rm"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/asked\n')
        (programs / name).chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = run_edgeser("device", "service", "--folder", folder, "--json", check=True, **path)
    found = json.loads(done.stdout)
    assert found.pop("waits_for") == waits_for()
    assert found == {"schema": 1, "script": str(folder / "service"), "started": True, "problem": None}
    assert ("it cannot hear yet" in done.stderr) == (waits_for() is not None)
    text = (folder / NAME).read_text()
    assert f"ExecStart={folder}/current/software/bin/edgeser listen {folder}/current/model --web\n" in text
    assert f"ExecStartPre={folder}/current/software/bin/edgeser device check --folder {folder}\n" in text
    assert f"ReadWritePaths={folder}\n" in text
    subprocess.run([str(folder / "service"), "remove"], check=True, env=os.environ | path, timeout=60)
    asked = (tmp_path / "asked").read_text()
    for expected in (
        f"systemctl enable {NAME}\nsystemctl restart {NAME}",
        f"systemctl disable --now {NAME}",
        f"/etc/systemd/system/{NAME}",
    ):
        assert expected in asked
    (programs / "systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    done = run_edgeser("device", "service", "--folder", folder, check=True, **path)
    assert "(no bus); as a user who may: sh" in done.stderr
    assert (
        json.loads(run_edgeser("device", "service", "--folder", folder, "--json", **path).stdout)["problem"] == "no bus"
    )
    with pytest.raises(ListenError, match="nothing is installed"):
        write_service(tmp_path / "none")


def test_what_a_service_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "RECORDING_DEVICES", (str(tmp_path), "pcmC*D*c"))
    (tmp_path / "pcmC0D0p").touch()  # plays only
    assert waits_for() == "no microphone is plugged in"
    (tmp_path / "pcmC1D0c").touch()
    (tmp_path / "arecord").write_text("#!/bin/sh\n")
    (tmp_path / "arecord").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert waits_for() is None


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"edgeser-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind(f"\0{name}" if abstract else name)
        service_manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notify("READY=1")
        assert service_manager.recv(100) == b"READY=1"
    notify("WATCHDOG=1")  # nobody is there any more: no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("WATCHDOG=1")
