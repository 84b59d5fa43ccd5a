"""Fuzzing the reader of kits, guided by what it executes (atheris, libFuzzer); see scripts/fuzz_kits.

    python fuzz_kits.py --minutes 5 [--corpus FOLDER]     prints one JSON object; 1 where something was found

Each input is a byte that says what it is, and content: of the whole file, of the manifest, or of one member of a kit
whose hashes are made to fit. The kit is read by one that trusts its maker and by anybody. It may be refused with an
error that says something; without a key a forgery that fits may be read, too. Anything else stops the job: another
exception, a changed file that is accepted, a file written, a program started, memory beyond a gigabyte.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1])]  # so that it runs as a program, too
MEMORY_MB = 1024
ONE_INPUT_SECONDS = 60
KIT, KEY = "signed.edgeser", "lab.pub"
WHOLE, MANIFEST_ONLY = "the whole file", "the manifest"
SIZES = {"executions": r"number_of_executed_units:\s*(\d+)", "peak_mb": r"peak_rss_mb:\s*(\d+)"}
COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")


class Found(Exception):
    """Something that must not happen."""


def prepare(folder: Path, corpus: Path) -> None:
    """A small signed kit, and what it consists of as the first inputs."""
    from device.kits import synthetic_set, write_keys, write_kit

    from edgeser_device.kit.kit import MANIFEST, read_kit

    made = write_kit(folder, synthetic_set(per_class=1, steps=2, batch=2, views=1), key=write_keys(folder / "lab")).path
    made.rename(folder / KIT)
    members = dict(read_kit(folder / KIT).members)
    contents = {WHOLE: (folder / KIT).read_bytes(), MANIFEST_ONLY: members[MANIFEST], **members}
    for number, name in enumerate(kinds(members)):
        (corpus / f"first-{number}").write_bytes(bytes([number]) + contents[name])


def kinds(members: Mapping[str, bytes]) -> list[str]:
    """What an input's first byte stands for."""
    from edgeser_device.kit.kit import MANIFEST

    return [WHOLE, MANIFEST_ONLY, *sorted(name for name in members if name != MANIFEST)]


def forger(data: bytes) -> Callable[[bytes], bytes]:
    """A function from inputs to kits; all but what an input replaces is packed once."""
    from device.mutants import parts

    from edgeser_device.kit.archive import join, pack, write_json_bytes
    from edgeser_device.kit.kit import MANIFEST, SIGNATURE

    members, stored = parts(data)
    packed = {entry.filename: (entry, content) for entry, content in stored}
    manifest = json.loads(members[MANIFEST])
    names = kinds({name: content for name, content in members.items() if name != SIGNATURE})

    def forge(given: bytes) -> bytes:
        if not given:
            return given
        name, content = names[given[0] % len(names)], given[1:]
        if name == WHOLE:
            return content
        ours, listed = dict(packed), dict(manifest["members"])
        if name == MANIFEST_ONLY:
            ours[MANIFEST] = pack(MANIFEST, content)
        else:
            ours[name] = pack(name, content)
            stated = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            squeezed = ours[name][1]
            stated |= {"packed_bytes": len(squeezed), "packed_sha256": sha256(squeezed).hexdigest()}
            ours[MANIFEST] = pack(MANIFEST, write_json_bytes({**manifest, "members": {**listed, name: stated}}))
        return join([ours.pop(MANIFEST), *(ours[name] for name in sorted(ours))])

    return forge


def read(given: bytes, forge: Callable[[bytes], bytes], original: bytes, place: Any, keys: tuple[Any, ...]) -> None:
    """Read what an input makes, with a key and without."""
    from edgeser_device.kit.kit import read_kit
    from edgeser_export.utilities.errors import EdgeserError

    data = forge(given)
    place.seek(0)
    place.truncate()
    place.write(data)
    place.flush()
    for trusted in (keys, ()):
        try:
            kit = read_kit(Path(place.name), trusted)
        except EdgeserError as error:
            if not (error.message and error.hint):
                raise Found(f"an error that says nothing: {error!r}") from error
            continue
        if trusted and data != original:
            raise Found("a kit that nobody signed is accepted")
        if given[:1] == b"\0" and data != original:
            raise Found("a changed file is accepted")
        _ = kit.labels, kit.graph, kit.weights, kit.golden, kit.card, kit.step, kit.statistics_step


def fuzz(folder: Path, corpus: Path, seconds: int) -> None:
    """The job itself; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["edgeser_device", "edgeser_export"]):
        from device.mutants import forbid_everything

        from edgeser_device.kit.kit import read_kit
        from edgeser_device.kit.signature import read_public

    keys = (read_public(folder / KEY),)
    original = (folder / KIT).read_bytes()
    read_kit(folder / KIT, keys)  # imports all that is imported late
    read_kit(folder / KIT)
    place = (folder / "mutant.edgeser").open("w+b")
    forge = forger(original)
    for first in sorted(corpus.glob("first-*")):  # every first input is the kit itself
        if forge(first.read_bytes()) != original:
            raise Found(f"{first.name} is not the kit")
    sys.addaudithook(forbid_everything)
    flags = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={ONE_INPUT_SECONDS}"]
    flags += [f"-max_len={2 * len(original)}", "-len_control=0", "-print_final_stats=1", "-seed=1"]
    target = partial(read, forge=forge, original=original, place=place, keys=keys)
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={folder}/found-", str(corpus)], target)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the reader of kits.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--corpus", type=Path, help="Inputs that led to something new are kept here and used again.")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job is not None:
        fuzz(asked.job, asked.corpus, round(60 * asked.minutes))
    with tempfile.TemporaryDirectory(prefix="edgeser-fuzz-") as name:
        folder = Path(name)
        corpus = (asked.corpus or folder / "corpus").resolve()
        corpus.mkdir(parents=True, exist_ok=True)
        prepare(folder, corpus)
        command = [sys.executable, str(HERE), "--minutes", str(asked.minutes), "--corpus", str(corpus)]
        done = subprocess.run([*command, "--job", str(folder)], cwd=folder, capture_output=True, text=True)
        said = done.stderr + done.stdout
        sizes = {key: int(match[1]) for key, line in SIZES.items() if (match := re.search(line, said))}
        covered = COVERED.findall(said)
        found = {
            "exit": done.returncode,
            "minutes": asked.minutes,
            **sizes,
            **(dict(zip(("coverage", "features", "corpus"), map(int, covered[-1]), strict=True)) if covered else {}),
            "found": sorted(path.name for path in folder.glob("found-*")),
            "kit_bytes": (folder / KIT).stat().st_size,
            "atheris": version("atheris"),
            "python": platform.python_version(),
        }
        print(json.dumps(found))
        if done.returncode or "executions" not in sizes:
            for path in folder.glob("found-*"):
                kept = Path.cwd() / path.name
                kept.write_bytes(path.read_bytes())
                print(f"kept: {kept}", file=sys.stderr)
            print(said[-4000:], file=sys.stderr)
            return 1
        return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
