"""The README promises what the last attack found."""

import json

from tests.attack.__main__ import ATTACKS, README, RECORD, in_readme


def test_the_readme_has_the_promises_as_the_record_has_them():
    record, text = json.loads(RECORD.read_text(encoding="utf-8")), README.read_text(encoding="utf-8")
    assert record.keys() == ATTACKS.keys()
    assert in_readme(text, record) == text, "make it anew: make attack"
    record["inputs"]["figures"]["inputs"] += 1
    assert in_readme(text, record) != text
