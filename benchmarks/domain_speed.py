"""How fast event logs and recordings are read and become corpora on one core, beside readers in wide use.

    OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 python benchmarks/domain_speed.py --log bpic2012.xes.gz [--peers PYTHON]

Prints the best CPU time of three for reading a XES log (`--log`), from there to a finished corpus (vocabularies and
bins fitted, tokens written), and for reading and quantizing a day of two leads at 250 Hz that is made up here, as WFDB
and as EDF. Peers are run by the interpreter `--peers` (default: this one), in which `pip install rustxes wfdb edfio`
has been done; those that are not there are left out. Genomes have genomics_speed.py.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np

from maskseq.apps.prepare import prepare_corpus
from maskseq.recipe import load_recipe
from maskseq_events.xes import Xes
from maskseq_signals.edf import Edf
from maskseq_signals.tokenizer import QuantizeTokenizer
from maskseq_signals.wfdb import Wfdb

RATE, LEADS = 250, 2
PEERS = {
    "rustxes": "import rustxes\ndo = lambda: rustxes.import_xes(path)",
    "wfdb": "import wfdb\ndo = lambda: wfdb.rdrecord(path.removesuffix('.hea'))",
    "edfio": "import edfio\ndo = lambda: [signal.data for signal in edfio.read_edf(path).signals]",
}
TIMED = """
import sys, time
path = sys.argv[1]
{setup}
times = []
for _ in range(3):
    start, wall = time.process_time(), time.perf_counter()
    kept = do()
    times.append((time.process_time() - start, time.perf_counter() - wall))
print(*min(times))
"""


def main(log: Path | None, hours: float, peers: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if log is not None:
            n_events = sum(map(len, Xes().read(log)))
            print(f"{log.name}: {n_events:,} events")
            report("read XES", n_events, "events", lambda: list(Xes().read(log)))
            beside("rustxes", log, n_events, "events", peers)
            report("XES to a corpus", n_events, "events", lambda: build(log, folder))
        length = int(hours * 3600 * RATE)
        header, edf = write_wfdb(folder, length), write_edf(folder, length)
        n_values = LEADS * length
        print(f"{hours:g} hours, {LEADS} leads at {RATE} Hz: {n_values:,} values")
        report("read WFDB", n_values, "values", lambda: list(Wfdb().read(header)))
        beside("wfdb", header, n_values, "values", peers)
        report("read EDF, checked", n_values, "values", lambda: list(Edf().read(edf)))
        beside("edfio", edf, n_values, "values", peers)
        (record,) = Wfdb().read(header)
        for scheme in ("uniform", "quantile", "level"):
            tokenizer = QuantizeTokenizer.fit([record], scheme=scheme, bins=64)
            report(f"quantize: {scheme}", n_values, "values", lambda: tokenizer.encode(record))  # noqa: B023


def report(what: str, n: int, unit: str, do: Callable[[], object]) -> None:
    times = []
    for _ in range(3):
        start, wall = time.process_time(), time.perf_counter()
        do()
        times.append((time.process_time() - start, time.perf_counter() - wall))
    tell(what, n, unit, *min(times))


def beside(peer: str, path: Path, n: int, unit: str, python: str) -> None:
    command = [python, "-c", TIMED.format(setup=PEERS[peer]), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode == 0:
        tell(f"    by {peer}", n, unit, *map(float, done.stdout.split()))
    else:
        reported = done.stderr.strip().splitlines()[-1] if done.stderr else "no reason given"
        print(f"    {peer} is left out: {reported}")


def tell(what: str, n: int, unit: str, seconds: float, wall: float) -> None:
    print(f"{what:28} {seconds:8.3f} s of CPU, {wall:7.3f} s in all, {n / seconds / 1e6:8.2f} M {unit}/s", flush=True)


def build(log: Path, folder: Path) -> None:
    """Another folder each time: a finished corpus would be kept."""
    attributes = ["org:resource", "lifecycle:transition", "case:AMOUNT_REQ"]
    recipe = load_recipe({"data": {"files": [str(log)]}, "tokenizer": {"name": "event", "attributes": attributes}})
    prepare_corpus(recipe, default=Path(tempfile.mkdtemp(dir=folder)) / "corpus")


def walk(length: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    steps = rng.integers(-3, 4, size=(length, LEADS)).astype(np.int16)
    return np.cumsum(steps, axis=0, dtype=np.int64).clip(-30_000, 30_000).astype("<i2")


def write_wfdb(folder: Path, length: int) -> Path:
    samples = walk(length)
    sums = samples.sum(axis=0, dtype=np.int64) % (1 << 16)
    lines = [f"day.dat 16 200(0)/mV 16 0 {samples[0, i]} {sums[i]} 0 lead {i}" for i in range(LEADS)]
    (folder / "day.hea").write_text("\n".join([f"day {LEADS} {RATE} {length}", *lines]) + "\n")
    samples.tofile(folder / "day.dat")
    return folder / "day.hea"


def write_edf(folder: Path, length: int) -> Path:
    values = walk(length) / 200
    edfio.Edf([edfio.EdfSignal(values[:, i], RATE, label=f"lead {i}") for i in range(LEADS)]).write(folder / "day.edf")
    return folder / "day.edf"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, help="A XES file, such as bpic2012.xes.gz.")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--peers", default=sys.executable, help="The Python interpreter that has the peers.")
    given = parser.parse_args()
    main(given.log, given.hours, given.peers)
