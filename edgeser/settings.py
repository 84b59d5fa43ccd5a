"""The settings of a distillation: defaults < a TOML file < flags, checked together, saved in the run."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgeser.errors import SettingsError
from edgeser_export.errors import choice_hint
from edgeser_export.home import expand


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes; enough to repeat it.

    Attributes:
        corpus: Name of the corpus format.
        folder: Where the recordings are; empty for the built-in demo.
        split: quick, official, fold:K or seed:N; empty for the corpus's default.
        method: A row of the table of methods.
        arch: Architecture of the student.
        width: Factor on the student's channels.
        ipc: Items per class; 0 where ``share`` decides.
        share: Items as a share of the training items, at least one a class; 0 where ``ipc`` decides.
        formations: Log-mels in one item, with fewer bits a value, then fewer bands and frames; 0 decides by the method.
        seed: Of initialisation, selection and distillation.
        start_from: What items begin as: real clips, mix (three voices at once), duet (two that are alike), crowd (equal
            shares of all) or noise; empty lets the budget decide.
        init_epoch: Epoch of the first trajectory that is the student's fixed initialisation; 0 is the untrained start.
        labels: hard, soft or bank.
        views: Views for each item; 0 decides by the budget.
        temperature: Of the experts' soft labels.
        experts: Experts that label.
        label_arch: Architecture of the experts that label.
        label_width: Factor on their channels; they may be larger than the student; 0 decides by the size of the corpus.
        expert_steps: Training steps of each of them, rounded up to whole epochs; 0 decides by the size of the corpus.
        steps: Training steps of the student.
        batch: Views in one step.
        peak_rate: Largest learning rate of the student.
        weight_decay: Of the student.
        check_every: Iterations from one check on dev speakers to the next; 0 never checks.
        patience: Checks without a better UAR after which the method stops; the best items are kept.
        candidates: Sets of the same items, each with an initialisation and views of its own; a student is trained on
            each, and the best on dev speakers is shipped. 1 chooses nothing.
        trajectories: Experts whose trajectories are matched (mtt).
        expert_span: Epochs from one matched snapshot to the next (mtt).
        earliest_start: Earliest epoch at which a match starts (mtt).
        first_window: Latest such epoch in the first iteration; it grows evenly to the latest of all in the last (mtt).
        start_window: Latest epoch at which a match starts, at one item a class (mtt).
        window_growth: Epochs by which it is later for each doubling of the items per class (mtt).
        trajectory_rate: Constant learning rate of these experts (mtt).
        trajectory_momentum: Of these experts' SGD, 0 or 0.9 (mtt).
        flatness: Distance at which their gradients are taken, which makes them flat; 0 is off (mtt).
        iterations: Updates of the items; 0 is the method's own number.
        student_steps: Steps of the student in one match (mtt).
        student_batch: Items in one of these steps at most, drawn anew in each (mtt).
        item_rate: Learning rate of the items in standard deviations of the corpus; 0 is the method's own.
        statistics_weight: Weight of the experts' batch statistics (invert).
        label_weight: Weight of the experts' cross-entropy (match).
        unroll_window: Steps of the student through which one iteration differentiates (unroll).
        step_size: Initial step size of the student, then learnt; 0 tries some on the items as they begin (mtt).
        label_rate: Learning rate of the logits of the items' labels in a match; 0 keeps hard labels (mtt).
        gate: Loss above which an update is skipped (mtt).
        item_average: Decay of the moving average of the items that is shipped; 0 ships the items themselves (mtt).
        latent: Random numbers for one generated item, and bases of each class; 0 decides by the classes (gan).
        pretraining: Share of the iterations in which the generator learns its bases alone (gan).
        generator_rate: Learning rate of the generator; a tenth of it while the critics play (gan).
        critic_rate: Learning rate of the critics (gan).
        critic_steps: Steps of a critic before one of the generator (gan).
        penalty_weight: Weight of the critics' gradient penalty (gan).
        adversarial_weight: Weight of the critics' scores (gan).
        feature_weight: Weight of the matching of features, L_FM (gan).
        probability_weight: Weight of the matching of probabilities, L_SML (gan).
        diversity_weight: Weight of the lack of diversity, L_DIV (gan).
        polish: Iterations of invert on the sampled items (gan).
        ratio: balanced, or original: classes as frequent as in the training clips (gan).
        ship: items, or generator: the kit draws its items on the device (gan).
        memory: Way through the steps of a match: fast, or lean in the memory of one step (mtt).
        dp: Epsilon of differential privacy of the items, by noise on the class statistics; 0 has no noise (match).

    Raises:
        SettingsError: Values that are impossible, or that contradict each other.
    """

    corpus: str
    folder: str = ""
    split: str = ""
    method: str = "invert"
    arch: str = "edgenet"
    width: float = 1.0
    ipc: int = 0
    share: float = 0.0
    formations: int = 0
    seed: int = 0
    start_from: str = ""
    init_epoch: int = 0
    labels: str = "bank"
    views: int = 0
    temperature: float = 2.0
    experts: int = 4
    label_arch: str = "edgenet"
    label_width: float = 0.0
    expert_steps: int = 0
    steps: int = 600
    batch: int = 32
    peak_rate: float = 1e-2
    weight_decay: float = 0.1
    check_every: int = 0
    patience: int = 3
    candidates: int = 1
    trajectories: int = 2
    expert_span: int = 4
    earliest_start: int = 0
    first_window: int = 4
    start_window: int = 20
    window_growth: float = 2.0
    trajectory_rate: float = 0.02
    trajectory_momentum: float = 0.9
    flatness: float = 0.0
    iterations: int = 0
    student_steps: int = 10
    student_batch: int = 64
    item_rate: float = 0.0
    statistics_weight: float = 0.3
    label_weight: float = 0.1
    unroll_window: int = 25
    step_size: float = 0.0
    label_rate: float = 0.0
    gate: float = 1.0
    item_average: float = 0.0
    latent: int = 0
    pretraining: float = 0.75
    generator_rate: float = 3e-3
    critic_rate: float = 1e-3
    critic_steps: int = 2
    penalty_weight: float = 10.0
    adversarial_weight: float = 0.02
    feature_weight: float = 1.0
    probability_weight: float = 0.3
    diversity_weight: float = 0.3
    polish: int = 0
    ratio: str = "balanced"
    ship: str = "items"
    memory: str = "fast"
    dp: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        if bool(self.ipc) == bool(self.share):
            both = self.ipc and self.share
            raise SettingsError(
                "--ipc and --share are both given" if both else "no budget is given",
                "give one of them: --ipc 6 (items per class) or --share 0.056 (of the training items)",
            )
        for name, (low, high) in BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsError(
                    f"--{name.replace('_', '-')} is {getattr(self, name):g}", f"give a value from {low:g} to {high:g}"
                )
        for name, values in CHOICES.items():
            if getattr(self, name) not in values:
                raise SettingsError(
                    f"--{name.replace('_', '-')} is {getattr(self, name):g}",
                    f"give one of: {', '.join(f'{value:g}' for value in values)}",
                )

        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise SettingsError(f"--{name} is {getattr(self, name)!r}", f"give one of: {', '.join(words)}")

    def to_toml(self) -> str:
        """The settings as TOML."""
        import tomli_w

        return tomli_w.dumps(asdict(self))


