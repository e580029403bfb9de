"""What the readers of signal files share."""

from pathlib import Path

from maskseq.errors import DataError
from maskseq.files import read_bytes


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, line ends and byte order mark as they are; `DataError` names the line that is no text."""
    content = read_bytes(path)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            path, f"byte 0x{content[error.start]:02x} is not {encoding}; is it another file type?", place=f"line {line}"
        ) from None


def recording_name(path: Path) -> str:
    """The file's name without its endings, which names its recording."""
    return Path(path.name.removesuffix(".gz")).stem
