"""A run over HTTP: the answers of the command line, several requests at a time, and nothing that it should not take."""

import base64
import gzip
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from served import client, log, log_run
from three_domains import DOMAINS, command, prepared
from untrained import untrained

from maskseq.predict.blend import ENCODER
from maskseq.serve.limits import Limits
from maskseq.serve.server import application
from maskseq.serve.together import ModelThread, shared
from maskseq.trained import TrainedModel, load
from maskseq_genomics.kmer import KmerTokenizer

pytestmark = pytest.mark.filterwarnings("ignore:the encoder saw every sequence with its end")  # a line of the log

HOLES = log(6, 2).replace(",b,", ",?,")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Of a log, with a gate: counted experts have a say."""
    return load(log_run(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="module")
def web(run: TrainedModel) -> Iterator[TestClient]:
    with client(run) as found:
        yield found


@pytest.mark.filterwarnings("ignore:.*time steps missing:maskseq.errors.DataWarning")
@pytest.mark.parametrize("name", ["event-csv", "fasta", "signal-csv"])
def test_a_file_comes_back_as_from_the_command_line(tmp_path: Path, name: str) -> None:
    ready = prepared(tmp_path, DOMAINS[name])
    holes = ready.file("holes", ready.domain.sound)
    done = command("infill", tmp_path / "run", holes, "-o", tmp_path / "filled")
    assert done.exit_code == 0, done.output
    with client(load(tmp_path / "run")) as web:
        answer = web.post("/infill", json={"name": holes.name, "text": ready.domain.sound}).json()
    assert answer["file"]["text"].encode() == (tmp_path / "filled" / holes.name).read_bytes()
    assert answer["file"]["text"] != ready.domain.sound
    assert len(answer["cells"]) == len((tmp_path / "filled" / "fills.csv").read_text().splitlines()) - 1


def _written(run: TrainedModel, text: str) -> Path:
    file = run.path.parent / "written.csv"
    file.write_text(text)
    return file


def test_bytes_that_are_no_text_come_back_in_base64(tmp_path: Path) -> None:
    ready = prepared(tmp_path, DOMAINS["fasta"])
    packed = gzip.compress(ready.domain.sound.encode())
    with client(load(tmp_path / "run")) as web:
        sent = {"name": "holes.fa.gz", "base64": base64.b64encode(packed).decode()}
        answer = web.post("/infill", json=sent).json()
        plain = web.post("/infill", json={"name": "holes.fa", "text": ready.domain.sound}).json()
    assert gzip.decompress(base64.b64decode(answer["file"]["base64"])).decode() == plain["file"]["text"]


def test_requests_that_are_answered_together_are_answered_as_alone(run: TrainedModel, web: TestClient) -> None:
    files = [log(4, seed).replace(",b,", ",?,").replace(",d,", ",?,") for seed in range(10, 34)]
    alone = [web.post("/infill", json={"name": "a.csv", "text": text}).json() for text in files]
    thread = web.app.state.server.run.thread  # type: ignore[attr-defined]
    calls, asked = thread.n_calls, thread.n_asked
    hold = threading.Event()
    blocked = threading.Thread(target=thread.alone, args=(lambda: [hold.wait(10)],))
    blocked.start()
    with ThreadPoolExecutor(len(files)) as clients:
        found = [clients.submit(web.post, "/infill", json={"name": "a.csv", "text": text}) for text in files]
        time.sleep(0.5)  # until as many as may be worked on at once wait for the model
        hold.set()
        together = [each.result().json() for each in found]
    blocked.join()
    for one, other in zip(alone, together, strict=True):
        assert one["file"] == other["file"]
        np.testing.assert_allclose(probabilities(one), probabilities(other), rtol=1e-4)
    assert thread.n_calls - calls < thread.n_asked - asked


def probabilities(answer: dict[str, Any]) -> list[float]:
    return [cell["probability"] for cell in answer["cells"]]


def test_a_value_can_be_fixed_and_the_rest_is_filled_around_it(run: TrainedModel, web: TestClient) -> None:
    text = "case,activity,colour\nx,a,red\nx,?,?\nx,c,blue\n"
    free = web.post("/infill", json={"name": "a.csv", "text": text}).json()
    (cell,) = (each for each in free["cells"] if each["field"] == "activity")
    fixed = [{"key": "x", "position": cell["position"], "field": "activity", "value": "e"}]
    around = web.post("/infill", json={"name": "a.csv", "text": text, "fixed": fixed}).json()
    written = web.post("/infill", json={"name": "a.csv", "text": text.replace("x,?,?", "x,e,?")}).json()
    assert around["file"] == written["file"]
    assert around["cells"] == written["cells"]
    assert {each["field"] for each in around["cells"]} == {"colour"}


@pytest.mark.filterwarnings("ignore:.*time steps missing:maskseq.errors.DataWarning")
def test_a_number_can_be_fixed(tmp_path: Path) -> None:
    ready = prepared(tmp_path, DOMAINS["signal-csv"])
    with client(load(tmp_path / "run")) as web:
        sent = {"name": "holes.csv", "text": ready.domain.sound}
        cell = next(each for each in web.post("/infill", json=sent).json()["cells"] if each["position"] == 42)
        fixed = [{"key": cell["key"], "position": cell["position"], "field": cell["field"], "value": 0.123}]
        answer = web.post("/infill", json=sent | {"fixed": fixed}).json()
        refused = web.post("/infill", json=sent | {"fixed": [fixed[0] | {"value": "much"}]})
    assert "0.123" in answer["file"]["text"]
    assert (cell["position"], cell["field"]) not in {(each["position"], each["field"]) for each in answer["cells"]}
    assert refused.status_code == 422


@pytest.mark.parametrize(
    "change",
    [{"field": "colours"}, {"value": "z"}, {"position": 99}, {"key": "y"}, {"position": -1}, {"value": None}],
)
def test_values_that_cannot_stand_there_are_refused(web: TestClient, change: dict[str, Any]) -> None:
    fixed = {"key": "x", "position": 1, "field": "activity", "value": "e"} | change
    answer = web.post(
        "/infill", json={"name": "a.csv", "text": "case,activity,colour\nx,a,red\nx,?,?\n", "fixed": [fixed]}
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["hint"]


def test_scores_vectors_and_what_comes_next_are_those_of_the_run(
    run: TrainedModel, web: TestClient, tmp_path: Path
) -> None:
    text = log(3, 5)
    file = tmp_path / "a.csv"
    file.write_text(text)
    records = list(run.reader(file).read(file))
    sent = {"name": "a.csv", "text": text}
    scores = web.post("/score", json=sent).json()["rows"]
    np.testing.assert_allclose(
        [row["bits"] for row in scores], [each.mean_bits for each in run.score(records)], rtol=1e-4
    )
    lines = command("score", run.path, file, "--per-position", "--json").stdout.splitlines()
    assert len(web.post("/score", json=sent | {"per_position": True}).json()["rows"]) == len(lines)
    vectors = web.post("/embed", json=sent).json()["vectors"]
    for found, (key, vector) in zip(vectors, run.embed(records), strict=True):
        assert found["key"] == key
        np.testing.assert_allclose(found["vector"], vector, rtol=1e-3, atol=1e-5)
    ahead = web.post("/next", json=sent | {"steps": 1}).json()
    listed = command("next", run.path, file, "--json").stdout.splitlines()
    assert [row["value"] for row in ahead["rows"]] == [json.loads(line)["value"] for line in listed]


def test_scores_are_of_the_precision_of_the_training(run: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what fills in another precision was asked before."""
    encoder, found = (ENCODER,), {}
    records = list(run.reader(Path("a.csv"), "event-csv").read(_written(run, log(3, 5))))
    for precision in ("fp32", "bf16"):
        fresh = load(run.path)
        fresh.__dict__["precision"] = precision
        found[precision] = np.array([each.mean_bits for each in fresh.score(records, experts=encoder)])
    monkeypatch.setattr(TrainedModel, "precision", "bf16")
    with client(load(run.path)) as web:
        served = web.app.state.server.run  # type: ignore[attr-defined]
        list(served.infill(records, experts=encoder))
        scores = np.array([each.mean_bits for each in served.score(records, experts=encoder)])
    assert (found["fp32"] != found["bf16"]).all()
    np.testing.assert_array_equal(scores, found["bf16"])


