"""An installation on a board: two slots, of which one works while the other is made.

    install_kit(Path("~/edgeser").expanduser(), Path("new.edgeser"), trusted_keys())
    describe(folder)["kit"], switch_back(folder), check_or_switch_back(folder)

::

    FOLDER/installation.json     says that the folder is one
    FOLDER/software/ID/          virtual environments; install.sh makes them
    FOLDER/slots/a, slots/b      kit.edgeser, model/, slot.json, software -> ../../software/ID
    FOLDER/current -> slots/a    what works; changed by one rename, after the new slot has passed its check
    FOLDER/work/                 a training that is not finished; goes on when the same kit is installed again

Whenever the power fails, ``current`` points to a whole slot that was checked.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeser_device.encoder import EncoderCard
from edgeser_device.errors import DeviceError, GateFailed, KitError, ModelError
from edgeser_device.kit.kit import Kit, read_kit
from edgeser_device.kit.signature import PublicKey, trust_path, trusted_keys
from edgeser_device.machine import installed_versions
from edgeser_device.model.inputs import encoder_path, find_encoder
from edgeser_device.model.model import DESCRIPTION, TESTED, load_model
from edgeser_device.train.train import Settings, train
from edgeser_export.utilities.children import run_child
from edgeser_export.utilities.errors import EdgeserError, StorageError
from edgeser_export.utilities.files import hold, new_folder, sync_folder, write_json
from edgeser_export.utilities.progress import Advance, ignore_progress

SCHEMA = 1
MARK, CURRENT, SLOTS, SOFTWARE, WORK = "installation.json", "current", "slots", "software", "work"
LOCK = ".lock"
KIT, MODEL, STATE = "kit.edgeser", "model", "slot.json"
NAMES = ("a", "b")
CHECK_SECONDS = 900
"""A check loads two runtimes and computes two views; a slow card needs minutes for the first."""
SPARE_BYTES = 8 << 20
"""Free space beside kit and model: drafts and checkpoints."""


def install_kit(
    folder: Path, path: Path, keys: Iterable[PublicKey] = (), advance: Advance = ignore_progress
) -> dict[str, Any]:
    """Train a kit in the free slot, check what it made, and switch to it.

    Args:
        folder: The installation; made where it is missing.
        path: The kit.
        keys: It must be signed with each of them.
        advance: Told the training steps done.

    Returns:
        What :func:`describe` says afterwards.

    Raises:
        DeviceError: ``folder`` is something else, or another installation is under way there.
        KitError: The kit is damaged, not trusted, or for another kind of processor.
        TrainingError: The golden check failed, or another error of :func:`edgeser_device.train.train.train`.
        GateFailed: The new slot does not work; the present one is as it was.
        StorageError: No space.
    """
    kit = read_kit(path, keys)
    _require_target(kit)
    _require_installation(folder, make=True)
    _require_space(folder, path)
    with hold(folder / LOCK, DeviceError(f"another installation is under way in {folder}", "wait until it has ended")):
        free = next(name for name in NAMES if name != current_slot(folder))
        model = _train(folder, kit, advance)
        with new_folder(folder / SLOTS / free) as draft:
            shutil.copyfile(path, draft / KIT)
            shutil.copytree(model, draft / MODEL)
            (draft / SOFTWARE).symlink_to(_software_link(folder))
            write_json(draft / STATE, _state(kit))
            if read_kit(draft / KIT).sha256 != kit.sha256:
                raise KitError(f"{path} was changed while it was copied", "install it again")
            if (problem := check_slot(draft)) is not None:
                raise GateFailed(
                    f"what was installed does not work: {problem}", "the model before it is still there; edgeser doctor"
                )
        _switch(folder, free)
        shutil.rmtree(folder / WORK, ignore_errors=True)
        remove_unused_software(folder)
    return describe(folder)


def describe(folder: Path) -> dict[str, Any]:
    """The state of an installation as plain JSON values; "uar" was measured here, "uar_packed" where it was packed.

    Raises:
        DeviceError: The folder is no installation, or nothing works there yet.
        EncoderError: The model's card of its encoder is malformed.
    """
    _require_installation(folder)
    slot = current_slot(folder)
    if slot is None:
        raise DeviceError(f"nothing is installed in {folder} yet", "sh install.sh KIT.edgeser")
    state, previous = (_read_object(folder / SLOTS / name / STATE) for name in sorted(NAMES, key=lambda n: n != slot))
    tested = _read_object(folder / CURRENT / MODEL / DESCRIPTION).get(TESTED)
    tested = tested if isinstance(tested, dict) else {}
    return {
        "folder": str(folder),
        "slot": slot,
        "model": str(folder / CURRENT / MODEL),
        **{key: state.get(key) for key in ("kit", "target", "labels", "trained", "steps")},
        "uar": tested.get("uar"),
        "uar_on": {key: tested.get(key) for key in ("corpus", "part", "utterances")} if tested else None,
        "uar_packed": state.get("uar_packed"),
        "edgeser": state.get("edgeser"),
        "packages": state.get("packages") or {},
        "encoder": _encoder(_read_object(folder / CURRENT / MODEL / DESCRIPTION).get("encoder")),
        "previous": previous.get("kit"),
        "trusted": _trusted(),
    }


def current_slot(folder: Path) -> str | None:
    """The name of the slot that works; None where there is none yet."""
    try:
        name = (folder / CURRENT).readlink().name
    except OSError:
        return None
    return name if name in NAMES and (folder / SLOTS / name / MODEL).is_dir() else None


def switch_back(folder: Path) -> dict[str, Any]:
    """Go to the other slot, if what is in it works.

    Raises:
        DeviceError: There is no other slot.
        GateFailed: The other slot does not work; nothing was changed.
    """
    _require_installation(folder)
    slot = current_slot(folder)
    other = next(name for name in NAMES if name != slot)
    if not (folder / SLOTS / other / STATE).is_file():
        raise DeviceError(f"{folder} has no slot before this one", "there is one after the first update")
    if (problem := check_slot(folder / SLOTS / other)) is not None:
        raise GateFailed(f"the slot before this one does not work: {problem}", "install a kit again")
    _switch(folder, other)
    return describe(folder)


def check_or_switch_back(folder: Path) -> dict[str, Any]:
    """Check the present slot, and go back to the other one where it does not work; what a service does at its start.

    Returns:
        What :func:`describe` says, and "switched_back": the problem, or None.

    Raises:
        GateFailed: Neither works.
    """
    _require_installation(folder)
    slot = current_slot(folder)
    problem = "there is none" if slot is None else check_slot(folder / SLOTS / slot)
    if problem is None:
        return {**describe(folder), "switched_back": None}
    try:
        return {**switch_back(folder), "switched_back": problem}
    except EdgeserError as error:
        raise GateFailed(
            f"the present slot does not work ({problem}), nor the other: {error.message}", "install a kit again"
        ) from error


def check_slot(slot: Path) -> str | None:
    """Why a slot does not work, found by its own software in a process of its own; None where it does."""
    python = slot / SOFTWARE / "bin" / "python"
    if not python.exists():
        return f"{slot / SOFTWARE} has no Python"
    try:
        words = "-m", "edgeser_device.install.slot_check", str(slot)
        run_child(words, "the check", seconds=CHECK_SECONDS, python=str(python))
    except EdgeserError as error:
        return error.message
    return None


def remove_unused_software(folder: Path) -> None:
    """Remove the environments that neither slot uses, nor this process."""
    used = {Path(sys.prefix).resolve()}
    for name in NAMES:
        with suppress(OSError):
            used.add((folder / SLOTS / name / SOFTWARE).resolve())
    if (folder / SOFTWARE).is_dir():
        for environment in (folder / SOFTWARE).iterdir():
            if environment.resolve() not in used:
                shutil.rmtree(environment, ignore_errors=True)


def _require_target(kit: Kit) -> None:
    target, machine = kit.manifest["target"], platform.machine()
    known = {"arm64": "aarch64", "AMD64": "x86_64"}
    if not any(tag.endswith(f"_{known.get(machine, machine)}") for tag in target["platforms"]):
        raise KitError(
            f"the kit is for another board: {target['title']} ({target['name']}); this machine is {machine}",
            "pack the run for this machine: edgeser pack RUN --target",
        )


def _require_installation(folder: Path, make: bool = False) -> None:
    """Check that ``folder`` is an installation; with ``make`` it becomes one where it is missing or empty."""
    if _read_object(folder / MARK).get("schema") == SCHEMA:
        return
    if not make:
        raise DeviceError(f"{folder} is no installation", "give the one of install.sh with --folder")
    try:
        known = {SOFTWARE, "inbox", "wheels", LOCK}
        strange = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.exists() else []
    except OSError as error:
        raise StorageError(f"{folder} cannot be read: {error.strerror}", "choose another --folder") from error
    if strange:
        raise DeviceError(f"{folder} holds {strange[0]!r} and is no installation", "choose another --folder")
    write_json(folder / MARK, {"schema": SCHEMA})


def _require_space(folder: Path, path: Path) -> None:
    needed = 2 * path.stat().st_size + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder} has {free >> 20} MB free, the installation needs {needed >> 20} MB",
            "remove files, or use another card; nothing was changed",
        )


def _train(folder: Path, kit: Kit, advance: Advance) -> Path:
    """The model of a kit, trained to the end; an earlier attempt with the same kit goes on."""
    work = folder / WORK / kit.sha256[:16]
    for other in (folder / WORK).iterdir() if (folder / WORK).is_dir() else ():
        if other != work:
            shutil.rmtree(other, ignore_errors=True)
    model = work / MODEL
    with suppress(ModelError):
        if load_model(model).description["training"]["kit_sha256"] == kit.sha256:
            return model
    train(kit, model, Settings(resume=True), advance)
    return model


def _state(kit: Kit) -> dict[str, Any]:
    versions = installed_versions()
    return {
        "schema": SCHEMA,
        "kit": kit.sha256,
        "target": kit.manifest["target"]["name"],
        "labels": list(kit.labels),
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": kit.distilled.schedule.steps,
        "uar_packed": kit.uar_packed,
        "edgeser": versions.get("edgeser"),
        "packages": {name: version for name, version in versions.items() if name != "edgeser"},
    }


def _read_object(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _software_link(folder: Path) -> str:
    prefix, own = Path(sys.prefix).resolve(), (folder / SOFTWARE).resolve()
    return str(Path("..", "..", SOFTWARE, prefix.name)) if prefix.parent == own else str(prefix)


def _switch(folder: Path, slot: str) -> None:
    draft = folder / f".{CURRENT}.{slot}"
    try:
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path(SLOTS, slot))
        os.replace(draft, folder / CURRENT)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}", "check the permissions") from error
    sync_folder(folder)


def _encoder(card: Any) -> dict[str, Any] | None:
    """The encoder of a model, and whether this machine has it; None of a model of log-mels."""
    if card is None:
        return None
    known = EncoderCard.from_json(card)
    present = find_encoder(known) is not None
    return {"name": known.name, "sha256": known.sha256, "path": str(encoder_path(known)), "present": present}


def _trusted() -> str | None:
    try:
        keys = trusted_keys()
    except EdgeserError as error:
        return f"unreadable: {error.message}"
    return ", ".join(f"{key.id} until {key.expires} ({trust_path()})" for key in keys) or None
