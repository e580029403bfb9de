"""What the code of any commit says of the panel's questions: the two steps that run under its PYTHONPATH.

    python benchmarks/panel/model.py encode RUN TRAIN TEST OUT [--drifts]   # what the panel must know to ask
    python benchmarks/panel/model.py answer RUN QUESTIONS OUT         # log-probabilities, and gaps filled jointly

It is run as a file, imports nothing of this checkout but `drift.py`, and finds what moved between commits by trying
the places in order. Everything else, from the drawing of questions to the statistics, is the panel's own.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_POSITIONS = 1 << 20
"""Of the selection and the test part each that are encoded: enough for every question."""
BATCH = 1 << 15
CLEAN = "test"


def encode(run: Path, train: Path, test: Path, out: Path, *, drifts: bool) -> None:
    """Write ids of training, selection and test part, and what the vocabulary is, to `out`.json and `out`.npz."""
    import maskseq

    loaded = maskseq.load(run)
    tokenizer = loaded.tokenizer
    corpus = _imported("maskseq:Corpus", "maskseq.data.corpus:Corpus", "maskseq.corpus.reader:Corpus").open(
        run / "corpus", trust_code=True
    )
    parts: dict[str, list[tuple[str, Any]]] = {
        "train": [("", _bare(ids)) for ids in corpus.training_ids()],
        "selection": _some(_held_out(corpus)),
    }
    records = list(loaded.reader(test).read(test))
    parts[CLEAN] = _some(_encoded(tokenizer, records))
    if drifts:
        from drift import DRIFTS, drifted

        known = np.concatenate([each.channels for each in loaded.reader(train).read(train)])
        mean, sd = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        for kind in DRIFTS:
            moved = [
                dataclasses.replace(
                    record,
                    channels=drifted(
                        record.channels,
                        kind,
                        mean,
                        sd,
                        np.random.default_rng(zlib.crc32(f"{kind} {record.key}".encode())),
                    ),
                )
                for record in records
            ]
            parts[kind] = _some(_encoded(tokenizer, moved))
    arrays: dict[str, np.ndarray] = {}
    for part, encoded in parts.items():
        arrays |= {
            f"{part}/{name}": array for name, array in _arrays(tokenizer, encoded, units=part != "train").items()
        }
    config = loaded.model.config
    about = {
        "fields": [
            {name: getattr(field, name) for name in ("name", "tokens", "controls", "centres", "unit", "source")}
            for field in tokenizer.fields
        ],
        "symmetries": [
            {"name": each.name, "id_maps": each.id_maps, "reverse": each.reverse, "field_order": each.field_order}
            for each in tokenizer.symmetries()
        ],
        "tokenizer": type(tokenizer).__name__,
        "context": config.max_positions,
        "distances": list(_distances(config)),
        "masking": json.loads((run / "recipe.json").read_text(encoding="utf-8"))["recipe"].get("masking", {}),
        "keys": {part: [key for key, _ in encoded] for part, encoded in parts.items() if part != "train"},
    }
    np.savez_compressed(out.with_suffix(".npz"), **arrays)
    out.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


def answer(run: Path, questions: Path, out: Path) -> None:
    """For every file of questions: log-probabilities of the asked cells by everything a run predicts with."""
    import maskseq

    loaded = maskseq.load(run)
    infill, config, grammar = (
        _imported(*places)
        for places in (
            ("maskseq.infill.sampler:infill", "maskseq.inference.infill:infill"),
            ("maskseq.infill.sampler_state:InfillConfig", "maskseq.inference.infill:InfillConfig"),
            ("maskseq.constraints:Grammar",),
        )
    )
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(questions.glob("*.npz")):
        if (out / path.name).exists():
            continue
        with np.load(path) as file:
            requested = dict(file)
        arrays: dict[str, np.ndarray] = {}
        ends = np.cumsum(requested["lengths"])[:-1]
        numbers = np.split(requested["numbers"], ends) if "numbers" in requested else None
        examples = _examples(np.split(requested["seen"], ends), numbers)
        cells = np.split(requested["cells"], np.cumsum(requested["sizes"])[:-1])
        for name, predict in predictions(loaded).items():
            found, means = [], []
            for first, last in _batches(requested["lengths"]):
                answers, stated = _answers(predict, examples[first:last], cells[first:last])
                found += [np.asarray(each, np.float32) for each in answers]
                means += [None if each is None else each.mean for each in stated]
            arrays[f"log_probs/{name}"] = np.concatenate(found)
            if not any(each is None for each in means):
                arrays[f"means/{name}"] = np.concatenate(means)
            if int(requested["fills"]):
                n = int(requested["fills"])
                filled, legal = [], []
                for first, last in _batches(requested["lengths"][:n]):
                    holes = []
                    for ids, mine in zip(_ids(examples[first:last]), cells[first:last], strict=True):
                        hole = np.zeros(ids.shape, bool)
                        hole[tuple(mine.T)] = True
                        holes.append(hole)
                    fills = infill(
                        predict,
                        examples[first:last],
                        holes,
                        config(order="entropy_bounded"),
                        vocabulary=loaded.tokenizer.vocabulary,
                        keys=list(range(first, last)),
                        constraints=[[grammar(loaded.tokenizer.allowed)]] * (last - first),
                    )
                    filled += [
                        each.written(ids)[tuple(mine.T)]
                        for each, ids, mine in zip(fills, _ids(examples[first:last]), cells[first:last], strict=True)
                    ]
                    legal += [
                        _legal(loaded.tokenizer, ids, mine)
                        for ids, mine in zip(_ids(examples[first:last]), cells[first:last], strict=True)
                    ]
                arrays[f"fills/{name}"] = np.concatenate(filled)
                arrays["legal"] = np.packbits(np.concatenate(legal), axis=1)
        aside = out / f"{path.stem}.tmp.npz"
        np.savez_compressed(aside, **arrays)
        aside.rename(out / path.name)


def predictions(run: Any) -> dict[str, Any]:
    """What a run predicts with: the shipped prediction first, and where that is a blend, its parts."""
    experts = getattr(run, "experts", None)  # code from before there were any has none
    if experts is None or experts.used() == ("encoder",):
        return {"shipped": run.predict()}
    others = [name for name in experts.stored.experts if name != "encoder"]
    return {
        "shipped": run.predict_fills(),
        "without the encoder": run.predict_fills(experts=others),
        "encoder alone": run.predict(),
    }


def _legal(tokenizer: Any, ids: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """What the grammar lets each cell be before anything is filled, for those who fill beside the model."""
    legal = np.asarray(tokenizer.vocabulary.committable)[cells[:, 1]].copy()
    narrowed = tokenizer.allowed(ids)
    if narrowed is not None:
        place = {tuple(cell): row for row, cell in enumerate(narrowed.cells.tolist())}
        for row, cell in enumerate(map(tuple, cells.tolist())):
            if cell in place:
                legal[row] &= narrowed.allowed[place[cell], : legal.shape[1]]
    return legal


def _batches(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(lengths):
        last = first + max(int(np.searchsorted(np.cumsum(lengths[first:]), BATCH, side="right")), 1)
        yield first, min(last, len(lengths))
        first = last


def _encoded(tokenizer: Any, records: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for record in records:
        yield record.key, dataclasses.replace(tokenizer.encode(record), numbers=tokenizer.numbers(record))


def _held_out(corpus: Any) -> Iterator[tuple[str, Any]]:
    """The selection part of a corpus, by the name that it has there."""
    split = "selection" if "selection" in corpus.manifest["split"] else "validation"
    for sequence, encoded in corpus.each(split):
        yield f"{corpus.key(sequence)}@{corpus.starts[sequence]}", encoded


def _some(records: Iterator[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """As many as are needed, in an order that does not depend on the file's: a file may be sorted."""
    every = sorted(records, key=lambda each: zlib.crc32(each[0].encode()))
    ends = np.cumsum([len(encoded.ids) for _, encoded in every])
    return every[: int(np.searchsorted(ends, MOST_POSITIONS)) + 1]