def test_the_model_is_asked_in_its_thread_where_tokens_share_units(tmp_path: Path) -> None:
    words = untrained(KmerTokenizer(k=3, overlapping=True), tmp_path / "run")
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 90))
    with client(words) as web:
        served, asked = web.app.state.server.run, []  # type: ignore[attr-defined]
        forward = served.model.forward
        served.model.forward = lambda *given, **more: (
            asked.append(threading.current_thread().name) or forward(*given, **more)
        )
        for path in ("/score", "/infill", "/embed"):
            text = f">a\n{bases[:40]}NN{bases[42:]}\n"
            assert web.post(path, json={"name": "a.fa", "text": text}).status_code == 200
    assert len(asked) > 2
    assert set(asked) == {"maskseq-model"}


def test_labels_need_a_run_that_was_fine_tuned(web: TestClient) -> None:
    answer = web.post("/predict", json={"name": "a.csv", "text": log(2, 1)})
    assert answer.status_code == 422
    assert "finetune" in answer.json()["error"]["hint"]


def test_its_description_is_openapi_and_names_every_request(web: TestClient) -> None:
    described = web.get("/openapi.json").json()
    validate = pytest.importorskip("openapi_spec_validator").validate
    validate(described)
    assert {"/infill", "/predict", "/next", "/score", "/embed", "/health", "/run"} == set(described["paths"])


