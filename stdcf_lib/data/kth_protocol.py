"""KTH's actions and its official split by subject, for the real clips and for the rendered ones.

Both are those of 00sequences.txt, after Schuldt, Laptev and Caputo, "Recognizing human actions" (ICPR 2004).
"""

ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
"""In the spelling of KTH's file names; an action's place here is its class."""

SPLITS = {
    "train": (11, 12, 13, 14, 15, 16, 17, 18),
    "validation": (19, 20, 21, 23, 24, 25, 1, 4),
    "test": (22, 2, 3, 5, 6, 7, 8, 9, 10),
}
"""The subjects, 1 to 25, of each split."""
