"""The board's verbs: from a kit to a recogniser that listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeser.cli.options import Json, Trust, add_verbs, option, print_json, say, show
from edgeser.errors import SettingsError
from edgeser_device.machine import require_64_bit
from edgeser_export.utilities.words import counted

if TYPE_CHECKING:
    from edgeser.evaluation.model_score import TestPart
    from edgeser_device.kit.kit import Kit
    from edgeser_device.model.model import Model
    from edgeser_device.personal.fine_tune import PersonalReport, PersonalSettings
    from edgeser_device.personal.own_clips import OwnClips


STDIN = Path("-")
"""A recording that is read from standard input."""
FORMAT_NAMES = "onnx or tflite"
RUNTIME_NAMES = "onnxruntime or litert"
PART_NAMES = "full, tail or head"
"""As in the tables of formats, runtimes and cuts, which import numpy: too slow for --help. A test compares them."""

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder that train-on-device wrote.")]
Test = Annotated[Path | None, option("--test", "Measure UAR on this corpus.", "DIR")]
CorpusName = Annotated[str | None, option("--corpus", "Layout of the --test corpus.", "NAME")]
CLIPS = (
    "Train the model further on your own clips, a folder an emotion, with the distilled set as rehearsal; kept only if "
    "it is better on clips left out. A model of this kit at --out is taken as it is."
)
Clips = Annotated[Path | None, option("--clips", CLIPS, "DIR")]
Adapt = Annotated[
    str | None, option("--adapt", f"What learns --clips: {PART_NAMES}.", "NAME", usual="tail, and full with an encoder")
]
FORGET_CLIPS = "First remove the vectors of clips that models with an encoder at --out keep."
ForgetClips = Annotated[bool, option("--forget-clips", FORGET_CLIPS)]
FORGET = (
    "Keep the old model if the one trained on --clips loses more than P of its UAR on the distilled set; if given, "
    "also if an emotion of yours loses more than half of its right clips."
)
MaxForget = Annotated[float | None, option("--max-forget", FORGET, "P", "0.04, four points", min=0, max=1)]
Points = Annotated[
    int | None,
    option("--points", "Items a class to draw from a kit's generator.", "N", "the kit's", min=1, max=10_000),
]
AS_ORIGINAL = "Draw classes as often as the corpus has them, or equally."
AsOriginal = Annotated[bool, option("--as-original/--balanced", AS_ORIGINAL)]
Fresh = Annotated[bool, option("--fresh", "Draw new points in every epoch.")]
INT8 = "In eight bits, calibrated on the distilled set; of an encoder only the weights."
BUDGET_MB = "Exit with 1 unless a file's peak memory keeps it."
WITH_FRONTEND = (
    "The file takes samples of 16 kHz and gives the probabilities of predict; golden cases are written beside it. ONNX."
)
REPORT = "Write the figures and the machine to this JSON file, for others: no names and no paths."
MAX_DROP = (
    "Exit with 1, and write nothing, if the file loses more than P (0.02 is two points) of the model's UAR on --test; "
    "without --test, of its answers on the distilled set."
)


def add_to(app: typer.Typer) -> None:
    """Add the board's verbs to the command line."""
    add_verbs(
        app,
        ("train-on-device", train_on_device, "edgeser train-on-device ravdess.edgeser --out model --resume"),
        ("rollback", rollback, "edgeser rollback model"),
        ("export", export, "edgeser export model --format tflite --int8 --max-drop 0.02 --out files"),
        ("predict", predict, "edgeser predict model clip.wav --json"),
        ("bench", bench, "edgeser bench model --threads 4 --budget-ms 20"),
        ("doctor", doctor, "edgeser doctor"),
    )


