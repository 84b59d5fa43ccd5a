"""Every setting of a run: its default, bounds, choices and meaning. Adding one is one field here.

A group of settings that one method reads is called as the method is. Where a default is left to something that only
the corpus tells, it is 0 or empty, ``decides`` says what decides, and :mod:`edgeser.distill.budget` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from edgeser.config.field import Group, Setting, setting, settings_in
from edgeser.errors import SettingsError

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "mtt": "Items on which a student follows the trajectories of experts (trajectory matching).",
        "gan": "Items drawn from a small conditional generator, which can be shipped itself.",
        "invert": "Items that the experts take for their class (inversion).",
        "match": "Items whose features are distributed as those of the clips (distribution matching).",
        "unroll": "Items, labels and learning rates, learnt through the student's own training.",
        "random": "Random real items of each class.",
        "herding": "Real items whose mean feature follows the class's.",
        "kcenter": "Real items that cover the features of the class (k-center).",
    }
)
"""The methods, and one sentence for each."""
LARGE_CORPUS = 400
"""Training clips from which on a corpus is large: its experts are wider and train longer. On the dev speakers of EMO-DB
(128 training clips) larger experts were worse, on those of RAVDESS (840) better."""
EXPERT_WIDTH, EXPERT_STEPS = {False: 1.0, True: 2.0}, {False: 600, True: 1500}
"""Of the experts, by whether the corpus is large."""
SMALL_SHARE = 0.04
"""Share of the clips below which a budget is small; chosen on dev speakers, see docs/methods.md."""
START = {True: "mix", False: "aligned"}
"""What items begin as, by whether the budget is small."""
SAMPLES = {True: 8, False: 2}
"""Log-mels in an item, by whether the budget is small: number counts more than sharpness then."""
VIEWS, FEWEST_VIEWS, MOST_VIEWS = 2048, 64, 256
"""Views in all, at least the second number for an item and at most the third for a log-mel."""
STEPS, STEPS_OF = 600, {"unroll": 100}
"""Training steps of the student, and where a method has others."""
ITERATIONS, ITERATIONS_FROM = 40, {"noise": 300}
"""Updates of inversion, and where a start needs others: after 40, noise is still far from anything the experts know."""
VECTORS = "features"
"""The name of the corpus of a file of vectors."""
USUAL: Mapping[str, Mapping[str, str | int]] = MappingProxyType(
    {VECTORS: {"method": "gan", "arch": "mlp", "experts.arch": "mlp", "samples_per_item": 1}}
)
"""By the name of a corpus: settings whose defaults it changes."""
INPUT, SET, STUDENT, OTHER = "Input", "Distilled set", "Student", "Other settings"
"""Headings of the settings that belong to no group."""


@dataclass(frozen=True)
class Experts(Group):
    """Experts: networks that learn from the real data and label what the student sees."""

    prefix: ClassVar[str] = "experts."

    count: int = setting(4, "Number of experts whose soft labels are averaged.", low=1, high=64)
    arch: str = setting("edgenet", "Architecture of the experts.")
    width: float = setting(
        0.0,
        "Factor on the channels of the experts.",
        high=8,
        decides=f"by the corpus: {EXPERT_WIDTH[True]:g} from {LARGE_CORPUS} clips on, or {EXPERT_WIDTH[False]:g}",
    )
    steps: int = setting(
        0,
        "Number of training steps of each expert, rounded up to whole epochs.",
        high=1_000_000,
        decides=f"by the corpus: {EXPERT_STEPS[True]} from {LARGE_CORPUS} clips on, or {EXPERT_STEPS[False]}",
    )
    temperature: float = setting(2.0, "Softmax temperature of the soft labels.", low=0.1, high=100)


@dataclass(frozen=True)
class Mtt(Group):
    """Trajectory matching, and the experts whose trajectories it matches."""

    prefix: ClassVar[str] = "mtt."

    iterations: int = setting(100, "Number of updates of the items.", low=1, high=1_000_000)
    item_rate: float = setting(
        0.02, "Learning rate of the items, in standard deviations of the corpus.", low=1e-6, high=10
    )
    trajectories: int = setting(2, "Number of experts whose trajectories are matched.", low=1, high=64)
    trajectory_rate: float = setting(
        0.02, "Learning rate of the matched experts, the same in every step.", low=1e-6, high=10
    )
    trajectory_momentum: float = setting(
        0.9, "Momentum of the SGD that trains the matched experts.", choices=(0.0, 0.9)
    )
    sam: float = setting(
        0.0, "Radius of sharpness-aware minimisation (SAM) for the matched experts; 0 is off.", high=10
    )
    expert_span: int = setting(
        4, "Distance from the start of a match to its target, P, in epochs of the experts.", low=1, high=1000
    )
    student_steps: int = setting(10, "Number of training steps of the student in one match, Q.", low=1, high=1000)
    student_batch: int = setting(
        64, "Largest number of items in one step of a match, drawn anew for each step.", low=2, high=100_000
    )
    step_size: float = setting(
        0.0,
        "Learning rate of the student in a match at the beginning; it is learnt from then on.",
        high=10,
        decides="by a few tries",
    )
    label_rate: float = setting(0.0, "Learning rate of the logits of the items' labels; 0 keeps hard labels.", high=10)
    min_start_epoch: int = setting(0, "Earliest epoch of the experts at which a match starts.", high=10_000)
    first_max_start_epoch: int = setting(
        4, "Latest epoch at which a match starts in the first iteration; it grows evenly until the last.", high=10_000
    )
    max_start_epoch: int = setting(
        20, "Latest epoch at which a match starts in the last iteration, for one item per class.", high=10_000
    )
    start_epoch_growth: float = setting(
        2.0, "Growth of max_start_epoch with each doubling of the items per class, in epochs.", high=1000
    )
    loss_threshold: float = setting(
        1.0, "Loss of a match above which it does not update the items.", low=1e-3, high=1e6
    )
    ema_decay: float = setting(
        0.0, "Decay of the exponential moving average of the items that is shipped; 0 ships the items.", high=0.9999
    )
    memory: str = setting(
        "fast",
        "Gradient through the steps of a match: fast, or lean with the memory of a single step.",
        choices=("fast", "lean"),
    )


@dataclass(frozen=True)
class Gan(Group):
    """The generator, its codebook, and the critics that it plays against."""

    prefix: ClassVar[str] = "gan."

    iterations: int = setting(400, "Number of updates of the generator.", low=1, high=1_000_000)
    codebook: int = setting(
        0,
        "Size of the codebook of each class, and of the random vector that mixes its entries.",
        high=1024,
        decides="by the classes: 32, or fewer so that all fit in 800,000 numbers",
    )
    pretraining: float = setting(
        0.75, "Share of the iterations in which the generator learns its codebook alone.", high=1
    )
    generator_rate: float = setting(
        3e-3, "Learning rate of the generator; a tenth of it while the critics play.", low=1e-6, high=10
    )
    critic_rate: float = setting(1e-3, "Learning rate of the critics.", low=1e-6, high=10)
    critic_steps: int = setting(2, "Number of steps of a critic before one of the generator.", low=1, high=100)
    penalty_weight: float = setting(10.0, "Weight of the gradient penalty of the critics, L_GP.", high=1000)
    adversarial_weight: float = setting(0.02, "Weight of the scores of the critics; 0 trains no critic.", high=1000)
    feature_weight: float = setting(1.0, "Weight of the matching of features, L_FM.", high=1000)
    probability_weight: float = setting(0.3, "Weight of the matching of class probabilities, L_SML.", high=1000)
    diversity_weight: float = setting(0.3, "Weight of the lack of diversity, L_DIV.", high=1000)
    ratio: str = setting(
        "balanced",
        "Frequency of the classes: balanced, or original as in the training clips.",
        choices=("balanced", "original"),
    )
    ship: str = setting(
        "items",
        "Content of the kit: the items, or the generator, from which the device draws items.",
        choices=("items", "generator"),
    )


@dataclass(frozen=True)
class Invert(Group):
    """Inversion of the experts."""

    prefix: ClassVar[str] = "invert."

    iterations: int = setting(
        0,
        "Number of updates of the items.",
        high=1_000_000,
        decides=f"by the start: {ITERATIONS_FROM['noise']} from noise, or {ITERATIONS}",
    )
    item_rate: float = setting(
        0.05, "Learning rate of the items, in standard deviations of the corpus.", low=1e-6, high=10
    )
    statistics_weight: float = setting(
        0.3, "Weight of the batch-norm statistics loss beside the class loss.", high=1000
    )


@dataclass(frozen=True)
class Match(Group):
    """Distribution matching, with differential privacy on request."""

    prefix: ClassVar[str] = "match."

    iterations: int = setting(200, "Number of updates of the items.", low=1, high=1_000_000)
    item_rate: float = setting(
        0.05, "Learning rate of the items, in standard deviations of the corpus.", low=1e-6, high=10
    )
    label_weight: float = setting(
        0.1, "Weight of the experts' cross-entropy beside the matching of features.", high=1000
    )
    dp: float = setting(
        0.0, "Epsilon of differential privacy, by noise on the class statistics; 0 adds no noise.", high=1000
    )


@dataclass(frozen=True)
class Unroll(Group):
    """Learning through the student's own training."""

    prefix: ClassVar[str] = "unroll."

    iterations: int = setting(100, "Number of updates of the items.", low=1, high=1_000_000)
    item_rate: float = setting(
        0.005, "Learning rate of the items, in standard deviations of the corpus.", low=1e-6, high=10
    )
    window: int = setting(
        25, "Number of training steps of the student through which one iteration differentiates.", low=1, high=10_000
    )
    memory: str = setting(
        "fast",
        "Gradient through these steps: fast, or lean with the memory of a single step.",
        choices=("fast", "lean"),
    )


