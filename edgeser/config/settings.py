"""Every setting of a run: its default, its bounds or choices, and what it means. Adding one is one field here.

The text below a field is what help, messages and documents say of it. A group of settings that one method reads is
called as the method is. Where a default is left to something that only the corpus tells, it is 0 or empty, ``decides``
says what decides, and :mod:`edgeser.distill.budget` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgeser.config.field import Setting, setting, settings_in
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
        "gaussian": "Vectors drawn from a Gaussian a class: the floor of every generator.",
        "centroids": "Means of clusters of each class's vectors (k-means).",
        "gradmatch": "Vectors that give linear heads the gradients of the clips (linear gradient matching).",
        "kip": "Vectors from which kernel regression tells the clips apart (kernel inducing points).",
    }
)
"""The methods, and one sentence for each."""
LARGE, WIDTHS, EXPERT_STEPS = 400, (1.0, 2.0), (600, 1500)
"""Training clips from which on a corpus is large; width and steps of the experts of a small corpus, and of a large one.
On the dev speakers of EMO-DB (128 training clips) larger experts were worse, on those of RAVDESS (840) better."""
SMALL, STARTS, SAMPLES = 0.04, ("aligned", "mix"), (2, 8)
"""Share of the clips below which a budget is small, chosen on dev speakers; what items start as, and how many log-mels
share one, for a large budget and for a small one, where number counts more than sharpness."""
VIEWS, FEWEST_VIEWS, MOST_VIEWS = 2048, 64, 256
"""Views in all, at least the second number for an item and at most the third for a log-mel."""
STEPS, STEPS_OF = 600, {"unroll": 100}
"""Training steps of the student, and where a method has others."""
ITERATIONS, ITERATIONS_FROM = 40, {"noise": 300}
"""Updates of inversion, and where a start needs others: after 40, noise is still far from anything the experts know."""
VECTORS, JOINED = "features", "corpora"
"""The name of the corpus of a file of vectors, and that of several corpora, whose folder is a file that names them."""
HEADS: Mapping[str, str | int | float] = MappingProxyType(
    {
        "arch": "mlp",
        "experts.arch": "mlp",
        "experts.width": 1.0,
        "experts.steps": 600,
        "samples_per_item": 1,
        "peak_rate": 3e-3,
    }
)
"""Defaults of students and experts that read vectors. Sizes and rate were chosen on the dev speakers of RAVDESS and
EMO-DB, whose vectors an encoder had computed."""
HEADS_OF: Mapping[str, Mapping[str, str | int | float]] = MappingProxyType(
    {
        "mtt": {
            "arch": "dense",
            "start": "centroids",
            "mtt.iterations": 160,
            "mtt.item_rate": 0.05,
            "mtt.label_rate": 0.05,
            "mtt.step_size": 0.08,
            "mtt.loss_threshold": 10.0,
            "mtt.trajectories": 4,
            "mtt.trajectory_rate": 0.2,
            "mtt.trajectory_momentum": 0.0,
            "mtt.trajectory_batch": 1024,
            "mtt.first_max_start_epoch": 12,
            "mtt.max_start_epoch": 12,
            "mtt.start_epoch_growth": 7.0,
        }
    }
)
"""Defaults of a method on vectors, chosen in the same way. The matched experts see all clips in each step: what one
batch of 32 does by chance, no few items can repeat. The normalisation of a batch of so few vectors is left out."""
USUAL: Mapping[str, Mapping[str, str | int | float]] = MappingProxyType(
    {"log-mel": {}, "vectors": {"method": "gan", **HEADS}, "encoder": {"method": "kip", **HEADS}}
)
"""By the name of a representation: settings whose defaults it changes."""
LEAST_EPSILON, MOST_EPSILON = 0.01, 1000.0
"""Bounds of the epsilon of ``--privacy``."""
INPUT, SET, STUDENT = "Input", "Distilled set", "Student"
"""Headings of the settings that have an option of their own."""


@dataclass(frozen=True)
class Experts:
    """The experts: networks that learn from the real data and label what the student sees."""

    count: int = setting(4, 1, 64)
    """Number of experts whose soft labels are averaged."""
    arch: str = setting("edgenet")
    """Architecture of the experts; mlp of vectors where none is given."""
    width: float = setting(0.0, 0, 8, decides=f"by the corpus: {WIDTHS[0]:g}, or {WIDTHS[1]:g} from {LARGE} clips on")
    """Factor on the channels of the experts."""
    steps: int = setting(
        0, 0, 1_000_000, decides=f"by the corpus: {EXPERT_STEPS[0]}, or {EXPERT_STEPS[1]} from {LARGE} clips on"
    )
    """Number of training steps of each expert, rounded up to whole epochs."""
    temperature: float = setting(2.0, 0.1, 100)
    """Softmax temperature of the soft labels."""


@dataclass(frozen=True)
class Mtt:
    """Trajectory matching, and the experts whose trajectories it matches."""

    iterations: int = setting(100, 1, 1_000_000)
    """Number of updates of the items."""
    item_rate: float = setting(0.02, 1e-6, 10)
    """Learning rate of the items, in standard deviations of the corpus."""
    trajectories: int = setting(2, 1, 64)
    """Number of experts whose trajectories are matched."""
    trajectory_rate: float = setting(0.02, 1e-6, 10)
    """Learning rate of the matched experts, the same in every step."""
    trajectory_momentum: float = setting(0.9, choices=(0.0, 0.9))
    """Momentum of the SGD that trains the matched experts."""
    trajectory_batch: int = setting(32, 2, 4096)
    """Number of clips in one step of the matched experts; no more than there are clips."""
    sam: float = setting(0.0, 0, 10)
    """Radius of sharpness-aware minimisation (SAM) for the matched experts; 0 is off."""
    expert_span: int = setting(4, 1, 1000)
    """Distance from the start of a match to its target, P, in epochs of the experts."""
    student_steps: int = setting(10, 1, 1000)
    """Number of training steps of the student in one match, Q."""
    student_batch: int = setting(64, 2, 100_000)
    """Largest number of items in one step of a match, drawn anew for each step."""
    step_size: float = setting(0.0, 0, 10, decides="by a few tries")
    """Learning rate of the student in a match at the beginning; it is learnt from then on."""
    label_rate: float = setting(0.0, 0, 10)
    """Learning rate of the logits of the items' labels; 0 keeps hard labels."""
    min_start_epoch: int = setting(0, 0, 10_000)
    """Earliest epoch of the experts at which a match starts."""
    first_max_start_epoch: int = setting(4, 0, 10_000)
    """Latest epoch at which a match starts in the first iteration; it grows evenly until the last."""
    max_start_epoch: int = setting(20, 0, 10_000)
    """Latest epoch at which a match starts in the last iteration, for one item per class."""
    start_epoch_growth: float = setting(2.0, 0, 1000)
    """Growth of max_start_epoch with each doubling of the items per class, in epochs."""
    loss_threshold: float = setting(1.0, 1e-3, 1e6)
    """Loss of a match above which it does not update the items."""
    ema_decay: float = setting(0.0, 0, 0.9999)
    """Decay of the exponential moving average of the items that is shipped; 0 ships the items."""
    plain_steps: int = setting(0, 0, 1_000_000)
    """Number of plain steps at the learnt step size by which a student trains; 0 trains it on the label bank."""
    memory: str = setting("fast", choices=("fast", "lean"))
    """Gradient through the steps of a match: fast, or lean with the memory of a single step."""