def train_on_device(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The file that pack wrote.")],
    out: Annotated[Path, option("--out", "The model folder to write; an older one is kept for rollback.", "MODEL")],
    steps: Annotated[int | None, option("--steps", "Training steps.", "N", "the kit's", min=1, max=10_000_000)] = None,
    threads: Annotated[
        int | None, option("--threads", "Threads.", "N", "all cores, up to the target's", min=1, max=256)
    ] = None,
    memory_mb: Annotated[
        int | None, option("--memory-mb", "Refuse a training that takes more memory.", "MB", min=1)
    ] = None,
    resume: Annotated[bool, option("--resume", "Go on where an interrupted training stopped.")] = False,
    trust: Trust = None,
    clips: Clips = None,
    adapt: Adapt = None,
    max_forget: MaxForget = None,
    forget_clips: ForgetClips = False,
    points: Points = None,
    as_original: AsOriginal = False,
    fresh: Fresh = False,
    test: Test = None,
    corpus: CorpusName = None,
    as_json: Json = False,
) -> None:
    """Train a kit's student on this machine, without torch; with --clips, then on its owner's voice."""
    require_64_bit()
    from edgeser.cli.board_tables import training_lines
    from edgeser_device.data.generated import Drawing
    from edgeser_device.kit.kit import read_kit
    from edgeser_device.kit.signature import trusted_keys
    from edgeser_device.model.model import load_model
    from edgeser_device.train.train import Settings, train
    from edgeser_export.utilities.progress import progress_bar

    require_both(test, corpus)
    opened = read_kit(kit, trusted_keys(trust))
    if forget_clips:
        from edgeser_device.personal.kept_clips import remove_kept

        say(f"removed the clips that {counted(remove_kept(out), 'model')} kept")
    asked = require_personal(opened, out, clips, adapt, max_forget, threads)
    result: dict[str, Any] = {"uar": None, "uar_packed": opened.uar_packed, "model": str(out), "personal": None}
    if asked is None or asked.train_first:
        with progress_bar("training", steps or opened.distilled.schedule.steps) as advance:
            drawing = Drawing(points, as_original, fresh)
            settings = Settings(steps=steps, threads=threads, memory_mb=memory_mb, resume=resume, drawing=drawing)
            result |= train(opened, out, settings, advance).to_json()
    personal = learn_clips(opened, out, asked, result) if asked else None
    written = load_model(out)
    result["identity"] = written.identity
    if test is not None and corpus is not None:
        result |= measure_here(out, test, corpus)
    show(result, lambda: training_lines(result, written.words), as_json)
    if personal is not None:
        personal.require_installed()


def rollback(model: ModelFolder, as_json: Json = False) -> None:
    """Exchange a model with the one before it; a second time undoes the first."""
    from edgeser_device.model.model import rollback as exchange

    found, replaced = exchange(model)
    aside = None if replaced is None else replaced.identity
    known = {"training": found.description["training"], "labels": list(found.labels)}
    put_aside = "nothing that can be read" if replaced is None else replaced.words
    result = {"model": str(model), **known, "now": found.identity, "aside": aside}
    show(result, lambda: f"{model} is now: {found.words}\nput aside: {put_aside}", as_json)


