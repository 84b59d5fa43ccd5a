"""Names of files that a kit and the model trained from it both hold."""

from __future__ import annotations

DISTILLED = "distilled.safetensors"
"""What the student is trained on."""
CARD = "card.md"
"""What a person reads about it."""
