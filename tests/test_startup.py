"""What a command loads before its first result: filling a tiny file must cost little more than `import torch`."""

import subprocess
import sys
from pathlib import Path

import pytest
from untrained import untrained

from maskseq_genomics.nucleotide import NucleotideTokenizer

HEAVY = (
    "torch._dynamo",
    "sympy",
    "scipy",
    "sklearn",
    "pandas",
    "polars",
    "pyarrow",
    "zarr",
    "fsspec",
    "yaml",
    "torch.distributed.fsdp",
    "transformers",
    "maskseq_events",
    "maskseq_signals",
    "maskseq_tables",
)
CHILD = f"""
import sys
from maskseq.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr, sep=" ", end="|loaded")
"""


@pytest.mark.parametrize("symmetries", ["--symmetries", "--no-symmetries"])
def test_filling_loads_neither_a_compiler_nor_what_only_training_needs(tmp_path: Path, symmetries: str) -> None:
    """The compiler of torch alone takes a second, and is loaded by marking or calling an operator of one's own."""
    untrained(NucleotideTokenizer(), tmp_path / "run")
    genome = tmp_path / "genome.fa"
    genome.write_bytes(b">x\n" + b"GATTACA" * 5 + b"NNN" + b"CATTAGA" * 5 + b"\n")
    command = [sys.executable, "-c", CHILD, "infill", str(tmp_path / "run"), str(genome), symmetries]
    command += ["--output", str(tmp_path / "filled")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("\n|loaded") or done.stderr.split("\n")[-1] == "|loaded", done.stderr[-500:]
    assert b"N" not in (tmp_path / "filled" / "genome.fa").read_bytes()
