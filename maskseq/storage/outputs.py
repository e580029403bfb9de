"""What is written appears under its name once it is whole, and one process at a time writes it.

Until then it lies next to that name in a work folder: `.NAME.DIGEST.maskseq`, with a mark that says that it is ours and
that is locked as long as a process is at work. However that process ends, the lock ends with it, and the next one that
writes the same output goes on from what it finds in the folder, or removes it. Nothing that we did not make is removed,
and no link is followed. Plug-ins may use it as well:

    with replacing(Path("table.csv")) as aside:
        aside.write_text("a,b")
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from maskseq.errors import DataError, UsageError

ENDING, MARK, CONTENT = ".maskseq", "mark", "content"
SIGNATURE = b"maskseq writes "
SHOWN = 40
"""Letters of an output's name that the name of its work folder repeats; the longest name has 255 bytes."""


@dataclass
class Work:
    """The work folder of an output, which this process holds."""

    target: Path
    folder: Path
    stays: bool = False
    """Whether the state stays for a later process even if this one fails."""

    @property
    def content(self) -> Path:
        """Where the output is made, as a file or a folder."""
        return self.folder / CONTENT

    def publish(self, *, durable: bool = True) -> None:
        """Move the content to its place, instead of the file or empty folder that may be there."""
        if durable:
            sync_tree(self.content)
        self.content.replace(self.target)
        if durable:
            sync(self.target.parent)


@contextmanager
def claimed(
    target: Path, *, new: bool = False, parents: bool = False, shared: bool = False, state: str = ""
) -> Iterator[Work]:
    """Be the only process that writes `target`: `UsageError` where another one does.

    The work folder goes when the block ends, but after a kill or an interruption what is called `state` in it stays,
    for the next process to go on from. `new`: the target must not exist; with `parents` its folder need not either.
    `shared`: several processes may write the same content at once; what a kill leaves of that, `sweep` removes.
    """
    if new:
        _require_absent(target)
    target = target if target.name not in ("", "..") else target.resolve()
    missing = [folder for folder in target.parents if not folder.exists()] if parents else []
    work = Work(target, target.with_name(f".{uuid4().hex}{ENDING}") if shared else work_folder(target))
    kept: Collection[str] = ()
    try:
        with explained(target):
            if missing:
                target.parent.mkdir(parents=True, exist_ok=True)
            handle = _taken(work.folder, target)
        try:
            if new:  # it may have been written since
                _require_absent(target)
            with explained(target, work.folder):
                _clear(work.folder, but={MARK, state})
                yield work
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            kept = {MARK, state} if state and (work.stays or interrupted) else ()
            if kept and interrupted:
                raise KeyboardInterrupt("interrupted; the same command goes on from here") from None
            raise
        finally:
            _clear(work.folder, but=kept)
            os.close(handle)
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # what is in use stays
                folder.rmdir()
        raise


@contextmanager
def replacing(
    target: Path, *, new: bool = False, parents: bool = False, shared: bool = False, durable: bool = True
) -> Iterator[Path]:
    """A path to make a file or a folder at, which takes the place of `target` when the block ends without an error."""
    with claimed(target, new=new, parents=parents, shared=shared) as work:
        yield work.content
        work.publish(durable=durable)


def write(target: Path, content: bytes | str, *, new: bool = False, shared: bool = False) -> None:
    """Write the whole file or nothing, also across a power cut."""
    with replacing(target, new=new, shared=shared) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def discard(path: Path) -> None:
    """Remove a file or folder of ours; at no moment is a part of it left under its name."""
    with claimed(path) as work:
        path.replace(work.content)


def sweep(folder: Path) -> None:
    """Remove the work folders that killed processes have left in `folder`."""
    for path in folder.glob(f".*{ENDING}"):
        with ExitStack() as stack, suppress(UsageError, OSError):  # what is in use or not ours stays
            handle = _taken(path, path)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where no locks say what is in use
            if _names(path) <= {MARK, CONTENT}:  # else there is something to go on from
                _clear(path)


def work_folder(target: Path) -> Path:
    """The work folder of an output."""
    return target.with_name(f".{target.name[:SHOWN]}.{_digest(target.name)}{ENDING}")


