"""The model card of a kit: on what data, how good, for what, and for what not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edgeser.evaluation.intervals import FEWEST, around, with_deviation
from edgeser.privacy.audit_summary import digest_lines
from edgeser_device.encoder import EncoderCard
from edgeser_device.machine import machine_words

SYNTHETIC = "synthetic"
"""The kind of a corpus in which nobody speaks."""
CHOSEN = ("random", "herding", "kcenter")
"""Methods whose items are clips as they are."""
BEGAN_AS: Mapping[str, str] = MappingProxyType(
    {
        "real": "began as log-mels of recordings of the corpus and were then changed",
        "mix": "began as sums of the powers of several recordings and were then changed",
        "aligned": "began as sums of the powers of two recordings that were alike and were then changed",
        "noise": "began as noise with the mean spectrum of their class and were then changed",
        "centroids": "began as means of clusters of recordings of their class and were then changed",
    }
)
"""The origin of the items of the other methods, by their start."""
HEARD = ("real", "aligned")
"""Starts that are one voice, or two that are alike: an item may say what a recording said."""
AUDIBLE = (*CHOSEN, "gan")
"""Methods that read no start and whose items may say what a recording said."""
MADE_BY: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(CHOSEN, "are log-mels of recordings of the corpus"),
        "gan": "were drawn from a generator that learnt sums of a few recordings",
        "centroids": "are means of clusters of recordings of their class",
        "gaussian": "were drawn from a Gaussian that was fitted to the recordings of their class",
    }
)
"""The origin of items of a method without starts: recordings, or sums that may say what one of them said."""
FROM_RECORDINGS = (
    " From a log-mel, speech can roughly be made audible again:"
    " pass this kit on only as the licence lets you pass on the recordings."
)
FROM_GENERATOR = (
    " From what it draws, speech can roughly be made audible; it was not compared with recordings, and experts can be"
    " asked which recordings they learnt:"
    " pass this kit on only as the licence lets you pass on the recordings."
)

USES = """\
## Intended uses
Research and teaching, prototypes on a small board, and tools that people run for themselves with their own voice.
The output is a guess about how speech sounds to listeners, not about what somebody feels.

## Prohibited and unsuitable uses
- In the European Union, systems that infer emotions of people at work or in education from their voice are
  prohibited, except for medical or safety reasons (Regulation (EU) 2024/1689, Article 5(1)(f)). Elsewhere emotion
  recognition must be announced to the people concerned (Article 50(3)), and most of it counts as high risk.
- Decisions about people: hiring, insurance, credit, policing, border control, diagnosis.
- Listening to people who have not agreed to it.

