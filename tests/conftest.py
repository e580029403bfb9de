"""Shapes in signatures are checked while the tests run; tests that need the shared data skip where it is absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two xdist workers on two cores

import shape_checks

shape_checks.install(["maskseq", "maskseq_genomics", "maskseq_events", "maskseq_signals", "maskseq_tables"])

import pytest
from hypothesis import settings

settings.register_profile("maskseq", deadline=None)  # shared cores: time limits are pytest-timeout's business
settings.load_profile("maskseq")


@pytest.fixture(autouse=True, scope="session")
def measured_speed() -> Callable[[Any, Any], float]:
    """What `init` and dry runs measure a speed with; they state a made-up one, as training steps take seconds."""
    from maskseq.apps import inspect, speed_probe

    measured = speed_probe.speed_of
    speed_probe.SECONDS = 0.0
    speed_probe.speed_of = inspect.speed_of = lambda recipe, corpus: 10_000.0
    return measured


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