def derived(path: Path, ending: str) -> Path:
    """Beside a file, its name with `ending` behind it: no two files of a folder share it.

    Where that has more than 255 bytes, the beginning of the name and a digest of all of it stand for the name.
    """
    name = path.name + ending
    fits = len(os.fsencode(name)) <= 255
    return path.with_name(name if fits else f"{path.name[:SHOWN]}-{_digest(path.name)}{ending}")


def beside(file: Path, name: str) -> Path:
    """The path of a file of ours called `name` in the folder of a user's file, to which it gives way."""
    return file.with_name(f"maskseq-{name}" if file.name.casefold() == name.casefold() else name)


def require_apart(target: Path, *inputs: Path | None) -> None:
    """`UsageError` where an output would replace what it is made from."""
    for path in inputs:
        if path is not None and path.exists() and target.exists() and path.samefile(target):
            raise UsageError(f"{target} is an input of this command\n\nhint: choose another output", code="exists")


@contextmanager
def locked(path: Path, busy: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder, or a file that is made, as long as the block lasts; `UsageError` where another process does."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with explained(path):
        handle = os.open(path, flags, 0o666)
    try:
        _lock(handle, busy, shared=shared)
        yield
    finally:
        os.close(handle)


@contextmanager
def explained(target: Path, work: Path | None = None) -> Iterator[None]:
    """Turn what the system refuses while `target` is written, in a folder `work`, into one line that names it."""
    try:
        yield
    except BrokenPipeError:  # whoever reads our output has seen enough
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "\n\nhint: make room and run the same command again" if full else ""
        other = work is not None and isinstance(error.filename, str) and not Path(error.filename).is_relative_to(work)
        path = error.filename if other else _known(error.filename, target, work)
        raise DataError(
            path, f"{'' if other else 'cannot be written: '}{error.strerror or error}{hint}", code="system"
        ) from error
    except DataError as error:
        if work is None or not Path(error.path).is_relative_to(work):
            raise
        raise DataError(_known(error.path, target, work), error.problem, place=error.place, code=error.code) from error


def _known(path: object, target: Path, work: Path | None) -> Path:
    """What lies in a work folder, by the name that it will have."""
    if work is None or not isinstance(path, str) or not Path(path).is_relative_to(work / CONTENT):
        return target
    return target / Path(path).relative_to(work / CONTENT)


def _require_absent(target: Path) -> None:
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already\n\nhint: choose another output, or remove it", code="exists")


def _taken(folder: Path, target: Path) -> int:
    """Make the work folder, or take over what another process has left: a handle that holds its lock."""
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        if not _ours(folder):
            raise UsageError(
                f"{folder} was not made by maskseq\n\nhint: move it, or choose another output", code="foreign-folder"
            )
        try:
            handle = os.open(folder / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # its owner has just removed it
            continue
        except OSError:
            folder.rmdir()
            raise
        with ExitStack() as undo:
            undo.callback(os.close, handle)
            _lock(handle, f"{target}: another process is writing it\n\nhint: wait for it, or choose another output")
            if not _same(handle, folder / MARK):  # its owner has removed it meanwhile
                continue
            if not os.fstat(handle).st_size:
                undo.callback(_clear, folder)
                os.pwrite(handle, SIGNATURE + os.fsencode(target.name) + b"\n", 0)
            undo.pop_all()
            return handle


def _ours(folder: Path) -> bool:
    """Whether we made it: it bears our mark, or there was no time yet to write it."""
    try:
        handle = os.open(folder / MARK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return not folder.is_symlink() and folder.is_dir() and not _names(folder)
    with os.fdopen(handle, "rb") as file:
        begin = file.read(len(SIGNATURE))
    return not folder.is_symlink() and (begin == SIGNATURE or (not begin and _names(folder) == {MARK}))


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _lock(handle: int, busy: str, *, shared: bool = False) -> None:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(busy, code="busy") from None
    except OSError:
        return  # a file system without locks: nothing is checked there


def _clear(folder: Path, *, but: Collection[str] = ()) -> None:
    """Empty a work folder that is held, and remove it where nothing is to stay; the mark goes last."""
    for path in folder.iterdir():
        if path.name not in (*but, MARK):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink()
    if MARK not in but:
        (folder / MARK).unlink(missing_ok=True)
        with suppress(OSError):  # the next process may be in it already
            folder.rmdir()


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """The same for a file, or for a folder and all that is in it."""
    for parent, _, names in os.walk(path):
        for name in names:
            sync(Path(parent, name))
        if Path(parent) != path:
            sync(Path(parent))
    sync(path)
