"""Kits with something wrong in them, by number: the same seed gives the same ones.

    python mutants.py KIT KEY COUNT SEED        prints one JSON object: what became of each kind

Runs in a process of its own that is stopped by any attempt to write a file, start a program or open a connection.
"""

from __future__ import annotations

import json
import random
import string
import struct
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgeser_device.kit.archive import Packed, entry_of, join, open_archive, pack, write_json_bytes
from edgeser_device.kit.kit import MANIFEST, SIGNATURE, read_kit
from edgeser_device.kit.signature import read_public
from edgeser_device.machine import peak_rss_mb
from edgeser_export.utilities.errors import EdgeserError

Random = random.Random
Members = dict[str, bytes]

TRICKS = (
    "../evil", "/etc/cron.d/evil", "a/../../b", "..\\evil", "C:\\evil", ".hidden", "a//b", "./a", "con/", "x\0y", "-rf",
    "wheels/../../evil.whl", "é", "a" * 200, "",
)  # fmt: skip
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, -1e308, 2**62, "", "\x1b[2J", "../..", "a" * 30_000, [], {}, [[[[]]]], {"": {}},
    [None] * 999,
)  # fmt: skip


def parts(data: bytes) -> tuple[Members, list[Packed]]:
    """Content by name, and what is stored."""
    with open_archive(data, first=MANIFEST) as archive:
        stored = [(entry, b"".join(archive.chunks(name))) for name, entry in archive.entries.items()]
        return {name: archive.read(name) for name in archive.entries}, stored


def sealed(members: Mapping[str, bytes], manifest: Mapping[str, Any]) -> bytes:
    """A kit of these members whose manifest states their hashes, as somebody without the key can make it."""
    rest = {name: data for name, data in members.items() if name not in (MANIFEST, SIGNATURE)}
    packed = {name: pack(name, data) for name, data in rest.items()}
    listed = {
        name: {
            "bytes": len(rest[name]),
            "sha256": sha256(rest[name]).hexdigest(),
            "packed_bytes": len(stored),
            "packed_sha256": sha256(stored).hexdigest(),
        }
        for name, (_, stored) in packed.items()
    }
    if SIGNATURE in members:
        packed[SIGNATURE] = pack(SIGNATURE, members[SIGNATURE])
    content = write_json_bytes({**manifest, "members": listed})
    return join([pack(MANIFEST, content), *(packed[name] for name in sorted(packed))])


# Anybody's accidents: whatever they change must show, with a key or without. ------------------------------------


def truncated(data: bytes, chance: Random) -> bytes:
    return data[: chance.randrange(len(data))]