def test_the_page_takes_nothing_from_elsewhere(web: TestClient) -> None:
    page = web.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    sources = re.findall(r"""(?:src|href)=["']|@import|url\(|https?://[^\s"']+""", page.text)
    assert set(sources) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}


# What it does not take.


@pytest.mark.parametrize("name", ["../a.csv", "/etc/passwd", "a/b.csv", "", ".csv", "a\x00.csv", "ä.csv", "x" * 200])
def test_names_are_no_paths(web: TestClient, name: str) -> None:
    assert web.post("/infill", json={"name": name, "text": HOLES}).status_code == 422


def test_formats_are_names_of_what_is_installed(web: TestClient) -> None:
    for name in ("os:system", "hostile_bait:Bait", "../x", "maskseq.plugins"):
        answer = web.post("/infill", json={"name": "a.csv", "text": HOLES, "format": name})
        assert answer.status_code == 422


def test_a_file_cannot_name_others_of_this_machine(tmp_path: Path) -> None:
    prepared(tmp_path, DOMAINS["signal-csv"])
    (tmp_path / "secret.dat").write_bytes(bytes(200))
    header = f"r 1 100 50\n../../../../..{tmp_path}/secret.dat 16 200 16 0 0 0 0 a\n"
    with client(load(tmp_path / "run")) as web:
        answer = web.post("/infill", json={"name": "r.hea", "text": header, "format": "wfdb"})
    assert answer.status_code == 422


def test_pickles_are_refused(tmp_path: Path) -> None:
    prepared(tmp_path, DOMAINS["signal-csv"])
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with client(load(tmp_path / "run")) as web:
        sent = {"name": "a.npy", "base64": base64.b64encode(buffer.getvalue()).decode(), "format": "npy"}
        assert web.post("/infill", json=sent).status_code == 422