@dataclass(frozen=True)
class Gan:
    """The generator, its codebook, and the critics that it plays against."""

    iterations: int = setting(400, 1, 1_000_000)
    """Number of updates of the generator."""
    codebook: int = setting(0, 0, 1024, decides="by the classes: 32, or fewer so that all fit in 800,000 numbers")
    """Size of the codebook of each class, and of the random vector that mixes its entries."""
    pretraining: float = setting(0.75, 0, 1)
    """Share of the iterations in which the generator learns its codebook alone."""
    generator_rate: float = setting(3e-3, 1e-6, 10)
    """Learning rate of the generator; a tenth of it while the critics play."""
    critic_rate: float = setting(1e-3, 1e-6, 10)
    """Learning rate of the critics."""
    critic_steps: int = setting(2, 1, 100)
    """Number of steps of a critic before one of the generator."""
    penalty_weight: float = setting(10.0, 0, 1000)
    """Weight of the gradient penalty of the critics, L_GP."""
    adversarial_weight: float = setting(0.02, 0, 1000)
    """Weight of the scores of the critics; 0 trains no critic."""
    feature_weight: float = setting(1.0, 0, 1000)
    """Weight of the matching of features, L_FM."""
    probability_weight: float = setting(0.3, 0, 1000)
    """Weight of the matching of class probabilities, L_SML."""
    diversity_weight: float = setting(0.3, 0, 1000)
    """Weight of the lack of diversity, L_DIV."""
    ratio: str = setting("balanced", choices=("balanced", "original"))
    """Frequency of the classes: balanced, or original as in the training clips."""
    ship: str = setting("items", choices=("items", "generator"))
    """Content of the kit: the items, or the generator, from which the device draws items."""