@dataclass(frozen=True)
class Settings(Group):
    """Everything that decides what a run computes; enough to repeat it.

    Raises:
        SettingsError: Values that are impossible, or that contradict each other.
    """

    corpus: str = setting(
        "", "Name of the corpus; edgeser data list shows them.", flag="--corpus", panel=INPUT, decides="none: give one"
    )
    folder: str = setting("", "Folder of the recordings; the demo corpus needs none.", panel=INPUT, decides="none")
    split: str = setting(
        "",
        "Division into training, dev and test speakers: quick, official, fold:K or seed:N.",
        flag="--split",
        panel=INPUT,
        decides="by the corpus",
    )
    method: str = setting(
        "invert",
        f"Method that makes the items: {', '.join(METHODS)}.",
        choices=tuple(METHODS),
        flag="--method",
        panel=SET,
    )
    ipc: int = setting(
        0, "Number of items per class.", high=10_000, flag="--ipc", panel=SET, decides="none: give it or --share"
    )
    share: float = setting(
        0.0,
        "Number of items as a share of the training clips.",
        high=1,
        flag="--share",
        panel=SET,
        decides="none: give it or --ipc",
    )
    start: str = setting(
        "",
        "Items at the beginning: real clips, a mix of three voices, aligned pairs, or noise.",
        choices=("real", "mix", "aligned", "noise"),
        flag="--from",
        panel=SET,
        decides=f"by the budget: {START[True]} below a share of {SMALL_SHARE}, or {START[False]}",
    )
    labels: str = setting(
        "bank",
        "Labels of the views: hard, soft (one an item), or a bank (one a view).",
        choices=("hard", "soft", "bank"),
        flag="--labels",
        panel=SET,
    )
    views: int = setting(
        0,
        "Number of views of each item.",
        high=4096,
        flag="--views",
        panel=SET,
        decides=f"by the budget: {FEWEST_VIEWS} to {MOST_VIEWS}",
    )
    arch: str = setting(
        "edgenet", "Architecture of the student: edgenet, cnn6, resnet9 or vgg15.", flag="--arch", panel=STUDENT
    )
    width: float = setting(
        1.0, "Factor on the channels of the student.", low=0.01, high=8, flag="--width", panel=STUDENT
    )
    steps: int = setting(
        0,
        "Number of training steps of the student.",
        high=1_000_000,
        flag="--steps",
        panel=STUDENT,
        decides=f"by the method: {STEPS_OF['unroll']} for unroll, or {STEPS}",
    )
    seed: int = setting(
        0, "Seed of initialisation, selection and distillation.", high=2**31 - 1, flag="--seed", panel=STUDENT
    )
    samples_per_item: int = setting(
        0,
        "Number of log-mels that share the bytes of one item, each with fewer bits, bands and frames.",
        choices=(1, 2, 4, 8),
        panel=OTHER,
        decides=f"by the budget: {SAMPLES[True]} below a share of {SMALL_SHARE}, or {SAMPLES[False]}",
    )
    batch: int = setting(32, "Number of clips or views in one training step.", low=2, high=1024, panel=OTHER)
    peak_rate: float = setting(1e-2, "Largest learning rate of the student.", low=1e-6, high=10, panel=OTHER)
    weight_decay: float = setting(0.1, "Weight decay of the student.", high=1, panel=OTHER)
    init_epoch: int = setting(
        0,
        "Epoch of the first trajectory that is the student's fixed initialisation; 0 is the untrained start.",
        high=10_000,
        panel=OTHER,
    )
    check_every: int = setting(
        0,
        "Distance from one check on the dev speakers to the next, in iterations; 0 never checks.",
        high=1_000_000,
        panel=OTHER,
    )
    patience: int = setting(
        3, "Number of checks without a better UAR after which the method stops.", low=1, high=1000, panel=OTHER
    )
    experts: Experts = Experts()
    mtt: Mtt = Mtt()
    gan: Gan = Gan()
    invert: Invert = Invert()
    match: Match = Match()
    unroll: Unroll = Unroll()

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.ipc) == bool(self.share):
            raise SettingsError(
                "--ipc and --share are both given" if self.ipc else "no budget is given",
                "give one of them: --ipc 6 (items per class) or --share 0.056 (of the training items)",
            )

    @property
    def own(self) -> Group | None:
        """The settings of the chosen method; None for one that has none."""
        own = getattr(self, self.method, None)
        return own if isinstance(own, Group) else None

    @property
    def iterations(self) -> int:
        """Updates that the chosen method makes; 0 for one that chooses real items."""
        return int(getattr(self.own, "iterations", 0))


SETTINGS: Mapping[str, Setting] = MappingProxyType({each.key: each for each in settings_in(Settings)})
"""All settings by their keys, in the order in which they are shown."""