## Limits
Accuracy falls with speakers, languages, microphones and rooms that the corpus does not have. Acted emotion is easier
than real emotion. Measure on recordings of your own before relying on anything: `--test DIR --corpus folder`.
"""


BY_AUDIT = (
    "which recordings the items were made of (membership): edgeser audit",
    "how near single items are to single recordings: edgeser audit",
)
"""Questions that ``edgeser audit`` answers of a run before it is packed."""
OF_A_GENERATOR = (
    "which recordings the generator and its label experts were made of (membership)",
    "how near what the generator draws is to single recordings",
)
"""Questions that nothing answers of a kit that draws its items."""
NOT_AUDITED = (
    "what storing the items as bytes costs",
    "whether the student does better for women than for men, or for one accent than for another",
    "the board itself: figures here are of the machine that is named",
)
"""Questions that no program of this version answers."""


def write_card(
    manifest: Mapping[str, Any],
    payload_bytes: int | None = None,
    generator: Mapping[str, int] | None = None,
    encoder: EncoderCard | None = None,
) -> str:
    """The card in Markdown.

    Args:
        manifest: Without its list of members.
        payload_bytes: Packed size of what training needs, to compare with the recordings.
        generator: For a kit that draws its items: ``labellers``, ``points`` a class where nothing else is asked for,
            and ``bytes`` of generator and label experts.
        encoder: The encoder that the items are vectors of.
    """
    parts = [f"# Speech emotion recogniser: {', '.join(manifest['labels'])}", ""]
    if manifest["provenance"]["corpus"].get("kind") == SYNTHETIC:
        parts += [
            "> **Synthetic voices.** This kit was made of recordings in which a program speaks."
            " It shows that everything works; it says nothing about people.",
            "",
        ]
    made = _generator(manifest, generator) if generator else _items(manifest, encoder)
    data = [*_data(manifest), *made, *_replaced(manifest, payload_bytes), "", *_encoder(encoder)]
    audited = _audited(manifest, OF_A_GENERATOR if generator else BY_AUDIT)
    return "\n".join([*parts, *data, *_student(manifest), *_results(manifest), *audited, USES])


def _data(manifest: Mapping[str, Any]) -> list[str]:
    provenance = manifest["provenance"]
    corpus, split = provenance["corpus"], provenance["split"]
    lines = ["## Data"]
    for each in corpus.get("corpora") or [corpus]:
        lines.append(f"- Corpus: {each.get('title') or each['name']} (`{each['name']}`)")
        licence = str(each.get("licence") or "not stated")
        lines.append(f"- Licence: {licence}" + (f", {each['licence_url']}" if each.get("licence_url") else ""))
        said = {"Please cite": "citation", "Language": "language", "Emotion": "kind"}
        said |= {"Consent": "consent", "Notes": "notes"}
        lines += [f"- {title}: {each[key]}" for title, key in said.items() if each.get(key)]
    speakers = {part: split.get(part, {}).get("speakers", 0) for part in ("train", "dev", "test")}
    if any(speakers.values()):
        counts = ", ".join(f"{count} {part}" for part, count in speakers.items())
        lines.append(f"- Split `{split.get('name', 'unknown')}`, no speaker in two parts: {counts} speakers")
    return lines


def _encoder(card: EncoderCard | None) -> list[str]:
    """The lines about the encoder; none where the items are log-mels."""
    if card is None:
        return []
    return [
        "## Encoder",
        f"- `{card.name}`: {card.title}; from {card.source}",
        f"- Licence: {card.licence}",
        f"- {card.multiply_accumulates:,} multiply-accumulates for a window of {card.frames / 100:g} s,"
        f" {card.size} numbers a window",
        f"- sha256 of its file: `{card.sha256}`",
        "",
    ]


def _items(manifest: Mapping[str, Any], encoder: EncoderCard | None) -> list[str]:
    """The number of items, what they are made of, and what follows where a recording may be heard in them."""
    provenance, budgets = manifest["provenance"], manifest["budgets"]
    share = f", {budgets['share']:.1%} of the training items" if budgets.get("share") is not None else ""
    method, start = provenance["method"], provenance["config"].get("start") or "real"
    heard = method in AUDIBLE if method in MADE_BY else start in HEARD
    unknown = "" if manifest["results"].get("audit") else " How near they are to recordings was not measured."
    made, sounds = origin(method, start), FROM_RECORDINGS if heard else unknown
    if encoder is not None:
        made, sounds = made.replace("log-mels", "an encoder's vectors").replace("the powers of ", ""), unknown
        made = made.replace("learnt sums of a few recordings", "learnt the recordings of each class")
    return [
        f"- Distilled by `{method}` to {budgets['items']} items ({budgets['ipc']} a class{share}),"
        f" {budgets['views']} views, {budgets['distilled_bytes']:,} bytes",
        f"- **The items {made}.**{sounds}",
    ]


def _generator(manifest: Mapping[str, Any], generator: Mapping[str, int]) -> list[str]:
    """Lines on the contents of a kit that draws its items."""
    experts = f"{generator['labellers']} label experts"
    return [
        f"- Distilled by `{manifest['provenance']['method']}` to a generator and {experts},"
        f" {generator['bytes']:,} bytes; a board draws {generator['points']} items a class where nothing else is"
        " asked for",
        "- **The kit holds no items of the run: it holds a generator that learnt sums of a few recordings, and"
        f" label experts that were trained directly on the recordings.**{FROM_GENERATOR}",
    ]


def _replaced(manifest: Mapping[str, Any], payload_bytes: int | None) -> list[str]:
    budgets = manifest["budgets"]
    if not payload_bytes or not budgets.get("corpus_bytes"):
        return []
    count = f" ({budgets['train_items']:,} recordings)" if budgets.get("train_items") else ""
    return [
        f"- Stands for {budgets['corpus_bytes'] / 1e6:.1f} MB of training recordings{count} with"
        f" {payload_bytes / 1e6:.2f} MB: 1/{budgets['corpus_bytes'] / payload_bytes:.1f} of them"
    ]


def origin(method: str, start: str) -> str:
    """The origin of a method's items, as the rest of a sentence about them."""
    return MADE_BY[method] if method in MADE_BY else BEGAN_AS[start]


def _student(manifest: Mapping[str, Any]) -> list[str]:
    student = manifest["student"]
    return [
        "## Student",
        f"- `{student['architecture']}` at width {student['width']:g}: {student['parameters']:,} parameters,"
        f" {student['multiply_accumulates']:,} multiply-accumulates a window",
        f"- Packed for {manifest['target']['title']} with edgeser {manifest['edgeser']}",
        "",
    ]