@dataclass(frozen=True)
class Invert:
    """Inversion of the experts."""

    iterations: int = setting(
        0, 0, 1_000_000, decides=f"by the start: {ITERATIONS}, or {ITERATIONS_FROM['noise']} from noise"
    )
    """Number of updates of the items."""
    item_rate: float = setting(0.05, 1e-6, 10)
    """Learning rate of the items, in standard deviations of the corpus."""
    statistics_weight: float = setting(0.3, 0, 1000)
    """Weight of the batch-norm statistics loss beside the class loss."""


@dataclass(frozen=True)
class Match:
    """Distribution matching, with differential privacy on request."""

    iterations: int = setting(200, 1, 1_000_000)
    """Number of updates of the items."""
    item_rate: float = setting(0.05, 1e-6, 10)
    """Learning rate of the items, in standard deviations of the corpus."""
    label_weight: float = setting(0.1, 0, 1000)
    """Weight of the experts' cross-entropy beside the matching of features."""
    dp: float = setting(0.0, 0, 1000)
    """Epsilon of differential privacy, by noise on the class statistics; 0 adds no noise."""


@dataclass(frozen=True)
class Unroll:
    """Learning through the student's own training."""

    iterations: int = setting(100, 1, 1_000_000)
    """Number of updates of the items."""
    item_rate: float = setting(0.005, 1e-6, 10)
    """Learning rate of the items, in standard deviations of the corpus."""
    window: int = setting(25, 1, 10_000)
    """Number of training steps of the student through which one iteration differentiates."""
    memory: str = setting("fast", choices=("fast", "lean"))
    """Gradient through these steps: fast, or lean with the memory of a single step."""


@dataclass(frozen=True)
class Gradmatch:
    """Linear gradient matching."""

    iterations: int = setting(200, 1, 1_000_000)
    """Number of updates of the items, each for another random head."""
    item_rate: float = setting(0.05, 1e-6, 10)
    """Learning rate of the items, in standard deviations of the corpus."""


@dataclass(frozen=True)
class Kip:
    """Kernel inducing points."""

    iterations: int = setting(200, 1, 1_000_000)
    """Number of updates of the items."""
    item_rate: float = setting(0.05, 1e-6, 10)
    """Learning rate of the items, in standard deviations of the corpus."""
    ridge: float = setting(1e-2, 1e-6, 100)
    """Ridge of the regression, as a share of the kernel's mean diagonal."""


