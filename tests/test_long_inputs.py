"""Memory: of a long log, what one case takes; of a long recording, its values and little else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent

READ_LOG = """
import sys
from pathlib import Path
from corpora import memory
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes
path = Path(sys.argv[1])
before = memory("VmRSS")
tokenizer = EventTokenizer.fit(Xes().read(path), attributes=["who"])
print(sum(len(tokenizer.encode(case)) for case in Xes().read(path)), memory("VmHWM") - before)
"""

READ_RECORDING = """
import sys
from pathlib import Path
from corpora import memory
from maskseq_signals.tokenizer import QuantizeTokenizer
from maskseq_signals.{module} import {format}
path = Path(sys.argv[1])
before = memory("VmRSS")
tokenizer = QuantizeTokenizer.fit({format}().read(path), scheme="uniform", bins=64)
(record,) = {format}().read(path)
print(tokenizer.encode(record).ids.size, memory("VmHWM") - before)
"""


def grown(program, path):
    """Cells that a new process made of the file, and by how many bytes it grew at most."""
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    assert done.returncode == 0, done.stderr
    cells, memory = map(int, done.stdout.split())
    return cells, memory


def write_log(path, n_cases):
    event = (
        '<event><string key="concept:name" value="step {}"/><string key="who" value="user {}"/>'
        '<date key="time:timestamp" value="2024-01-{:02d}T10:{:02d}:00.000+01:00"/></event>'
    )
    with path.open("w") as file:
        file.write("<log>")
        for case in range(n_cases):
            events = "".join(event.format(e % 7, (case + e) % 40, e + 1, case % 60) for e in range(20))
            file.write(f'<trace><string key="concept:name" value="case {case}"/>{events}</trace>')
        file.write("</log>")


def log_does_not_grow(folder, few, many):
    sizes = {}
    for n in (few, many):
        write_log(folder / f"{n}.xes", n)
        cells, sizes[n] = grown(READ_LOG, folder / f"{n}.xes")
        assert cells == n * 21
    assert sizes[many] - sizes[few] < 20e6, sizes


def test_a_longer_log_takes_no_more_memory(tmp_path):
    log_does_not_grow(tmp_path, 500, 4000)


@pytest.mark.soak
def test_a_log_of_two_million_events_takes_no_more_memory(tmp_path):
    log_does_not_grow(tmp_path, 5000, 100_000)


def write_wfdb(folder, length):
    """Two leads in format 16, 250 samples a second."""
    rng = np.random.default_rng(0)
    samples = np.cumsum(rng.integers(-3, 4, size=(length, 2)), axis=0).astype("<i2")
    sums = samples.sum(axis=0, dtype=np.int64) % (1 << 16)
    lines = [f"r.dat 16 200(0)/mV 16 0 {samples[0, i]} {sums[i]} 0 lead {i}" for i in range(2)]
    (folder / "r.hea").write_text("\n".join([f"r 2 250 {length}", *lines]) + "\n")
    samples.tofile(folder / "r.dat")
    return folder / "r.hea"


def write_edf(folder, length):
    import edfio

    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(np.cumsum(rng.normal(size=length)) / 100, 250, label=f"lead {i}", physical_dimension="uV")
        for i in range(2)
    ]
    edfio.Edf(signals).write(folder / "r.edf")
    return folder / "r.edf"


RECORDINGS = {"wfdb": ("Wfdb", write_wfdb, 18), "edf": ("Edf", write_edf, 24)}


def recording_takes(module, folder, length):
    """Bytes a value, at the peak."""
    name, write, _ = RECORDINGS[module]
    program = READ_RECORDING.format(module=module, format=name)
    path = write(folder, length)
    cells, memory = grown(program, path)
    assert cells == 2 * length
    return (memory - 30e6) / cells


@pytest.mark.parametrize("module", RECORDINGS)
def test_a_recording_takes_its_values_and_little_more(module, tmp_path):
    assert recording_takes(module, tmp_path, 8000 * 250) <= RECORDINGS[module][2]


@pytest.mark.soak
@pytest.mark.parametrize("module", RECORDINGS)
def test_a_day_takes_its_values_and_little_more(module, tmp_path):
    assert recording_takes(module, tmp_path, 24 * 3600 * 250) <= RECORDINGS[module][2]
