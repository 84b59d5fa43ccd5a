"""The emotion of recordings, one JSON object a line: python recognise.py MODEL CLIP..."""

import json
import sys
from pathlib import Path

from edgeser_device import EdgeserError, open_model


def main() -> int:
    """Print an answer for each recording; the exit code is 2 where one cannot be read."""
    model, failed = open_model(sys.argv[1]), 0
    for path in map(Path, sys.argv[2:]):
        try:
            answer = model.predict(path)
            print(json.dumps(answer.to_json()))
        except EdgeserError as error:
            print(f"{path}: {error.message}; {error.hint}", file=sys.stderr)
            failed = 2
    return failed


if __name__ == "__main__":
    sys.exit(main())
