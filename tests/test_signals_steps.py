"""A file of another sampling step than that of the training files is reported."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskseq.corpus.unfamiliar import Unfamiliar
from maskseq.tokenizer import Tokenizer
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.differences import DifferenceTokenizer
from maskseq_signals.patches import PatchTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

VALUES = np.sin(np.arange(200) / 3)[:, None]
KINDS: tuple[type[Any], ...] = (QuantizeTokenizer, PatchTokenizer, DifferenceTokenizer)


def recording(**minutes: float) -> Recording:
    times = [(datetime(2024, 3, 30) + i * timedelta(**minutes)).isoformat(" ") for i in range(len(VALUES))]
    return Recording(key="r", channels=VALUES, names=("x",), times=times)


def numbered(step: float) -> Recording:
    return replace(recording(hours=1), times=[f"{i * step:.4f}" for i in range(len(VALUES))])


def warnings(tokenizer: Tokenizer[Any], record: Recording) -> list[str]:
    seen = Unfamiliar(tokenizer)
    seen.add(record, tokenizer.encode(record).ids)
    return seen.warnings()


@pytest.mark.parametrize("kind", KINDS)
def test_another_step_is_reported_with_both(kind: type[Any]) -> None:
    tokenizer = kind.fit([recording(hours=1)], bins=8)
    (text,) = warnings(tokenizer, recording(minutes=10))
    assert "600 s" in text
    assert "3,600 s" in text
    rebuilt = kind.from_state(tokenizer.state())
    assert warnings(rebuilt, recording(minutes=10)) == [text]
    assert "0.5" in warnings(tokenizer, replace(recording(hours=1), times=None, rate=2.0))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_step_or_one_that_nobody_knows_is_not(kind: type[Any]) -> None:
    hourly = kind.fit([recording(hours=1)], bins=8)
    later = recording(hours=1)
    gaps = replace(later, times=["" if i % 7 == 3 else time for i, time in enumerate(later.times or ())])
    for record in (later, gaps, replace(later, times=None), numbered(1), numbered(600)):
        assert warnings(hourly, record) == []
    mixed = kind.fit([recording(hours=1), recording(minutes=10)], bins=8)
    assert warnings(mixed, recording(days=1)) == []


def test_numbers_are_compared_with_numbers() -> None:
    tokenizer = QuantizeTokenizer.fit([numbered(0.004)], bins=8)
    assert warnings(tokenizer, numbered(0.004)) == []
    assert len(warnings(tokenizer, numbered(0.01))) == 1


def test_months_differ_in_length_and_are_one_step(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("month,x\n" + "".join(f"{2000 + i // 12}-{1 + i % 12:02d}-01,{i % 9}\n" for i in range(60)))
    (record,) = SignalCsv().read(path)
    assert warnings(QuantizeTokenizer.fit([record], bins=8), record.cut(1, 3)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_only_remembered_is_no_part_of_the_fingerprint(kind: type[Any]) -> None:
    tokenizer = kind.fit([recording(hours=1)], bins=8)
    assert tokenizer.step is not None
    assert replace(tokenizer, step=None).fingerprint == tokenizer.fingerprint
