"""``install.sh`` as a user runs it: twice, with a key, without a network, interrupted at any moment, and undone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from device import boards
from device.kits import synthetic_set, write_keys, write_run

from edgeser.packaging.pack import build_kit, pack_kit, read_parts
from edgeser.packaging.targets import find_target
from edgeser.packaging.wheels import REQUIREMENTS, Wheels
from edgeser_device.kit.kit import read_kit

MOMENTS = 30
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kits here are for x86-64")


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one carries to a board: two kits, one of them signed in two ways, keys, and edgeser's wheel."""
    folder = tmp_path_factory.mktemp("stick")
    key = write_keys(folder / "lab")
    write_keys(folder / "other")
    for name, steps in (("one", 30), ("two", 40)):
        run = write_run(folder / f"run-{name}", synthetic_set(steps=steps))
        pack_kit(run, "x86-64", folder / f"{name}.edgeser")
        pack_kit(run, "x86-64", folder / f"{name}-signed.edgeser", key)
    boards.make_wheel(folder)
    return folder


@pytest.fixture
def wheel(stick: Path) -> Path:
    return next(stick.glob("*.whl"))


def status(home: Path) -> dict[str, object]:
    """What the installed program says of the installation."""
    program = home / "edgeser" / "current" / "software" / "bin" / "edgeser"
    done = subprocess.run(
        [program, "device", "status", "--json"], env=boards.environment(home, None), capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def check(home: Path) -> subprocess.CompletedProcess[str]:
    """Whether the model that ``current`` names computes what its weights say, by the installed program."""
    slot = home / "edgeser" / "current"
    command = [slot / "software" / "bin" / "python", "-P", "-m", "edgeser_device.install.slot_check", slot]
    return subprocess.run(command, env=boards.environment(home, None), capture_output=True, text=True, timeout=600)


def test_help_and_wrong_words(tmp_path: Path) -> None:
    done = boards.install(tmp_path, None, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sh install.sh --uninstall" in done.stdout
    for words, problem in (
        (["--nonsense"], "no option --nonsense"),
        ([], "no kit is given"),
        (["none.edgeser"], "no kit is given"),
        (["--uninstall", tmp_path], "is no installation"),
    ):
        done = boards.install(tmp_path, None, *words)
        assert done.returncode == 2
        assert problem in done.stderr.splitlines()[0]
        assert done.stderr.splitlines()[1].startswith("hint: ")


def test_an_old_python_is_refused(tmp_path: Path, stick: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "python3").chmod(0o755)
    done = boards.install(tmp_path, None, stick / "one.edgeser")
    assert done.stderr.splitlines()[0] == "error: python3 is older than 3.11"
    assert not (tmp_path / "edgeser").exists()


def test_a_32_bit_system_is_refused(tmp_path: Path, stick: Path) -> None:
    (tmp_path / "bin").mkdir()
    smaller = (
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.maxsize = 2**31 - 1; $2"\nexit 3\n'
    )
    (tmp_path / "bin" / "python3").write_text(smaller)
    (tmp_path / "bin" / "python3").chmod(0o755)
    done = boards.install(tmp_path, None, stick / "one.edgeser")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: this system is 32-bit, for which onnxruntime is not built",
        "hint: install the 64-bit Raspberry Pi OS",
    ]
    assert not (tmp_path / "edgeser").exists()


def test_edgeser_is_asked_of_no_index(tmp_path: Path, stick: Path) -> None:
    kit = tmp_path / "alone.edgeser"
    kit.write_bytes((stick / "one.edgeser").read_bytes())
    done = boards.install(tmp_path, None, kit)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: no wheels in the kit, no edgeser-*.whl beside it")
    assert not (tmp_path / "edgeser").exists()


def test_another_boards_kit_is_refused_before_anything_is_installed(tmp_path: Path, stick: Path, wheel: Path) -> None:
    pack_kit(write_run(tmp_path / "run", synthetic_set(steps=30)), "rpi4", tmp_path / "pi.edgeser")
    done = boards.install(tmp_path, wheel, tmp_path / "pi.edgeser")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the kit is for another board: 'Raspberry Pi 4' ('rpi4'); this machine is x86_64",
        "hint: pack the run for this machine: edgeser pack RUN --target x86-64",
    ]
    assert not (tmp_path / "edgeser").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, stick: Path, wheel: Path) -> None:
    (tmp_path / "edgeser").mkdir()
    (tmp_path / "edgeser" / "thesis.txt").write_text("years of work")
    done = boards.install(tmp_path, wheel, stick / "one.edgeser")
    assert done.returncode == 2
    assert "holds thesis.txt and is no installation" in done.stderr
    assert [path.name for path in (tmp_path / "edgeser").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_install_again_update_and_uninstall(tmp_path: Path, stick: Path, wheel: Path) -> None:
    done = boards.install(tmp_path, wheel, stick / "one.edgeser")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ready: ")
    first = status(tmp_path)
    assert first["kit"] == read_kit(stick / "one.edgeser").sha256

    again = boards.install(tmp_path, None, stick / "one.edgeser")  # the software is there: no wheel is needed
    assert again.returncode == 0, again.stderr
    assert len(list((tmp_path / "edgeser" / "software").iterdir())) == 1

    done = boards.install(tmp_path, wheel, stick / "two.edgeser")
    assert done.returncode == 0, done.stderr
    assert status(tmp_path)["previous"] == first["kit"]
    assert status(tmp_path)["kit"] == read_kit(stick / "two.edgeser").sha256

    damaged = tmp_path / "damaged.edgeser"
    damaged.write_bytes((stick / "one.edgeser").read_bytes()[:-1])
    done = boards.install(tmp_path, wheel, damaged)
    assert done.returncode == 2
    assert status(tmp_path)["kit"] == read_kit(stick / "two.edgeser").sha256

    (tmp_path / "edgeser" / "mine.txt").write_text("a user's own")
    done = boards.install(tmp_path, None, "--uninstall")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "edgeser").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_a_service_goes_on_with_the_new_model_and_ends_with_the_installation(
    tmp_path: Path, stick: Path, wheel: Path
) -> None:
    """systemctl writes down what it is asked for, and nothing is written to /etc here."""
    asked, folder = tmp_path / "asked", tmp_path / "edgeser"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (programs / "systemctl").chmod(0o755)
    done = boards.install(tmp_path, wheel, "--service", stick / "one.edgeser")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: this system runs no systemd, which --service needs"
    assert not folder.exists()

    log = f'echo "$(basename $0)" "$@" >>{asked}'
    for name, program in {
        "systemctl": log,
        "install": log,
        "rm": f'case "$*" in *systemd*) {log} ;; *) exec /bin/rm "$@" ;; esac',
        "sudo": 'shift\nexec "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{program}\n")
        (programs / name).chmod(0o755)
    done = boards.install(tmp_path, wheel, "--service", stick / "one.edgeser")
    assert done.returncode == 0, done.stderr
    assert "systemctl enable edgeser-listen.service\n" in asked.read_text()
    asked.write_text("")
    done = boards.install(tmp_path, wheel, stick / "two.edgeser")
    assert done.returncode == 0, done.stderr
    assert asked.read_text().endswith("systemctl restart edgeser-listen.service\n")

    asked.write_text("")
    done = boards.install(tmp_path, None, "--uninstall")
    assert done.returncode == 0, done.stderr
    assert "systemctl disable --now edgeser-listen.service\nrm -f /etc/systemd" in asked.read_text()
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.system
def test_a_board_with_a_key_refuses_everything_else(tmp_path: Path, stick: Path, wheel: Path) -> None:
    if subprocess.run(["openssl", "version"], capture_output=True).returncode:
        pytest.skip("openssl is not installed")
    folder = tmp_path / "edgeser"
    done = boards.install(tmp_path, wheel, "--trust", stick / "lab.pub", stick / "one.edgeser")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: the kit is not signed"
    done = boards.install(tmp_path, wheel, "--trust", stick / "other.pub", stick / "one-signed.edgeser")
    assert done.returncode == 2
    assert "not signed with the key" in done.stderr.splitlines()[0]
    assert not (folder / "software").exists()

    done = boards.install(tmp_path, wheel, "--trust", stick / "lab.pub", stick / "one-signed.edgeser")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".config" / "edgeser" / "trusted.pub").read_text() == (stick / "lab.pub").read_text()
    assert "until" in str(status(tmp_path)["trusted"])

    before = status(tmp_path)
    done = boards.install(tmp_path, wheel, stick / "two.edgeser")  # the key stays, also where nobody names it
    assert done.returncode == 2
    assert "not signed" in done.stderr
    assert status(tmp_path) == before
    assert boards.install(tmp_path, wheel, stick / "two-signed.edgeser").returncode == 0


