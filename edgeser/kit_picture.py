"""The distilled items of a kit as pictures: one log-mel beside the other, a row a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeser.pictures import check_picture, drawing, save
from edgeser_device.kit import Kit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_A_ROW = 12


def save_items(kit: Kit, path: Path) -> None:
    """Draw a kit's items.

    Args:
        kit: A kit that was read.
        path: SVG, PNG or PDF, by its ending.

    Raises:
        SettingsError: Another ending.
        MissingExtra: matplotlib is not installed.
        StorageError: It cannot be written.
    """
    check_picture(path)
    with drawing():
        save(_figure_of(kit), path)


def _figure_of(kit: Kit) -> Figure:
    from matplotlib.figure import Figure

    distilled = kit.distilled
    items, classes, spec = distilled.items(), distilled.item_classes(), distilled.frontend
    rows = [[at for at in range(len(items)) if classes[at] == number] for number in range(len(kit.labels))]
    columns = min(MOST_A_ROW, max(len(row) for row in rows))
    figure = Figure(figsize=(1.5 * columns + 1, 1.15 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    low, high = float(items.min()), float(items.max())
    for number, row in enumerate(rows):
        for column in range(columns):
            axis = axes[number][column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column < len(row):
                axis.imshow(items[row[column]], origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
            else:
                axis.axis("off")
        more = f"\n+ {len(row) - columns}" if len(row) > columns else ""
        axes[number][0].set_ylabel(kit.labels[number] + more, rotation=0, ha="right", va="center")
    seconds = spec.frames * spec.seconds_per_frame
    corpus = kit.manifest["provenance"]["corpus"].get("title")
    edges = f"{spec.fmin:g} to {spec.fmax:g} Hz from bottom to top"
    words = f"{len(distilled)} items"
    if distilled.formations > 1:
        words += f", each with {distilled.formations} log-mels,"
    figure.suptitle(
        f"{words} of {corpus}: {seconds:.1f} s from left to right, {edges}",
        fontsize="small",
    )
    return figure
