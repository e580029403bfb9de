"""Irish tunes of three fields: does it help to know the key, and to hear every tune in other keys as well?

python examples/music/run.py OUTPUT      # needs music21, which has the tunes
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import maskseq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--tokens", type=int, default=1_000_000, help="of each training; fewer are faster")
    arguments.add_argument("--tunes", type=int, default=1500)
    arguments.add_argument("--cells", type=int, default=2000)
    asked = arguments.parse_args()
    asked.output.mkdir(parents=True)
    file = asked.output / "oneill.tunes"
    subprocess.run([sys.executable, HERE / "prepare.py", file, "--tunes", str(asked.tunes)], check=True)
    figures = {}
    for name, with_key in (("without the key", False), ("with the key", True)):
        recipe = {
            "data": {"files": [str(file)], "format": "maskseq_music:Tunes", "split": {"by": "record", "test": 0.1}},
            "tokenizer": {"name": "maskseq_music:TuneTokenizer", "with_key": with_key},
            "model": {"preset": "nano", "n_layers": 3, "hidden_size": 96, "n_heads": 4},
            "packing": {"row_tokens": 2048, "context": 256},
            "masking": {"ratio": [0.15, 0.4], "spans": {"weight": 1.0, "mean_length": 4}},
            "optimizer": {"lr": 3e-3},
            "training": {"tokens": asked.tokens, "rows": 1, "device": "cpu", "comparison_cells": 0},
        }
        output = asked.output / name.replace(" ", "-")
        maskseq.pretrain(recipe, output=output)
        question = maskseq.Question(protocols=("gap-2",), fields=("pitch", "length"), cells=asked.cells, every=False)
        found = maskseq.evaluate(output, question=question, trust_code=True).protocols["gap-2"]
        for field, group in found.breakdown["field"].items():
            methods = {
                method: {"bits": round(s.bits, 3), "right": round(s.accuracy, 3)} for method, s in group.by.items()
            }
            figures.setdefault(field, {})[name] = methods
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
