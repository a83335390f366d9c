from __future__ import annotations

import threading
from pathlib import Path

from rayonnage_shared.ml.bundles.champion import Champion, read_champion, write_champion

OLD, NEW = "20261120T081500Z-0000", "20261121T081500Z-3f2a"


def test_there_is_no_champion_before_the_first_promotion(tmp_path: Path) -> None:
    assert read_champion(tmp_path) is None


def test_the_pointer_reads_back_as_it_was_written(tmp_path: Path) -> None:
    champion = Champion.promoted(NEW, "jane", "better", (OLD,), previous=OLD)

    write_champion(tmp_path, champion)

    assert read_champion(tmp_path) == champion


def test_a_reader_never_sees_half_a_pointer(tmp_path: Path) -> None:
    write_champion(tmp_path, Champion.promoted(OLD, "jane", "x" * 5000))
    stop = threading.Event()

    def move() -> None:
        for number in range(200):
            write_champion(tmp_path, Champion.promoted(f"20261121T081500Z-{number:04x}", "jane", "x" * 5000))
        stop.set()

    thread = threading.Thread(target=move)
    thread.start()
    seen = 0
    while not stop.is_set():
        champion = read_champion(tmp_path)
        assert champion is not None
        assert len(champion.reason) == 5000
        seen += 1
    thread.join()
    assert seen > 0
    assert [path.name for path in tmp_path.iterdir()] == ["champion.json"]
