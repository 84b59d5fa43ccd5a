"""Versions of packages that are known not to work, each with the reason: the one list that kits and doctor read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

KNOWN_BAD_AARCH64: Mapping[str, str] = MappingProxyType(
    {"onnxruntime==1.21.0": "illegal instruction on a Raspberry Pi 4, microsoft/onnxruntime#23957"}
)
"""As pip requirements; only 64-bit ARM is concerned."""
