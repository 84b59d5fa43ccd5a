"""Differential privacy of items (``match.dp``): the accountant's noise, and what it covers and what not.

    scale = noise_multiplier(8.0)               # 0.6: standard deviation of the noise over the sensitivity
    require_guarantee(settings)                 # refuses what would make it void
    print(guarantee(settings)["not_covered"])

One release of class statistics is covered (the Gaussian mechanism, Dwork and Roth 2014, doi:10.1561/0400000042), and
with it what is computed from it afterwards. The accountant is Google's dp-accounting, by privacy loss distributions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from edgeser.config.settings import Settings
from edgeser.errors import MissingExtra, SettingsError

DELTA = 1e-5
"""Below one over the number of clips of every corpus that is known here."""
STEP = 1e-3
"""Discretisation of the accountant; what it rounds, it rounds to the safe side."""
UNIT = "one clip, replaced by another of its class"


@cache
def noise_multiplier(epsilon: float) -> float:
    """Least standard deviation of the noise, in sensitivities, for (epsilon, ``DELTA``).

    Raises:
        MissingExtra: dp-accounting is not installed.
    """
    try:
        from dp_accounting import GaussianDpEvent, calibrate_dp_mechanism
        from dp_accounting.pld import PLDAccountant
    except ImportError as error:
        raise MissingExtra("dp_accounting", "host") from error
    return float(
        calibrate_dp_mechanism(
            lambda: PLDAccountant(value_discretization_interval=STEP), GaussianDpEvent, epsilon, DELTA
        )
    )


def require_guarantee(settings: Settings) -> None:
    """Check that nothing that is asked for makes the guarantee void.

    Raises:
        SettingsError: Items or an initialisation that are made of clips.
    """
    if not settings.match.dp:
        return
    reasons = {
        f"items that begin as {settings.start} hold clips": (settings.start != "noise", "use --from noise"),
        "init_epoch trains the initialisation on the clips": (settings.init_epoch > 0, "set init_epoch to 0"),
    }
    for reason, (broken, hint) in reasons.items():
        if broken:
            raise SettingsError(f"match.dp {settings.match.dp:g} would promise nothing: {reason}", hint)


def guarantee(settings: Settings) -> dict[str, Any] | None:
    """What a run promises, for run.json and for people; None without ``match.dp``."""
    if not settings.match.dp:
        return None
    hard = settings.labels == "hard"
    covered = ["the items"] + (["the labels of the views, which follow from the items' classes"] if hard else [])
    labels = "the labels of the views: they come from experts that were trained on the clips without noise"
    return {
        "epsilon": settings.match.dp,
        "delta": DELTA,
        "noise_multiplier": round(noise_multiplier(settings.match.dp), 6),
        "unit": UNIT,
        "covered": covered,
        "not_covered": [
            *([] if hard else [labels]),
            "the mean and standard deviation by which log-mels are normalised, and the number of clips of each class",
            "a speaker: with k clips in a class epsilon grows k-fold and more",
            "what was chosen on dev speakers (check_every), whose clips have no noise",
            "the arithmetic: noise is drawn in floating point",
        ],
    }
