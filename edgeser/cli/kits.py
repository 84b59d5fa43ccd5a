"""The verbs about kits: packing, signing, looking inside, and carrying them to boards."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeser.cli.board import CorpusName, Test, measure_here, require_both
from edgeser.cli.options import Json, Trust, add_verbs, option, refuse_ignored, say, show
from edgeser.packaging.targets import TARGETS
from edgeser_export.outputs import require_output
from edgeser_export.utilities.outside import expand

KitFile = Annotated[Path, typer.Argument(metavar="KIT", help="The file that pack wrote.")]
Folder = Annotated[Path, option("--folder", "The installation: what install.sh was given, or made.", "DIR")]
HOME = Path("~/edgeser")
TRUST = "Verify with this public key, here and on the board."
SERVICE = "Then start listening there, now and with the board; takes sudo there."
PYTHON = "The board's Python, for --wheels: 3.11, 3.12 or 3.13."


class EncoderFile(StrEnum):
    """The place of an encoder's file: in the kit, or already on the board."""

    embed = "embed"
    separate = "separate"


device_app = typer.Typer(
    name="device",
    help="The installation on this board: its state, updates, the key it trusts.",
    no_args_is_help=True,
)


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    add_verbs(
        app,
        ("pack", pack, "edgeser pack runs/ravdess --target rpi4 --out ravdess.edgeser"),
        ("inspect", inspect, "edgeser inspect ravdess.edgeser --verify lab.pub"),
        ("keygen", keygen, "edgeser keygen lab"),
        ("deploy", deploy, "edgeser deploy ravdess.edgeser pi@raspberrypi.local --dry-run"),
    )
    add_verbs(
        device_app,
        ("status", status, "edgeser device status --json"),
        ("install", install, "edgeser device install ravdess.edgeser"),
        ("rollback", rollback, "edgeser device rollback"),
        ("check", check, "edgeser device check"),
        ("trust", trust_key, "edgeser device trust lab.pub"),
    )
    app.add_typer(device_app, name="device", rich_help_panel="Board")


