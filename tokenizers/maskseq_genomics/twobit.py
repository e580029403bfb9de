"""UCSC 2bit: genomes at four bases a byte, with lists of the runs of N and of lower case.

Format: genome.ucsc.edu/FAQ/FAQformat.html#format7; version 1 differs by 64-bit offsets.
"""

import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Int

from maskseq.errors import DataError
from maskseq.files import broken, create
from maskseq.formats import Format
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_genomics.sequence import Sequence

MAGIC = 0x1A412743
FOURS = np.array([[b"TCAG"[byte >> shift & 3] for shift in (6, 4, 2, 0)] for byte in range(256)], np.uint8).view("u4")
"""The four letters of each byte, as one number so that they are looked up together."""
CODES = bytes.maketrans(b"TCAGNtcagn", bytes([0, 1, 2, 3, 0] * 2))
"""The bits of each letter; N lies over those of T, other letters have numbers above 3."""
LOWER = 0x20
N = ord("N")


@dataclass(frozen=True, kw_only=True)
class TwoBitSequence(Sequence):
    """A sequence of a 2bit file."""

    order: Literal["<", ">"] = "<"
    """Byte order of the file, as `struct` calls it."""
    version: int = 0
    verbatim: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """Where the runs, or the bits under the Ns, are not as `_pack` writes them: the record as it stood, and the
    residues that it stood for."""


@dataclass(frozen=True)
class TwoBit(Format[Sequence]):
    """Reads and writes 2bit, which can hold A, C, G, T and N in either case."""

    suffixes: ClassVar[tuple[str, ...]] = (".2bit",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if head.content[:4] not in (struct.pack("<I", MAGIC), struct.pack(">I", MAGIC)):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="it begins with the signature of 2bit")

    def read(self, path: Path) -> Iterator[TwoBitSequence]:
        try:
            with path.open("rb") as file:
                reader = _Reader(file, path)
                for key, offset in reader.index():
                    yield reader.record(key, offset)
        except OSError as error:
            raise DataError(path, broken(error)) from None

    def write(self, records: Iterable[Sequence], path: Path) -> None:
        names: list[bytes] = []
        sizes: list[int] = []
        order, version = "<", 0
        with create(path) as file, tempfile.TemporaryFile() as spool:  # the index comes first but is known last
            for record in records:
                if isinstance(record, TwoBitSequence) and not names:
                    order, version = record.order, record.version
                names.append(_name(record))
                sizes.append(spool.write(_body(record, order)))
            index_size = sum(1 + len(name) for name in names)
            if 16 + index_size + 4 * len(names) + sum(sizes) > 2**32:
                version = 1
            wide = 8 if version else 4
            offsets = 16 + index_size + wide * len(names) + np.cumsum([0, *sizes])[:-1]
            file.write(struct.pack(order + "4I", MAGIC, version, len(names), 0))
            for name, offset in zip(names, offsets.tolist(), strict=True):
                file.write(bytes([len(name)]) + name + struct.pack(order + ("Q" if version else "I"), offset))
            spool.seek(0)
            shutil.copyfileobj(spool, file)


