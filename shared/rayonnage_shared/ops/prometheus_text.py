"""Parse Prometheus metrics, and compute rates and quantiles from two scrapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Readings:
    """Samples of one scrape, or summed over processes, by name and labels."""

    samples: Mapping[Key, float] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Readings:
        """Parse the Prometheus text format. Raises ValueError."""
        found: dict[Key, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name, frozenset(sample.labels.items())] = float(sample.value)
        return cls(found)

    @classmethod
    def together(cls, several: Iterable[Readings]) -> Readings:
        """Return the sums of equal samples over all processes of a service."""
        found: dict[Key, float] = {}
        for one in several:
            for key, value in one.samples.items():
                found[key] = found.get(key, 0.0) + value
        return cls(found)

    def since(self, before: Readings) -> Readings:
        """Return the increase of each counter. A counter that decreased was reset, and counts from 0."""
        grown = {}
        for key, value in self.samples.items():
            earlier = before.samples.get(key, 0.0)
            grown[key] = value - earlier if value >= earlier else value
        return Readings(grown)

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples that have these labels, or None if there are none."""
        wanted = set(labels.items())
        found = [value for (sample, given), value in self.samples.items() if sample == name and wanted <= given]
        return sum(found) if found else None

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the sums of the samples that have these labels, by the value of another label."""
        wanted = set(labels.items())
        found: dict[str, float] = {}
        for (sample, given), value in self.samples.items():
            if sample == name and wanted <= given:
                key = dict(given).get(label, "")
                found[key] = found.get(key, 0.0) + value
        return found

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of each sample of this name that is not 0."""
        return [dict(given) for (sample, given), value in self.samples.items() if sample == name and value]

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Return a quantile of a histogram, interpolated linearly within its bucket; None without observations.

        As PromQL's `histogram_quantile`: in the last, unbounded bucket it is the bucket's lower bound.
        """
        buckets = sorted((float(bound), count) for bound, count in self.by(f"{name}_bucket", "le", **labels).items())
        if not buckets or not buckets[-1][1]:
            return None
        rank = share * buckets[-1][1]
        lower, below = 0.0, 0.0
        for upper, count in buckets:
            if count >= rank:
                if math.isinf(upper):
                    return lower
                return lower + (upper - lower) * ((rank - below) / (count - below) if count > below else 1.0)
            lower, below = upper, count
        return lower