@dataclass(frozen=True)
class Release:
    """What ``--privacy`` keeps of the clips."""

    min_clips: int = setting(10, 1, 10_000)
    """Number of clips that each item of --privacy aggregate stands for at least."""
    min_speakers: int = setting(3, 1, 10_000)
    """Number of speakers that each class of --privacy aggregate has at least."""
    norm: float = setting(1.0, 0.01, 100)
    """Largest norm of a clip, as a multiple of the usual one; longer clips are cut to it."""
    rank: int = setting(0, 0, 10_000, decides="48 for aggregate; for dp by the corpus: up to 192")
    """Number of directions in which the means of the classes are kept."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes; enough to repeat it.

    Raises:
        SettingsError: Values that are impossible, or that contradict each other.
    """

    corpus: str = setting("", decides="none: give one", panel=INPUT)
    """Name of the corpus; edgeser data list shows them."""
    folder: str = setting("", decides="none", panel=INPUT, flag="")
    """Folder of the recordings; the demo corpus needs none."""
    leave_out: str = setting("", decides="none", panel=INPUT, flag="--leave-out")
    """Name of one of several corpora that is not learnt."""
    encoder: str = setting("", decides="none: log-mels are learnt", panel=INPUT)
    """Name of a pretrained speech encoder, or its file; edgeser encoder list shows them."""
    split: str = setting("", decides="by the corpus", panel=INPUT)
    """Division into training, dev and test speakers: quick, official, fold:K, emobox:K or seed:N."""
    method: str = setting("invert", choices=tuple(METHODS), panel=SET)
    """Method; edgeser methods lists all. With --encoder it is kip by default."""
    ipc: int = setting(0, 0, 10_000, decides="none: give it or --share", panel=SET)
    """Number of items per class."""
    share: float = setting(0.0, 0, 1, decides="none: give it or --ipc", panel=SET)
    """Number of items as a share of the training clips."""
    start: str = setting(
        "",
        choices=("real", "mix", "aligned", "noise", "centroids"),
        decides=f"by the budget: {STARTS[0]}, or {STARTS[1]} below a share of {SMALL}",
        panel=SET,
        flag="--from",
    )
    """Items at the beginning: real clips, a mix of three voices, aligned pairs, noise, or of vectors centroids."""
    labels: str = setting("bank", choices=("hard", "soft", "bank"), panel=SET)
    """Labels of the views: hard, soft (one an item), or a bank (one a view)."""
    privacy: str = setting("none", panel=SET)
    """What an encoder run hides of single clips: none, aggregate or dp:EPS."""
    views: int = setting(0, 0, 4096, decides=f"by the budget: {FEWEST_VIEWS} to {MOST_VIEWS}", panel=SET)
    """Number of views of each item."""
    arch: str = setting("edgenet", panel=STUDENT)
    """Student: edgenet, cnn6, resnet9 or vgg15; of vectors mlp, dense or linear."""
    width: float = setting(1.0, 0.01, 8, panel=STUDENT)
    """Factor on the channels of the student."""
    steps: int = setting(
        0, 0, 1_000_000, decides=f"by the method: {STEPS}, or {STEPS_OF['unroll']} for unroll", panel=STUDENT
    )
    """Number of training steps of the student."""
    seed: int = setting(0, 0, 2**31 - 1, panel=STUDENT)
    """Seed of initialisation, selection and distillation."""
    samples_per_item: int = setting(
        0, choices=(1, 2, 4, 8), decides=f"by the budget: {SAMPLES[0]}, or {SAMPLES[1]} below a share of {SMALL}"
    )
    """Number of log-mels that share the bytes of one item, each with fewer bits, bands and frames; 1 of vectors."""
    batch: int = setting(32, 2, 1024)
    """Number of clips or views in one training step."""
    peak_rate: float = setting(1e-2, 1e-6, 10)
    """Largest learning rate of the student; 0.003 of vectors where none is given."""
    weight_decay: float = setting(0.1, 0, 1)
    """Weight decay of the student."""
    init_epoch: int = setting(0, 0, 10_000)
    """Epoch of the first trajectory that is the student's fixed initialisation; 0 is the untrained start."""
    check_every: int = setting(0, 0, 1_000_000)
    """Distance from one check on the dev speakers to the next, in iterations; 0 never checks."""
    patience: int = setting(3, 1, 1000)
    """Number of checks without a better UAR after which the method stops."""

    experts: Experts = Experts()
    mtt: Mtt = Mtt()
    gan: Gan = Gan()
    invert: Invert = Invert()
    match: Match = Match()
    unroll: Unroll = Unroll()
    gradmatch: Gradmatch = Gradmatch()
    kip: Kip = Kip()
    release: Release = Release()

    def __post_init__(self) -> None:
        for key, each in SETTINGS.items():
            each.check(value_of(self, key))
        if self.privacy not in ("none", "aggregate") and not self.epsilon:
            raise SettingsError(f"--privacy is {self.privacy!r}", "give none, aggregate, or dp:EPS, such as dp:8")
        if self.encoder and self.corpus == VECTORS:
            raise SettingsError("--features and --encoder are both given", "leave one out: an encoder hears recordings")
        if self.leave_out and self.corpus != JOINED:
            raise SettingsError("--leave-out has no effect without --corpora", "leave it out, or give --corpora FILE")
        if bool(self.ipc) == bool(self.share):
            raise SettingsError(
                "--ipc and --share are both given" if self.ipc else "no budget is given",
                "give one of them: --ipc 6 (items per class) or --share 0.056 (of the training items)",
            )

    @property
    def epsilon(self) -> float:
        """Epsilon of ``--privacy dp:EPS``; 0 where it is none."""
        kind, _, text = self.privacy.partition(":")
        try:
            found = float(text) if kind == "dp" else 0.0
        except ValueError:
            return 0.0
        return found if LEAST_EPSILON <= found <= MOST_EPSILON else 0.0

    @property
    def iterations(self) -> int:
        """Updates that the chosen method makes; 0 for one that chooses real items."""
        return int(getattr(getattr(self, self.method, None), "iterations", 0))


def representation_name(corpus: str, encoder: str) -> str:
    """The name of the representation in which a corpus is distilled."""
    return "vectors" if corpus == VECTORS else "encoder" if encoder else "log-mel"


def value_of(settings: Settings, key: str) -> Any:
    """The value of a setting."""
    group, _, name = key.rpartition(".")
    return getattr(getattr(settings, group) if group else settings, name)


SETTINGS: Mapping[str, Setting] = MappingProxyType({each.key: each for each in settings_in(Settings)})
"""All settings by their keys, in the order in which they are shown."""
