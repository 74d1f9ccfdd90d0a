"""`make schemas`: generate the JSON Schemas from the models."""

import json
import sys
from pathlib import Path
from typing import Final

from infra.deploy.build import ROOT
from schemas.contracts import json_schemas

FOLDER: Final = ROOT / "schemas" / "json"


def rendered() -> dict[str, str]:
    """Return each schema's file name and text."""
    return {f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in json_schemas().items()}


def write(folder: Path) -> int:
    """Write every schema and delete files that no model generates; return the number of schemas."""
    folder.mkdir(exist_ok=True)
    texts = rendered()
    for stale in {path.name for path in folder.glob("*.json")} - texts.keys():
        (folder / stale).unlink()
    for name, text in texts.items():
        (folder / name).write_text(text)
    return len(texts)


if __name__ == "__main__":
    sys.stdout.write(f"{write(FOLDER)} schemas in {FOLDER.relative_to(ROOT)}\n")