def pack(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that distill wrote.")],
    target: Annotated[str, option("--target", f"The board: {', '.join(TARGETS)}.", "NAME")],
    out: Annotated[Path, option("--out", "The kit to write.", "FILE")],
    sign: Annotated[Path | None, option("--sign", "Sign it with this private key; see keygen.", "KEY")] = None,
    wheels: Annotated[bool, option("--wheels", "Put in the packages for an installation without a network.")] = False,
    python: Annotated[str, option("--python", PYTHON, "VERSION")] = "3.11",
    encoder_file: Annotated[
        EncoderFile | None,
        option("--encoder-file", "With an encoder: its file in the kit, or only its card.", "HOW", "embed"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a run into a kit: one file from which a board trains."""
    refuse_ignored(context, needs={"python": "wheels"})
    from edgeser.cli.board_tables import pack_lines
    from edgeser.packaging.pack import pack_kit
    from edgeser.packaging.targets import find_target
    from edgeser.packaging.wheels import collect
    from edgeser_device.kit.kit import is_kit
    from edgeser_device.kit.signature import read_private

    require_output(out, "kit", is_kit)
    key = None if sign is None else read_private(sign)
    row = find_target(target)
    if wheels:
        say(f"collecting wheels for Python {python} on {row.title}")
    embed = encoder_file is not EncoderFile.separate
    report = pack_kit(run, target, out, key, collect(python, row) if wheels else None, embed)
    if report.window_ms > report.hop_ms:
        say(
            f"warning: a window takes about {report.window_ms:.0f} ms on {row.title} by estimate, and one comes every"
            f" {report.hop_ms:.0f} ms: listen will answer less often; a smaller encoder, or none, is faster"
        )
    show(report.to_json(), lambda: pack_lines(report), as_json)


def inspect(
    kit: KitFile,
    verify: Annotated[Path | None, option("--verify", "Check the signature with this public key.", "KEY")] = None,
    as_json: Json = False,
) -> None:
    """Show what a kit holds, after checking every hash."""
    from edgeser.cli.board_tables import kit_table
    from edgeser_device.kit.kit import read_kit
    from edgeser_device.kit.signature import read_public

    key = None if verify is None else read_public(verify)
    found = read_kit(kit, () if key is None else (key,))
    signed = "no" if not found.is_signed else f"with key {found.manifest['signer']['key']}"
    signature = f"{signed}, verified" if key is not None else signed + (", not verified" if found.is_signed else "")
    about = {"file": str(found.path), "sha256": found.sha256, "bytes": found.path.stat().st_size, "card": found.card}
    stated: dict[str, Any] = {"signature": {"signed": found.is_signed, "verified": key is not None}}
    if found.encoder is not None:
        stated["encoder"] = found.encoder.to_json()
    show({**found.manifest, **about, **stated}, lambda: kit_table(found, signature), as_json)


def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Writes NAME.key, to keep, and NAME.pub, to give away.")],
    days: Annotated[int, option("--days", "Days until the key expires.", "N", min=1, max=36_500)] = 730,
    replaces: Annotated[Path | None, option("--replaces", "The private key in whose place it comes.", "KEY")] = None,
    as_json: Json = False,
) -> None:
    """Make a pair of keys with which kits are signed and verified."""
    from edgeser_device.kit.signature import read_private, write_pair

    public = write_pair(name, days, None if replaces is None else read_private(replaces))
    made = {"key": public.id, "expires": public.expires.isoformat(), "replaces": public.replaces or None}
    words = f"{name}.key (keep it secret) and {name}.pub: key {public.id}, until {public.expires}"
    show(made, lambda: words, as_json)
    if not as_json:
        say(f"next: edgeser pack RUN --sign {name}.key; on each board: edgeser device trust {name.name}.pub")


def deploy(
    kit: KitFile,
    board: Annotated[str, typer.Argument(metavar="USER@HOST", help="The board, as for ssh.")],
    folder: Annotated[str, option("--folder", "The installation's folder there.", "DIR")] = "edgeser",
    port: Annotated[int | None, option("--port", "Port of ssh there.", "N", "ssh's own", min=1, max=65535)] = None,
    wheel: Annotated[Path | None, option("--wheel", "Wheel of edgeser.", "FILE", "made of this installation")] = None,
    trust: Annotated[Path | None, option("--trust", TRUST, "KEY")] = None,
    ssh_config: Annotated[
        Path | None, option("--ssh-config", "A configuration of ssh instead of yours.", "FILE")
    ] = None,
    service: Annotated[bool, option("--service", SERVICE)] = False,
    dry_run: Annotated[bool, option("--dry-run", "Print every command, and run none.")] = False,
    as_json: Json = False,
) -> None:
    """Copy a kit to a board over ssh, install, train and measure there; goes on where it was interrupted."""
    from edgeser.packaging.deploy import Board, commands, prepare, run
    from edgeser_device.kit.kit import read_kit
    from edgeser_device.kit.signature import read_public

    found = read_kit(kit, () if trust is None else (read_public(trust),))
    with prepare(found, Board(board, port, folder, ssh_config), wheel, trust, service) as deployment:
        if dry_run:
            lines = commands(deployment)
            show({"commands": lines}, lambda: "\n".join(lines), as_json)
            return
        result = run(deployment, say)
    rows = [row for row in result["bench"]["results"] if row.get("model_ms_p50") is not None]
    fastest = min(rows, key=lambda row: float(row["model_ms_p50"]), default=None)
    took = f"; a window takes {fastest['model_ms_p50']:.1f} ms with {fastest['runtime']}" if fastest else ""
    words = f"{board}: {_works(result['status'])}{took}"
    show({"address": board, "kit_sha256": found.sha256, **result}, lambda: words, as_json)


def _works(state: Mapping[str, Any], again: str = "") -> str:
    """A sentence about the kit that works in an installation."""
    return f"kit {state['kit'][:12]} works{again} in slot {state['slot']}"


def status(folder: Folder = HOME, as_json: Json = False) -> None:
    """Show what is installed on this board: versions, kit, UAR, last training, the key it trusts."""
    from edgeser.cli.board_tables import status_table
    from edgeser_device.install.slots import describe

    found = describe(expand(folder))
    show(found, lambda: status_table(found), as_json)


def install(
    kit: KitFile,
    folder: Folder = HOME,
    trust: Trust = None,
    test: Test = None,
    corpus: CorpusName = None,
    as_json: Json = False,
) -> None:
    """Train a kit in the free slot and switch to it if all is well; the present model works meanwhile."""
    from edgeser_device.install.slots import describe, install_kit
    from edgeser_device.kit.signature import trusted_keys
    from edgeser_export.utilities.progress import progress_bar

    require_both(test, corpus)
    with progress_bar("training", 0) as advance:
        found = install_kit(expand(folder), kit, trusted_keys(trust), advance)
    if test is not None and corpus is not None:
        measure_here(Path(found["model"]), test, corpus)
        found = describe(expand(folder))
    show(found, lambda: f"{_works(found)} of {folder}", as_json)


def rollback(folder: Folder = HOME, as_json: Json = False) -> None:
    """Go back to the slot before this one; a second time undoes the first."""
    from edgeser_device.install.slots import switch_back

    found = switch_back(expand(folder))
    show(found, lambda: _works(found, again=" again"), as_json)


def check(folder: Folder = HOME, as_json: Json = False) -> None:
    """Check that the present model works, and go back to the one before it where it does not."""
    from edgeser_device.install.slots import check_or_switch_back

    found = check_or_switch_back(expand(folder))
    if found["switched_back"] is not None:
        say(f"switched back, because the newer one does not work: {found['switched_back']}")
    show(found, lambda: _works(found), as_json)


def trust_key(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="A public key; the present one must have signed it.")],
    as_json: Json = False,
) -> None:
    """Set this machine up with a key: from then on it refuses every kit that is not signed with it."""
    from edgeser_device.kit.signature import set_trusted, trust_path

    found = set_trusted(key)
    words = f"trusted from now on: key {found.id}, until {found.expires} ({trust_path()})"
    show({"key": found.id, "expires": found.expires.isoformat(), "path": str(trust_path())}, lambda: words, as_json)
