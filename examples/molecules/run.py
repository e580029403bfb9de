"""Molecules of the NCI (they come with RDKit): fill holes, with and without asking RDKit whether it is a molecule.

python examples/molecules/run.py OUTPUT      # needs rdkit
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rdkit import RDConfig

import maskseq

sys.path.insert(0, str(Path(__file__).parent))

from maskseq_molecules import Smi, parses

HOLE = 3
"""Symbols side by side that are masked in each molecule."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--tokens", type=int, default=1_500_000, help="of training; fewer are faster")
    arguments.add_argument("--molecules", type=int, default=4000)
    arguments.add_argument("--holes", type=int, default=200, help="molecules that are filled")
    asked = arguments.parse_args()
    asked.output.mkdir(parents=True)
    source = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
    lines = [line.split()[:2] for line in source.read_text().splitlines()]
    kept = [f"{smiles} {name}" for smiles, name in lines if 8 <= len(smiles) <= 60 and "." not in smiles]
    kept = kept[: asked.molecules + asked.holes]
    file, held_out = asked.output / "nci.smi", asked.output / "held_out.smi"
    file.write_text("\n".join(kept[: -asked.holes]) + "\n")
    held_out.write_text("\n".join(kept[-asked.holes :]) + "\n")
    recipe = {
        "data": {"files": [str(file)], "format": "maskseq_molecules:Smi", "variants": 2, "split": {"by": "record"}},
        "tokenizer": {"name": "maskseq_molecules:SmilesTokenizer"},
        "model": {"preset": "nano", "n_layers": 3, "hidden_size": 96, "n_heads": 4},
        "packing": {"row_tokens": 2048, "context": 64},
        "masking": {"ratio": [0.1, 0.4], "spans": {"weight": 1.0, "mean_length": HOLE}},
        "optimizer": {"lr": 3e-3},
        "training": {"tokens": asked.tokens, "rows": 1, "device": "cpu", "comparison_cells": 0},
    }
    run = maskseq.pretrain(recipe, output=asked.output / "run")
    records = list(Smi().read(held_out))
    rng = np.random.default_rng(0)
    ranges = {}
    for record in records:
        start = int(rng.integers(len(record) - HOLE))
        ranges[record.key] = [(start, start + HOLE)]
    figures = {}
    for name, accept in (("as filled", None), ("accepted by RDKit", parses)):
        filled = list(run.infill(records, ranges=ranges, accept=accept, accept_tries=40))
        # A record whose fills were all refused keeps its own symbols: that does not count as a fill.
        fills = [
            (truth, each.record) for truth, each in zip(records, filled, strict=True) if each.accepted is not False
        ]
        figures[name] = {
            "molecules": f"{sum(parses(fill) for _, fill in fills)} of {len(filled)}",
            "left as they were": len(filled) - len(fills),
            "fills refused": sum(each.refused for each in filled),
            "exactly right": sum(truth.values == fill.values for truth, fill in fills),
        }
    question = maskseq.Question(protocols=("gap-3",), cells=600)
    judged = maskseq.evaluate(run.path, held_out, question=question, trust_code=True).protocols["gap-3"]
    gaps = (judged.whole_gaps or {}).get("symbol", {})
    figures["gaps of 3 exactly right, beside baselines"] = {name: round(each.exact, 3) for name, each in gaps.items()}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