BOUNDS: Mapping[str, tuple[float, float]] = {
    "ipc": (0, 10_000),
    "share": (0, 1),
    "formations": (0, 8),
    "seed": (0, 2**31 - 1),
    "width": (0.01, 8),
    "init_epoch": (0, 10_000),
    "views": (0, 4096),
    "temperature": (0.1, 100),
    "experts": (1, 64),
    "label_width": (0, 8),
    "expert_steps": (0, 1_000_000),
    "steps": (1, 1_000_000),
    "batch": (2, 1024),
    "peak_rate": (1e-6, 10),
    "weight_decay": (0, 1),
    "check_every": (0, 1_000_000),
    "patience": (1, 1000),
    "candidates": (1, 1000),
    "trajectories": (1, 64),
    "expert_span": (1, 1000),
    "earliest_start": (0, 10_000),
    "first_window": (0, 10_000),
    "start_window": (0, 10_000),
    "window_growth": (0, 1000),
    "trajectory_rate": (1e-6, 10),
    "trajectory_momentum": (0, 0.9),
    "flatness": (0, 10),
    "iterations": (0, 1_000_000),
    "student_steps": (1, 1000),
    "student_batch": (2, 100_000),
    "item_rate": (0, 10),
    "statistics_weight": (0, 1000),
    "label_weight": (0, 1000),
    "unroll_window": (1, 10_000),
    "step_size": (0, 10),
    "label_rate": (0, 10),
    "gate": (1e-3, 1e6),
    "item_average": (0, 0.9999),
    "latent": (0, 1024),
    "pretraining": (0, 1),
    "generator_rate": (1e-6, 10),
    "critic_rate": (1e-6, 10),
    "critic_steps": (1, 100),
    "penalty_weight": (0, 1000),
    "adversarial_weight": (0, 1000),
    "feature_weight": (0, 1000),
    "probability_weight": (0, 1000),
    "diversity_weight": (0, 1000),
    "polish": (0, 10_000),
    "dp": (0, 1000),
}
"""Lowest and highest value of each number."""
CHOICES: Mapping[str, tuple[float, ...]] = {"trajectory_momentum": (0.0, 0.9), "formations": (0, 1, 2, 4, 8)}
"""The values of numbers that have few."""
WORDS: Mapping[str, tuple[str, ...]] = {"ratio": ("balanced", "original"), "ship": ("items", "generator")}
"""The values of words that no table of functions has."""
_KINDS: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


