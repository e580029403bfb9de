"""The example that walks from a FASTA file to a filled one runs, and fills what is unknown and nothing else."""

import runpy
from pathlib import Path

from maskseq.plugins import format_for

WALK = Path(__file__).resolve().parents[1] / "examples" / "walk.py"


def test_the_walk_fills_every_unknown_base_and_changes_no_known_one(tmp_path: Path) -> None:
    given, filled = runpy.run_path(str(WALK))["main"](tmp_path)
    (before,), (after,) = (list(format_for(file).read(file)) for file in (given, filled))
    assert b"N" in before.residues
    assert b"N" not in after.residues
    assert all(old in (new, ord("N")) for old, new in zip(before.residues, after.residues, strict=True))
    layout = [file.read_bytes().splitlines() for file in (given, filled)]
    assert [len(line) for line in layout[0]] == [len(line) for line in layout[1]]
    assert layout[0][0] == layout[1][0]
