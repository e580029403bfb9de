"""The ablation: the shipped encoder against itself with one switch turned back, on a genome, a log and a signal.

    python -m benchmarks.ablation                       # every cell that is missing, the least part first
    python -m benchmarks.ablation --only genome-gelu-0  # one cell again
    python -m benchmarks.ablation --list                # their names, and which are done
    python -m benchmarks.ablation --report              # write docs/ablation.md from all results that are there

Run it from the root of the repository. It goes on where it was interrupted, within a training as well. A result has
the command, the commit, the machine and the resolved recipe. The data are looked for in `../shared/data`, or where
MASKSEQ_SHARED_DATA says.
"""

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.ablation.cells import DOMAINS, PROTOCOLS, Cell, cells
from benchmarks.ablation.report import write_report
from benchmarks.panel.walk import Ended, checkout, data_folder, machine, process

ROOT = Path(__file__).resolve().parents[2]
PREDICTORS = {"model": "blend", "encoder (expert)": "encoder"}
"""Rows of an evaluation, and what they are called here."""
JUDGED = 4_000
"""Cells of each protocol."""


def run(cell: Cell, *, data: Path, work: Path, commit: str, command: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train and judge a cell; returns what is kept of it."""
    folder = work / cell.name
    words = [f"data.files={json.dumps([str(data / DOMAINS[cell.domain])])}", *cell.overrides, *overrides]
    recipe = ROOT / "recipes" / "ablation" / f"{cell.domain}.toml"
    sets = [word for each in words for word in ("--set", each)]
    trained = _call(["pretrain", str(recipe), "-o", str(folder), *sets])
    protocols = [word for each in PROTOCOLS[cell.domain] for word in ("--protocol", each)]
    output = folder / "evaluation"
    _call(["evaluate", str(folder), *protocols, "--cells", str(JUDGED), "-o", str(output)])
    judged = json.loads((output / "evaluation.json").read_text(encoding="utf-8"))["protocols"]
    return {
        "domain": cell.domain,
        "switch": cell.switch,
        "seed": cell.seed,
        "bits": {
            protocol: {name: each["by"][row]["bits"] for row, name in PREDICTORS.items() if row in each["by"]}
            for protocol, each in judged.items()
        },
        "cpu seconds": round(trained.cpu),
        "recipe": json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["recipe"],
        "commit": commit,
        "command": command,
        "machine": machine(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _call(words: list[str]) -> Ended:
    """A command of maskseq, on one thread; whatever it says when it fails ends the ablation."""
    ended = process(["-m", "maskseq", *words], None, ROOT)
    if ended.code:
        sys.exit(f"maskseq {words[0]}: {ended.output}")
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="CELL", help="run this cell, again if it has been run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all cells, such as a try")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "ablation")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "ablation")
    parser.add_argument("--list", action="store_true", help="only print the names of the cells")
    parser.add_argument("--report", action="store_true", help="only write docs/ablation.md")
    requested = parser.parse_args()
    if requested.report:
        print(write_report(requested.results, ROOT / "docs" / "ablation.md"))
        return 0
    every = {each.name: each for each in cells(requested.seeds)}
    if unknown := set(requested.only or ()) - every.keys():
        parser.error(f"unknown cells: {', '.join(sorted(unknown))}; --list prints the names")
    path = {name: requested.results / f"{name}.json" for name in every}
    if requested.list:
        print("\n".join(f"{name}{'  done' if path[name].exists() else ''}" for name in every))
        return 0
    todo = requested.only or [name for name in every if not path[name].exists()]
    requested.results.mkdir(parents=True, exist_ok=True)
    with checkout(ROOT, None, requested.work) as (commit, _):
        for number, name in enumerate(todo, 1):
            print(f"{datetime.now(UTC):%H:%M:%S} {name}: {number} of {len(todo)}", file=sys.stderr, flush=True)
            result = run(
                every[name],
                data=data_folder(ROOT),
                work=requested.work,
                commit=commit,
                command=" ".join(["python -m benchmarks.ablation", *sys.argv[1:]]),
                overrides=tuple(requested.set),
            )
            aside = path[name].with_suffix(".tmp")
            aside.write_text(json.dumps(result, indent=1), encoding="utf-8")
            aside.replace(path[name])
            shutil.rmtree(requested.work / name)  # its corpus and weights: the cell runs again from its recipe
    return 0


if __name__ == "__main__":
    sys.exit(main())