def export(
    model: ModelFolder,
    format_name: Annotated[str, option("--format", f"{FORMAT_NAMES}.", "NAME")],
    int8: Annotated[bool, option("--int8", INT8)] = False,
    with_frontend: Annotated[bool, option("--with-frontend", WITH_FRONTEND)] = False,
    out: Annotated[Path | None, option("--out", "Folder to write to.", "DIR", "MODEL-export beside the model")] = None,
    max_drop: Annotated[float | None, option("--max-drop", MAX_DROP, "P", min=0, max=1)] = None,
    test: Test = None,
    corpus: CorpusName = None,
    as_json: Json = False,
) -> None:
    """Write a model's file for a runtime, compared with its weights before it appears.

    The file of a model with an encoder holds encoder and head: mels of a window in, probabilities out.
    """
    require_64_bit()
    from edgeser_device.model.model import load_model
    from edgeser_device.model.pcm_export import GOLDEN, file_name
    from edgeser_device.model.reexport import Drop, agreement, export_model
    from edgeser_export.writers.formats import format_of

    require_both(test, corpus)
    row = format_of(format_name, "int8" if int8 else "float32")
    opened = load_model(model)
    if opened.encoder is not None and max_drop is not None and test is None:
        raise SettingsError(
            "--max-drop of an encoder's model is measured on recordings only", "give both: --test DIR --corpus NAME"
        )
    folder = out or model.resolve().with_name(f"{model.resolve().name}-export")
    measured: list[Drop] = []

    def gate(data: bytes) -> None:
        if test is not None and corpus is not None:
            from edgeser.evaluation.model_score import uar_drop

            measured.append(uar_drop(opened, data, _test_part(opened, test, corpus)))
        elif opened.encoder is None:
            measured.append(agreement(opened, data))
        for drop in measured:
            drop.require(max_drop)

    report = export_model(opened, row.name, folder, gate, with_frontend)
    file = folder / (file_name(row) if with_frontend else row.file_name)
    drop, size = measured[0] if measured else None, file.stat().st_size
    worst = next(each.max_probability_difference for each in report.rows if each.name == row.name)
    words = f"{file}: {size:,} bytes, probabilities within {worst:.1e} of the model's"
    if drop is not None:
        words += f", {drop.measure} {drop.before:.3f} before and {drop.after:.3f} after"
    known = {"drop": drop and drop.to_json(), "uar": drop.after if drop and drop.measure == "uar" else None}
    golden = {"golden": str(folder / GOLDEN)} if with_frontend else {}
    show({"file": str(file), "bytes": size, **golden, "parity": report.to_json(), **known}, lambda: words, as_json)


def predict(
    model: ModelFolder,
    source: Annotated[
        Path, typer.Argument(metavar="FILE|DIR|-", help="A recording, a folder of recordings, or - for standard input.")
    ],
    as_json: Json = False,
    as_csv: Annotated[bool, option("--csv", "Print one row a recording, or a segment.")] = False,
    segments: Annotated[bool, option("--segments", "Print each utterance of long recordings with its time.")] = False,
) -> None:
    """Name the emotion of recordings."""
    require_64_bit()
    from edgeser.cli.board_tables import print_predictions, show_segments
    from edgeser_device.errors import AudioError
    from edgeser_device.model.model import load_model
    from edgeser_device.model.predict import (
        Prediction,
        Recogniser,
        find_recordings,
        predict_bytes,
        predict_file,
        predict_files,
    )
    from edgeser_export.utilities.progress import note, progress_bar

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    opened = load_model(model)
    note(f"{model}: {opened.words}")
    recogniser = Recogniser.open(opened)
    paths = (source,) if source == STDIN else find_recordings(source)
    if segments and source == STDIN:
        raise typer.BadParameter("give --segments a file or a folder")
    if segments:
        show_segments(recogniser, paths, as_json, as_csv)
        return
    if source == STDIN:
        with open(0, "rb", closefd=False) as stdin:
            rows: list[Any] = [predict_bytes(recogniser, stdin.read(), STDIN)]
    elif not source.is_dir():
        rows = [predict_file(recogniser, source)]
    else:
        rows = []
        with progress_bar("predicting", len(paths)) as advance:
            for done, row in enumerate(predict_files(recogniser, paths), start=1):
                rows.append(row)
                advance(done, paths[done - 1].name)
    found = [row for row in rows if isinstance(row, Prediction)]
    skipped = [row for row in rows if not isinstance(row, Prediction)]
    for row in skipped:
        say(f"skipped: {row.reason}")
    if not found:
        raise AudioError(f"no recording of {source} can be read", "convert them to WAV or FLAC")
    if as_json:
        listed = {"predictions": [row.to_json() for row in found], "skipped": [row.to_json() for row in skipped]}
        print_json({"labels": list(recogniser.labels), **listed})
    else:
        print_predictions(found, recogniser.labels, as_csv)


