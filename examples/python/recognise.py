"""The emotion of recordings, one JSON object a line: python recognise.py MODEL CLIP..."""

import json
import sys

from edgeser_device import EdgeserError, open_model

model, code = open_model(sys.argv[1]), 0
for path in sys.argv[2:]:
    try:
        print(json.dumps(model.predict(path).to_json()))
    except EdgeserError as error:
        print(f"{path}: {error.message}; {error.hint}", file=sys.stderr)
        code = 2
sys.exit(code)
