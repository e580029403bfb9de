"""Molecules as SMILES: a line each, `SMILES name`, and `?` for a symbol that nobody knows."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maskseq import OTHER, DataError, Encoded, Field, Format, ListRecord, Tokenizer, Variant

SYMBOL = re.compile(r"\[[^\]]+\]|Br|Cl|@@|%\d\d|[A-Za-z0-9=#()+<>\-\\/.@:~*$?]")
WRITINGS = 8
"""Other spellings of a molecule, at most."""


def symbols_of(smiles: str) -> list[str]:
    """Atoms, bonds, brackets and ring numbers; `ValueError` for what is none."""
    found = SYMBOL.findall(smiles)
    if "".join(found) != smiles:
        raise ValueError(f"{smiles[:40]!r} is not SMILES")
    return found


def parses(record: ListRecord) -> bool:
    """Whether RDKit takes it for a molecule: `maskseq infill --accept maskseq_molecules:parses`."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    return Chem.MolFromSmiles("".join(map(str, record.values))) is not None


class Smi(Format[ListRecord]):
    """SMILES files. A line without a name is called by its number."""

    suffixes: ClassVar[tuple[str, ...]] = (".smi",)

    def read(self, path: Path) -> Iterator[ListRecord]:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                smiles, _, name = line.strip().partition(" ")
                try:
                    yield ListRecord(key=name.strip() or f"molecule {number}", values=symbols_of(smiles))
                except ValueError as error:
                    raise DataError(path, str(error), place=f"line {number}") from None

    def write(self, records: Iterable[ListRecord], path: Path) -> None:
        with path.open("w", encoding="utf-8") as lines:
            lines.writelines(f"{''.join(map(str, record.values))} {record.key}\n" for record in records)


@dataclass(frozen=True, kw_only=True)
class SmilesTokenizer(Tokenizer[ListRecord]):
    """A position a symbol, of those that training shows."""

    symbols: tuple[str, ...]

    @classmethod
    def fit(cls, records: Iterable[ListRecord], **options: Any) -> "SmilesTokenizer":
        counts = Counter(symbol for record in records for symbol in record.values if symbol != "?")
        return cls(symbols=tuple(sorted(symbol for symbol, n in counts.items() if n > 1)), **options)

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (Field(name="symbol", tokens=self.symbols, controls=(OTHER,)),)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {"?": self.fields[0].mask_id} | {symbol: index for index, symbol in enumerate(self.symbols)}

    def encode(self, record: ListRecord) -> Encoded:
        other = self.fields[0].control_id(OTHER)
        return Encoded(np.array([self.ids.get(symbol, other) for symbol in record.values], np.uint16)[:, None])

    def decode(self, ids: np.ndarray) -> str:
        return "".join("?" if i >= len(self.symbols) else self.symbols[i] for i in ids[:, 0].tolist())

    def splice(self, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
        new: Sequence[object] = [self.fields[0].token(i) for i in ids[:, 0]]
        values = [n if hole else old for n, old, hole in zip(new, record.values, holes[:, 0], strict=True)]
        return replace(record, values=values)

    def variants(self, record: ListRecord) -> Iterator[Variant[ListRecord]]:
        """The molecule written from other atoms on; which ones, its own SMILES decide. Nothing without RDKit."""
        try:
            from rdkit import Chem, RDLogger
        except ImportError:
            return
        RDLogger.DisableLog("rdApp.*")
        smiles = "".join(map(str, record.values))
        molecule = Chem.MolFromSmiles(smiles) if "?" not in smiles else None
        if molecule is None:
            return
        seed = int.from_bytes(hashlib.sha256(smiles.encode()).digest()[:3], "big")
        others = Chem.MolToRandomSmilesVect(molecule, WRITINGS, randomSeed=seed)
        for other in dict.fromkeys(others):
            yield Variant(name=other, record=replace(record, values=symbols_of(other)), tokenizer=self, aligned=False)