class _Reader:
    """Numbers and records of an open 2bit file, each checked to be there."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = file.seek(0, 2)
        file.seek(0)
        if not self._size:
            raise DataError(path, "the file is empty")
        magic = self._take(4, "the header")
        orders: dict[bytes, Literal["<", ">"]] = {struct.pack("<I", MAGIC): "<", struct.pack(">I", MAGIC): ">"}
        if magic not in orders:
            raise DataError(path, f"is no 2bit file: it begins with {magic!r}", place="byte 0")
        self._order = orders[magic]
        self._version, self._n_records, _ = self._numbers(3, "the header").tolist()
        if self._version > 1:
            raise DataError(path, f"has version {self._version} of the 2bit format; 0 and 1 are known", place="byte 4")

    def index(self) -> list[tuple[str, int]]:
        """Name and offset of each record."""
        if not self._n_records:
            raise DataError(self._path, "holds no sequences", place="byte 8")
        entries: dict[str, int] = {}
        offsets: set[int] = set()
        for number in range(self._n_records):
            what = f"entry {number + 1} of {self._n_records:,} in the index"
            name = self._take(self._take(1, what)[0], what).decode(errors="backslashreplace")
            offset = int(self._numbers(1, what, wide=bool(self._version))[0])
            if not name or name in entries:
                raise DataError(self._path, f"{what} has {'a name twice: ' + name if name else 'no name'}")
            if not 0 <= offset < self._size:
                raise DataError(self._path, f"{what} points behind the end of the file; get a whole copy")
            if offset in offsets:
                raise DataError(self._path, f"{what} points where another one does; the file is damaged")
            entries[name] = offset
            offsets.add(offset)
        return list(entries.items())

    def record(self, key: str, offset: int) -> TwoBitSequence:
        self._file.seek(offset)
        what = f"record {key!r}"
        length = int(self._numbers(1, what)[0])
        if not length:
            raise DataError(self._path, f"{what} has no sequence", place=f"byte {offset}")
        unknown = self._runs(length, f"runs of N of {what}")
        lower = self._runs(length, f"runs of lower case of {what}")
        self._numbers(1, what)  # reserved
        packed = np.frombuffer(self._take(-(-length // 4), what), np.uint8)
        letters = FOURS[packed].view(np.uint8).reshape(-1)[:length]
        for start, stop in unknown:
            letters[start:stop] = N
        for start, stop in lower:
            letters[start:stop] |= LOWER
        return self._verbatim_where_needed(key, letters.tobytes(), offset)

    def _verbatim_where_needed(self, key: str, residues: bytes, offset: int) -> TwoBitSequence:
        stop = self._file.tell()
        self._file.seek(offset)
        body = self._file.read(stop - offset)
        return TwoBitSequence(
            key=key,
            residues=residues,
            path=str(self._path),
            order=self._order,
            version=self._version,
            verbatim=None if body == _pack(residues, self._order) else (body, residues),
        )

    def _runs(self, length: int, what: str) -> Int[np.ndarray, "runs 2"]:
        """Half-open runs."""
        n = int(self._numbers(1, what)[0])
        starts, sizes = self._numbers(n, what), self._numbers(n, what)
        stops = starts + sizes
        if (stops > length).any():
            at = int(np.argmax(stops > length))
            problem = f"{what} reach {int(stops[at]):,}, behind its {length:,} bases; the file is damaged"
            raise DataError(self._path, problem, place=f"run {at + 1}")
        if sizes.sum() > length:  # else a small file of long runs would take hours
            raise DataError(self._path, f"{what} overlap; the file is damaged")
        return np.stack([starts, stops], axis=1)

    def _numbers(self, n: int, what: str, *, wide: bool = False) -> Int[np.ndarray, "n"]:
        dtype = np.dtype(np.uint64 if wide else np.uint32).newbyteorder(self._order)
        return np.frombuffer(self._take(n * dtype.itemsize, what), dtype).astype(np.int64)

    def _take(self, n: int, what: str) -> bytes:
        at = self._file.tell()
        if n > self._size - at:
            raise DataError(self._path, f"the file ends inside {what}; get a whole copy", place=f"byte {at:,}")
        return self._file.read(n)


def _name(record: Sequence) -> bytes:
    name = record.key.encode()
    if len(name) > 255:
        raise DataError(record.path, f"the name of record {record.key[:40]!r}… has over 255 bytes, too many for 2bit")
    return name


def _body(record: Sequence, order: str) -> bytes:
    """The record as it stands in a file."""
    if isinstance(record, TwoBitSequence) and record.verbatim is not None and record.order == order:
        body, residues = record.verbatim
        if record.residues == residues:
            return body
    codes = np.frombuffer(record.residues.translate(CODES), np.uint8)
    if codes.max(initial=0) > 3:
        position = int(np.argmax(codes > 3))
        letter = chr(record.residues[position])
        raise record.fault(position, f"2bit cannot hold the letter {letter!r}, only A, C, G, T and N; write FASTA")
    return _pack(record.residues, order)


def _pack(residues: bytes, order: str) -> bytes:
    """Length, runs of N, runs of lower case, and the bases by fours; N is stored as T."""
    letters = np.frombuffer(residues, np.uint8)
    codes = np.frombuffer(residues.translate(CODES) + bytes(-len(residues) % 4), "<u4")
    bases = (codes << 6 | codes >> 4 | codes >> 14 | codes >> 24).astype(np.uint8)  # each byte holds two bits
    unknown, lower = _blocks(letters | LOWER == N | LOWER, order), _blocks((letters & LOWER).astype(bool), order)
    return b"".join([struct.pack(order + "I", len(letters)), unknown, lower, bytes(4), bases.tobytes()])


def _blocks(flags: Bool[np.ndarray, "length"], order: str) -> bytes:
    """The number of runs of flagged letters, their starts, their sizes."""
    edges = np.flatnonzero(np.diff(flags.view(np.int8), prepend=0, append=0))
    starts, sizes = edges[::2], edges[1::2] - edges[::2]
    return np.concatenate([[len(starts)], starts, sizes]).astype(order + "u4").tobytes()
