#!/usr/bin/env python3
"""Judges two rounds of cargo-mutants: mutants.py FIRST SECOND (each a `mutants.out`; the second round had the survivors of the first).

At least 85 % of the mutants must be caught, and each survivor must be explained in docs/mutants.md, by file and words without the line, which moves. An explanation of
a mutant that does not survive any more is to be removed. Exit code 1 where any of it fails.
"""

import re
import sys
from pathlib import Path

LEAST = 0.85
EXPLANATIONS = Path(__file__).resolve().parent.parent / "docs" / "mutants.md"


def mutants(folder: str, *names: str) -> list[str]:
    """The mutants of some lists, without line and column."""
    lines = [line for name in names for line in (Path(folder) / name).read_text(encoding="utf-8").splitlines()]
    return [re.sub(r"^([^:]+):\d+:\d+: ", r"\1: ", line) for line in lines]


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    first, second = sys.argv[1:]
    caught = mutants(first, "caught.txt", "timeout.txt") + mutants(second, "caught.txt", "timeout.txt")
    missed = mutants(second, "missed.txt")
    explained = re.findall(r"^\| `(src/[^`]+)` \|", EXPLANATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    # In a table a bar is written with a backslash.
    explained = [mutant.replace("\\|", "|") for mutant in explained]
    share = len(caught) / max(1, len(caught) + len(missed))
    print(f"mutants: {len(caught)} caught, {len(missed)} survive: {share:.1%}")
    faults = [f"not explained: {mutant}" for mutant in sorted(set(missed) - set(explained))]
    faults += [f"explained, and caught: {mutant}" for mutant in sorted(set(explained) - set(missed))]
    if share < LEAST:
        faults.append(f"fewer than {LEAST:.0%} are caught")
    for fault in faults:
        print(f"mutants: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
