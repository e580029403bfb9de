"""Errors that a user can act on; each class knows the exit code that the command line ends with."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class MaskseqError(Exception):
    """Base of everything that maskseq raises on purpose."""

    exit_code = 1


class DataWarning(UserWarning):
    """What a reader had to decide about a file, such as rows out of order. Commands show each once."""


class UsageError(MaskseqError, ValueError):
    """A wrong option, recipe or argument: what was given, what was expected, how to mend it."""

    exit_code = 2


class DataError(MaskseqError, ValueError):
    """Broken or unexpected data, with the file and the place in it where that was seen.

    `kept` is for formats: what stands there in the file, for `Format.write`, which is given the error among the records
    where it was passed over.
    """

    exit_code = 3
    ends = False
    """Nothing behind it can be read."""

    def __init__(self, path: Path | str, problem: str, *, place: str = "", kept: Any = None) -> None:
        self.path, self.place, self.problem, self.kept = str(path), place, problem, kept
        super().__init__(": ".join(part for part in (self.path, place, problem) if part))

    def __reduce__(self) -> tuple[object, ...]:  # survives the trip back from a worker process
        return _rebuild_data_error, (self.path, self.problem, self.place)


class PluginError(MaskseqError):
    """A plug-in failed in a way that its contract does not know: which one, where in it, and on what.

    `__cause__` is what it raised.
    """

    def __init__(self, plugin: str, problem: str, *, record: str = "", file: Path | str = "") -> None:
        self.plugin, self.problem, self.record, self.file = plugin, problem, record, str(file)
        super().__init__(plugin, problem)

    def __str__(self) -> str:
        """The file may have been added since, by who knows it."""
        record = f"record {self.record!r}" if self.record else ""
        place = ": ".join(part for part in (self.file, record) if part)
        return f"{place}{': ' * bool(place)}{self.plugin} failed: {self.problem}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_plugin_error, (self.plugin, self.problem, self.record, self.file)


def nearest(name: str, known: Iterable[str], otherwise: str = "", *, cutoff: float = 0.6) -> str:
    """The hint for a name that is not among those known: the one that it resembles, or else what there is.

    Example: `nearest("nucelotide", ["nucleotide", "kmer"])` is "did you mean 'nucleotide'?".
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"there are {', '.join(known)}"


def _rebuild_plugin_error(plugin: str, problem: str, record: str, file: str) -> PluginError:
    return PluginError(plugin, problem, record=record, file=file)


def _rebuild_data_error(path: str, problem: str, place: str) -> DataError:
    return DataError(path, problem, place=place)
