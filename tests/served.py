"""A small run with a gate, and a client of it, for tests of the server."""

import random
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

import maskseq
from maskseq.serve.server import application
from maskseq.trained import TrainedModel


def log(n: int, seed: int) -> str:
    """Cases that go round a to e; a value in ten is another."""
    rng = random.Random(seed)
    rows = ["case,activity,colour"]
    for case in range(n):
        start = rng.randrange(5)
        for event in range(rng.randrange(4, 9)):
            at = (start + event) % 5 if rng.random() < 0.9 else rng.randrange(5)
            rows.append(f"{seed}-{case},{'abcde'[at]},{['red', 'green', 'blue'][at % 3]}")
    return "\n".join(rows) + "\n"


def log_run(folder: Path) -> Path:
    """A run of such a log."""
    (folder / "log.csv").write_text(log(120, 1))
    recipe = {
        "data": {
            "files": [str(folder / "log.csv")],
            "format": "event-csv",
            "format_options": {"case": "case", "activity": "activity", "time": ""},
            "workers": 1,
            "split": {"selection": 0.25},
        },
        "tokenizer": {"name": "event", "attributes": ["colour"]},
        "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
        "packing": {"row_tokens": 256, "context": 32},
        "training": {"tokens": 2_000, "rows": 1, "precision": "fp32"},
    }
    maskseq.pretrain(recipe, output=folder / "run")
    return folder / "run"


def client(run: TrainedModel, **options: Any) -> TestClient:
    """A browser of this machine, as the server sees it."""
    return TestClient(application(run, **options), base_url="http://localhost", raise_server_exceptions=False)
