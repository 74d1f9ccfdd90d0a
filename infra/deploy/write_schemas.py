"""`make schemas`: generate the JSON Schemas from the models."""

import json
import sys
from typing import Final

from infra.deploy.build import ROOT
from schemas.contracts import json_schemas

FOLDER: Final = ROOT / "schemas" / "json"


def rendered() -> dict[str, str]:
    """Return each schema's file name and text."""
    return {f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in json_schemas().items()}


def main() -> None:
    """Write every schema and delete files that no model generates."""
    FOLDER.mkdir(exist_ok=True)
    texts = rendered()
    for stale in {path.name for path in FOLDER.glob("*.json")} - texts.keys():
        (FOLDER / stale).unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    sys.stdout.write(f"{len(texts)} schemas in {FOLDER.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
