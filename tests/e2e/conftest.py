"""Fixtures of the end-to-end tests: real processes on free ports, with a model that is trained once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ops.demo import prepare
from rayonnage_shared.ops.local import LocalSettings
from tests.collector import Collector, running_collector
from tests.e2e.platform import Platform, running_platform
from tests.volumes import made_once

SAMPLE = Path(__file__).parents[2] / "data" / "sample"

MakePlatform = Callable[..., Platform]


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the sample catalogue: features.csv, target.csv, images.zip, exemple.jpg."""
    return SAMPLE


@pytest.fixture(scope="session")
def trained_volume(pytestconfig: pytest.Config) -> Path:
    """A folder with `data` and `models` as the first `make run` leaves them: the sample, and the default model."""

    def train(home: Path) -> None:
        settings = LocalSettings(
            models_path=home / "models", data_path=home / "data", database_url=f"sqlite:///{home}/data/rayonnage.db"
        )
        prepare(settings, SAMPLE, stage=lambda name: None, progress=silent)

    assert pytestconfig.cache is not None
    return made_once(pytestconfig.cache.mkdir("volumes"), "trained", train)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """What the shared platform sends its traces to."""
    with running_collector() as running:
        yield running


@pytest.fixture(scope="session")
def platform(
    trained_volume: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A platform with the trained model that all tests share: they must leave it as they found it."""
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with running_platform(tmp_path_factory.mktemp("platform"), settings, volume=trained_volume) as running:
        yield running


@pytest.fixture(scope="module")
def empty_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without products and models, which the tests of one module fill."""
    with running_platform(tmp_path_factory.mktemp("empty")) as running:
        yield running


@pytest.fixture
def make_platform(trained_volume: Path, tmp_path: Path) -> Iterator[MakePlatform]:
    """Starts platforms of the test's own, to be disturbed at will: `make_platform({"SETTING": "value"})`."""
    with ExitStack() as stack:
        made = 0

        def make(settings: Mapping[str, str] | None = None, *, trained: bool = True) -> Platform:
            nonlocal made
            made += 1
            volume = trained_volume if trained else None
            return stack.enter_context(running_platform(tmp_path / f"platform-{made}", settings, volume=volume))

        yield make
