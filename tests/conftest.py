"""Shapes in signatures are checked while the tests run; tests that need the shared data skip where it is absent."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two xdist workers on two cores

from jaxtyping import install_import_hook

ROOMS = (
    "masking",
    "corpus",
    "packing",
    "predict",
    "infill",
    "lengths",
    "loaded",
    "scoring",
    "baselines",
    "calibration",
    "evaluation",
    "comparison",
)

install_import_hook(
    [
        "maskseq.types",
        "maskseq.tokenizer",
        *(f"maskseq.{room}" for room in ROOMS),
        "maskseq_genomics",
        "maskseq_signals",
        "maskseq_tables",
        *(f"maskseq_events.{name}" for name in ("tokenizer", "bins", "rebuild", "case", "times")),
    ],
    "shape_checks.check",
)

import pytest
from hypothesis import settings

settings.register_profile("maskseq", deadline=None)  # shared cores: time limits are pytest-timeout's business
settings.load_profile("maskseq")


@pytest.fixture(autouse=True, scope="session")
def brief_probes() -> None:
    """`init` and dry runs measure one step, not a second of them."""
    from maskseq.apps import speed_probe as probe

    probe.SECONDS = 0.0


REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """File contents make no good names, and gzip's hold the time: every worker must collect the same."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data of the three domains, which a clone of the repository does not carry."""
    folder = Path(os.environ.get("MASKSEQ_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("needs the shared data folder (set MASKSEQ_SHARED_DATA), which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def shared_cases(shared_data: Path) -> Path:
    """Small inputs of awkward kinds, which lie beside the shared data."""
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("needs the shared folder of small cases, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """The small real data that ships in the repository."""
    return REPOSITORY / "recipes" / "samples"
