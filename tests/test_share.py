"""What is shared of a run: nothing of its training data unless that is wanted, and what arrives is what was sent."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from served import log, log_run
from three_domains import command

from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.interop import hub
from maskseq.trained import load


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return log_run(tmp_path_factory.mktemp("shared"))


def test_training_data_stay_here(run: Path, tmp_path: Path) -> None:
    done = command("share", run, tmp_path / "out", "--license", "apache-2.0", "--json")
    assert done.exit_code == 0, done.output
    shared = load(tmp_path / "out")
    before, after = load(run).model.state_dict(), shared.model.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md"}
    assert str(run.parent).encode() not in b"".join(path.read_bytes() for path in files)
    assert not shared.experts.stored
    card = (tmp_path / "out" / "README.md").read_text()
    assert "apache-2.0" in card
    assert "left out" in card
    holes = tmp_path / "holes.csv"
    holes.write_text(log(4, 9).replace(",b,", ",?,"))
    assert command("infill", tmp_path / "out", holes, "-o", tmp_path / "filled").exit_code == 0


def test_with_its_data_a_shared_run_predicts_as_the_run_does(run: Path, tmp_path: Path) -> None:
    assert command("share", run, tmp_path / "out", "--with-data").exit_code == 0
    one, other = load(run), load(tmp_path / "out")
    file = tmp_path / "a.csv"
    file.write_text(log(4, 9).replace(",b,", ",?,"))
    for mine, theirs in zip(*(each.infill(each.reader(file).read(file)) for each in (one, other)), strict=True):
        np.testing.assert_array_equal(mine.filled.fill.values, theirs.filled.fill.values)
        np.testing.assert_allclose(mine.filled.fill.log_prob, theirs.filled.fill.log_prob, rtol=1e-5)


@pytest.mark.parametrize("name", ["README.md", "recipe.json", "model.safetensors"])
def test_what_was_changed_on_the_way_is_not_loaded(run: Path, tmp_path: Path, name: str) -> None:
    assert command("share", run, tmp_path / "out").exit_code == 0
    content = bytearray((tmp_path / "out" / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load(tmp_path / "out")


def test_a_folder_that_exists_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert command("share", run, tmp_path / "out").exit_code == 2


@pytest.mark.parametrize("address", ["hf://", "hf://a", "hf://a/b/c", "hf://../b", "hf://a/b c"])
def test_addresses_are_checked(address: str) -> None:
    with pytest.raises(UsageError, match="hf://organization/name"):
        hub.fetched(address)


@pytest.fixture
def stand_in(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of this machine that answers as the hub does about one repository; the folder that it serves."""
    import huggingface_hub

    folder = tmp_path / "repository"
    assert command("share", run, folder).exit_code == 0
    (folder / "code.py").write_text("raise SystemExit")
    commit = "a" * 40

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/org/name"):
                names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
                listed = [
                    {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": "0"} for name in names
                ]
                about = {"id": "org/name", "sha": commit, "siblings": [{"rfilename": name} for name in names]}
                content = json.dumps(listed if "/tree/" in path else about).encode()
                self._send(content, "application/json", body)
                return
            file = folder / path.split(f"/resolve/{commit}/")[-1]
            if not path.startswith("/org/name/resolve/") or not file.is_file():
                self.send_error(404)
                return
            self._send(file.read_bytes(), "application/octet-stream", body)

        def _send(self, content: bytes, kind: str, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: download(*a, **k, endpoint=address))
    yield folder
    server.shutdown()
    server.server_close()


def test_a_shared_run_is_loaded_from_the_hub(run: Path, stand_in: Path) -> None:
    found = load("hf://org/name")
    before, after = load(run).model.state_dict(), found.model.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    assert not list(found.path.rglob("*.py"))
    with pytest.raises(MaskseqError, match="hf://org/other"):
        load("hf://org/other")


def test_what_the_hub_has_otherwise_than_its_digest_is_not_loaded(stand_in: Path) -> None:
    (stand_in / "README.md").write_text("another card")
    with pytest.raises(DataError, match=r"README\.md"):
        load("hf://org/name")


def test_a_run_is_sent_as_the_folder_that_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    sent: dict[str, list[str]] = {}

    class Api:
        def create_repo(self, name: str, **_: object) -> None:
            sent[name] = []

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: object) -> str:
            sent[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
            return f"https://hub.example/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    done = command("share", run, "hf://org/name", "--json")
    assert done.exit_code == 0, done.output
    assert command("share", run, tmp_path / "out").exit_code == 0
    assert sent["org/name"] == sorted(path.name for path in (tmp_path / "out").iterdir())
