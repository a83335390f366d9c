"""Series of old models go."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from rayonnage_shared.observability.multiprocess_metrics import RecentVersions, forget


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
    assert {"v97", "v98", "v99"} <= RecentVersions.kept()


def test_a_rollback_keeps_what_it_goes_back_to() -> None:
    counter = Counter("predictions", "", ["category", "model_version"], registry=CollectorRegistry())
    recent = RecentVersions(counter, kept=2)
    for version in ("old", "new", "old", "new", "newest"):
        recent.served(version)
        counter.labels("10", version).inc()
    assert versions(counter) == {"new", "newest"}


def test_a_champion_that_no_longer_serves_is_not_shown() -> None:
    gauge = Gauge("champion_info", "", ["version"], registry=CollectorRegistry())
    gauge.labels("one").set(1)
    forget(gauge, "one")
    gauge.labels("two").set(1)
    (family,) = gauge.collect()
    assert [sample.labels for sample in family.samples] == [{"version": "two"}]
