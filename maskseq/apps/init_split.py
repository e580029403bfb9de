"""What the split of a first recipe will do with the records that were looked at."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from maskseq import plugins
from maskseq.apps.init_sample import RecordSample
from maskseq.contract.fence import encode, fit
from maskseq.corpus.near_copies import near_copies
from maskseq.corpus.out_of_range import OutOfRange
from maskseq.corpus.overlap import Overlap, overlap
from maskseq.corpus.sides import choose
from maskseq.corpus.split_config import TEST
from maskseq.corpus.splits import SplitConfig, table_of, training_records
from maskseq.errors import MaskseqError
from maskseq.tokenizer import Tokenizer

FEWEST_RECORDS, FEWEST_POSITIONS = 10, 500
"""What a test part has at least (the records where whole ones are held out); with less there are two parts."""


def too_little(sample: RecordSample, split: SplitConfig) -> bool:
    """Whether a test part of these records would be too small to show anything."""
    table = table_of(sample.records, split)
    share = split.shares[TEST]
    if table is None or not share or not sample.whole:
        return False
    try:
        by = choose(table, split).by
    except MaskseqError:  # which the build will name
        return False
    few_records = by != "region" and share * len(table) < FEWEST_RECORDS
    return few_records or share * int(sample.positions.sum()) < FEWEST_POSITIONS


def held_out_warning(sample: RecordSample, split: SplitConfig, options: Mapping[str, Any]) -> str | None:
    """What to say if its numbers lie outside the range of those that the recipe's split leaves for training."""
    if type(sample.tokenizer).beyond is Tokenizer.beyond:
        return None
    kept, training = dict(options), []
    try:
        training = list(training_records(lambda: sample.records, split))
        with warnings.catch_warnings(action="ignore"):  # those of the first fit were shown
            tokenizer = fit(plugins.load("tokenizers", kept.pop("name"), trust_code=True), training, kept)
    except MaskseqError:  # of the whole file, the split leaves more
        return None
    seen, held_out = OutOfRange(tokenizer.fields), OutOfRange(tokenizer.fields)
    for record in training:
        seen.add(tokenizer.beyond(record))
    for record in sample.records:
        held_out.add(tokenizer.beyond(record))
    return held_out.without(seen).warning("held-out numbers")


def left_out_by_time(sample: RecordSample, split: SplitConfig) -> Overlap | None:
    """What a split by time would leave out of the records that were looked at."""
    table = table_of(sample.records, split)
    try:
        choice = None if table is None else choose(table, split)
    except MaskseqError:  # records without times, which the build will name
        return None
    if table is None or choice is None or choice.by != "time" or choice.before is None:
        return None
    requested = np.zeros(len(table), np.int64)
    for record in np.flatnonzero(choice.before).tolist():
        last = sample.tokenizer.units_of(encode(sample.tokenizer, sample.records[record]))[..., 1].max(axis=1)
        requested[record] = np.count_nonzero(last > choice.before[record])
    return overlap(replace(table, positions=sample.positions), choice, requested)


def near_copies_of(sample: RecordSample, split: SplitConfig) -> int:
    """How many of the records are nearly another one, as the build will find."""
    if not split.seeks_near_copies:
        return 0
    units = np.array([len(record) for record in sample.records])
    tokenizer, records = sample.tokenizer, sample.records
    found = near_copies(tokenizer, units, lambda n: [encode(tokenizer, records[n]).ids], split.near_copies)
    return 0 if found is None else int((found != np.arange(len(found))).sum())
