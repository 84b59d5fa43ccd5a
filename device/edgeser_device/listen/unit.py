"""The systemd unit that makes a board listen from its start: written for the program and the flags that were given.

unit_text(["listen", "model", "--web"], Path("model"), None)    # printed by: edgeser listen model --web --print-unit
write_service(Path("~/edgeser").expanduser())                   # for what install.sh made
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from edgeser_device.errors import ListenError
from edgeser_device.listen.capture.backends import load_sounddevice
from edgeser_export.utilities.errors import EdgeserError
from edgeser_export.utilities.files import write_bytes

NAME = "edgeser-listen.service"
"""The unit; beside this module lies a file of that name, in which what differs stands as names in braces. Python and
its packages may lie in a home, which is readable then."""
SCRIPT = "service.sh"
RECORDING_DEVICES = "/dev/snd", "pcmC*D*c"
"""A folder and a pattern: what ALSA names one, the sound system that a service may use."""
START_SECONDS, CHECK_SECONDS = 120, 1200
"""Seconds that a start may take: alone, and after a check of the installation on a slow card."""


def unit_text(
    arguments: Sequence[str], model: Path, clips: Path | None, user: str | None = None, adapts: bool = False
) -> str:
    """The unit for ``edgeser ARGUMENTS``.

    Args:
        arguments: Those of this program, less --print-unit.
        model: The model's folder, which becomes an absolute path.
        clips: A folder that the service may write; None for none.
        user: Under whom it runs; by default who asks, or who called sudo.
        adapts: Whether the service writes what it learns of the user's voice into the model's folder.

    Raises:
        ListenError: The model is no folder.
    """
    if not model.is_dir():
        raise ListenError(f"{model} is no folder", "give the model's folder: edgeser listen MODEL --web --print-unit")
    places = {str(model): str(model.resolve())}
    if clips is not None:
        places[str(clips)] = str(clips.resolve())
    words = [sys.executable, "-m", "edgeser", *(places.get(word, word) for word in arguments)]
    writable = [place.resolve() for place in (clips, model if adapts else None) if place is not None]
    return _fill(shlex.join(arguments), words, model.resolve().parent, writable, user)


def write_service(folder: Path, flags: Sequence[str] = ("--web",)) -> Path:
    """Write the unit of an installation, and the script that starts and ends it, into the installation's folder.

    The service checks the installation at each start, and goes back to the slot before where that fails.

    Returns:
        The script.

    Raises:
        ListenError: Nothing is installed there.
        StorageError: The folder cannot be written.
    """
    folder = folder.resolve()
    current = folder / "current"
    if not (current / "model").is_dir():
        raise ListenError(f"nothing is installed in {folder}", "sh install.sh KIT.edgeser FOLDER")
    program = str(current / "software" / "bin" / "edgeser")
    check = [program, "device", "check", "--folder", str(folder)]
    words = [program, "listen", str(current / "model"), *flags]
    text = _fill(f"device service --folder {shlex.quote(str(folder))}", words, folder, (folder,), None, check)
    write_bytes(folder / NAME, text.encode())
    script = folder / "service"
    write_bytes(script, _own_file(SCRIPT).encode())
    script.chmod(0o755)
    return script


def waits_for() -> str | None:
    """The part that the service lacks before it can hear, in words; it tries every few seconds until that is there."""
    folder, pattern = RECORDING_DEVICES
    if not any(Path(folder).glob(pattern)):
        return "no microphone is plugged in"
    if shutil.which("arecord") is None:
        try:
            load_sounddevice()
        except EdgeserError:
            return "neither arecord nor PortAudio is installed: sudo apt install alsa-utils"
    return None


def _fill(
    shown: str,
    words: Sequence[str],
    folder: Path,
    writable: Sequence[Path],
    user: str | None,
    check: Sequence[str] = (),
) -> str:
    for word in (*words, *check, str(folder)):
        if not word.isprintable():
            raise ListenError(f"{word!r} cannot stand in a unit of systemd", "use names of letters that can be printed")
    return _own_file(NAME).format(
        shown=shown,
        command=_command(words),
        before=f"ExecStartPre={_command(check)}\n" if check else "",
        patience=CHECK_SECONDS if check else START_SECONDS,
        folder=str(folder).replace("%", "%%"),
        user=user or os.environ.get("SUDO_USER") or _user(),
        writable="".join(f"ReadWritePaths={_quoted(str(place))}\n" for place in writable),
    )


def _user() -> str:
    """The name of the user, or the number of one without an account; systemd takes both."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _command(words: Sequence[str]) -> str:
    """A command as systemd reads it, which puts variables in the place of what follows $."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _own_file(name: str) -> str:
    return files("edgeser_device.listen").joinpath(name).read_text(encoding="utf-8")


def _quoted(word: str) -> str:
    """A word of letters that can be printed, as systemd reads it: % stands for itself, blanks and quotes are kept."""
    plain = word.replace("%", "%%")
    if plain and not set(plain) & set(" \"'\\;"):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
