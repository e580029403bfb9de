"""The panel: what `maskseq init` and `maskseq pretrain` reach, unchanged, beside simple methods, on many files.

    python -m benchmarks.panel                          # every set of the tuning half, by the code of this checkout
    python -m benchmarks.panel --code COMMIT            # by the code of any commit, with the questions of this checkout
    python -m benchmarks.panel --half report            # nothing is chosen by looking at it; each run is logged
    python -m benchmarks.panel --report                 # write docs/panel.md from all results that are there

Run it from the root of the repository. It goes on where it was interrupted: each step of each set is a file. Results
are in `benchmarks/results/panel/COMMIT`, what they were made from is in `runs/panel/COMMIT`. The data are looked for
in `../shared/data`, or where MASKSEQ_SHARED_DATA says.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.panel.report import write_report
from benchmarks.panel.sets import SETS
from benchmarks.panel.walk import Panel, checkout, data_folder

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", metavar="COMMIT", help="run the code of this commit (default: of this checkout)")
    parser.add_argument("--half", choices=("tuning", "report", "both"), default="tuning")
    parser.add_argument("--only", action="append", metavar="SET", help=f"of {', '.join(each.name for each in SETS)}")
    parser.add_argument("--limit-cpu", type=float, default=300.0, help="CPU seconds of a training (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the training; questions stay the same")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "panel")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "panel")
    parser.add_argument("--report", action="store_true", help="only write docs/panel.md")
    requested = parser.parse_args()
    if requested.report:
        print(write_report(requested.results, ROOT / "docs" / "panel.md"))
        return 0
    unknown = set(requested.only or ()) - {each.name for each in SETS}
    if unknown:
        parser.error(f"there is no set {', '.join(sorted(unknown))}")
    chosen = [
        each
        for each in SETS
        if (each.name in requested.only if requested.only else requested.half in (each.half, "both"))
    ]
    with checkout(ROOT, requested.code, requested.work) as (commit, code):
        panel = Panel(
            root=ROOT,
            code=code,
            commit=commit,
            data=data_folder(ROOT),
            work=requested.work,
            results=requested.results,
            limit_cpu=requested.limit_cpu,
            seed=requested.seed,
            command=" ".join(["python -m benchmarks.panel", *sys.argv[1:]]),
        )
        failed = panel.run(chosen)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
