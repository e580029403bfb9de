"""Requests from several clients at a time, to a server of this machine: times, and whether an answer was lost.

python benchmarks/serve_load.py RUN FILE --clients 8 --requests 200 --json benchmarks/results/serve_load.json
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("file", type=Path)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--json", type=Path, help="write the figures there as well")
    given = options.parse_args()
    command = [sys.executable, "-m", "maskseq", "serve", str(given.run), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    address = next(found[0] for line in server.stderr if (found := re.findall(r"http://[\w.:]+/", line)))
    body = json.dumps({"name": given.file.name, "text": given.file.read_text(encoding="utf-8")}).encode()

    def ask(_: int) -> tuple[float, int, str]:
        began = time.perf_counter()
        request = urllib.request.Request(address + "infill", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return time.perf_counter() - began, answer.status, json.load(answer)["file"]["text"]
        except urllib.error.HTTPError as error:
            return time.perf_counter() - began, error.code, ""

    ask(0)
    began = time.perf_counter()
    with ThreadPoolExecutor(given.clients) as clients:
        found = list(clients.map(ask, range(given.requests)))
    took = time.perf_counter() - began
    server.send_signal(signal.SIGTERM)
    code = server.wait(60)
    times = sorted(seconds for seconds, _, _ in found)
    states = Counter(status for _, status, _ in found)
    texts = {text for _, status, text in found if status == 200}
    figures = {
        "clients": given.clients,
        "requests": given.requests,
        "bytes of a request": len(body),
        "seconds": round(took, 2),
        "requests per second": round(given.requests / took, 2),
        "p50, ms": round(1000 * times[len(times) // 2]),
        "p95, ms": round(1000 * times[int(0.95 * len(times))]),
        "answers by status": {str(status): n for status, n in states.items()},
        "different fills": len(texts),
        "server ended with": code,
        "load of the machine": round(os.getloadavg()[0], 1),
        "processors": os.cpu_count(),
    }
    for name, figure in figures.items():
        print(f"{name:28} {figure}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(sum(states.values()) != given.requests or len(texts) > 1)


if __name__ == "__main__":
    main()