def one_bit(data: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def overwritten(data: bytes, chance: Random) -> bytes:
    place, length = chance.randrange(len(data)), chance.randrange(1, 600)
    noise = chance.randbytes(min(length, len(data) - place))
    return data[:place] + noise + data[place + len(noise) :]


def grown(data: bytes, chance: Random) -> bytes:
    place = chance.choice((0, len(data), chance.randrange(len(data))))
    return data[:place] + chance.randbytes(chance.randrange(1, 99)) + data[place:]


def cut_out(data: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(data) - 1)
    return data[:place] + data[place + chance.randrange(1, 99) :]


def exchanged(data: bytes, chance: Random) -> bytes:
    """Two members in each other's place, in a whole archive."""
    members, _ = parts(data)
    one, two = chance.sample([name for name in members if name != MANIFEST], 2)
    members[one], members[two] = members[two], members[one]
    return join([pack(name, members[name]) for name in members])


def another_order(data: bytes, chance: Random) -> bytes:
    _, stored = parts(data)
    before = [entry.filename for entry, _ in stored]
    while [entry.filename for entry, _ in stored] == before:
        chance.shuffle(stored)
    return join(stored)


def another_packing(data: bytes, chance: Random) -> bytes:
    """The same content, deflated in another way."""
    members, stored = parts(data)
    index = chance.choice([place for place, (entry, _) in enumerate(stored) if entry.compress_type])
    name = stored[index][0].filename
    again = pack(name, members[name], level=chance.choice((0, 1, 2, 3)))
    stored[index] = again if again[1] != stored[index][1] else pack(name, members[name], level=0)
    return join(stored)


def renamed(data: bytes, chance: Random) -> bytes:
    """A member with a name that points elsewhere, or that another has too."""
    _, stored = parts(data)
    index = chance.randrange(len(stored))
    entry, content = stored[index]
    name = chance.choice((*TRICKS, stored[index - 1][0].filename))
    other = entry_of(name, entry.compress_type, entry.CRC, entry.compress_size, entry.file_size)
    stored[index] = (other, content)
    return join(stored)


def other_sizes(data: bytes, chance: Random) -> bytes:
    """A member whose header and directory promise something else than is there, up to what a zip can say."""
    with open_archive(data, first=MANIFEST) as archive:
        entries = list(archive.entries.values())
    index, field = chance.randrange(len(entries)), 4 * chance.randrange(3)  # CRC, packed size or size
    place = data.rindex(b"PK\5\6") - sum(46 + len(entry.filename) for entry in entries[index:]) + 16 + field
    (known,) = struct.unpack_from("<L", data, place)
    stated = chance.choice((0, 1, known + 1, 1 << 20, 1 << 30, (1 << 32) - 1)) & 0xFFFFFFFF
    other = struct.pack("<L", stated if stated != known else known ^ 1)
    changed = bytearray(data)
    for where in (place, entries[index].header_offset + 14 + field):
        assert data[where : where + 4] == data[place : place + 4]
        changed[where : where + 4] = other
    return bytes(changed)


def wrong_hash(data: bytes, chance: Random) -> bytes:
    """A manifest that states something else of a member."""
    members, _ = parts(data)
    manifest = json.loads(members[MANIFEST])
    stated = manifest["members"][chance.choice(sorted(manifest["members"]))]
    key = chance.choice(sorted(stated))
    stated[key] = chance.choice((sha256(chance.randbytes(8)).hexdigest(), None, "", 0, -1, 1 << 61))
    members[MANIFEST] = write_json_bytes(manifest)
    return join([pack(name, members[name]) for name in members])


# Attackers who can do anything but sign: must be refused where a key is set up, and never break a reader without one.


def signature(data: bytes, chance: Random) -> bytes:
    """Another signature, or none."""
    members, _ = parts(data)
    if chance.random() < 0.3:
        del members[SIGNATURE]
    else:
        members[SIGNATURE] = chance.choice(
            (one_bit(members[SIGNATURE], chance), chance.randbytes(chance.randrange(200)), bytes(64))
        )
    return join([pack(name, members[name]) for name in members])


def other_content(data: bytes, chance: Random) -> bytes:
    """A member with something wrong inside and the hashes to fit."""
    members, _ = parts(data)
    name = chance.choice([name for name in members if name not in (MANIFEST, SIGNATURE)])
    change = chance.choice((truncated, one_bit, overwritten, grown, cut_out)) if len(members[name]) > 1 else grown
    members[name] = change(members[name], chance)
    return sealed(members, json.loads(members[MANIFEST]))


def other_json(data: bytes, chance: Random) -> bytes:
    """A manifest, student or description with another value somewhere and the hashes to fit."""
    members, _ = parts(data)
    manifest = json.loads(members[MANIFEST])
    if chance.random() < 0.4:
        student = json.loads(members["student.json"])
        _change_somewhere(student, chance)
        members["student.json"] = json.dumps(student).encode()
    else:
        _change_somewhere(manifest, chance)
    try:
        return sealed(members, manifest)
    except (TypeError, ValueError):
        return sealed(members, {})


def _change_somewhere(value: Any, chance: Random) -> None:
    while True:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
            value = inner
            continue
        action = chance.random()
        if action < 0.15:
            del value[key]
        elif action < 0.25 and isinstance(value, dict):
            value["".join(chance.choices(string.printable, k=5))] = chance.choice(STRANGE)
        else:
            value[key] = chance.choice(STRANGE)
        return


ACCIDENTS: tuple[Callable[[bytes, Random], bytes], ...] = (
    truncated, one_bit, overwritten, grown, cut_out, exchanged, another_order, another_packing, renamed, other_sizes,
    wrong_hash,
)  # fmt: skip
ATTACKS: tuple[Callable[[bytes, Random], bytes], ...] = (other_content, other_json, signature)


def forbid_everything(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: reading a kit may read, and nothing else."""
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event.split(".")[0] in ("subprocess", "socket", "shutil", "tempfile", "ctypes") or event in (
        "os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.exec", "os.posix_spawn", "os.system", "exec",
    ):  # fmt: skip
        print(f"forbidden: {event} {arguments!r}", file=sys.stderr)
        sys.stderr.flush()
        import os

        os._exit(99)


def main(kit: Path, key: Path, count: int, seed: int) -> None:
    data, trusted = kit.read_bytes(), (read_public(key),)
    place = kit.with_name("mutant.edgeser")
    read_kit(kit, trusted)
    read_kit(kit)
    before = peak_rss_mb() or 0.0
    outcomes: dict[str, Counter[str]] = {}
    chance = Random(seed)
    kinds = [*ACCIDENTS, *ATTACKS, other_content, other_json]
    file = place.open("r+b") if place.exists() else place.open("w+b")
    sys.addaudithook(forbid_everything)
    for number in range(count):
        change = kinds[number % len(kinds)]
        mutant = change(data, chance)
        if mutant == data:
            continue
        file.seek(0)
        file.truncate()
        file.write(mutant)
        file.flush()
        for reader, keys in (("trusting", trusted), ("anybody", ())):
            try:
                read_kit(place, keys)
                outcome = "accepted"
            except EdgeserError as error:
                outcome = type(error).__name__ if error.message and error.hint else "nothing is said"
            outcomes.setdefault(f"{reader} {change.__name__}", Counter())[outcome] += 1
    grown_by = round((peak_rss_mb() or 0.0) - before, 1)
    print(json.dumps({"outcomes": outcomes, "grown_mb": grown_by, "kit_bytes": len(data)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
