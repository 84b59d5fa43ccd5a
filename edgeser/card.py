"""The model card of a kit: on what data, how good, for what, and for what not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SYNTHETIC = "demo"
"""Name of the built-in corpus, whose voices are synthetic."""

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
    corpus = manifest["provenance"]["corpus"]
    parts = [f"# Speech emotion recogniser: {', '.join(manifest['labels'])}", ""]
    if corpus["name"] == SYNTHETIC:
        parts += [
            "> **Synthetic voices.** This kit was made of the demonstration corpus, in which a program speaks."
            " It shows that everything works; it says nothing about people.",
            "",
        ]
    return "\n".join([*parts, *_data(manifest), *_student(manifest), *_results(manifest), USES])


def _data(manifest: Mapping[str, Any]) -> list[str]:
    provenance, budgets = manifest["provenance"], manifest["budgets"]
    corpus, split = provenance["corpus"], provenance["split"]
    speakers = {part: split.get(part, {}).get("speakers", []) for part in ("train", "dev", "test")}
    lines = ["## Data", f"- Corpus: {corpus['title']} (`{corpus['name']}`)", f"- Licence: {corpus['licence']}"]
    if any(speakers.values()):
        counts = ", ".join(f"{len(names)} {part}" for part, names in speakers.items())
        lines.append(f"- Split `{split.get('name', 'unknown')}`, no speaker in two parts: {counts} speakers")
    share = f", {budgets['share']:.1%} of the training items" if budgets.get("share") is not None else ""
    lines.append(
        f"- Distilled by `{provenance['method']}` to {budgets['items']} items ({budgets['ipc']} a class{share}),"
        f" {budgets['views']} views, {budgets['distilled_bytes']:,} bytes"
    )
    return [*lines, ""]


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
    for name in ("distilled", "full", "init"):
        row = results.get(name)
        if row:
            mean, spread = row.get("uar_mean", row.get("uar")), row.get("uar_std")
            lines.append(f"- {name}: {mean:.3f}" + (f" ± {spread:.3f}" if spread is not None else ""))
    if len(lines) == 2:
        lines.append("- not measured before packing: run `edgeser evaluate`")
    return [*lines, ""]
