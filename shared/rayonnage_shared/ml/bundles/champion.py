"""The champion pointer: a small file beside the bundles that names the bundle which serves."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError
from ulid import ULID

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import open_locked, write_atomically
from rayonnage_shared.core.validation import first_fault
from rayonnage_shared.ml.bundles.manifest import Version

POINTER_NAME = "champion.json"
MAX_HISTORY = 20

_Moment = Annotated[
    AwareDatetime, PlainSerializer(lambda moment: moment.isoformat(timespec="milliseconds"), when_used="json")
]


class ChampionBroken(RayonnageError):
    code, title = "champion_broken", "The champion pointer is damaged"


class Champion(BaseModel):
    """The pointer's content; `history` holds the versions to roll back to, newest last."""

    model_config = ConfigDict(frozen=True)

    version: Version
    moved_by: str
    reason: str
    history: tuple[Version, ...] = ()
    previous: Version | None = None
    move_id: str = Field(max_length=32)
    moved_at: _Moment

    @classmethod
    def promoted(
        cls, version: str, by: str, reason: str, history: tuple[str, ...] = (), previous: str | None = None
    ) -> Self:
        """Return the pointer for a promotion that happens now."""
        now = datetime.now(UTC)
        return cls(
            version=version,
            moved_by=by,
            reason=reason,
            history=history,
            previous=previous,
            move_id=str(ULID()),
            moved_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
        )


def read_champion(models_path: Path) -> Champion | None:
    """Return the champion, or None before the first promotion. Raises ChampionBroken."""
    try:
        return Champion.model_validate_json((models_path / POINTER_NAME).read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ChampionBroken(f"{POINTER_NAME} cannot be read ({error.strerror}). {_REPAIR}") from error
    except ValidationError as error:
        raise ChampionBroken(f"{POINTER_NAME} is not valid: {first_fault(error)}. {_REPAIR}") from error


def readable_champion(models_path: Path) -> Champion | None:
    """Return the champion, or None where there is none or the pointer is broken."""
    with contextlib.suppress(ChampionBroken):
        return read_champion(models_path)
    return None


def write_champion(models_path: Path, champion: Champion) -> None:
    """Replace the pointer atomically: a reader sees the old content or the new, also after a power failure."""
    document = json.dumps(champion.model_dump(mode="json"), indent=1)
    write_atomically(models_path / POINTER_NAME, document.encode())


def champion_lock(models_path: Path) -> TextIO:
    """Wait for the lock under which the pointer is read and moved; return its open file, which frees it when closed."""
    return open_locked(models_path / ".champion.lock")


_REPAIR = "To repair it, promote a version with POST /models/{version}/promote or `rayonnage promote`."
