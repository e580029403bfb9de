"""The contracts of tokenizers and formats, executable: call `check_tokenizer(tokenizer, records)` in your own tests,
and `check_format(format, files)` (`maskseq.testing.files`).

    def test_contract():
        report = check_tokenizer(Weather(), [ListRecord(key="March", values=["sun", "rain", "sun"])])
        assert "no leak" in report.checked

It stops at the first broken rule with a `ContractViolation` that names the rule, the record and the place, and says
how to fix it. Rules that look at cells one by one do so in random windows, so that thousands of records take seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskseq.errors import UsageError
from maskseq.testing import leaks, rules, twin
from maskseq.testing.case import CellCounts, ContractViolation, RecordCase, judge
from maskseq.testing.files import FormatReport, check_format
from maskseq.tokenizer import Tokenizer
from maskseq.types import ListRecord, Record

__all__ = ["ContractReport", "ContractViolation", "FormatReport", "check_format", "check_tokenizer"]

RULES = {
    "encode": rules.encode,
    "numbers": rules.numbers,
    "determinism": rules.determinism,
    "decode": rules.decode,
    "units": rules.units,
    "legal": rules.legal,
    "closed": rules.closed,
    "symmetries": rules.symmetries,
    "augmentations": rules.augmentations,
    "variants": rules.variants,
    "splice": leaks.splice,
    "no leak": leaks.no_leak,
    "record units": rules.record_units,
}
"""Checked for each record in this order; each relies on those before."""

PROCESS = "another process"
"""Checked last: fields, and ids of the first records, are the same under another hash seed."""

VERDICTS = {"legal": rules.grammar_verdict, "splice": leaks.splice_verdict, "no leak": leaks.leak_verdict}
"""Rules that allow exceptions, judged over all records."""


@dataclass(frozen=True, kw_only=True)
class ContractReport:
    """What was checked."""

    n_records: int
    n_cells: int
    checked: tuple[str, ...]
    skipped: Mapping[str, str]
    """Rules that do not apply, and why."""
    round_trip: Mapping[str, float]
    """By field, the share of cells that come back where a record's own ids are spliced into it: 1 where nothing is
    lost, less where several coarse cells describe one raw value together, such as gap and hour of a timestamp."""
    hidden_by_one_unit: Mapping[str, float]
    """Per source, the share of a record's cells that hiding one raw unit hides, on average. Near 1 / cells is best; a
    large share means that a mask of single units hides most of the record."""


def check_tokenizer(tokenizer: Tokenizer[Any], records: Iterable[Record], *, seed: int = 0) -> ContractReport:
    """Check every rule of the contract on every record.

    Args:
        tokenizer: Fitted, as training would use it.
        records: Some that it encodes; awkward ones (empty, unknown values, the longest) find most.
        seed: Of the windows and cells that are drawn.

    Returns:
        What was checked, and which rules do not apply and why.

    Raises:
        ContractViolation: The first rule that is broken: which, in which record, where, and how to keep it.
        UsageError: No records.

    Example:
        >>> from maskseq import ListRecord
        >>> from maskseq_genomics.nucleotide import NucleotideTokenizer
        >>> from maskseq_genomics.sequence import Sequence
        >>> report = check_tokenizer(NucleotideTokenizer(), [Sequence(key="chr1", residues=b"ACGTNACGT")])
        >>> "no leak" in report.checked
        True
    """
    records = list(records)
    if not records:
        raise UsageError(
            "check_tokenizer needs at least one record\n\nhint: give it some that the tokenizer encodes",
            code="nothing-to-do",
        )
    rebuilt = judge("JSON", lambda: rules.rebuild(tokenizer), tokenizer=tokenizer)
    skipped = _not_applicable(tokenizer, records)
    pool = [value for record in records if isinstance(record, ListRecord) for value in record.values]
    rounds = max(1, 128 // len(records))
    tally, n_cells = CellCounts(), 0
    for number, record in enumerate(records):
        case = RecordCase(tokenizer, rebuilt, record, np.random.default_rng((seed, number)), tally, pool, rounds)
        for name, rule in RULES.items():
            if name not in skipped:
                judge(name, lambda: rule(case), tokenizer=tokenizer, where=f"record {record.key!r}")  # noqa: B023
        n_cells += case.ids.size
    for name, verdict in VERDICTS.items():
        judge(name, lambda: verdict(tally), tokenizer=tokenizer, where="over all records")  # noqa: B023
    unknown = judge(PROCESS, lambda: twin.check(tokenizer, records), tokenizer=tokenizer)
    if unknown is not None:
        skipped[PROCESS] = unknown
    return ContractReport(
        n_records=len(records),
        n_cells=n_cells,
        checked=("JSON", *(name for name in (*RULES, PROCESS) if name not in skipped)),
        skipped=skipped,
        round_trip={name: tally.returned[name] / n for name, n in tally.spliced.items() if n},
        hidden_by_one_unit={source: tally.depending[source] / n for source, n in tally.cells.items() if n},
    )


def _not_applicable(tokenizer: Tokenizer[Any], records: Sequence[Record]) -> dict[str, str]:
    skipped = {}
    can_splice = tokenizer.defines("splice")
    if not tokenizer.augmentations():
        skipped["augmentations"] = "it declares none"
    if not tokenizer.symmetries():
        skipped["symmetries"] = "it declares none"
    if not tokenizer.defines("variants"):
        skipped["variants"] = "it has none"
    if not can_splice:
        skipped["splice"] = "it has no splice method"
    if tokenizer.boundaries_depend_on_data:
        skipped["no leak"] = "token boundaries depend on the data: contents do not leak, lengths do"
    elif not can_splice and not isinstance(records[0], ListRecord):
        skipped["no leak"] = "it has no splice method, and raw values of these records cannot be changed without it"
    return skipped
