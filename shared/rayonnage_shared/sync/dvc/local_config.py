"""`.dvc/config.local`: the configured remote, so that the command `dvc pull` works by itself in a checkout."""

from __future__ import annotations

import configparser
import io

import structlog

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.sync.dvc.connection import REMOTE_NAME, project_folder, remote_options
from rayonnage_shared.sync.dvc.settings import VersioningSettings

log = structlog.get_logger()

SECTION = f"'remote \"{REMOTE_NAME}\"'"


def write_local_config(settings: VersioningSettings) -> bool:
    """Write the remote of `settings` into `.dvc/config.local`, unless it is there; return whether it was written.

    Nothing is done outside a checkout. Other sections of the file are kept. The file may contain the remote's
    credentials: git ignores it, and only its owner can read it. Without a remote, our section is removed.
    """
    folder = project_folder(settings) / ".dvc"
    if not (folder / ".gitignore").is_file():  # not a checkout: git brings both, and ignores config.local by it
        return False
    path = folder / "config.local"
    config = configparser.ConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    if path.is_file():
        try:
            config.read_string(path.read_text(encoding="utf-8"))
        except (configparser.Error, UnicodeDecodeError) as error:
            log.warning("dvc.local_config.not_written", path=str(path), error=str(error))
            return False
    before = _text(config)
    options = remote_options(settings)
    if options:
        config[SECTION] = {name: f'"{value}"' for name, value in options.items()}
        if not config.has_section("core"):
            config.add_section("core")
        config["core"]["remote"] = REMOTE_NAME
    else:
        config.remove_section(SECTION)
        if config.has_option("core", "remote") and config["core"]["remote"] == REMOTE_NAME:
            config.remove_option("core", "remote")
    text = _text(config)
    if text == before:
        return False
    write_atomically(path, text.encode(), mode=0o600)
    return True


def _text(config: configparser.ConfigParser) -> str:
    written = io.StringIO()
    config.write(written)
    return written.getvalue()
