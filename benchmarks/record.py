"""The record of the last measurements."""

import json
import os
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "results.json"


def keep(results: dict[str, Any]) -> None:
    """Print results, and write them into the record in the place of those of the same name."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    unfinished = RECORD.with_name(f".{RECORD.name}.tmp")
    unfinished.write_text(json.dumps(known | results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, RECORD)
    print(json.dumps(results, indent=2, ensure_ascii=False))
