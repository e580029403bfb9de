"""The parts of a task alone: figures against scikit-learn, splits, heads, low-rank changes, intervals, outcomes."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics
from small_run import Letters, small_encoder

from maskseq.apps.finetune import load_task_file
from maskseq.errors import DataError, UsageError
from maskseq.tasks.config import FitConfig, HeadConfig, LabelSource, PrefixConfig, TaskConfig, TaskData
from maskseq.tasks.examples import TaskExample, labelled_examples, split_shares
from maskseq.tasks.figures import bootstrap, compare, figures, metrics_of
from maskseq.tasks.heads import TaskHead, shares_of_bins
from maskseq.tasks.network import choose_what_learns, merge_changes, parameter_groups, task_network
from maskseq.tasks.outcome import Outcome
from maskseq.tasks.targets import TargetSpace, fit_temperature, half_width
from maskseq_events.case import Case
from maskseq_events.tokenizer import EventTokenizer

ROOT = Path(__file__).resolve().parents[1]
TASK = TaskConfig(kind="binary", data=TaskData(files=("x",)), labels=LabelSource(column="label"))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_figures_of_classes_are_those_of_scikit_learn(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    true = rng.integers(n_classes, size=200)
    p = rng.dirichlet(np.ones(n_classes), size=200).round(1) + 1e-3 + 0.3 * np.eye(n_classes)[true]
    p /= p.sum(axis=1, keepdims=True)
    own = {name: metric(true[:, None].astype(float), p) for name, metric in metrics_of("binary").items()}
    reported, one_hot = p.argmax(axis=1), np.eye(n_classes)[true]
    two = n_classes == 2
    assert own["mcc"] == pytest.approx(metrics.matthews_corrcoef(true, reported))
    assert own["accuracy"] == pytest.approx(metrics.accuracy_score(true, reported))
    assert own["f1"] == pytest.approx(metrics.f1_score(true, reported, average="binary" if two else "macro"))
    scores = (true, p[:, 1]) if two else (one_hot, p)
    assert own["auroc"] == pytest.approx(metrics.roc_auc_score(*scores))
    assert own["auprc"] == pytest.approx(metrics.average_precision_score(*scores))


def test_figures_of_sets_and_numbers_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true, p = rng.integers(2, size=(100, 3)).astype(float), rng.random((100, 3)).round(1)
    own = {name: metric(true, p) for name, metric in metrics_of("multilabel").items()}
    assert own["auprc"] == pytest.approx(metrics.average_precision_score(true, p))
    assert own["auroc"] == pytest.approx(metrics.roc_auc_score(true, p))
    assert own["f1"] == pytest.approx(metrics.f1_score(true, p > 0.5, average="micro"))
    assert own["accuracy"] == pytest.approx(metrics.accuracy_score(true, p > 0.5))
    y, guess = rng.normal(size=(50, 1)), rng.normal(size=(50, 1))
    own = {name: metric(y, guess) for name, metric in metrics_of("regression").items()}
    assert own["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, guess))
    assert own["mae"] == pytest.approx(metrics.mean_absolute_error(y, guess))
    assert own["r2"] == pytest.approx(metrics.r2_score(y, guess))


def test_one_class_or_nothing_told_apart_gives_no_error() -> None:
    true, p = np.zeros((5, 1)), np.full((5, 2), 0.5)
    found = figures("binary", true, p, np.arange(5))
    assert found["mcc"].value == 0
    assert np.isnan(found["auroc"].value)


def test_draws_keep_the_answers_of_a_record_together() -> None:
    records = np.array([0, 0, 0, 1, 2, 2])
    for drawn in bootstrap(records, draws=20):
        counts = np.bincount(drawn, minlength=6)
        assert len(set(counts[:3])) == 1
        assert counts[4] == counts[5]
        assert counts[0] + counts[3] + counts[4] == 3


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for draw in range(25):
        true = rng.integers(2, size=80)
        right = rng.random(80) < 0.7
        reported = np.where(right, true, 1 - true)
        found = figures("binary", true[:, None].astype(float), np.eye(2)[reported], np.arange(80), seed=draw)
        covered += found["accuracy"].low <= 0.7 <= found["accuracy"].high
    assert covered >= 20


def test_a_comparison_says_which_is_better() -> None:
    true = np.arange(200) % 2
    good, bad = np.eye(2)[true] * 0.8 + 0.1, np.full((200, 2), 0.5)
    records, targets = np.arange(200), true[:, None].astype(float)
    assert compare("binary", targets, good, bad, records).words == "better"
    assert compare("binary", targets, bad, good, records).words == "worse"
    assert compare("binary", targets, good, good, records).words == "not told apart"
    y = np.random.default_rng(0).normal(size=(100, 1))
    assert compare("regression", y, y, y * 0, records[:100]).words == "better"


def examples(n: int, groups: int, classes: int = 2) -> list[TaskExample]:
    ids = np.zeros((3, 2), dtype=np.uint8)
    return [
        TaskExample(key=str(i), group=str(i % groups), ids=ids, labels=(str(i % groups % classes),)) for i in range(n)
    ]


def test_parts_share_no_group_and_hold_every_class() -> None:
    found = split_shares(examples(90, 30), {"selection": 0.2, "test": 0.2}, seed=3, stratify=True)
    groups = {part: {each.group for each in own} for part, own in found.items()}
    assert [len(groups[part]) for part in ("train", "selection", "test")] == [18, 6, 6]
    assert not groups["train"] & groups["test"] | groups["train"] & groups["selection"]
    assert all({each.labels[0] for each in own} == {"0", "1"} for own in found.values())
    again = split_shares(examples(90, 30)[::-1], {"selection": 0.2, "test": 0.2}, seed=3, stratify=True)
    assert {each.key for each in again["test"]} == {each.key for each in found["test"]}
    with pytest.raises(DataError):
        split_shares(examples(4, 1), {"selection": 0.2, "test": 0.2}, seed=3, stratify=False)


@pytest.mark.parametrize("shares", [{"selection": 0.1, "test": 0.1}, {"selection": 0.2, "test": 0.2}, {"test": 0.9}])
@pytest.mark.parametrize("n", range(1, 12))
def test_small_classes_stand_in_every_part_that_they_suffice_for(n: int, shares: dict[str, float]) -> None:
    """First of all in the training part: what is only in another part cannot be learned."""
    found = split_shares(examples(60 + n, 60), shares, seed=1, stratify=False)
    assert all(found.values())
    rare = [replace(each, key=f"r{i}", group=f"r{i}", labels=("rare",)) for i, each in enumerate(examples(n, n))]
    found = split_shares(examples(60, 60) + rare, shares, seed=1, stratify=True)
    counts = {part: sum(each.labels == ("rare",) for each in own) for part, own in found.items()}
    assert sum(counts.values()) == n
    assert counts["train"]
    assert sum(map(bool, counts.values())) == min(n, len(counts))


def test_a_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    space = TargetSpace(kind="binary", classes=("0", "1"))
    logits = rng.normal(size=4000)
    targets = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)[:, None]
    assert fit_temperature(space, 5 * logits[:, None], targets) == pytest.approx(5, rel=0.15)
    assert space.predictions(np.array([[-800.0], [800.0]])).tolist() == [[1, 0], [0, 1]]


def test_half_a_conformal_interval_covers_its_share_of_new_errors() -> None:
    rng = np.random.default_rng(0)
    inside = [abs(rng.normal()) <= half_width(rng.normal(size=39), 0.9) for _ in range(2000)]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_too_few_errors_bound_nothing() -> None:
    """The largest of n errors is exceeded by a new one with probability 1 / (n + 1), which below 9 is more than 0.1."""
    for n in range(12):
        assert math.isinf(half_width(np.ones(n), 0.9)) == (n < 9)


def test_bins_share_out_every_position_of_any_length() -> None:
    real = torch.zeros(3, 10, dtype=torch.bool)
    real[0, :10], real[1, :4], real[2, :3] = True, True, True
    found = shares_of_bins(real, 4)
    torch.testing.assert_close(found.sum(dim=2), torch.ones(3, 4))
    assert not found[~real[:, None].expand(3, 4, 10)].any()
    torch.testing.assert_close(found[1, :, :4], torch.eye(4))
    # each position has the same say in all bins together
    torch.testing.assert_close(found[0].sum(dim=0), torch.full((10,), 0.4))


@pytest.mark.parametrize("kind", ["mean", "max", "attention", "positions", "cnn"])
def test_what_is_behind_the_end_of_a_record_changes_nothing(kind: str) -> None:
    head = TaskHead(HeadConfig(kind=kind, bins=4), kind, hidden_size=6, n_outputs=2, seed=0)
    masked = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))
    real = torch.arange(9) < torch.tensor([[9], [5]])
    answer = head(masked, real, None)
    changed = torch.where(real[..., None], masked, torch.full_like(masked, 7.0))
    torch.testing.assert_close(head(changed, real, None), answer)
    torch.testing.assert_close(head(masked[1:, :5], real[1:, :5], None), answer[1:])


def test_low_rank_changes_begin_as_nothing_and_merge_into_the_matrices() -> None:
    encoder, config = small_encoder(), FitConfig(train="lora", rank=2)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    network = task_network(TASK, encoder, 1)
    choose_what_learns(network, config, seed=0)
    learning = network.learning()
    assert all(name.startswith("head.") or name.endswith((".a", ".b")) for name in learning)
    weight = encoder.layers[0].attn.Wqkv.weight
    torch.testing.assert_close(weight, before["layers.0.attn.Wqkv.weight"])
    with torch.no_grad():
        for name, parameter in learning.items():
            if name.endswith(".b"):
                parameter.fill_(0.1)
    changed = encoder.layers[0].attn.Wqkv.weight.detach().clone()
    assert torch.linalg.matrix_rank(changed - before["layers.0.attn.Wqkv.weight"]) <= 2
    merge_changes(encoder)
    assert set(dict(encoder.named_parameters())) == set(before)
    torch.testing.assert_close(encoder.layers[0].attn.Wqkv.weight, changed)


def test_rates_fall_layer_by_layer_from_the_head_down() -> None:
    network = task_network(TASK, small_encoder(), 1)
    config = FitConfig(lr=1.0, head_lr=2.0, layer_decay=0.5)
    rate = {}
    for group in parameter_groups(network, config):
        for parameter in group["params"]:
            rate[id(parameter)] = group["lr"], group["weight_decay"]
    names = dict(network.named_parameters())
    assert rate[id(names["head.output.weight"])] == (2.0, 0.01)
    assert rate[id(names["encoder.layers.1.mlp.Wo.weight"])][0] == 1.0
    assert rate[id(names["encoder.layers.0.mlp.Wo.weight"])][0] == 0.5
    assert rate[id(names["encoder.embeddings.tok_embeddings.weight"])][0] == 0.25
    assert rate[id(names["encoder.final_norm.weight"])] == (1.0, 0.0)


# ---- outcomes ------------------------------------------------------------------------------------------------------

DAY = 86_400_000_000


def case(key: str, activities: str, days: list[int]) -> Case:
    return Case(
        key=key,
        activity=tuple(activities),
        time=np.array(days, dtype=np.int64) * DAY + 1_700_000_000_000_000,
        offset=np.zeros(len(days), dtype=np.int32),
    )


CASES = [case("p", "abXc", [0, 1, 2, 9]), case("q", "abcc", [0, 2, 3, 4]), case("r", "X", [0])]


def made(kind: str, outcome: str) -> dict[tuple[str, int], tuple[str, np.ndarray]]:
    tokenizer = EventTokenizer.fit(CASES)
    config = TaskConfig(
        kind=kind,  # type: ignore[arg-type]
        data=TaskData(files=("x",)),
        labels=LabelSource(outcome=outcome),
        prefixes=PrefixConfig(max=8),
    )
    found = labelled_examples(config, {"train": CASES}, tokenizer, 64)["train"]
    return {(each.key, each.n_units): (each.labels[0], each.ids) for each in found}


def test_prefixes_end_before_their_outcome_is_known() -> None:
    found = made("binary", "contains X")
    assert {key: label for key, (label, _) in found.items()} == {
        ("p", 1): "1",
        ("p", 2): "1",  # not 3: there it has happened
        ("q", 1): "0",
        ("q", 2): "0",
        ("q", 3): "0",
    }
    found = made("binary", "duration > 1d")
    assert set(found) == {("p", 1), ("p", 2), ("q", 1)}  # behind these, more than a day has passed
    assert found["p", 1][0] == "1"


def test_prefixes_show_nothing_of_what_follows() -> None:
    tokenizer = EventTokenizer.fit(CASES)
    for (key, n), (_, ids) in made("regression", "remaining").items():
        whole = next(each for each in CASES if each.key == key)
        other = case(key, "".join(whole.activity)[:n] + "cb", [*(whole.time[:n] - CASES[0].time[0]) // DAY, 50, 60])
        assert len(ids) == n  # no mark of the end
        np.testing.assert_array_equal(ids, tokenizer.encode(other).ids[:n])


def test_remaining_and_whole_durations_are_in_days() -> None:
    assert float(made("regression", "remaining")["p", 2][0]) == 8
    assert float(made("regression", "duration")["p", 2][0]) == 9


@pytest.mark.parametrize("text", ["duration", "remaining", "contains A b", "duration > 1.5 h"])
def test_outcomes_are_read(text: str) -> None:
    assert Outcome.of(text).is_number == (" " not in text)
    with pytest.raises(UsageError):
        Outcome.of(text + "!" if " " not in text else text.partition(" ")[0] + " ")


def test_letters_have_no_times_to_ask_about() -> None:
    from maskseq.types import ListRecord

    config = TaskConfig(
        kind="regression",
        data=TaskData(files=("x",)),
        labels=LabelSource(outcome="remaining"),
        prefixes=PrefixConfig(max=3),
    )
    records = [ListRecord(key="a", values=[(0, 1)] * 5)]
    with pytest.raises(DataError, match="times"):
        labelled_examples(config, {"train": records}, Letters(), 64)


def test_task_files_of_the_documentation_are_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        (tmp_path / "task.toml").write_text(block)
        config = load_task_file(tmp_path / "task.toml")
        assert config.data.files == (str(tmp_path / Path(config.data.files[0]).name),)
