"""Print the size of images, in total and above the base image. Exits with 1 if one exceeds its limit.

python deployments/images/sizes.py rayonnage/auth:latest rayonnage/predict:latest …
"""

from __future__ import annotations

import sys

from engine import BASE, inspect, inspect_base

MEGABYTE = 1_000_000
LIMITS_MB = {"auth": 125, "gateway": 125, "predict": 575}
"""Limits above the base image; with its 125 MB, the images have at most 250, 250 and 700 MB."""


def main(images: list[str]) -> int:
    """Print one line per image; return the exit status."""
    base = inspect_base()["Size"]
    print(f"{BASE:<32}{base / MEGABYTE:>8.0f} MB")
    status = 0
    for image in images:
        size = inspect(image)["Size"]
        limit = LIMITS_MB.get(short_name(image))
        above = (size - base) / MEGABYTE
        note = f", at most {limit}" if limit else ""
        if limit and above > limit:
            note += "  TOO LARGE"
            status = 1
        print(f"{image:<32}{size / MEGABYTE:>8.0f} MB, {above:.0f} above the base{note}")
    return status


def short_name(image: str) -> str:
    """Return the last part of an image's name: `auth` for `rayonnage/auth:latest`."""
    return image.rpartition("/")[2].partition(":")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
