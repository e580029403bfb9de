"""Which records, or which regions of long records, are held out. Pure functions of the record table.

What is not trained on is *selection* (choices are made by it: stopping, calibration) or *test* (figures are reported
of it). Never by random window: a window overlaps its neighbours. Whole records are drawn by a keyed hash of their
names, so most keep their part when others join the file; exact duplicates, also up to the tokenizer's symmetries (a
contig and its reverse complement), and near-copies follow the first of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Int, Int8

from maskseq.corpus.hashing import hash64
from maskseq.corpus.record_table import UNALIGNED, RecordTable, Region, Segments, group_number, moments_of
from maskseq.corpus.regions import GAPS
from maskseq.corpus.sides import Division, choose, first_alike
from maskseq.corpus.split_config import DUPLICATE, OVERLAPPING, PARTS, SELECTION, TEST, TRAIN
from maskseq.corpus.split_config import SplitConfig as SplitConfig
from maskseq.corpus.unknown_runs import UnknownRuns, cut_out
from maskseq.errors import UsageError
from maskseq.formats import COMPARED
from maskseq.types import Record

Locate = Callable[[Region], tuple[int, int, int, int]]
"""Positions of a region: (first, last + 1) of those that lie wholly inside, and of those that meet it at all."""


def split_records(
    table: RecordTable, config: SplitConfig, unknown: UnknownRuns, *, locate: Locate
) -> tuple[list[Segments], dict[str, Any]]:
    """Divide the records of a corpus: the segments of each part, in the order of `PARTS`, and the manifest's report.

    Segments are cut at `unknown` runs. `locate` turns raw units into positions.
    """
    choice = choose(table.own, config)
    whole, placed = _segments(table, choice, config, locate)
    context = _context(table, choice, locate)
    parts = [_asked(_known_parts(part, table, unknown), context) for part in whole]
    leaders = first_alike(table.own.content_hashes)
    report: dict[str, Any] = {
        "by": choice.by,
        "notes": choice.notes,
        "regions": placed,
        "duplicate_records": int((leaders != np.arange(len(leaders))).sum()),
        **_near_copies(table.own),
        "repeated_keys": len(table.own) - len(np.unique(table.own.key_hashes)),
        "left_out": {
            "positions": int(table.positions.sum()) - sum(part.positions for part in parts),
            "in_unknown_runs": sum(part.positions for part in whole) - sum(part.positions for part in parts),
            "duplicates": int((choice.side == DUPLICATE).sum()),
            "overlapping_the_boundary": int((choice.side == OVERLAPPING).sum()),
            **({"context_before_the_boundary": n} if (n := sum(int(part.shown.sum()) for part in parts)) else {}),
        },
        **({"files": files} if (files := _of_files(table.own, choice, config)) else {}),
        "config": config.identity(),
        "unknown": asdict(unknown),
    }
    for part, moment in choice.boundaries.items():
        first = part == min(choice.boundaries)
        report["boundary" if first else "test_boundary"] = datetime.fromtimestamp(moment, UTC).isoformat()
    for part, name in PARTS.items():
        if part != TEST or config.has_test:
            report[name] = {"sequences": len(parts[part]), "positions": parts[part].positions}
    if not len(parts[TRAIN]):
        raise UsageError(
            f"nothing is left to train on: the split by {choice.by} holds out or leaves out everything "
            f"({int(table.positions.sum()):,} positions in {len(table.own):,} records)\n\n"
            f"hint: hold out less, or make the guard gap ({config.gap}) smaller",
            code="too-little-data",
        )
    for part, file in config.files.items():
        if not len(parts[part]):
            raise UsageError(
                f"nothing of {file} is left as {'test' if part == TEST else 'selection'} data: all of its records "
                f"stand in the files that are trained on, too, or nothing is known in them\n\n"
                f'hint: give a file of other records, or keep them by data.split.duplicates = "ignore"',
                code="too-little-data",
            )
    if choice.by != "none":
        if not len(parts[SELECTION]) and not len(parts[TEST]):
            choice.notes.append(
                "nothing is held out: too few data for the share that was asked, or nothing known in it"
            )
        elif config.has_test and not len(parts[TEST]):
            choice.notes.append("nothing is held out for the test: too few data for the share that was asked")
    return parts, report


def _near_copies(own: RecordTable) -> dict[str, int]:
    """How many records are nearly another one; nothing where none are."""
    if own.near is None:
        return {}
    return {"near_copies": int((first_alike(own.near) != np.arange(len(own))).sum())}


def _of_files(table: RecordTable, choice: Division, config: SplitConfig) -> dict[str, dict[str, int]]:
    """For each file that is a part as a whole, how many of its records stand in the files that are trained on, too."""
    found = {}
    for part in config.files:
        assert table.given is not None
        mine, rest = table.given == part, table.given == TRAIN
        found[PARTS[part]] = {
            "records": int(mine.sum()),
            "keys_shared": int(np.isin(table.key_hashes[mine], table.key_hashes[rest]).sum()),
            "contents_shared": int(np.isin(table.content_hashes[mine], table.content_hashes[rest]).sum()),
            "left_out": int((choice.side[mine] == DUPLICATE).sum()),
        }
    return found


def training_records(read: Callable[[], Iterable[Record]], config: SplitConfig) -> Iterator[Record]:
    """The records that training will see, for what is fitted before there is a corpus; `read` is called twice.

    What is held out is what the build holds out, except where that needs the ids: copies, near or exact, and skipped
    records. Of a record with held-out regions come the segments between them, without the guard gaps, by its
    `cut(start, stop)`.
    """
    table = table_of(read(), config)
    if table is None:
        return
    choice = choose(table, config)
    (train, *_), _ = _segments(table, choice, config, lambda region: (region.start, region.stop) * 2)
    first = np.searchsorted(train.record, np.arange(len(table) + 1))
    for index, record in enumerate(read()):
        for segment in range(first[index], first[index + 1]):
            start, length = int(train.start[segment]), int(train.length[segment])
            yield record if length == len(record) else record.cut(start, start + length)


def table_of(records: Iterable[Record], config: SplitConfig) -> RecordTable | None:
    """What a split may depend on before there are ids: each raw unit is a position, and no two records are copies.

    None where there is no record.
    """
    rows, names = [], list[str]()
    for record in records:
        moments = moments_of([record]) if config.by_time else None
        group = group_number(record, config.group)
        rows.append((len(record), hash64(record.key.encode()), record.span(), group, moments))
        names += [record.key] * (len(names) < COMPARED)
    if not rows:
        return None
    units = np.array([row[0] for row in rows])
    spans = [row[2] for row in rows if row[2] is not None]
    return RecordTable(
        units,
        units,
        key_hashes=np.array([row[1] for row in rows], np.uint64),
        content_hashes=np.arange(len(rows), dtype=np.uint64),  # each its own
        spans=np.array(spans) if len(spans) == len(rows) else None,
        groups=np.array([row[3] for row in rows], np.uint64) if config.group else None,
        names=lambda: names,
        moments=np.concatenate([np.full(row[0], np.nan) if row[4] is None else row[4] for row in rows])
        if config.by_time
        else None,
    )


def _held_out_of(regions: Iterable[Region]) -> dict[int, list[Region]]:
    grouped: dict[int, list[Region]] = {}
    for region in sorted(regions, key=lambda r: (r.record, r.start)):
        grouped.setdefault(region.record, []).append(region)
    return grouped


def _segments(
    table: RecordTable, choice: Division, config: SplitConfig, locate: Locate
) -> tuple[list[Segments], list[dict[str, Any]]]:
    """Whole records by their side; a record with regions: training, guard gap, held out, guard gap, training.

    Between a region of the test and one of selection is a guard gap, too, at the cost of selection. Variants are
    divided at the same raw units as their records.
    """
    rows: dict[int, list[tuple[int, int, int]]] = {part: [] for part in PARTS}  # of cut records: record, start, stop
    placed, guard = [], config.gap
    variant = np.zeros(len(table), np.int8) if table.variant is None else table.variant
    own = np.cumsum(variant == 0) - 1  # of each row, its record
    cut = _held_out_of(_in_variants(choice.regions, table, variant, own))
    for record, held_out in cut.items():
        length = int(table.positions[record])
        gap = min(guard, length // GAPS)
        train_from = 0
        at = [(region, *locate(region)) for region in held_out]
        tests = [
            (meets_start - gap, meets_stop + gap) for region, _, _, meets_start, meets_stop in at if region.part == TEST
        ]
        for region, inside_start, inside_stop, meets_start, meets_stop in at:
            if region.part == SELECTION:
                for before, after in tests:
                    if before < meets_start:
                        inside_start = max(inside_start, after)
                    else:
                        inside_stop = min(inside_stop, before)
            rows[TRAIN].append((record, train_from, meets_start - gap))
            rows[region.part].append((record, inside_start, inside_stop))
            train_from = meets_stop + gap
            if variant[record] == 0:
                named = {"part": PARTS[TEST]} if region.part == TEST else {}
                placed.append({"record": record, "first": region.start + 1, "last": region.stop, "guard": gap, **named})
        rows[TRAIN].append((record, train_from, length))
    whole = ~np.isin(np.arange(len(table)), list(cut))
    whole &= ~((np.abs(variant) > UNALIGNED) & np.isin(own, [own[record] for record in cut]))
    if choice.before is not None:  # of those that are asked about in part, variants are left out
        whole &= (choice.before[own] == 0) | (variant == 0)
    segments = [
        _in_order(
            np.flatnonzero(whole & (choice.side[own] == part)), table, [row for row in rows[part] if row[1] < row[2]]
        )
        for part in PARTS
    ]
    return segments, placed


def _context(table: RecordTable, choice: Division, locate: Locate) -> Int[np.ndarray, "records"]:
    """Of records that overlap a boundary in time, the positions before it; else 0."""
    found = np.zeros(len(table), np.int64)
    if choice.before is None:
        return found
    own = np.arange(len(table)) if table.variant is None else np.flatnonzero(table.variant == 0)
    for record in np.flatnonzero(choice.before).tolist():
        row = int(own[record])
        region = Region(row, int(choice.before[record]), int(table.units[row]), int(choice.side[record]))
        found[row] = locate(region)[2]
    return found


def _asked(segments: Segments, context: Int[np.ndarray, "records"]) -> Segments:
    """The segments with what of them is context; without those that are nothing else."""
    shown = np.clip(context[segments.record] - segments.start, 0, segments.length)
    kept = shown < segments.length
    return Segments(segments.record[kept], segments.start[kept], segments.length[kept], shown[kept])


def _in_variants(
    regions: Sequence[Region], table: RecordTable, variant: Int8[np.ndarray, "records"], own: Int[np.ndarray, "records"]
) -> list[Region]:
    """The regions in every sequence of their records; where one runs backwards, they are counted from its end."""
    placed = []
    for region in regions:
        for row in range(int(np.searchsorted(own, region.record)), int(np.searchsorted(own, region.record, "right"))):
            units = int(table.units[row])
            if abs(variant[row]) > UNALIGNED:
                continue  # nobody knows where it stands there: such a variant is left out
            backwards = variant[row] < 0
            start, stop = (units - region.stop, units - region.start) if backwards else (region.start, region.stop)
            placed.append(replace(region, record=row, start=start, stop=stop))
    return placed


def _known_parts(segments: Segments, table: RecordTable, unknown: UnknownRuns) -> Segments:
    """The segments without long runs of unknown positions."""
    if table.unknown is None:
        return segments
    ends = np.cumsum(table.positions)
    begin = (ends - table.positions)[segments.record] + segments.start
    start, stop = cut_out(np.stack([begin, begin + segments.length], axis=1), table.unknown, unknown).T
    record = np.searchsorted(ends, start, side="right")
    return Segments(record, start - (ends - table.positions)[record], stop - start)


def _in_order(whole: Int[np.ndarray, "n"], table: RecordTable, cut: list[tuple[int, int, int]]) -> Segments:
    pieces = np.array(cut, np.int64).reshape(-1, 3)
    record = np.concatenate([whole, pieces[:, 0]])
    start = np.concatenate([np.zeros_like(whole), pieces[:, 1]])
    length = np.concatenate([table.positions[whole], pieces[:, 2] - pieces[:, 1]])
    order = np.lexsort((start, record))
    return Segments(record[order], start[order], length[order])
