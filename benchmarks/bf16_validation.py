"""Whether training in bf16 ends at fp32's validation loss: the demo's recipe in both, with several seeds.

    python benchmarks/bf16_validation.py --tokens 200000 --seeds 0 1 2 --output runs/bf16

A seed decides the initial values, the order of the data and all masks, so the precisions of one seed differ in nothing
else; what seeds differ by is the noise. Validation runs in the precision of the training. `bf16` is what this machine
does; where it multiplies faster in fp32, `products too` is what other machines do. Runs that are in `--output` already
are not repeated, and broken ones go on.
"""

import argparse
import json
import math
import statistics
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import maskseq
from maskseq.apps.prepare import prepare_corpus
from maskseq.corpus.reader import Corpus
from maskseq.recipe import Recipe, load_recipe

DEMO = Path(__file__).parents[1] / "recipes" / "demo.toml"
VARIANTS = {"fp32": "fp32", "bf16": "bf16", "products too": "bf16"}
"""Precision of each."""


def narrow_products() -> AbstractContextManager[object]:
    """Matrix products in bf16 whatever is faster here."""
    return mock.patch("maskseq.model.linear._widens", return_value=False)


def validation_bits(recipe: Recipe, corpus: Corpus, folder: Path) -> float:
    """Bits per masked base of the held-out region at the end of training."""
    maskseq.pretrain(recipe, corpus=corpus, output=folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last: float = [line["loss"] for line in lines if line["kind"] == "validation"][-1]
    return last / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=200_000, help="of each run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/bf16"), help="folder of the runs")
    options = parser.parse_args()
    fixed = [f"training.tokens={options.tokens}", "training.validate_every=0", "packing.row_tokens=2048"]
    corpus = prepare_corpus(load_recipe(DEMO), default=options.output / "corpus")
    found: list[list[float]] = []
    print(
        "validation, bits per masked base; of bf16, what it differs by\nseed  "
        + "  ".join(f"{v:>12}" for v in VARIANTS)
    )
    for seed in options.seeds:
        bits = []
        for variant, precision in VARIANTS.items():
            recipe = load_recipe(DEMO, [*fixed, f"seed={seed}", f"training.precision={precision}"])
            folder = options.output / f"{options.tokens}-{seed}-{variant.replace(' ', '-')}"
            with narrow_products() if variant == "products too" else nullcontext():
                bits.append(validation_bits(recipe, corpus, folder))
        found.append([bits[0], *(other - bits[0] for other in bits[1:])])
        print(line(str(seed), found[-1]), flush=True)
    if len(found) > 1:
        columns = list(zip(*found, strict=True))
        print(line("mean", [statistics.mean(column) for column in columns]))
        print(line("sd", [statistics.stdev(column) for column in columns], sign=""))


def line(name: str, values: list[float], *, sign: str = "+") -> str:
    return f"{name:>4}  {values[0]:12.4f}  " + "  ".join(f"{value:{sign}12.4f}" for value in values[1:])


if __name__ == "__main__":
    main()