def resolve(
    config: Path | None,
    flags: Mapping[str, Any],
    defaults_of: Callable[[str, str], Mapping[str, Any]] = lambda _method, _start: {},
    require_place: Callable[[str, str], object] = lambda _corpus, _folder: None,
) -> Settings:
    """Settings from a file and from flags; flags that are None were not given.

    ``defaults_of`` gives the settings that a method and a start, named by flag, file or default, have by themselves.
    ``require_place`` is told the corpus and its folder before anything else is checked, and may refuse them.

    Folders may begin with ``~``; a relative one is relative to the file that names it, or to the current folder.

    Raises:
        SettingsError: The file cannot be read, names a setting that does not exist, or values do not fit.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    values = read_toml(config) if config is not None else {}
    if config is not None and values.get("folder"):
        values["folder"] = _whole_path(str(values["folder"]), config.parent)
    if given.get("folder"):
        given["folder"] = _whole_path(given["folder"], Path())
    if "ipc" in given or "share" in given:
        values.pop("ipc", None)
        values.pop("share", None)
    values |= given
    if "corpus" not in values:
        raise SettingsError("no corpus is named", "give --corpus NAME; edgeser data list shows the names")
    require_place(str(values["corpus"]), str(values.get("folder", "")))
    method, start = (str(values.get(name, getattr(Settings, name))) for name in ("method", "start_from"))
    return Settings(**{**defaults_of(method, start), **values})


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        SettingsError: The file is missing, is not TOML, or names a setting that does not exist.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "check the path given to --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", "write lines like: ipc = 6") from error
    known = [field.name for field in fields(Settings)]
    for name in values:
        if name not in known:
            raise SettingsError(f"{path} names a setting {name!r} that does not exist", choice_hint(name, known))
    return values


def differences(old: Settings, new: Settings) -> list[str]:
    """What differs between two settings, in words; where the corpus lies is no difference."""
    before, after = asdict(old), asdict(new)
    return [
        f"{name}: {before[name]!r} in the run, {after[name]!r} now"
        for name in before
        if before[name] != after[name] and name != "folder"
    ]


def with_budget(settings: Settings, train_items: int, classes: int) -> Settings:
    """The settings with budget and experts decided, which depend on the corpus.

    A share is rounded to the nearest number of items, at least 1 a class. Small corpora have smaller experts
    and fewer steps: on the dev speakers of EMO-DB (128 training clips) larger ones were worse, on those of
    RAVDESS (840) better.
    """
    ipc = settings.ipc or max(1, round(settings.share * train_items / classes))
    return replace(
        settings,
        ipc=ipc,
        share=0.0,
        label_width=settings.label_width or (2.0 if train_items >= LARGE_CORPUS else 1.0),
        expert_steps=settings.expert_steps or (1500 if train_items >= LARGE_CORPUS else 600),
    )


def with_views(settings: Settings, classes: int) -> Settings:
    """The settings with ``views`` decided: few items have more each, so that a student does not see them too often.

    Many have no more together than the student has steps for.
    """
    items, most = settings.ipc * classes, MOST_VIEWS * settings.formations
    seen = max(1, settings.steps * settings.batch // items)
    views = min(most, max(min(FEWEST_VIEWS, seen), VIEWS // items))
    return replace(settings, views=settings.views or views)


VIEWS = 2048
"""Views in all, at least the one for an item and at most the other for a log-mel."""
FEWEST_VIEWS, MOST_VIEWS = 64, 256
LARGE_CORPUS = 400
"""Training clips from which on label experts are twice as wide as edgenet and train longer."""


def _whole_path(folder: str, base: Path) -> str:
    return str((base / expand(Path(folder))).resolve())


def _check_type(name: str, value: object, kind: object) -> None:
    wanted = _KINDS[str(kind)]
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise SettingsError(f"{name} is {value!r}, not of type {kind}", "correct the flag or the configuration file")