def bench(
    model: ModelFolder,
    runtime: Annotated[str | None, option("--runtime", f"Runtime: {RUNTIME_NAMES}.", "NAME", "all installed")] = None,
    threads: Annotated[int | None, option("--threads", "Threads.", "N", "1, and all cores", min=1, max=256)] = None,
    repeat: Annotated[int, option("--repeat", "Measured calls.", "N", min=1, max=1_000_000)] = 200,
    budget_ms: Annotated[
        float | None, option("--budget-ms", "Exit with 1 unless a file's p95 keeps it.", "MS", min=0)
    ] = None,
    budget_mb: Annotated[float | None, option("--budget-mb", BUDGET_MB, "MB", min=0)] = None,
    report: Annotated[Path | None, option("--report", REPORT, "FILE")] = None,
    test: Test = None,
    corpus: CorpusName = None,
    as_json: Json = False,
) -> None:
    """Measure latency, memory and size on this machine; with --test also UAR."""
    require_64_bit()
    from edgeser.cli.board_tables import bench_table
    from edgeser_device.bench.bench import check_budget, file_of, run_bench, with_recommendation
    from edgeser_device.machine import available_cores
    from edgeser_device.model.model import load_model
    from edgeser_export.utilities.progress import progress_bar

    require_both(test, corpus)
    opened = load_model(model)
    counts = (threads,) if threads else tuple(sorted({1, available_cores()}))
    with progress_bar("measuring", len(opened.formats) * len(counts)) as advance:
        measured = run_bench(opened, runtime, counts, repeat, advance)
    if test is not None and corpus is not None:
        # Threads change sums by rounding only; another runtime may compute something else, so each is scored.
        files = measured.files()
        scores = dict(zip(files, _tested(model, test, corpus, files), strict=True))
        rows = tuple({**row, **scores[file_of(row)]} for row in measured.results)
        measured = replace(measured, results=rows)
    measured = with_recommendation(measured, opened)
    if report is not None:
        from edgeser_device.bench.sent import write_report

        write_report(measured, opened, report)
    show(measured.to_json(), lambda: bench_table(measured), as_json)
    check_budget(measured, budget_ms, budget_mb)


def doctor(as_json: Json = False) -> None:
    """Check whether this machine is fit; exits with 1 when something required is missing."""
    from edgeser.cli.board_tables import doctor_table
    from edgeser_device.install.doctor import diagnose

    diagnosis = diagnose()
    show(diagnosis.to_json(), lambda: doctor_table(diagnosis), as_json)
    if not diagnosis.ok:
        raise typer.Exit(1)


def require_both(test: Path | None, corpus: str | None) -> None:
    """Check --test and --corpus before anything is trained or measured.

    Raises:
        SettingsError: One is given without the other.
        CorpusError: There is no such corpus, or its folder does not exist.
    """
    if (test is None) != (corpus is None):
        raise SettingsError("--test and --corpus belong together", "give both: --test DIR --corpus NAME")
    if corpus is not None:
        from edgeser.corpora.table import find_corpus

        find_corpus(corpus, test)


def measure_here(model: Path, test: Path, corpus: str) -> dict[str, Any]:
    """{"uar", "test"} of a model as it is used here; kept in its folder, too."""
    from edgeser_device.model.model import record_test

    found = _tested(model, test, corpus, [(None, None)])[0]
    record_test(model, found["test"])
    return found


def _test_part(model: Model, folder: Path, corpus: str) -> TestPart:
    from edgeser.evaluation.model_score import find_test_part

    part = find_test_part(model, folder, corpus)
    if part.warning:
        say(f"note: {part.warning}")
    return part


