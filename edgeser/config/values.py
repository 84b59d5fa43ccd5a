"""Settings as values by their keys: what files hold, what is given on the command line, and what differs.

settings, notes = read_settings(Path("mine.toml"), {"ipc": "6", "mtt.expert_span": "2"})
changed(settings, {"mtt.iterations": 5})
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeser.config.renamed import modern
from edgeser.config.settings import HEADS_OF, METHODS, SETTINGS, USUAL, Settings, representation_name, value_of
from edgeser.errors import SettingsError
from edgeser_export.utilities.outside import expand

GIVEN = "given"
"""The table of a run's config.toml that holds what the user gave; the rest of the file is what that came to."""


def owner(key: str) -> str:
    """The method that alone reads a setting; empty where every method does."""
    group = key.partition(".")[0]
    return group if group in METHODS else ""


def usual(values: Mapping[str, Any]) -> Mapping[str, str | int | float]:
    """The defaults that the representation among values changes, and those that it changes for their method."""
    name = _representation(values)
    return {**USUAL[name], **(HEADS_OF.get(method_in(values), {}) if "arch" in USUAL[name] else {})}


def method_in(values: Mapping[str, Any]) -> str:
    """The method among values, or the usual one."""
    return str(values.get("method", USUAL[_representation(values)].get("method", Settings.method)))


def _representation(values: Mapping[str, Any]) -> str:
    return representation_name(str(values.get("corpus", "")), str(values.get("encoder", "")))


def values_of(settings: Settings) -> dict[str, Any]:
    """The values by their keys: those of every run and of the run's method."""
    return {key: value_of(settings, key) for key in SETTINGS if owner(key) in ("", settings.method)}


def usual_of(settings: Settings, key: str) -> Any:
    """The value of a setting where nobody gives one, for the representation of these settings."""
    own = usual({"corpus": settings.corpus, "encoder": settings.encoder, "method": settings.method})
    return own.get(key, SETTINGS[key].default)


def given_in(settings: Settings) -> dict[str, Any]:
    """The values that are not what they are by themselves."""
    return {key: value for key, value in values_of(settings).items() if value != usual_of(settings, key)}


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Settings of values by their keys; the others are as they are by themselves.

    Raises:
        SettingsError: A setting does not exist or belongs to another method, or a value is not allowed.
    """
    values = {**usual(values), **values}
    method = method_in(values)
    for key in values:
        if key not in SETTINGS:
            raise SettingsError(f"there is no setting {key!r}", _nearest(key))
        if owner(key) not in ("", method):
            raise SettingsError(
                f"{key} is a setting of --method {owner(key)}, and this is --method {method}",
                f"leave it out, or use --method {owner(key)}",
            )
    return _made(values)


def changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with other values, by their keys.

    Raises:
        SettingsError: A value is not allowed.
    """
    return _made({**{key: value_of(settings, key) for key in SETTINGS}, **values})


def differences(old: Settings, new: Settings) -> list[str]:
    """The differences between two settings, in words; where the corpus lies is no difference."""
    before, after = values_of(old), values_of(new)
    return [
        f"{key}: {before.get(key)!r} in the run, {after.get(key)!r} now"
        for key in {**before, **after}
        if before.get(key) != after.get(key) and key != "folder"
    ]


def to_toml(resolved: Settings, given: Settings) -> str:
    """A run's config.toml: the settings as resolved, and what the user gave."""
    import tomli_w

    return tomli_w.dumps({**_tables(values_of(resolved)), GIVEN: _tables(given_in(given))})


def read_toml(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values in a TOML file by their keys, and those that it says were given; without such a table, the same.

    Raises:
        SettingsError: The file is missing, or is not TOML.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "check the path given to --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", "write lines like: ipc = 6") from error
    given = values.pop(GIVEN, None)
    return _keys(values), _keys(given if isinstance(given, dict) else values)


def read_run_settings(path: Path) -> tuple[Settings, Settings]:
    """The settings in a run's config.toml: as resolved, and as the user gave them; in older runs the same.

    Raises:
        SettingsError: The file cannot be read, or values do not fit.
    """
    resolved, given = (settings_of(modern(values)[0]) for values in read_toml(path))
    return resolved, given


def read_settings(
    config: Path | None, given: Mapping[str, str], require_place: Callable[[str, str], None] = lambda *_: None
) -> tuple[Settings, list[str]]:
    """Settings from a file and from the command line, which comes first; and notes on old names.

    Folders may begin with ``~``; a relative one is relative to the file that names it, or to the current folder.

    Args:
        config: A TOML file; of a run's config.toml what the user gave is read.
        given: Texts by keys.
        require_place: Called with the corpus's name and folder before the other values are judged.

    Raises:
        SettingsError: The file cannot be read, a setting does not exist, or values do not fit.
    """
    held = read_toml(config)[1] if config is not None else {}
    method = method_in({**held, **given})
    values, notes = modern({**held, "method": method})
    texts, more = modern({**given, "method": method})
    for place, base in ((values, config.parent if config else Path()), (texts, Path())):
        if place.get("folder"):
            place["folder"] = str((base / expand(Path(str(place["folder"])))).resolve())
    if "ipc" in texts or "share" in texts:
        values = {key: value for key, value in values.items() if key not in ("ipc", "share")}
    parsed = {key: SETTINGS[key].parse(text) if key in SETTINGS else text for key, text in texts.items()}
    found = {**values, **parsed}
    if not found.get("corpus"):
        raise SettingsError("no corpus is named", "give --corpus NAME; edgeser data list shows the names")
    require_place(str(found["corpus"]), str(found.get("folder", "")))
    return settings_of(found), notes + more


def _nearest(key: str) -> str:
    """A hint for a key that does not exist."""
    from difflib import get_close_matches  # half a megabyte, for mistakes only

    near = get_close_matches(key, SETTINGS, n=1)
    return f"did you mean {near[0]}?" if near else "edgeser methods NAME shows the settings"


def _made(values: Mapping[str, Any]) -> Settings:
    """Settings of values whose keys exist; whole numbers become fractions where these are asked for."""
    whole = [key for key, value in values.items() if SETTINGS[key].kind == "float" and type(value) is int]
    tables = _tables({**values, **{key: float(values[key]) for key in whole}}).items()
    groups = {name: type(getattr(Settings, name)) for name, value in tables if isinstance(value, dict)}
    return Settings(**{name: groups[name](**value) if name in groups else value for name, value in tables})


def _keys(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their keys, of values by names in tables."""
    found: dict[str, Any] = {}
    for name, value in tables.items():
        found |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of :func:`_keys`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        (found.setdefault(group, {}) if group else found)[name] = value
    return found
