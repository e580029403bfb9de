"""The blocks of docs/python.md run as they stand, in order; the public names are there, and show themselves briefly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import maskseq
from maskseq import Encoded
from maskseq.contract.brief import in_brief

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_blocks_of_the_page_run_in_order(tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(BLOCKS), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    longest = max(map(len, done.stdout.splitlines()))
    assert longest < 450, "a repr is not short"


def test_public_names_are_what_dir_lists() -> None:
    assert dir(maskseq) == sorted(maskseq.__all__)
    for name in maskseq.__all__:
        assert getattr(maskseq, name) is not None, name
    assert len(set(maskseq.__all__)) == len(maskseq.__all__)


def test_no_public_name_loads_torch_before_it_is_used() -> None:
    code = "import sys, maskseq; dir(maskseq); maskseq.check_tokenizer; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reprs_say_how_large_things_are() -> None:
    encoded = Encoded(np.zeros((5000, 3), np.uint8), weights=np.ones((5000, 3)))
    assert repr(encoded).startswith("Encoded(ids=uint8[5000, 3]")
    assert len(repr(encoded)) < 200
    assert in_brief(tuple(range(1000))) == "tuple of 1,000"
    assert in_brief("x" * 500).endswith("…'")