def _tested(
    model: Path, folder: Path, corpus: str, files: Sequence[tuple[str | None, str | None]]
) -> list[dict[str, Any]]:
    """{"uar", "test"} of each (format, runtime); None is the default one."""
    from edgeser.evaluation.model_score import score_on
    from edgeser_device.model.joined_files import open_content
    from edgeser_device.model.model import load_model
    from edgeser_device.model.predict import Recogniser
    from edgeser_export.utilities.progress import progress_bar

    opened = load_model(model)
    part = _test_part(opened, folder, corpus)
    found = []
    for name, runtime in files:
        with progress_bar("testing", len(part.utterances)) as advance:
            recogniser = Recogniser.open(opened) if name is None else open_content(opened, name, runtime)
            score = score_on(recogniser, part, advance)
        found.append({"uar": round(score.uar, 6), "test": score.to_json()})
    return found


@dataclass(frozen=True)
class Asked:
    """The training that --clips asks for.

    Attributes:
        own: The clips.
        settings: The settings of the training on them.
        train_first: Whether there is no model of this kit yet.
    """

    own: OwnClips
    settings: PersonalSettings
    train_first: bool


def require_personal(
    kit: Kit, out: Path, clips: Path | None, part: str | None, max_forget: float | None, threads: int | None
) -> Asked | None:
    """Read the clips before anything is trained; None without any.

    Raises:
        SettingsError: Flags that mean nothing without --clips.
        ClipsError: The clips do not fit the kit.
        GraphError: There is no such part of a student.
    """
    if clips is None:
        for flag, value in (("--adapt", part), ("--max-forget", max_forget)):
            if value is not None:
                raise SettingsError(f"{flag} belongs to --clips", "give the folder with your clips: --clips DIR")
        return None
    from edgeser_device.machine import available_cores
    from edgeser_device.model.inputs import input_of, install_encoder
    from edgeser_device.model.model import load_model
    from edgeser_device.personal.fine_tune import PersonalSettings, is_of
    from edgeser_device.personal.kept_clips import read_kept
    from edgeser_device.personal.own_clips import NOTHING, read_clips
    from edgeser_device.personal.student_parts import settings_for

    allowed = threads or min(int(kit.manifest["target"]["threads"]), available_cores())
    how = PersonalSettings(settings_for(part, kit.encoder is not None), threads=allowed)
    if max_forget is not None:
        how = replace(how, max_forget=max_forget, keep_emotions=True)
    train_first = not is_of(kit, out)
    kept = NOTHING if train_first else read_kept(load_model(out))
    install_encoder(kit)
    own = read_clips(clips, kit.labels, input_of(kit, allowed), kept)
    for each in own.left_out:
        say(f"left out: {each.reason}")
    if kept:
        say(f"note: {out} keeps the vectors of {counted(len(kept), 'clip')}: they count without being heard again")
    return Asked(own, how, train_first)


def learn_clips(kit: Kit, out: Path, asked: Asked, result: dict[str, Any]) -> PersonalReport:
    """Train on the clips; ``result`` gets what --json prints of it, and of the model where it was not trained now."""
    from edgeser_device.model.model import load_model
    from edgeser_device.personal.fine_tune import fine_tune, number_of_trainings
    from edgeser_export.utilities.progress import progress_bar

    if not asked.train_first:
        say(f"note: {out} is a model of this kit and is trained further")
        result.update(load_model(out).description["training"])
    with progress_bar("your clips", number_of_trainings(asked.own, asked.settings.adapt)) as advance:
        report = fine_tune(kit, out, asked.own, asked.settings, advance)
    for label in report.trial.collapsed:
        right = report.trial.emotions[label]
        say(
            f"warning: of your {right.clips} clips of {label} {right.before} were right before and {right.after} are"
            " after: record more of them, or of what they are taken for"
        )
    left_out = [each.to_json() for each in asked.own.left_out]
    result["personal"] = {"clips": len(asked.own), "left_out": left_out, **report.to_json()}
    return report