def _examples(sequences: Sequence[np.ndarray], numbers: Sequence[np.ndarray] | None) -> Sequence[Any]:
    """What a predictor of the judged code is given: examples, or by code from before there were any, ids."""
    try:
        example = _imported("maskseq.predict.protocol:Example")
    except ImportError:
        return sequences
    if numbers is None or "numbers" not in {each.name for each in dataclasses.fields(example)}:
        return [example(ids) for ids in sequences]
    return [example(ids, numbers=each) for ids, each in zip(sequences, numbers, strict=True)]


def _ids(examples: Sequence[Any]) -> Sequence[np.ndarray]:
    return [getattr(each, "ids", each) for each in examples]


def _answers(predict: Any, examples: Sequence[Any], cells: Sequence[np.ndarray]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Log-probabilities, and the numbers that are stated where the judged code states any."""
    try:
        both = _imported("maskseq.predict.protocol:answers_of")(predict, examples, cells)
    except ImportError:
        both = predict(examples, cells), [None] * len(examples)
    return both  # type: ignore[no-any-return]


def _distances(config: Any) -> Sequence[int]:
    """How far the numbers are from which the encoder predicts linearly, by the name that its switch has in any code."""
    prior = getattr(config, "linear_prior", None)
    return getattr(config, "linear_context", ()) if prior is None else prior.distances


def _bare(ids: np.ndarray) -> Any:
    return _imported("maskseq:Encoded", "maskseq.types:Encoded")(ids)


def _arrays(tokenizer: Any, records: Sequence[tuple[str, Any]], *, units: bool) -> dict[str, np.ndarray]:
    """The records of a part end to end."""
    encoded = [each for _, each in records]
    n_fields = len(tokenizer.fields)
    found = {
        "lengths": np.array([len(each.ids) for each in encoded], np.int64),
        "ids": np.concatenate([each.ids for each in encoded] or [np.zeros((0, n_fields), np.uint8)]),
    }
    for name in ("weights", "numbers"):
        given = [getattr(each, name, None) for each in encoded]
        if any(each is not None for each in given):
            fallback = np.ones if name == "weights" else (lambda shape: np.full(shape, np.nan))
            found[name] = np.concatenate(
                [fallback(e.ids.shape) if g is None else np.asarray(g) for e, g in zip(encoded, given, strict=True)]
            )
    if units and encoded:
        of = getattr(tokenizer, "units_of", lambda each: tokenizer.units(each.ids))
        ranges = [np.asarray(of(each), np.int64) for each in encoded]
        if not all(_plain(each, tokenizer.fields) for each in ranges):
            found["units"] = np.concatenate(ranges).astype(np.int32)
    return found


def _plain(units: np.ndarray, fields: Sequence[Any]) -> bool:
    """Each cell is a unit of its own, in order."""
    each = np.arange(len(units))[:, None, None] + np.arange(2)
    sources = {field.source for field in fields}
    return len(sources) == len(fields) and bool((units - units[:1, :, :1] == each).all())


def _imported(*places: str) -> Any:
    """The first of `module:attribute` that there is."""
    for place in places:
        module, _, attribute = place.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), attribute)
    raise ImportError(f"none of {', '.join(places)}")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("encode")
    second = steps.add_parser("answer")
    for step, names in ((first, ("run", "train", "test", "out")), (second, ("run", "questions", "out"))):
        for name in names:
            step.add_argument(name, type=Path)
    first.add_argument("--drifts", action="store_true")
    requested = parser.parse_args(words)
    if requested.step == "encode":
        encode(requested.run, requested.train, requested.test, requested.out, drifts=requested.drifts)
    else:
        answer(requested.run, requested.questions, requested.out)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
