"""Deploying through a real sshd on this machine, which plays the board."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ssh_server
from device import boards
from device.kits import synthetic_set, write_run

from edgeser.errors import DeployError
from edgeser.packaging.deploy import Board, commands, prepare, run
from edgeser.packaging.pack import pack_kit
from edgeser_device.kit.kit import Kit, read_kit

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kits here are for x86-64")
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("kit")
    run_folder = write_run(folder / "run", synthetic_set(steps=10))
    return read_kit(pack_kit(run_folder, "x86-64", folder / "here.edgeser").path)


def be_systemctl(server: ssh_server.Server, words: str) -> None:
    """Give the board a systemctl that writes down what it is asked for, and then does as told."""
    for name, program in {
        "systemctl": f'echo systemctl "$@" >>{server.home}/asked\n{words}',
        "install": f'echo install "$@" >>{server.home}/asked',  # nothing is written to /etc here
        "sudo": 'shift\nexec "$@"',
    }.items():
        path = server.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ssh_server.Server]:
    if reason := ssh_server.missing():
        pytest.skip(reason)
    folder = tmp_path / "server"
    with ssh_server.running(folder, boards.environment(folder / "home", None)) as started:
        yield started


@pytest.fixture
def board(server: ssh_server.Server) -> Board:
    return Board(server.address, None, "edgeser", server.config)


def test_every_command_is_shown(kit: Kit) -> None:
    with prepare(kit, Board("pi@raspberrypi.local", 2222, "my boards/edgeser"), service=True) as deployment:
        lines = commands(deployment)
    text = "\n".join(lines)
    assert "device service --folder" in lines[-1]
    assert text.count("device service") == 1
    assert lines[0].startswith("ssh -o ControlMaster=auto")
    assert "-o Port=2222 -- pi@raspberrypi.local" in lines[1]
    assert sum(line.startswith("sftp ") for line in lines) == 3
    assert text.count("sha256sum --check") == 3
    assert "sudo" not in text
    assert "'\"'\"'my boards/edgeser/inbox/install.sh'\"'\"'" in text
    assert lines[-1].endswith("--json'")


def test_a_dry_run_connects_to_nobody(kit: Kit, run_edgeser: Program) -> None:
    done = run_edgeser("deploy", kit.path, "nobody@host.invalid", "--dry-run", check=True)
    assert "ssh" in done.stdout
    assert done.stderr == ""
    found = json.loads(run_edgeser("deploy", kit.path, "nobody@host.invalid", "--dry-run", "--json").stdout)
    assert len(found["commands"]) == 11
    done = run_edgeser("deploy", kit.path, "nobody@host.invalid", "--dry-run", "--json", "--service", check=True)
    assert "device service" in json.loads(done.stdout)["commands"][11]


@pytest.mark.system
def test_nobody_answers(kit: Kit, tmp_path: Path) -> None:
    if reason := ssh_server.missing():
        pytest.skip(reason)
    config = tmp_path / "config"
    config.write_text("Host board\n  HostName 127.0.0.1\n  Port 1\n  BatchMode yes\n")
    with (
        prepare(kit, Board("board", config=config)) as deployment,
        pytest.raises(DeployError, match=r"cannot be reached: .*refused"),
    ):
        run(deployment, lambda _: None)


@pytest.mark.system
def test_a_kit_for_another_board_is_not_copied(kit: Kit, board: Board, server: ssh_server.Server) -> None:
    arm = {**kit.manifest, "target": {**kit.manifest["target"], "platforms": ["manylinux_2_28_aarch64"]}}
    with (
        prepare(replace(kit, manifest=arm), board) as deployment,
        pytest.raises(DeployError, match="the board is x86_64"),
    ):
        run(deployment, lambda _: None)
    assert not (server.home / "edgeser").exists()


@pytest.mark.system
def test_an_old_python_on_the_board_is_refused(kit: Kit, board: Board, server: ssh_server.Server) -> None:
    python = server.home / "bin" / "python3"
    real = python.resolve()
    python.unlink()
    python.write_text(f'#!/bin/sh\nexec {real} "$@" | sed "s/\\"python\\": \\[3, [0-9]*/\\"python\\": [3, 9/"\n')
    python.chmod(0o755)
    with prepare(kit, board) as deployment, pytest.raises(DeployError, match=r"Python is 3\.9"):
        run(deployment, lambda _: None)
    assert not (server.home / "edgeser").exists()


@pytest.mark.system
def test_a_board_without_systemd_gets_no_service(kit: Kit, board: Board, server: ssh_server.Server) -> None:
    be_systemctl(server, "exit 1")
    with (
        prepare(kit, board, service=True) as deployment,
        pytest.raises(DeployError, match="runs no systemd") as error,
    ):
        run(deployment, lambda _: None)
    assert "without --service" in error.value.hint
    assert not (server.home / "edgeser").exists()


@pytest.mark.slow
@pytest.mark.system
def test_from_a_kit_to_a_working_board(
    kit: Kit, board: Board, server: ssh_server.Server, run_edgeser: Program, tmp_path: Path
) -> None:
    """The program itself, through a real sshd: an interrupted copy goes on, a wrong one is replaced, twice is once."""
    inbox = server.home / "edgeser" / "inbox"
    inbox.mkdir(parents=True)
    (inbox / "kit.edgeser.part").write_bytes(kit.path.read_bytes()[:50_000])
    (inbox / "install.sh.part").write_bytes(b"of another version")
    words = ("deploy", kit.path, board.address, "--ssh-config", board.config, "--folder", "edgeser", "--json")
    done = run_edgeser(*words, timeout=1800)
    assert done.returncode == 0, done.stderr + server.log.read_text()[-2000:]
    found = json.loads(done.stdout)
    assert "copying kit.edgeser" in done.stderr
    assert "from byte 50,000 on" in done.stderr
    assert "copying anew" in done.stderr
    assert found["status"]["kit"] == kit.sha256
    assert found["status"]["steps"] == 10
    assert found["bench"]["results"]
    assert len(found["copied"]) == 3
    assert not list(inbox.glob("*.part"))
    assert (server.home / "edgeser" / "current" / "software").resolve().is_relative_to(server.home)

    assert found["service"] is None

    be_systemctl(server, "exit 0")
    again = run_edgeser(*words, "--service", timeout=1800)
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["copied"] == []
    assert "is there already" in again.stderr
    assert result["service"]["started"]
    assert ("listening now" in again.stderr) == (result["service"]["waits_for"] is None)
    unit = (server.home / "edgeser" / "edgeser-listen.service").read_text()
    assert f"listen {server.home}/edgeser/current/model --web" in unit
    assert (server.home / "asked").read_text().endswith("systemctl restart edgeser-listen.service\n")

    be_systemctl(server, "[ $1 = show ] || { echo access denied >&2; exit 1; }")
    refused = run_edgeser(*words, "--service", timeout=1800)
    assert refused.returncode == 2
    assert "but it does not listen yet: access denied" in refused.stderr
    assert f"sh {server.home}/edgeser/service install" in refused.stderr


@pytest.mark.slow
@pytest.mark.system
def test_what_fails_on_the_board_is_said_here(kit: Kit, board: Board, server: ssh_server.Server) -> None:
    (server.home / "edgeser").mkdir()
    (server.home / "edgeser" / "thesis.txt").write_text("years of work")
    with prepare(kit, board) as deployment, pytest.raises(DeployError, match=r"the board says: .*thesis\.txt"):
        run(deployment, lambda _: None)
    assert (server.home / "edgeser" / "thesis.txt").exists()