@pytest.mark.slow
def test_the_wheels_of_a_kit_are_compared_and_used(tmp_path: Path, stick: Path, wheel: Path) -> None:
    content = wheel.read_bytes()
    listed = f"edgeser==0.1.0 --hash=sha256:{sha256(content).hexdigest()}\n".encode()
    here = "{}.{}".format(*sys.version_info[:2])
    for python, problem in ((here, None), ("3.99", "wheels are for Python 3.99")):
        wheels = Wheels(python, ("linux_x86_64",), ("edgeser==0.1.0",), {wheel.name: content, REQUIREMENTS: listed})
        kit = tmp_path / "wheels.edgeser"
        kit.write_bytes(build_kit(read_parts(stick / "run-one"), find_target("x86-64"), None, wheels))
        assert zipfile.ZipFile(kit).testzip() is None
        done = boards.install(tmp_path, None, kit, tmp_path / f"board-{python}")
        if problem is None:
            assert done.returncode == 0, done.stderr
            assert not (tmp_path / f"board-{python}" / "wheels").exists()
        else:
            assert done.returncode == 2
            assert problem in done.stderr.splitlines()[0]


def killed_after(seconds: float, home: Path, wheel: Path, kit: Path) -> bool:
    """Start an installation and kill all of it; whether it was still running."""
    process = subprocess.Popen(
        ["sh", str(boards.SCRIPT), str(kit)],
        cwd=home,
        env=boards.environment(home, wheel),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_working_model(tmp_path: Path, stick: Path, wheel: Path) -> None:
    """Thirty kills: of first installations and of updates."""
    chance = random.Random(7)
    kits = [stick / "one.edgeser", stick / "two.edgeser"]
    began = time.monotonic()
    assert boards.install(tmp_path, wheel, kits[0]).returncode == 0
    whole = time.monotonic() - began
    began = time.monotonic()
    assert boards.install(tmp_path, wheel, kits[1]).returncode == 0
    update = time.monotonic() - began

    kills = 0
    for moment in range(MOMENTS):
        first = moment % 5 == 0
        home = tmp_path
        if first:  # a board on which nothing is installed yet
            home = tmp_path / f"fresh-{moment}"
            home.mkdir()
        kills += killed_after(chance.uniform(0.02, 1.0) * (whole if first else update), home, wheel, kits[moment % 2])
        if first:
            assert not (home / "edgeser" / "current").exists() or check(home).returncode == 0
        else:
            done = check(home)
            assert done.returncode == 0, (moment, done.stderr)
            assert status(home)["kit"] in {read_kit(kit).sha256 for kit in kits}
    assert kills >= MOMENTS // 2, f"only {kills} of {MOMENTS} were in time"
    last = boards.install(tmp_path / "fresh-0", wheel, kits[0])
    assert last.returncode == 0, last.stderr
    assert check(tmp_path / "fresh-0").returncode == 0
    assert boards.install(tmp_path, wheel, kits[0]).returncode == 0
    assert status(tmp_path)["kit"] == read_kit(kits[0]).sha256
    leftovers = [path.name for path in (tmp_path / "edgeser").rglob(".*.part")]
    assert leftovers == []
