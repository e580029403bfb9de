"""Where things are: paths of this machine or URLs, as the user gives them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from maskseq.errors import DataError
from maskseq.storage.folder import Folder
from maskseq.storage.local import LocalFolder
from maskseq.storage.remote import RemoteFolder

Place = Path | str
"""A path, or a URL (as text: a `Path` would spoil its slashes)."""


def is_url(place: Place) -> bool:
    return "://" in str(place)


def open_folder(place: Place) -> Folder:
    if not is_url(place):
        return LocalFolder(Path(place))
    url = urlsplit(str(place))
    return LocalFolder(Path(unquote(url.path))) if url.scheme == "file" else RemoteFolder(str(place))


@contextmanager
def local_files(places: Sequence[str]) -> Iterator[list[Path]]:
    """The same files on this machine: those behind URLs as copies, which go when the context ends.

    Copied once rather than streamed, because formats seek and a build reads its input two or three times: for its
    digest, for what the tokenizer learns, and to encode it.
    """
    with ExitStack() as copies:
        paths = [copies.enter_context(_local_file(place)) if is_url(place) else Path(place) for place in places]
        try:
            yield paths
        except DataError as error:  # the user knows the URL, not our copy
            for place, path in zip(places, paths, strict=True):
                if is_url(place) and error.path == str(path):
                    raise DataError(place, error.problem, place=error.place, code=error.code) from error
            raise


@contextmanager
def _local_file(url: str) -> Iterator[Path]:
    parent, _, name = url.rpartition("/")
    with ExitStack() as copy:
        try:
            path = copy.enter_context(open_folder(parent).local_file(name))
        except FileNotFoundError:
            raise DataError(url, "there is no such file", code="missing-file") from None
        yield path
