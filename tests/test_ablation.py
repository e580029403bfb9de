"""The ablation: every cell is a valid recipe that differs from its base in one switch, and its statistics."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from benchmarks.ablation.cells import BASE, DOMAINS, ONLY, PROTOCOLS, SWITCHES, Cell, cells
from benchmarks.ablation.report import forest, write_report
from benchmarks.ablation.statistics import corrected, effects
from maskseq.evaluation.protocols import Protocol
from maskseq.masking.config import MaskingConfig
from maskseq.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "ablation"


def resolved(domain: str, switch: str) -> Recipe:
    return load_recipe(RECIPES / f"{domain}.toml", list(SWITCHES[switch]))


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_switch_changes_its_base_in_what_it_names_and_in_nothing_else(domain: str) -> None:
    base = resolved(domain, BASE).identity()["recipe"]
    for switch in SWITCHES:
        if switch == BASE or domain not in ONLY.get(switch, DOMAINS):
            continue
        changed = resolved(domain, switch).identity()["recipe"]
        sections = {each.partition("=")[0].partition(".")[0] for each in SWITCHES[switch]}
        assert {name for name in base.keys() | changed.keys() if base.get(name) != changed.get(name)} == sections, (
            switch
        )


def test_the_least_part_comes_first_and_no_cell_twice() -> None:
    found = cells()
    assert len({each.name for each in found}) == len(found)
    assert {each.domain for each in found[:42]} == {"genome", "log"}
    assert len({each.switch for each in found[:42]}) == 7
    assert {each.seed for each in found[:42]} == {0, 1, 2}
    assert {each.switch for each in found} == set(SWITCHES)


def test_protocols_of_evaluation_do_not_depend_on_how_a_cell_was_trained() -> None:
    for name in {each for names in PROTOCOLS.values() for each in names}:
        Protocol.parse(name, MaskingConfig())
        assert name != "masked", "it masks as in training"


def made_up(rng: np.random.Generator, domain: str, switch: str, seed: int, bits: float) -> dict[str, object]:
    by = {predictor: bits + float(rng.normal(0, 0.01)) for predictor in ("encoder", "blend")}
    return {
        "domain": domain, "switch": switch, "seed": seed, "bits": {"gap-5": by, "event": by}, "cpu seconds": 600,
        "machine": {"processor": "a processor", "versions": {"torch": "2"}}, "date": "2026-01-01",
    }  # fmt: skip


def test_effects_are_paired_by_seed_and_corrected_for_all_comparisons(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    results = [
        made_up(rng, "log", switch, seed, 2.0 + 0.5 * seed + worse)
        for switch, worse in ((BASE, 0.0), ("GELU", 0.0), ("post-norm", 0.3))
        for seed in range(5)
    ]
    found = {(each.switch, each.protocol, each.predictor): each for each in effects(results)}
    assert {switch for switch, _, _ in found} == {"GELU", "post-norm"}
    mine = found["post-norm", "gap-5", "encoder"]
    by = {(r["switch"], r["seed"]): r["bits"]["gap-5"]["encoder"] for r in results}  # type: ignore[index]
    ratios = [by["post-norm", seed] / by[BASE, seed] for seed in range(5)]
    test = stats.ttest_rel(ratios, np.ones(5))
    assert mine.p == pytest.approx(test.pvalue)
    assert (mine.low, mine.high) == pytest.approx(tuple(np.array(test.confidence_interval()) + 0))
    every = effects(results)
    p = np.array([each.p for each in every if each.predictor == "blend"])
    by_hand = {}
    for rank, i in enumerate(np.argsort(p)):
        by_hand[int(i)] = min(1.0, max([*by_hand.values(), p[i] * (len(p) - rank)]))
    holm = [each for each, effect in zip(corrected(every), every, strict=True) if effect.predictor == "blend"]
    assert holm == pytest.approx([by_hand[i] for i in range(len(p))])

    for number, each in enumerate(results):
        (tmp_path / f"{number}.json").write_text(json.dumps(each))
    write_report(tmp_path, tmp_path / "ablation.md")
    page = (tmp_path / "ablation.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| post-norm"))
    assert f"{mine.mean:+.1%}" in row
    assert "*" in row
    assert "*" not in next(line for line in page.splitlines() if line.startswith("| GELU"))
    assert "Muon" in next(line for line in page.splitlines() if line.startswith("Not run"))
    ElementTree.fromstring(forest(every))


def test_one_seed_is_no_effect() -> None:
    rng = np.random.default_rng(0)
    assert effects([made_up(rng, "log", switch, 0, 2.0) for switch in (BASE, "GELU")]) == []


def test_names_of_cells_are_file_names() -> None:
    assert Cell("log", "mask ratio 15 %", 2).name == "log-mask-ratio-15-2"