def test_more_than_it_takes_is_413(run: TrainedModel) -> None:
    with client(run, limits=Limits(bytes=2000, positions=40)) as web:
        long = web.post("/infill", json={"name": "a.csv", "text": "x" * 10_000})
        many = web.post("/infill", json={"name": "a.csv", "text": log(12, 1)})
        bomb = {"name": "a.csv", "base64": base64.b64encode(gzip.compress(b"a,b\n" * 100_000)).decode()}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", bytes(1_000_000))
        zipped = {"name": "a.npz", "base64": base64.b64encode(packed.getvalue()).decode()}
        for answer in (long, many, web.post("/infill", json=bomb), web.post("/infill", json=zipped)):
            assert answer.status_code == 413, answer.text
            assert answer.json()["error"]["hint"]


def test_a_body_without_a_length_is_bounded_as_well(run: TrainedModel) -> None:
    with client(run, limits=Limits(bytes=2000)) as web:
        parts = (b"x" * 1000 for _ in range(1000))
        answer = web.post("/infill", content=parts, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413


def test_too_many_and_too_slow_requests_are_503(run: TrainedModel) -> None:
    with client(run, limits=Limits(active=1, waiting=1, seconds=1.0)) as web:
        thread, hold = web.app.state.server.run.thread, threading.Event()  # type: ignore[attr-defined]
        blocked = threading.Thread(target=thread.alone, args=(lambda: [hold.wait(20)],))
        blocked.start()
        sent = {"name": "a.csv", "text": HOLES}
        with ThreadPoolExecutor(8) as clients:
            found = [clients.submit(web.post, "/infill", json=sent) for _ in range(8)]
            answers = [each.result() for each in found]
        hold.set()
        blocked.join()
        assert {each.status_code for each in answers} == {503}
        assert {each.json()["error"]["code"] for each in answers} == {"busy", "timeout"}
        assert all(each.headers["retry-after"] for each in answers)
        for _ in range(50):  # what was given up leaves its place
            if web.get("/health").json()["requests"] == 0:
                break
            time.sleep(0.1)
        assert web.post("/infill", json=sent).status_code == 200


def test_what_comes_next_keeps_nobody_waiting_beyond_its_time(run: TrainedModel) -> None:
    """A request whose answer takes longer than it may leaves its place while the model still works on it."""
    with client(run, limits=Limits(active=1, waiting=1, seconds=1.0)) as web:
        server, slow = web.app.state.server, threading.Event()  # type: ignore[attr-defined]
        predictor, by = server.predictor(None)
        calls: list[int] = []

        def predict(examples: Any, cells: Any) -> Any:
            calls.append(len(examples))
            slow.wait(10)
            return predictor.predict.predict(examples, cells)

        server.continued[None] = replace(predictor, predict=shared(predict, server.run.thread)), by
        answer = web.post("/next", json={"name": "a.csv", "text": log(20, 4), "steps": 4, "samples": 8})
        assert answer.json()["error"]["code"] == "timeout"
        until = time.monotonic() + 2
        while web.get("/health").json()["requests"] and time.monotonic() < until:
            time.sleep(0.05)
        assert web.get("/health").json()["requests"] == 0
        slow.set()
        server.continued[None] = predictor, by
        assert web.post("/next", json={"name": "a.csv", "text": log(2, 4)}).status_code == 200
        assert len(calls) == 1  # what nobody waits for is not computed


def test_many_positions_are_asked_about_a_part_at_a_time() -> None:
    thread, calls = ModelThread(), []
    found = thread.ask(
        lambda given: calls.append(len(given)) or [each + 1 for each in given], range(5), sizes=[40_000] * 5
    )
    thread.stop()
    assert found == [1, 2, 3, 4, 5]
    assert calls == [1] * 5


def test_elsewhere_takes_a_token_and_here_takes_no_strange_name(run: TrainedModel) -> None:
    sent = {"name": "a.csv", "text": HOLES}
    with client(run, token="secret", hosts=None) as web:
        assert web.post("/infill", json=sent).status_code == 401
        assert web.post("/infill", json=sent, headers={"Authorization": "Bearer secrets"}).status_code == 401
        assert web.get("/openapi.json").status_code == 401
        assert web.get("/health").json()["status"] == "ok"
        assert web.post("/infill", json=sent, headers={"Authorization": "Bearer secret"}).status_code == 200
    with client(run) as web:
        assert web.post("/infill", json=sent, headers={"Host": "evil.example"}).status_code == 403
        assert web.post("/infill", json=sent, headers={"Host": "localhost:8000"}).status_code == 200
        text = web.post("/infill", content=json.dumps(sent), headers={"Content-Type": "text/plain"})
        assert text.status_code == 415


def test_errors_name_no_folder_of_the_server(web: TestClient) -> None:
    answer = web.post("/infill", json={"name": "a.csv", "text": "case,activity,colour\nx,a\n"})
    assert answer.status_code == 422
    assert "a.csv" in answer.json()["error"]["message"]
    assert "/" not in answer.json()["error"]["message"]


def test_a_fault_of_the_server_is_one_line(run: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    app = application(run, hosts=None)
    with TestClient(app, raise_server_exceptions=False) as web:
        monkeypatch.setattr("maskseq.serve.work.written", lambda *_: 1 / 0)
        answer = web.post("/infill", json={"name": "a.csv", "text": HOLES})
        monkeypatch.undo()
        assert answer.status_code == 500
        assert "Traceback" not in answer.text
        assert "division" not in answer.text
        assert web.post("/infill", json={"name": "a.csv", "text": HOLES}).status_code == 200


SCRAPS = st.sampled_from(
    ["", "?", "\x00", "\ud800", "NaN", "1e999", "-1", "../", "=1+1", "x" * 3000, "\n", ",", "a,b\n", HOLES]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | SCRAPS | st.text(max_size=20)
VALUES = st.recursive(PLAIN, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=8), of, max_size=3))
FIELDS = [
    *("name", "text", "base64", "format", "mask", "only_mask", "unknown", "fixed", "order", "temperature", "samples"),
    *("seed", "alternatives", "steps", "rest", "cases", "by", "per_position", "fields", "stride", "pooling"),
]
PATHS = st.sampled_from(["/infill", "/predict", "/next", "/score", "/embed"])
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)
DAMAGED = st.lists(st.tuples(st.integers(0, len(HOLES)), SCRAPS), min_size=1, max_size=4)


