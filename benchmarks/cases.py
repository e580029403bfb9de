"""What becomes of small files as people have them: `maskseq init FILE --yes`, then read and written back.

    python -m benchmarks.cases FOLDER            what the installed code makes of each file of a folder
    python -m benchmarks.cases FOLDER --store after
    python -m benchmarks.cases --report          docs/files.md, from what is stored of two versions

The files are made up, each for a kind of fault that users of other tools have reported.
"""

import argparse
import contextlib
import gzip
import io
import json
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "cases"
PAGE = REPOSITORY / "docs" / "files.md"
GZIP = b"\x1f\x8b"
LONGEST = 150
"""Characters of a message that are shown."""
HEAD = """# Files as people have them

What `maskseq init FILE --yes` and a reader make of small files that are made up after faults which users of other tools
have reported: before the readers were extended for them, and now. This page is made from `benchmarks/results/cases` by
`python -m benchmarks.cases --report`. A file is *refused* with one line and an exit code; `--on-error skip` then leaves
out what cannot be read, where the message says so.
"""


def outcomes(folder: Path) -> Iterator[tuple[str, str]]:
    """The name of each file and what becomes of it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix not in (".dat", ".md"):
            yield path.relative_to(folder).as_posix(), outcome(path)


def outcome(path: Path) -> str:
    """In a line: refused and why, or how it is read, what is in it, and whether it comes back."""
    with tempfile.TemporaryDirectory() as inner, warnings.catch_warnings(action="ignore"):
        try:
            if path.suffix == ".vcf":
                return _variants(path)
            recipe = Path(inner) / "recipe.toml"
            if refused := _init(path, recipe):
                return refused
            return _read(path, tomllib.loads(recipe.read_text())["data"], Path(inner))
        except Exception as error:  # of whatever version
            known = {base.__name__ for base in type(error).__mro__} & {"DataError", "UsageError"}
            text = str(error).partition("\n")[0].replace(str(path), path.name)[:LONGEST]
            return f"refused when read: {text}" if known else f"**{type(error).__name__}**: {text}"


def _init(path: Path, recipe: Path) -> str:
    """Why `maskseq init` refuses the file; empty where it does not."""
    from typer.testing import CliRunner

    from maskseq.cli import app

    with contextlib.chdir(path.parent), contextlib.redirect_stderr(io.StringIO()) as stderr:
        result = CliRunner().invoke(app, ["init", path.name, "--yes", "-o", str(recipe)])
    if result.exit_code == 0:
        return ""
    lines = [line for line in (result.output + stderr.getvalue()).splitlines() if line.startswith("error: ")]
    text = lines[0].removeprefix("error: ") if lines else repr(result.exception)
    return f"refused ({result.exit_code}): {text[:LONGEST]}{'…' * (len(text) > LONGEST)}"


def _read(path: Path, data: Mapping[str, object], folder: Path) -> str:
    from maskseq.plugins import format_for

    name, options = str(data.get("format") or ""), dict(data.get("format_options", {}))  # type: ignore[call-overload]
    reader = format_for(path, name or None, **options)
    records = list(reader.read(path))
    text = f"{name or 'by its name'}: {len(records):,} record{'s' * (len(records) != 1)}, "
    text += f"{sum(map(len, records)):,} raw units"
    if names := getattr(records[0], "names", None):
        text += f", {len(names)} channel{'s' * (len(names) != 1)}"
    writer, target = reader.written_as(folder / path.name)
    writer.write(records, target)
    if writer is not reader:
        return f"{text}; written as {target.suffix[1:]}"
    now, was = target.read_bytes(), path.read_bytes()
    if now == was:
        return f"{text}; comes back byte for byte"
    unpacked = [gzip.decompress(each) if each.startswith(GZIP) else each for each in (now, was)]
    return f"{text}; comes back {'but for its compression' if unpacked[0] == unpacked[1] else 'otherwise'}"


def _variants(path: Path) -> str:
    from maskseq_genomics.vcf import Vcf

    listed = list(Vcf().read(path))
    unscored = sum(type(each).__name__ == "Unscored" for each in listed)
    return f"vcf: {len(listed)} rows, {unscored} of them with the reason why they have no score"


def page(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The page, from the outcomes of two versions."""
    lines, domain = [HEAD], ""
    for name in sorted({*before, *after}):
        if name.partition("/")[0] != domain:
            domain = name.partition("/")[0]
            lines.append(f"\n## {domain.capitalize()}\n\n| file | before | now |\n|---|---|---|\n")
        cells = (each.get(name, "").replace("|", "\\|").replace("<", "&lt;") for each in (before, after))
        lines.append(f"| `{name.partition('/')[2]}` | {' | '.join(cells)} |\n")
    return "".join(lines)


def stored(name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--store", choices=("before", "after"), help="keep the outcomes under this name")
    parser.add_argument("--report", action="store_true", help="write docs/files.md")
    arguments = parser.parse_args()
    if arguments.folder:
        found = dict(outcomes(arguments.folder))
        print(*(f"{name}: {text}" for name, text in found.items()), sep="\n")
        if arguments.store:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{arguments.store}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if arguments.report:
        PAGE.write_text(page(stored("before"), stored("after")))


if __name__ == "__main__":
    main()
