"""``python -m edgeser`` is the command ``edgeser``. It loads little itself, so that Ctrl-C is answered early."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit; Ctrl-C while its modules are loaded ends it as later."""
    try:
        from edgeser.cli.entry import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