def damaged(places: list[tuple[int, str]]) -> str:
    text = HOLES
    for at, scrap in places:
        text = text[:at] + scrap + text[at + len(scrap) // 2 :]
    return text


@pytest.mark.filterwarnings("ignore::maskseq.errors.DataWarning")
@given(path=PATHS, body=BODIES, places=DAMAGED | st.none(), raw=st.none() | st.binary(max_size=60))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_hostile_requests_are_refused_in_json(web: TestClient, path: str, body: Any, places: Any, raw: Any) -> None:
    answered(web, path, body, places, raw)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::maskseq.errors.DataWarning")  # a damaged file may look written otherwise
@given(path=PATHS, body=BODIES, places=DAMAGED | st.none(), raw=st.none() | st.binary(max_size=60))
@settings(max_examples=1000, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
def test_a_thousand_hostile_requests(web: TestClient, path: str, body: Any, places: Any, raw: Any) -> None:
    answered(web, path, body, places, raw)


def answered(web: TestClient, path: str, body: Any, places: Any, raw: bytes | None) -> None:
    """A sound request with some of it replaced, a damaged file in it, or bytes that are no request."""
    if raw is not None:
        content = raw
    else:
        sound = {"name": "a.csv", "text": HOLES if places is None else damaged(places)}
        content = json.dumps(sound | body).encode("utf-8", "surrogatepass")
    answer = web.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 413, 422), answer.text
    assert "Traceback" not in answer.text
    told = answer.json()
    assert answer.status_code == 200 or (told["error"]["message"] and told["error"]["hint"])
