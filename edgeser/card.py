"""The model card of a kit: on what data, how good, for what, and for what not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SYNTHETIC = "synthetic"
"""The kind of a corpus in which nobody speaks."""
CHOSEN = ("random", "herding", "kcenter")
"""Methods whose items are clips as they are."""
BEGAN_AS: Mapping[str, str] = MappingProxyType(
    {
        "real": "began as log-mels of recordings of the corpus and were then changed",
        "mix": "began as sums of the powers of several recordings and were then changed",
        "noise": "began as noise with the mean spectrum of their class and were then changed",
    }
)
"""By start, what the items of the other methods are made of."""
FROM_RECORDINGS = (
    " From a log-mel, speech can roughly be made audible again:"
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


def write_card(manifest: Mapping[str, Any]) -> str:
    """The card in Markdown, from a manifest without its list of members."""
    parts = [f"# Speech emotion recogniser: {', '.join(manifest['labels'])}", ""]
    if manifest["provenance"]["corpus"].get("kind") == SYNTHETIC:
        parts += [
            "> **Synthetic voices.** This kit was made of recordings in which a program speaks."
            " It shows that everything works; it says nothing about people.",
            "",
        ]
    return "\n".join([*parts, *_data(manifest), *_student(manifest), *_results(manifest), USES])


def _data(manifest: Mapping[str, Any]) -> list[str]:
    provenance, budgets = manifest["provenance"], manifest["budgets"]
    corpus, split = provenance["corpus"], provenance["split"]
    lines = ["## Data", f"- Corpus: {corpus.get('title') or corpus['name']} (`{corpus['name']}`)"]
    licence = str(corpus.get("licence") or "not stated")
    lines.append(f"- Licence: {licence}" + (f", {corpus['licence_url']}" if corpus.get("licence_url") else ""))
    for title, key in (("Please cite", "citation"), ("Language", "language"), ("Emotion", "kind")):
        if corpus.get(key):
            lines.append(f"- {title}: {corpus[key]}")
    for title, key in (("Consent", "consent"), ("Notes", "notes")):
        if corpus.get(key):
            lines.append(f"- {title}: {corpus[key]}")
    speakers = {part: split.get(part, {}).get("speakers", 0) for part in ("train", "dev", "test")}
    if any(speakers.values()):
        counts = ", ".join(f"{count} {part}" for part, count in speakers.items())
        lines.append(f"- Split `{split.get('name', 'unknown')}`, no speaker in two parts: {counts} speakers")
    share = f", {budgets['share']:.1%} of the training items" if budgets.get("share") is not None else ""
    lines.append(
        f"- Distilled by `{provenance['method']}` to {budgets['items']} items ({budgets['ipc']} a class{share}),"
        f" {budgets['views']} views, {budgets['distilled_bytes']:,} bytes"
    )
    origin, warning = _origin(provenance)
    lines.append(f"- **The items {origin}.**{warning}")
    return [*lines, ""]


def _origin(provenance: Mapping[str, Any]) -> tuple[str, str]:
    """What the items are made of, and what follows where a recording may be heard in them."""
    if provenance["method"] in CHOSEN:
        return "are log-mels of recordings of the corpus", FROM_RECORDINGS
    start = provenance["config"].get("start_from", "real")
    return BEGAN_AS[start], FROM_RECORDINGS if start == "real" else " How near they are to recordings was not measured."


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
    for name in ("distilled", "full", "full_best", "init"):
        row = results.get(name)
        if row:
            mean, spread = row.get("uar_mean", row.get("uar")), row.get("uar_std")
            shown = f" ± {spread:.3f}" if spread is not None and len(seeds) > 1 else ""
            lines.append(f"- {name.replace('_', ', ')}: {mean:.3f}{shown}")
    if len(lines) == 2:
        return [*lines, "- not measured before packing: run `edgeser evaluate`", ""]
    if seeds:
        spread_of = "mean ± standard deviation" if len(seeds) > 1 else "one training, so no deviation"
        varies = f"; they vary: {results['varies']}" if results.get("varies") else ""
        lines += ["", f"Seeds {', '.join(map(str, seeds))} ({spread_of}){varies}."]
    if results.get("machine"):
        lines.append(f"Measured on {_machine(results['machine'])}.")
    return [*lines, ""]


def _machine(machine: Mapping[str, Any]) -> str:
    packages = machine.get("packages") or {}
    versions = [f"{name} {packages[name]}" for name in ("edgeser", "numpy") if name in packages]
    parts = [machine.get("cpu"), f"{machine['cores']} cores" if machine.get("cores") else None, machine.get("system")]
    return ", ".join(str(part) for part in (*parts, *versions) if part)
