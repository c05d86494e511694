"""The record of the last measurements."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "results.json"


def keep(results: dict[str, Any]) -> None:
    """Print results, and write them into the record in the place of those of the same name."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    unfinished = RECORD.with_name(f".{RECORD.name}.tmp")
    unfinished.write_text(_in_lines(known | results) + "\n", encoding="utf-8")
    os.replace(unfinished, RECORD)
    print(_in_lines(results))


def _in_lines(results: dict[str, Any]) -> str:
    """JSON with a line for each measurement, as they are many and have many parts."""
    written = partial(json.dumps, ensure_ascii=False)
    parts = []
    for name, found in results.items():
        lines = (f"  {written(key)}: {written(value)}" for key, value in found.items())
        parts.append(f" {written(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}"
