"""Errors that a user can act on; each class knows the exit code that the command line ends with."""

from pathlib import Path


class MaskseqError(Exception):
    """Base of everything that maskseq raises on purpose."""

    exit_code = 1


class DataWarning(UserWarning):
    """What a reader had to decide about a file, such as rows out of order. Commands show each once."""


class UsageError(MaskseqError, ValueError):
    """A wrong option, recipe or argument: what was given, what was expected, how to mend it."""

    exit_code = 2


class DataError(MaskseqError, ValueError):
    """Broken or unexpected data, with the file and the place in it where that was seen."""

    exit_code = 3

    def __init__(self, path: Path | str, problem: str, *, place: str = "") -> None:
        self.path, self.place, self.problem = str(path), place, problem
        super().__init__(": ".join(part for part in (self.path, place, problem) if part))

    def __reduce__(self) -> tuple[object, ...]:  # survives the trip back from a worker process
        return _rebuild_data_error, (self.path, self.problem, self.place)


def _rebuild_data_error(path: str, problem: str, place: str) -> DataError:
    return DataError(path, problem, place=place)