def _results(manifest: Mapping[str, Any]) -> list[str]:
    results = manifest["results"]
    lines = [
        "## Results",
        f"Unweighted average recall (UAR) on the test speakers; chance is {1 / len(manifest['labels']):.2f}.",
    ]
    seeds = results.get("seeds") or []
    baselines = results.get("baselines") or {}
    rows = {name: results.get(name) for name in ("distilled", "full", "full_best")}
    rows |= {name: baselines.get(name) for name in ("random", "random_soft", "random_bank")}
    for name, row in (rows | {"init": results.get("init")}).items():
        if row:
            lines.append(f"- {name.replace('_', ', ')}: {_figure(row, len(seeds))}")
    if len(lines) == 2:
        return [*lines, "- not measured before packing: run `edgeser evaluate`", ""]
    if seeds:
        spread_of = (
            "mean ± standard deviation, and the 95 % interval of the mean"
            if len(seeds) >= FEWEST
            else "too few trainings for a deviation"
        )
        varies = f"; they vary: {results['varies']}" if results.get("varies") else ""
        lines += ["", f"Seeds {', '.join(map(str, seeds))} ({spread_of}){varies}."]
    if results.get("machine"):
        lines.append(f"Measured on {_machine(results['machine'])}.")
    return [*lines, ""]


def _figure(row: Mapping[str, Any], seeds: int) -> str:
    """A mean, and with enough seeds how widely it varies."""
    mean, spread = float(row.get("uar_mean", row.get("uar"))), row.get("uar_std")
    if spread is None or seeds < FEWEST:
        return f"{mean:.3f}"
    found = around(mean, spread / seeds**0.5, seeds - 1)
    return f"{with_deviation(mean, spread)}, {found['low']:.3f} to {found['high']:.3f}"


def _audited(manifest: Mapping[str, Any], unless_audited: tuple[str, ...]) -> list[str]:
    """Lines on what was measured of the kit besides its scores, and on what was not."""
    lines = ["## Audited", "- Speakers: none stands in two parts of the split"]
    found = manifest["results"].get("audit")
    lines += (
        [*_kept(manifest), *_side_by_side(manifest), *(f"- {line}" for line in digest_lines(found))]
        if found
        else _kept(manifest)
    )
    absent = [
        *([] if found and found["shadows"] else unless_audited[: 1 if found else 2]),
        *NOT_AUDITED,
    ]
    return [*lines, "", "Not audited:", *(f"- {what}" for what in absent), ""]


RELEASES: Mapping[str, str] = MappingProxyType(
    {
        "aggregate": "experts, items and labels were made of clips drawn from a Gaussian of each class",
        "dp": "experts, items and labels were made of clips drawn from noisy means of the classes",
    }
)
"""The words of ``--privacy``, by its kind."""


def _kept(manifest: Mapping[str, Any]) -> list[str]:
    """Lines on what was learnt of the recordings, and on what differential privacy covers."""
    provenance = manifest["provenance"]
    asked, promise = str(provenance.get("privacy", "none")), provenance.get("dp")
    words = RELEASES.get(asked.partition(":")[0])
    lines = [f"- Distilled with `--privacy {asked}`: {words}"] if words else []
    if promise:
        lines += [
            f"- Epsilon {promise['epsilon']:g}, delta {promise['delta']:g}; unit: {promise['unit']}",
            f"- Covered: {'; '.join(promise['covered'])}",
            f"- Not covered: {'; '.join(promise['not_covered'])}",
        ]
    return lines


def _side_by_side(manifest: Mapping[str, Any]) -> list[str]:
    """Utility and attack in one line, where both were measured."""
    results = manifest["results"]
    utility, full, area = results.get("distilled"), results.get("full"), results["audit"].get("membership")
    if not utility or "uar_mean" not in utility or not area:
        return []
    of_full = f" (all recordings: {float(full['uar_mean']):.3f})" if full else ""
    return [
        f"- Utility beside attack: UAR {float(utility['uar_mean']):.3f}{of_full}, membership AUC {area['value']:.3f}"
    ]


def _machine(machine: Mapping[str, Any]) -> str:
    packages = machine.get("packages") or {}
    versions = [f"{name} {packages[name]}" for name in ("edgeser", "numpy") if name in packages]
    return ", ".join(part for part in (machine_words(machine), machine.get("system"), *versions) if part)
