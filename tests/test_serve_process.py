"""The server as a process, and its page in a browser."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import log, log_run

HOLES = log(6, 2).replace(",b,", ",?,")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return log_run(tmp_path_factory.mktemp("process"))


@contextmanager
def serving(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "maskseq", "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.findall(r"http://\S+/", line):
                break
        else:
            raise AssertionError("".join(lines))
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(address: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_it_answers_what_has_begun_when_it_is_stopped(run: Path) -> None:
    with serving(run) as (process, address):
        assert ask(address + "health")["status"] == "ok"
        sent = {"name": "a.csv", "text": "\n".join([HOLES.strip()] + [f"x{i},?,?" for i in range(3000)])}
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.append(ask(address + "infill", sent)))
        asking.start()
        while not ask(address + "health")["requests"]:
            pass
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert process.wait(60) in (0, -signal.SIGTERM)
    assert len(found[0]["cells"]) > 3000


def test_a_port_in_use_is_one_line(run: Path) -> None:
    with serving(run) as (_, address):
        port = address.rsplit(":", 1)[1].strip("/")
        command = [sys.executable, "-m", "maskseq", "serve", str(run), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert port in done.stderr
    assert "Traceback" not in done.stderr


CHROMIUM = os.environ.get("MASKSEQ_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    with api.sync_playwright() as started:
        try:
            chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"needs a Chromium ({str(error).splitlines()[0]}): apt-get install chromium")
        yield chromium
        chromium.close()


def test_a_file_is_filled_edited_and_downloaded_in_a_browser(run: Path, browser: Any, tmp_path: Path) -> None:
    holes = tmp_path / "holes.csv"
    holes.write_bytes(HOLES.replace("\n", "\r\n").encode())
    with serving(run) as (_, address):
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.goto(address)
        page.set_input_files("#file", str(holes))
        page.click("#fill")
        cells = page.locator("button.cell")
        cells.first.wait_for()
        assert cells.count() == HOLES.count("?")
        cells.first.click()
        page.locator("#cell .bar").first.wait_for()
        other = page.locator("#cell .bar").nth(2)
        value = other.locator("span").first.inner_text()
        other.click()
        page.locator("button.cell.fixed").wait_for()
        assert page.locator("button.cell.fixed").inner_text() == value
        with page.expect_download() as downloaded:
            page.click("#download")
        page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
        filled = Path(downloaded.value.path()).read_bytes().decode()
        assert downloaded.value.suggested_filename == "holes.csv"
        page.fill("#content", "no,such\nfile\n")
        page.click("#fill")
        page.locator(".problem").wait_for()
        page.close()
    assert [fault for fault in faults if "422" not in fault] == []
    before, after = HOLES.splitlines(), filled.split("\r\n")
    first = next(i for i, line in enumerate(before) if ",?," in line)
    assert after[first] == before[first].replace("?", value)
    for old, new in zip(before, after, strict=False):
        assert old == new or ",?," in old
    assert "?" not in filled
