"""Remarks of libraries stay unseen; what the program says is seen."""

from __future__ import annotations

import os
import sys

import pytest

from edgeser_export.utilities.children import silenced


def test_only_what_is_written_in_the_block_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    print("before", file=sys.stderr)
    with silenced():
        os.write(2, b"a remark from C")
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "before\nafter\n"


def test_an_exception_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), silenced():
        raise ValueError("wrong")
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
