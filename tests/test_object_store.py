"""A corpus in an object store is the local one, object for object, whoever builds it and whatever happens meanwhile.

Against moto's S3 server on localhost, which speaks the protocol (conditional writes included) over HTTP.
"""

import json
import logging
import random
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from corpora import PART_UNITS, Letters, Lines, child, random_texts, tree

import maskseq
from maskseq.cli import app
from maskseq.corpus.build import build_corpus, build_share
from maskseq.corpus.reader import Corpus, verify_corpus
from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.storage import lease
from maskseq.storage.objects import Objects
from maskseq.storage.places import open_folder

obstore = pytest.importorskip("obstore")
moto = pytest.importorskip("moto.server", reason="needs moto[server]")

BUCKET = "letters"
QUICK = {"MASKSEQ_TEST_LEASE": "0.2 2"}  # seconds between renewals, and until a builder counts as dead


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with one bucket; the environment leads there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    process = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    process.start()
    address = "http://{}:{}".format(*process.get_host_and_port())
    with pytest.MonkeyPatch.context() as environment:
        settings = {"AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        for name, value in {**settings, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", **QUICK}.items():
            environment.setenv(name, value)
        urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT")).close()
        yield address
    process.stop()


@pytest.fixture
def url(server: str, tmp_path: Path) -> str:
    """Where nothing is yet."""
    return f"s3://{BUCKET}/{tmp_path.name}/c"


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWAL", 0.2)
    monkeypatch.setattr(lease, "PATIENCE", 2.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "letters.txt"
    Lines().write(random_texts(60, 300), path)
    return path


@pytest.fixture(scope="module")
def local(source: Path) -> Path:
    build(source, source.parent / "local")
    return source.parent / "local"


def build(source: Path, output: Path | str, **options: Any) -> Corpus:
    given = {"tokenizer": Letters(), "format": Lines(), "part_units": PART_UNITS, **options}
    return build_corpus([source], output=output, **given)


def objects(url: str) -> dict[str, bytes]:
    """Everything below a URL."""
    store = Objects(url)
    return {name: store.get(name) for name in sorted(store.below(""))}


def test_every_object_is_the_file_of_the_local_corpus(source: Path, local: Path, url: str) -> None:
    built = build(source, url, workers=2)
    assert objects(url) == tree(local)  # and no lease is left
    corpus, truth = Corpus.open(url, trust_code=True), Corpus.open(local, trust_code=True)
    assert built.fingerprint == corpus.fingerprint == truth.fingerprint
    n = truth.manifest["positions"]
    for start in np.random.default_rng(0).integers(0, n - 50, 20).tolist():
        np.testing.assert_array_equal(corpus.read_span(start, start + 50).ids, truth.read_span(start, start + 50).ids)
    assert [corpus.key(i) for i in (0, 40)] == [truth.key(i) for i in (0, 40)]
    assert verify_corpus(url, trust_code=True) == []
    again = build(source, url)  # finds it finished
    assert again.fingerprint == truth.fingerprint
    other = build(source, url, tokenizer=Letters(weighted=True), overwrite=True)
    assert {name.split("/")[1] for name in objects(url) if name.startswith("parts/")} == {
        other.manifest["parts_folder"].split("/")[1]
    }  # what the old one had is gone


def test_shares_and_memory_urls_give_the_same_objects(source: Path, local: Path, url: str) -> None:
    for number in (2, 1):
        build_share([source], (number, 2), output=url, tokenizer=Letters(), format=Lines(), part_units=PART_UNITS)
    build(source, url)
    assert objects(url) == tree(local)
    build(source, "memory://here/c")
    assert objects("memory://here/c") == tree(local)
    with pytest.raises(UsageError, match="memory://there lives in this process alone"):
        build(source, "memory://there", workers=2)


def test_a_flipped_byte_is_located_and_a_missing_object_is_not_read_as_zeros(source: Path, url: str) -> None:
    corpus = build(source, url)
    n = corpus.manifest["positions"]
    store, rng = Objects(url), random.Random(0)
    names = store.below("")
    for name in [*rng.sample(names, 8), next(name for name in names if name.endswith("tokens/c/0/0"))]:
        data = store.get(name)
        at = rng.randrange(len(data))
        store.put(name, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        (problem,) = verify_corpus(url, trust_code=True)
        assert problem.startswith(f"{url}/{name.split('.zarr')[0]}")
        first, last = (int(edge) for edge in problem.split("bytes ")[1].split(":")[0].split("-"))
        assert first <= at < last
        store.put(name, data)
    assert verify_corpus(url, trust_code=True) == []
    data = store.get(name)
    store.put(name, data[:30] + bytes([data[30] ^ 1]) + data[31:])
    with pytest.raises(DataError, match=r"tokens 0:\d+ cannot be read"):
        Corpus.open(url, trust_code=True).read_span(0, n)
    opened = Corpus.open(url, trust_code=True)
    store.delete([name])
    with pytest.raises(DataError, match="tokens/c/0/0 is missing"):
        opened.read_span(0, n)


def killed_builds(source: Path, local: Path, url: str, n: int) -> None:
    """Kill builds with two workers after some of their parts; what is built afterwards equals the local corpus."""
    n_parts = len(Corpus.open(local, trust_code=True).manifest["parts"])
    rng = random.Random(1)
    for attempt in range(n):
        output = f"{url}-{attempt}"
        enough, store = rng.randrange(n_parts), Objects(output)
        builder = child("build", source, output, 2)
        while builder.poll() is None and sum(name.endswith("part.json") for name in store.below("parts")) <= enough:
            time.sleep(rng.uniform(0, 0.05))
        builder.kill()
        builder.communicate()
        again = child("build", source, output, 1)
        _, errors = again.communicate()
        assert again.returncode == 0, errors
        assert objects(output) == tree(local)


def test_a_killed_build_resumes_to_the_same_objects(source: Path, local: Path, url: str) -> None:
    killed_builds(source, local, url, 1)


@pytest.mark.soak
def test_fifteen_killed_builds(source: Path, local: Path, url: str) -> None:
    killed_builds(source, local, url, 15)


def test_an_interrupted_build_shows_no_corpus_and_keeps_its_parts(source: Path, url: str) -> None:
    def interrupted(units: int, of: int | None) -> None:
        if sum(name.endswith("part.json") for name in Objects(url).below("parts")) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(source, url, progress=interrupted)
    with pytest.raises(DataError, match="its build did not finish"):
        Corpus.open(url)
    store = Objects(url)
    sealed = [name for name in store.below("parts") if name.endswith("part.json")]
    assert len(sealed) >= 3
    versions = {name: store.client and obstore.head(store.client, name)["last_modified"] for name in sealed}
    time.sleep(1.1)  # what S3 says is in whole seconds
    build(source, url)
    assert versions == {name: obstore.head(store.client, name)["last_modified"] for name in sealed}


@pytest.mark.filterwarnings("ignore:.*looking for up to")
def test_a_second_builder_stops_and_one_that_is_dead_blocks_nobody(source: Path, url: str) -> None:
    folder, other = open_folder(url), open_folder(url)
    with folder.exclusive():
        second = child("build", source, url, 1)
        _, errors = second.communicate()
        assert second.returncode == 2
        assert "another process is building this corpus" in errors
        with pytest.raises(UsageError, match="another process is building"):
            other.exclusive(shared_as="1-of-2").__enter__()
    with folder.exclusive(shared_as="1-of-2"), other.exclusive(shared_as="2-of-2"):
        pass
    assert objects(url) == {}
    for killed in (".lease-whole", ".lease-1-of-2"):
        Objects(url).put(killed, b"somebody elsewhere 1 7")
        build(source, url)
    assert not any(name.startswith(".lease") for name in objects(url))


def test_a_builder_that_lost_its_lease_replaces_nothing(source: Path, url: str) -> None:
    folder = open_folder(url)
    folder.write("manifest.json", b"before")
    with folder.exclusive():
        Objects(url).put(".lease-whole", b"somebody elsewhere 1 7")
        with pytest.raises(MaskseqError, match="another process has taken over"):
            folder.write("manifest.json", b"after")
    assert objects(url) == {".lease-whole": b"somebody elsewhere 1 7", "manifest.json": b"before"}


RECIPE = """
blend = false
calibrate = false
[data]
files = ["FILES/letters.fa"]
workers = 1
[data.split]
by = "record"
selection = 0.2
[tokenizer]
name = "nucleotide"
[model]
preset = "nano"
n_layers = 1
[packing]
row_tokens = 256
context = 64
[training]
tokens = 1024
rows = 2
"""


def test_the_command_line_builds_inspects_verifies_and_trains_from_urls(tmp_path: Path, url: str) -> None:
    rng = np.random.default_rng(0)
    fasta = "".join(f">r{i}\n{''.join(rng.choice(list('ACGT'), 90))}\n" for i in range(60)).encode()
    inputs = url.removesuffix("/c")
    Objects(inputs).put("letters.fa", fasta)
    (tmp_path / "letters.fa").write_bytes(fasta)
    for name, files in (("remote", inputs), ("local", ".")):
        (tmp_path / f"{name}.toml").write_text(RECIPE.replace("FILES", files))

    def run(*arguments: object, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if result.stdout else None

    built = run("tokenize", tmp_path / "remote.toml", "--output", url)
    run("tokenize", tmp_path / "local.toml", "--output", tmp_path / "c")
    assert objects(url) == tree(tmp_path / "c")
    assert run("inspect", url) == built
    assert run("verify", url)["problems"] == "none"

    (tmp_path / "train.toml").write_text(RECIPE.replace('files = ["FILES/letters.fa"]', f'corpus = "{url}"'))
    trained = maskseq.pretrain(tmp_path / "train.toml", output=tmp_path / "a")
    truth = maskseq.pretrain(
        tmp_path / "train.toml", output=tmp_path / "b", corpus=Corpus.open(tmp_path / "c", trust_code=True)
    )
    for name, value in truth.model.state_dict().items():
        assert (trained.model.state_dict()[name] == value).all()

    Objects(inputs).put("letters.fa", b"ACGT")
    with pytest.raises(DataError, match=f"{inputs}/letters.fa: line 1: expected a header line"):
        maskseq.pretrain(tmp_path / "remote.toml", output=tmp_path / "d")
    Objects(inputs).delete(["letters.fa"])
    with pytest.raises(DataError, match=r"letters\.fa: there is no such file"):
        maskseq.pretrain(tmp_path / "remote.toml", output=tmp_path / "d")


def check_credentials(server: str, *, after: str) -> None:
    """From so many requests on."""
    header = {"Content-Type": "text/plain"}
    url = f"{server}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(url, data=after.encode(), headers=header, method="POST")).close()


def test_what_a_store_refuses_is_one_clear_line(
    source: Path, server: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("s3://no-such-bucket/c", f"{server}/{BUCKET}"):
        with pytest.raises(UsageError, match=r"there is no such bucket$|a web server is only read from"):
            build(source, place)
    with pytest.raises(UsageError, match=r"no-such-bucket/c: there is no such bucket$"):
        Corpus.open("s3://no-such-bucket/c")
    with pytest.raises(DataError, match=r"no manifest\.json here"):
        Corpus.open(url)
    check_credentials(server, after="0")
    try:
        with pytest.raises(UsageError, match="access is denied: The AWS Access Key Id you provided does not exist"):
            Corpus.open(url)
    finally:
        check_credentials(server, after="Infinity")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("maskseq.storage.objects.RETRIES", {"max_retries": 1})
    result = CliRunner().invoke(app, ["verify", url])
    assert result.exit_code == 1
    assert "once the store answers" in result.output
    assert "Traceback" not in result.output


def test_without_obstore_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(UsageError, match=r"pip install 'maskseq\[cloud\]'"):
        Corpus.open("s3://bucket/c")
