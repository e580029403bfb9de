"""Errors that a user can act on; each class knows the exit code that the command line ends with."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MOST_SEED = 1 << 63
CODES: Mapping[str, str] = {
    "ambiguous-name": "Several records, methods or plug-ins have that name; the message says how to name one.",
    "bad-label": "A label of a task is missing, given twice or not of the kind that the task needs.",
    "bad-option": "An option or a key of a recipe has a value that it cannot have, or that does not fit another one.",
    "busy": "Another process is writing the same folder or file.",
    "damaged-file": "A file of a corpus, run or checkpoint is missing, cut short or changed since it was written.",
    "diverged": "The loss or its gradient became infinite or NaN; the message says which setting to change.",
    "empty-data": "A file or a record holds nothing.",
    "exists": "The output is there already, or is one of the inputs; nothing is written over.",
    "failed": "The command failed for a reason that has no code of its own.",
    "foreign-folder": "The folder was not made by maskseq, or is not of the kind that the command needs.",
    "interrupted": "The command was interrupted; given again, it goes on from there.",
    "malformed-data": "A file of data cannot be read; the message names the place and what is expected.",
    "missing-corpus": "This needs the data that the run was trained on, which are gone, or are others by now.",
    "missing-extra": "A package that only some commands need is not installed; the message names it.",
    "missing-file": "There is no file or folder of that name.",
    "not-supported": "What is requested is not defined for this tokenizer, format, run or machine.",
    "nothing-to-do": "Nothing is requested, or nothing in the data can answer it.",
    "other-data": "The folder belongs to other files, another recipe or another run than those given.",
    "other-tokenizer": "The tokenizer is not the one that the folder was made with: its ids mean other values.",
    "out-of-memory": "There is not enough memory on this machine.",
    "outside-record": "A stretch or a position is not in the record that it is about.",
    "plugin-failed": "A plug-in failed in a way that its contract does not know.",
    "system": "The operating system refused: a full disk, a missing permission, a name that cannot be.",
    "too-large": "A file decompresses to far more than can be meant.",
    "too-little-data": "The data are too few for what is requested.",
    "undecided": "The content of a file does not say how to read it; the ways to choose from are listed.",
    "unknown-file": "No format recognizes the file; `--format` names one.",
    "unknown-name": "No field, column, format, tokenizer, expert, method, record, rule or recipe has that name.",
    "unknown-option": "A recipe, a format, a tokenizer or a command has no option of that name.",
    "unreachable": "A server, an object store or a port cannot be reached or opened.",
    "untrusted-code": "The folder names code that is not installed, and the command was not allowed to load it.",
    "usage": "A wrong command, option or argument that has no code of its own.",
}
"""What each `code` of an error means. Codes stay what they are; sentences may change."""


class MaskseqError(Exception):
    """Base of everything that maskseq raises on purpose."""

    exit_code = 1
    code = "failed"
    """What is wrong, as one of `CODES`: what scripts and tests go by."""

    def __init__(self, *message: str, code: str | None = None) -> None:
        self.code = code or self.code
        super().__init__(*message)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints when a command ends with it."""
        problem, _, hint = str(self).partition("\n\n")
        return {"error": {"code": self.code, "message": problem, "hint": hint.removeprefix("hint: ")}}


class DataWarning(UserWarning):
    """What a reader had to decide about a file, such as rows out of order. Commands show each once."""


class UsageError(MaskseqError, ValueError):
    """A wrong option, recipe or argument: what was given, what was expected, how to fix it."""

    exit_code = 2
    code = "usage"


class DataError(MaskseqError, ValueError):
    """Broken or unexpected data, with the file and the place in it where that was seen.

    `kept` is for formats: what stands there in the file, for `Format.write`, which is given the error among the records
    where it was passed over.
    """

    exit_code = 3
    code = "malformed-data"
    ends = False
    """Nothing behind it can be read."""

    def __init__(
        self, path: Path | str, problem: str, *, place: str = "", kept: Any = None, code: str | None = None
    ) -> None:
        self.path, self.place, self.problem, self.kept = str(path), place, problem, kept
        super().__init__(": ".join(part for part in (self.path, place, problem) if part), code=code)

    def __reduce__(self) -> tuple[object, ...]:  # survives the trip back from a worker process
        return _rebuild_data_error, (self.path, self.problem, self.place, self.code)


class PluginError(MaskseqError):
    """A plug-in failed in a way that its contract does not know: which one, where in it, and on what.

    `__cause__` is what it raised.
    """

    code = "plugin-failed"

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


def first_problem(error: Any, *section: str) -> tuple[str, str]:
    """Of a pydantic `ValidationError`: where the first problem is, as keys with dots between them, and what it is."""
    first = error.errors()[0]
    return ".".join(map(str, (*section, *first["loc"]))), first["msg"].removeprefix("Value error, ")


def check_seed(seed: int) -> None:
    """`UsageError` for a seed that not every generator takes."""
    if not 0 <= seed < MOST_SEED:
        raise UsageError(f"seed = {seed} must be 0 or more, and below 2^63", code="bad-option")


def _rebuild_plugin_error(plugin: str, problem: str, record: str, file: str) -> PluginError:
    return PluginError(plugin, problem, record=record, file=file)


def _rebuild_data_error(path: str, problem: str, place: str, code: str) -> DataError:
    return DataError(path, problem, place=place, code=code)
