"""The flags of ``edgeser distill``, one for each setting, and some that verbs share.

A setting that is not given leaves the default or the file as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Folder: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="Where the recordings are; not needed for the demo corpus.")
]
Moved: TypeAlias = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Where the corpus is now, if it was moved.")
]
Picture: TypeAlias = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Draw what is measured, as SVG, PNG or PDF.")
]
Corpus: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the corpus format; see edgeser data list.")
]
Features: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Vectors of utterances, .npz or .safetensors with features, labels and speakers, instead of a corpus.",
    ),
]
Method: TypeAlias = Annotated[
    str | None,
    typer.Option(help="invert (default), match, mtt, unroll, gan, random, herding, kcenter."),
]
Arch: TypeAlias = Annotated[str | None, typer.Option(help="Student: edgenet, cnn6, resnet9 or vgg15.")]
Ipc: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Items per class.")]
Share: TypeAlias = Annotated[
    float | None, typer.Option(help="Items as a share of the training items, instead of --ipc.")
]
Formations: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Log-mels in one item: 1, 2, 4 or 8, each with fewer bits, bands and frames; 0 decides by the budget."
    ),
]
Split: TypeAlias = Annotated[str | None, typer.Option(help="quick, official, fold:K or seed:N.")]
Width: TypeAlias = Annotated[float | None, typer.Option(help="Factor on the student's channels.")]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Of initialisation, selection and distillation.")]
StartFrom: TypeAlias = Annotated[
    str | None,
    typer.Option("--from", metavar="START", help="What items begin as: real, mix, duet or noise; the budget decides."),
]
InitEpoch: TypeAlias = Annotated[int | None, typer.Option(help="Epoch of the first trajectory that is the fixed init.")]
Labels: TypeAlias = Annotated[str | None, typer.Option(help="hard, soft or bank.")]
Views: TypeAlias = Annotated[int | None, typer.Option(help="Views for each item; 0 decides by the budget.")]
Experts: TypeAlias = Annotated[int | None, typer.Option(help="Experts that label.")]
ExpertSteps: TypeAlias = Annotated[
    int | None, typer.Option(help="Training steps of each of them; 0 decides by the size of the corpus.")
]
LabelArch: TypeAlias = Annotated[str | None, typer.Option(help="Architecture of the experts that label.")]
LabelWidth: TypeAlias = Annotated[
    float | None, typer.Option(help="Factor on the channels of these experts; 0 decides by the size of the corpus.")
]
Temperature: TypeAlias = Annotated[float | None, typer.Option(help="Of the experts' labels.")]
Steps: TypeAlias = Annotated[int | None, typer.Option(help="Training steps of the student.")]
Iterations: TypeAlias = Annotated[int | None, typer.Option(help="Updates of the items; 0 is the method's own number.")]
CheckEvery: TypeAlias = Annotated[
    int | None, typer.Option(help="Iterations from one check on dev speakers to the next; 0 never checks.")
]
Patience: TypeAlias = Annotated[
    int | None, typer.Option(help="Checks without a better UAR after which the method stops.")
]
Trajectories: TypeAlias = Annotated[int | None, typer.Option(help="Experts whose trajectories are matched (mtt).")]
ExpertSpan: TypeAlias = Annotated[
    int | None, typer.Option(help="Epochs from one matched snapshot to the next, P (mtt).")
]
StartWindow: TypeAlias = Annotated[
    int | None, typer.Option(help="Latest epoch at which a match starts, at one item a class (mtt).")
]
StudentSteps: TypeAlias = Annotated[int | None, typer.Option(help="Steps of the student in one match, Q (mtt).")]
StepSize: TypeAlias = Annotated[
    float | None, typer.Option(help="Initial step size of the student, then learnt; 0 tries some (mtt).")
]
StudentBatch: TypeAlias = Annotated[
    int | None, typer.Option(help="Items in one of these steps at most, drawn anew in each (mtt).")
]
TrajectoryRate: TypeAlias = Annotated[
    float | None, typer.Option(help="Constant learning rate of the matched experts (mtt).")
]
TrajectoryMomentum: TypeAlias = Annotated[float | None, typer.Option(help="Of these experts' SGD, 0 or 0.9 (mtt).")]
Flatness: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="RHO", help="Distance at which these experts' gradients are taken; 0 is off (mtt)."),
]
EarliestStart: TypeAlias = Annotated[int | None, typer.Option(help="Earliest epoch at which a match starts (mtt).")]
FirstWindow: TypeAlias = Annotated[
    int | None, typer.Option(help="Latest such epoch in the first iteration; it grows evenly (mtt).")
]
WindowGrowth: TypeAlias = Annotated[
    float | None, typer.Option(help="Epochs added to --start-window by each doubling of the items per class (mtt).")
]
LabelRate: TypeAlias = Annotated[
    float | None, typer.Option(help="Learning rate of the labels in a match; 0 keeps hard labels (mtt).")
]
Gate: TypeAlias = Annotated[float | None, typer.Option(help="Loss above which an update is skipped (mtt).")]
ItemAverage: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="DECAY", help="Of a moving average of the items, which is shipped; 0 is off (mtt)."),
]
Memory: TypeAlias = Annotated[
    str | None, typer.Option(help="Way through a match: fast, or lean in the memory of one step (mtt).")
]
Batch: TypeAlias = Annotated[int | None, typer.Option(help="Views in one training step.")]
PeakRate: TypeAlias = Annotated[float | None, typer.Option(help="Largest learning rate of the student.")]
WeightDecay: TypeAlias = Annotated[float | None, typer.Option(help="Weight decay of the student.")]
ItemRate: TypeAlias = Annotated[float | None, typer.Option(help="Learning rate of the items; 0 is the method's own.")]
StatisticsWeight: TypeAlias = Annotated[
    float | None, typer.Option(help="Weight of the experts' batch statistics (invert).")
]
LabelWeight: TypeAlias = Annotated[float | None, typer.Option(help="Weight of the experts' cross-entropy (match).")]
UnrollWindow: TypeAlias = Annotated[
    int | None, typer.Option(help="Steps of the student through which one iteration differentiates (unroll).")
]
Latent: TypeAlias = Annotated[
    int | None, typer.Option(help="Random numbers for one generated item, and bases of a class; 0 decides (gan).")
]
Pretraining: TypeAlias = Annotated[
    float | None, typer.Option(help="Share of the iterations in which the generator learns its bases alone (gan).")
]
GeneratorRate: TypeAlias = Annotated[float | None, typer.Option(help="Learning rate of the generator (gan).")]
CriticRate: TypeAlias = Annotated[float | None, typer.Option(help="Learning rate of the critics (gan).")]
CriticSteps: TypeAlias = Annotated[
    int | None, typer.Option(help="Steps of a critic before one of the generator (gan).")
]
PenaltyWeight: TypeAlias = Annotated[float | None, typer.Option(help="Weight of the gradient penalty (gan).")]
AdversarialWeight: TypeAlias = Annotated[
    float | None, typer.Option(help="Weight of the critics' scores; 0 has no critic (gan).")
]
FeatureWeight: TypeAlias = Annotated[float | None, typer.Option(help="Weight of the matching of features (gan).")]
ProbabilityWeight: TypeAlias = Annotated[
    float | None, typer.Option(help="Weight of the matching of probabilities, L_SML (gan).")
]
DiversityWeight: TypeAlias = Annotated[float | None, typer.Option(help="Weight of the lack of diversity, L_DIV (gan).")]
Ratio: TypeAlias = Annotated[
    str | None, typer.Option(help="balanced, or original: classes as frequent as in the training clips (gan).")
]
Ship: TypeAlias = Annotated[
    str | None, typer.Option(help="items, or generator: the kit draws its items on the device (gan).")
]
Dp: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="EPS", help="Epsilon of the noise on the class statistics; 0 has none (match)."),
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file with settings; flags come before it.")
]
Out: TypeAlias = Annotated[Path, typer.Option("--out", metavar="RUN", help="The run: the folder to write.")]
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, and print about how long it will take and how much memory.")
]
Backend: TypeAlias = Annotated[str, typer.Option(metavar="NAME", help="Where jobs run: local, or ray for a cluster.")]
Jobs: TypeAlias = Annotated[
    int | None, typer.Option("--jobs", min=1, max=256, help="Processes; all cores when not given.")
]
