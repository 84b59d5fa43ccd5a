"""``python -m edgeser`` is the command ``edgeser``."""

from __future__ import annotations

from edgeser.cli.entry import main

if __name__ == "__main__":
    main()
