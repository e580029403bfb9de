"""Predictors that look at nothing behind a requested cell: what is drawn of them is drawn cell by cell, everywhere."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from served import client
from test_causal import SHAPE, run_of
from test_next import EVENTS, case, corpus, maskseq, table

import maskseq.generate.continuation as module
from maskseq.apps.generate import GenerateRequest, chosen, config_for
from maskseq.corpus.reader import Corpus
from maskseq.generate.continuation import GenerateConfig, continuations
from maskseq.model.checkpoint import save_model
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.predict.blend import Blend, Gate
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.next import NextPredict
from maskseq.predict.protocol import Example, in_order
from maskseq.serve.together import ModelThread, shared
from maskseq.trained import TrainedModel, load
from maskseq_genomics.nucleotide import NucleotideTokenizer

__all__ = ["corpus"]  # a fixture
DNA = NucleotideTokenizer()
BASES = "ACGTACGGTACCA"


def dna_run(folder: Path) -> TrainedModel:
    model = Encoder(preset("nano", DNA.vocabulary, **SHAPE, next_head=True), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.4, generator=generator))
    save_model(folder, model, DNA)
    return load(folder)


def by_hand(run: TrainedModel) -> np.ndarray:
    """The second base after `BASES`, summed over the first one."""
    tokens = DNA.fields[0].tokens
    predict = NextPredict(run.model)
    known = np.array([tokens.index(each) for each in BASES])[:, None]
    (first,) = predict([Example(np.vstack([known, known[:1]]))], [np.array([[len(known), 0]])])
    total = np.zeros(len(tokens))
    for base in range(len(tokens)):
        ids = np.vstack([known, [[base]], known[:1]])
        (second,) = predict([Example(ids)], [np.array([[len(ids) - 1, 0]])])
        total += np.exp(first[0, base]) * np.exp(second[0, : len(tokens)])
    return total / total.sum()


def second_step(rows: list[dict[str, Any]]) -> np.ndarray:
    tokens = DNA.fields[0].tokens
    (row,) = [each for each in rows if int(each["step"]) == 2]
    alternatives = row["alternatives"]
    if isinstance(alternatives, str):
        alternatives = json.loads(alternatives)
    found = np.zeros(len(tokens))
    for value, probability in [(row["value"], row["probability"]), *alternatives]:
        found[tokens.index(value)] = float(probability)
    return found


def test_the_second_step_is_summed_over_the_first(tmp_path: Path) -> None:
    run = dna_run(tmp_path / "run")
    file, out = tmp_path / "a.fa", tmp_path / "next.csv"
    file.write_text(f">x\n{BASES}\n")
    result = maskseq("next", run.path, file, "--by", "encoder", "--steps", 2, "-o", out)
    assert result.exit_code == 0, result.output
    truth = by_hand(run)
    masked = NextPredict(run.model)
    ids = np.vstack([DNA.encode(next(iter(run.reader(file).read(file)))).ids, [[DNA.fields[0].mask_id]] * 2])
    behind_mask = np.exp(masked([Example(ids)], [np.array([[len(ids) - 1, 0]])])[0][0, : len(truth)])
    assert np.abs(behind_mask - truth).max() > 0.1  # or the test would tell nothing
    found = second_step(table(out))
    assert np.abs(found - truth).max() < 0.05
    with client(run) as web:
        answer = web.post("/next", json={"name": "a.fa", "text": file.read_text(), "steps": 2, "by": "encoder"}).json()
    assert np.allclose(second_step(answer["rows"]), found, atol=1e-5)


def test_who_reads_in_order_shows_it_through_whatever_wraps_it(tmp_path: Path) -> None:
    run = dna_run(tmp_path / "run")

    def counted(examples: Any, cells: Any) -> Any:
        raise NotImplementedError

    head = NextPredict(run.model)
    assert in_order(head)
    assert not in_order(counted)
    assert not in_order(run.predict())
    assert in_order(Remembered(head))
    assert not in_order(Remembered(counted))
    experts = {"counted": counted, "encoder": Remembered(head)}
    equal, alone = Gate.equal(2, 1), Gate.alone(0, 2, 1)
    assert in_order(Blend(experts, equal, DNA.vocabulary))
    assert not in_order(Blend(experts, alone, DNA.vocabulary))  # it has no say
    assert in_order(shared(Blend(experts, equal, DNA.vocabulary), ModelThread()))
    assert not in_order(shared(counted, ModelThread()))


def test_fields_are_drawn_as_they_are_declared_by_such_predictors_only(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[str] = []
    asked = module.infill

    def noted(*arguments: Any, **options: Any) -> Any:
        orders.append(arguments[3].order)
        return asked(*arguments, **options)

    monkeypatch.setattr(module, "infill", noted)
    run = run_of(tmp_path / "run", corpus)
    records = [("x", EVENTS.encode(case("x", "ab")))]
    for by, others in (("encoder", "left_to_right"), ("counted", "entropy_bounded")):
        orders.clear()
        predictor, _ = chosen(run, by)  # type: ignore[arg-type]
        continuations(predictor.predict, EVENTS, records, GenerateConfig(steps=3, samples=4), context=16)
        assert set(orders) == {"one_shot", others}


def test_one_distribution_says_all_of_a_block_only(tmp_path: Path, corpus: Corpus) -> None:
    def of(run: TrainedModel, steps: int | None, **given: Any) -> GenerateConfig:
        return config_for(chosen(run, "encoder")[0], GenerateRequest(steps=steps, **given))

    ordered = dna_run(tmp_path / "dna")
    assert [(of(ordered, n).samples, of(ordered, n).block) for n in (1, 2)] == [(1, 1), (100, 1)]
    assert of(ordered, 2, samples=7).samples == 7
    model = Encoder(preset("nano", DNA.vocabulary, **SHAPE), seed=3)
    save_model(tmp_path / "plain", model, DNA)
    plain = load(tmp_path / "plain")
    assert [(of(plain, n).samples, of(plain, n).block) for n in (8, 9)] == [(1, 8), (100, 8)]
    events = run_of(tmp_path / "events", corpus)
    assert [(of(events, n).samples, of(events, n).steps) for n in (1, 2, None)] == [(1, 1), (100, 2), (100, 16)]
