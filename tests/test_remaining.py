"""The protocol `remaining`: the time until the end of held-out cases, by samples and by what training cases did."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from test_next import EVENTS, case, cases, corpus, maskseq, opened

from maskseq.comparison.remaining import MEAN, MEDIAN, remaining_time
from maskseq.errors import UsageError
from maskseq.predict.experts.left_only import left_only
from maskseq.trained import TrainedModel
from maskseq.types import Encoded

__all__ = ["corpus", "opened"]  # fixtures
HELD_OUT = [(f"h{i}", EVENTS.encode(case(f"h{i}", "a" + "b" * n + "c", colour))) for i, (n, colour) in
            enumerate([(2, "red"), (4, "blue")] * 10)]  # fmt: skip


def test_a_known_process_is_foreseen_better_than_by_the_mean_of_prefixes() -> None:
    training = [EVENTS.encode(each).ids for each in cases(20)]
    table = left_only(training, EVENTS)["prefix table"]
    found = remaining_time({"table": table}, training, HELD_OUT, EVENTS, context=16, product="table", samples=3)
    assert found.cases == len(HELD_OUT)
    assert found.ended["table"] == 1
    by = found.comparison.by
    assert by["table"] < min(by[MEAN], by[MEDIAN])

    # By hand: after k events of n, n - k minutes are left; half of the cases have 4 events, half 6.
    minute = 60 / 86_400
    left = {k: [n - k for n in (4, 6) if n >= k] for k in range(1, 7)}
    most = max(abs(n - k - np.mean(left[k])) for n in (4, 6) for k in range(1, n + 1)) * minute
    assert by[MEAN] <= most * 1.01
    again = remaining_time({"table": table}, training, HELD_OUT, EVENTS, context=16, product="table", samples=3)
    assert again == found


def test_only_whole_cases_with_all_their_times_are_asked() -> None:
    training = [EVENTS.encode(each).ids for each in cases(4)]
    whole = EVENTS.encode(case("w", "abbc"))
    ids = whole.ids.copy()
    gap = [field.name for field in EVENTS.fields].index(EVENTS.elapsed or "")
    ids[2, gap] = EVENTS.fields[gap].mask_id
    context_only = np.ones(ids.shape)
    context_only[:2] = 0
    records = [("open", Encoded(EVENTS.opened(whole.ids))), ("unknown", Encoded(ids)), ("w", whole)]
    assert remaining_time({}, training, records, EVENTS, context=16).cases == 1
    late = [("w", Encoded(whole.ids, weights=context_only))]  # a prefix ends where it is scored, so never at 1
    found = {remaining_time({}, training, late, EVENTS, context=16, seed=seed).comparison.theirs for seed in range(9)}
    assert max(found) <= 2 * 60 / 86_400 * 1.05
    with pytest.raises(UsageError, match="remaining"):
        remaining_time({}, training, records[:2], EVENTS, context=16)


def test_training_cases_whose_rest_is_not_known_are_no_bar() -> None:
    training = [EVENTS.encode(each).ids for each in cases(8)]
    gap = [field.name for field in EVENTS.fields].index(EVENTS.elapsed or "")
    unknown = EVENTS.encode(case("u", "abbbbbbbc")).ids.copy()
    unknown[3, gap] = EVENTS.fields[gap].mask_id
    others = [EVENTS.opened(EVENTS.encode(case("o", "a" + "b" * n)).ids) for n in range(9)] + [unknown] * 5
    clean, found = (
        remaining_time({}, each, HELD_OUT, EVENTS, context=16).comparison.by for each in (training, training + others)
    )
    assert found == clean
    with pytest.raises(UsageError, match="remaining"):
        remaining_time({}, others, HELD_OUT, EVENTS, context=16)


def test_evaluate_takes_it_beside_other_protocols_and_alone(opened: TrainedModel, tmp_path: Path) -> None:
    given = ("--cells", 8, "--few", "--trust-code", "--json")
    result = maskseq("evaluate", opened.path, "--protocol", "remaining", "--protocol", "gap-1", *given)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found["protocols"]) == ["gap-1"]
    assert found["remaining time"]["cases"] == 8
    by = found["remaining time"]["comparison"]["by"]
    assert set(by) == {"model", MEAN, MEDIAN}
    assert sum(found["verdict"]["counts"].values()) > 1
    result = maskseq("evaluate", opened.path, "--protocol", "remaining", "--cells", 8, "--trust-code", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert MEAN in result.output
    assert MEAN in (tmp_path / "evaluation.html").read_text()


def test_counting_alone_and_records_without_time(opened: TrainedModel, tmp_path: Path) -> None:
    result = maskseq("baseline", opened.path / "corpus", "--protocol", "remaining", "--few", "--trust-code", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["remaining time"]["comparison"]["by"]) == {MEAN, MEDIAN}
    fasta, recipe = tmp_path / "g.fa", tmp_path / "g.toml"
    fasta.write_text(">x\n" + "ACGT" * 200 + "\n")
    recipe.write_text(
        f'[data]\nfiles = ["{fasta}"]\nsplit = {{ by = "region", selection = 0.3 }}\n[tokenizer]\nname = "nucleotide"\n'
        f"[packing]\nrow_tokens = 64\ncontext = 64\n"
    )
    from maskseq.cli import app

    result = CliRunner().invoke(app, ["baseline", str(recipe), "--protocol", "remaining", "--few"])
    assert result.exit_code == 2
    assert "remaining" in result.output
