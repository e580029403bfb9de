"""The same tokenizer in another process, where sets of texts have another order.

One process serves all checks of a session: starting it takes longer than a check.
"""

import hashlib
import importlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.contract.identity import in_fields, saved_form
from maskseq.storage.standard_json import to_json
from maskseq.testing.case import require
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record

RECORDS, LOOKED_AT, LONGEST = 3, 100, 1 << 14
"""How many records are encoded there: the first ones of those that are not too long to be sent."""
SERVE = "from maskseq.testing.twin import serve; serve()"


def check(tokenizer: Tokenizer[Any], records: Sequence[Record]) -> str | None:
    """Raise where fields or ids are others in a process with another hash seed; returns why it was not checked."""
    cls = type(tokenizer)
    if cls.__module__ == "__main__" or not importable(cls):
        return "its class cannot be imported by name"
    some = [record for record in islice(records, LOOKED_AT) if len(record) <= LONGEST][:RECORDS]
    try:
        sent = pickle.dumps(some)
    except Exception as error:  # whatever objects raise that cannot be pickled
        return f"its records cannot be sent to another process: {type(error).__name__}: {error}"
    state = to_json(tokenizer.state(), lossless=True)
    answer = _ask(pickle.dumps((cls.__module__, cls.__qualname__, state, sent)))
    if "skipped" in answer:
        return str(answer["skipped"])
    hint = "compute fields and ids from the state alone; a set of texts has another order in each process: sort it"
    require("raised" not in answer, f"in another process it raised {answer.get('raised')}", hint)
    other = in_fields(answer, tokenizer)
    require(other is None, f"in another process (there), {other}", hint)
    for record, ids in zip(some, answer["ids"], strict=True):
        require(ids == _ids(tokenizer, record), f"record {record.key!r} has other ids in another process", hint)
    return None


def importable(cls: type) -> bool:
    """Whether its module and name lead to the class, in this process."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def serve() -> None:
    """Answer the requests of the other process until there are no more. What plug-ins print is not an answer."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        answers.write(to_json(_answer(*request), lossless=True).encode() + b"\n")
        answers.flush()


def _answer(module: str, name: str, state: str, sent: bytes) -> dict[str, Any]:
    try:
        cls: Any = importlib.import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
        records = pickle.loads(sent)
    except (Exception, SystemExit) as error:
        return {"skipped": f"it cannot be imported in another process: {type(error).__name__}: {error}"}
    try:
        tokenizer: Tokenizer[Any] = cls.from_state(json.loads(state))
        return {"fields": saved_form(tokenizer)["fields"], "ids": [_ids(tokenizer, each) for each in records]}
    except (Exception, SystemExit) as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def _ids(tokenizer: Tokenizer[Any], record: Record) -> str:
    ids = np.ascontiguousarray(tokenizer.encode(record).ids)
    return hashlib.sha256(f"{ids.dtype.str}{ids.shape}".encode() + ids.tobytes()).hexdigest()


def _ask(request: bytes) -> dict[str, Any]:
    process = _process(os.getpid())
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        _process.cache_clear()
        process.kill()
        process.wait()
        return {"skipped": "the other process ended without an answer"}
    return answer


@cache
def _process(parent: int) -> "subprocess.Popen[bytes]":
    """A Python that sees the same modules as this one, under another hash seed."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    return subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
