"""Series of old models are removed."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from rayonnage_shared.observability.recent_versions import RecentVersions


def versions(counter: Counter) -> set[str]:
    (family,) = counter.collect()
    return {sample.labels["model_version"] for sample in family.samples}


def test_only_the_versions_that_served_last_are_shown() -> None:
    counter = Counter("predictions", "", ["category", "model_version"], registry=CollectorRegistry())
    recent = RecentVersions(counter, kept=3)
    for number in range(100):
        recent.served(f"v{number}")
        for category in ("10", "40"):
            counter.labels(category, f"v{number}").inc()
    assert versions(counter) == {"v97", "v98", "v99"}


def test_a_rollback_keeps_what_it_goes_back_to() -> None:
    counter = Counter("predictions", "", ["category", "model_version"], registry=CollectorRegistry())
    recent = RecentVersions(counter, kept=2)
    for version in ("old", "new", "old", "new", "newest"):
        recent.served(version)
        counter.labels("10", version).inc()
    assert versions(counter) == {"new", "newest"}
