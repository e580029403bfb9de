"""Self-contained HTML pages: one style, no scripts, no links."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from maskseq.storage.outputs import write
from maskseq.storage.standard_json import to_json

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
th { border-bottom: 1px solid #999 } code { font: 13px/1.6 ui-monospace, monospace; overflow-wrap: anywhere }
.wrong { background: #fbd5d5 } .right { background: #d8f0d8 } small { color: #666 }
figure { display: inline-block; margin: 0 1.5rem 1rem 0 } figcaption { font-weight: 600 } pre { overflow-x: auto }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page of HTML parts; it appears when it is whole."""
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )
    write(path, page.encode(errors="backslashreplace"))  # names of files need not be text


def section(name: str, value: object) -> str:
    """A heading and a table of names and values, or one line."""
    if not isinstance(value, Mapping):
        return f"<p><b>{escape(name)}</b> {escape(text(value))}</p>"
    lines = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(text(v))}</td></tr>" for k, v in value.items())
    return f"<h2>{escape(name)}</h2><table>{lines}</table>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a header."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def text(value: object) -> str:
    """A value as a reader wants it: four digits, thousands apart."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else to_json(value, ascii=False)
