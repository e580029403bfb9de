"""What reading a corpus from an object store costs, beside the local disk, and what of it training waits for.

    OMP_NUM_THREADS=1 python benchmarks/object_store_speed.py [--million-bases 20]

Seconds of the clock, because here the waiting counts. The store is moto's S3 server in a process of its own: a slow
server without a network. It shows whether the waiting is hidden, not what a real store delivers.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np

from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.masking.config import MaskingConfig
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq_genomics.fasta import FastaSequence
from maskseq_genomics.nucleotide import NucleotideTokenizer

RUNS = 3
WINDOW = 1024
STEP = 0.01  # seconds that a row is trained on, where waiting for rows is measured
CONFIG = PackingConfig(row_tokens=8192, context=WINDOW)


def main(million_bases: int) -> None:
    """The way from an object store to the rows, in seconds of the clock, beside that from the local disk."""
    bases = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), size=million_bases * 10**6)
    records = [
        FastaSequence(key=f"chr{i}", residues=part.tobytes(), header=b"chr")
        for i, part in enumerate(np.array_split(bases, 10))
    ]
    with tempfile.TemporaryDirectory() as name, s3_server() as bucket:
        for place in (f"{name}/corpus", f"{bucket}/corpus"):
            began = time.monotonic()
            corpus = build_from_records(
                records, output=place, tokenizer=NucleotideTokenizer(), split=SplitConfig(by="none")
            )
            seconds = time.monotonic() - began
            print(f"{place.split(':')[0] if ':' in place else 'disk'}: building {len(bases) / seconds / 1e6:.1f} MB/s")
            print_waiting(corpus)


def print_waiting(corpus: Corpus) -> None:
    """What reading costs in time, and what of it training would wait for."""
    n_bases = corpus.manifest["positions"]
    windows = np.random.default_rng(1).integers(0, n_bases - WINDOW, size=100).tolist()
    seconds = best(lambda: [corpus.read_span(w, w + WINDOW) for w in windows])
    print(f"  a random window of 1,024: {1e3 * seconds / len(windows):.1f} ms")
    seconds = best(lambda: [corpus.read_span(at, at + (4 << 20)) for at in range(0, n_bases, 4 << 20)])
    print(f"  spans of 4 M: {n_bases / seconds / 1e6:.1f} Mtok/s")
    rows = PackedRows(corpus, config=CONFIG, masking=MaskingConfig(), seed=0)
    waits = []
    with closing(rows.prefetch(0)) as stream:
        next(stream)
        for _ in range(min(rows.n_rows(), 1500) - 1):
            time.sleep(STEP)
            began = time.monotonic()
            next(stream)
            waits.append(time.monotonic() - began)
    print(
        f"  rows for a training of {CONFIG.row_tokens / STEP / 1e6:.2f} Mtok/s: waited {sum(waits):.2f} s of "
        f"{sum(waits) + STEP * len(waits):.1f} s, at most {1e3 * max(waits):.0f} ms at a time"
    )


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a bucket on a server of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"))
                break
            except OSError:
                time.sleep(0.2)
        yield "s3://bucket"
    finally:
        server.terminate()
        server.wait()


def best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(RUNS):
        began = time.monotonic()
        run()
        seconds.append(time.monotonic() - began)
    return min(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million-bases", type=int, default=20)
    main(**vars(parser.parse_args()))
