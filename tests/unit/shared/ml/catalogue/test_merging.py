"""New rows against stored ones."""

from __future__ import annotations

from dataclasses import replace

from rayonnage_shared.ml.catalogue.merging import Merged, Row, Stored, merge

EMPTY = Stored([], [], [], [])


def row(text: str, code: int = 10, ids: tuple[str, str] = ("", ""), photo: str | None = None, line: int = 2) -> Row:
    return Row(line, text, "", *ids, code=code, text_hash=text, photo=photo, source=0)


def stored_after(merged: Merged) -> Stored:
    return Stored(
        [name for name, _ in merged.new],
        [new.text_hash for _, new in merged.new],
        [new.photo for _, new in merged.new],
        [new.code for _, new in merged.new],
    )


def test_the_same_rows_twice_say_nothing_new() -> None:
    rows = [row("a"), row("b", ids=("1", "2")), row("b"), row("c", photo="p"), row("c"), row("c", photo="q")]
    first = merge(EMPTY, rows)
    again = merge(stored_after(first), rows)
    assert (first.n_taken, again.n_taken, again.conflicts) == (4, 0, [])


def test_other_ids_are_another_product_even_with_the_same_content() -> None:
    assert merge(EMPTY, [row("a", ids=("1", "1")), row("a", ids=("2", "2"))]).n_taken == 2


def test_a_row_without_ids_is_the_product_with_its_content() -> None:
    assert merge(EMPTY, [row("a", ids=("1", "1")), row("a")]).n_taken == 1


def test_the_newest_label_wins_and_the_conflict_is_listed() -> None:
    before = Stored(["1:1"], ["a"], [None], [10])
    merged = merge(before, [row("a", code=40, ids=("1", "1"), line=7)])
    assert merged.updates[0].code == 40
    assert [(one.line, one.reason) for one in merged.conflicts] == [
        (7, "1:1 is also labelled 10; 40, the newest, was kept")
    ]


def test_a_conflict_within_one_file_stays_one_conflict_when_the_file_comes_again() -> None:
    rows = [row("a", code=10), row("a", code=40)]
    first = merge(EMPTY, rows)
    again = merge(stored_after(first), rows)
    assert [first.new[0][1].code, len(first.conflicts), again.n_taken, len(again.conflicts)] == [40, 1, 0, 1]


def test_a_photo_that_comes_later_is_added_and_one_that_is_left_out_stays() -> None:
    before = Stored(["1:1"], ["a"], [None], [10])
    with_photo = merge(before, [row("a", ids=("1", "1"), photo="p")])
    assert with_photo.updates[0].photo == "p"
    assert merge(Stored(["1:1"], ["a"], ["p"], [10]), [row("a", ids=("1", "1"))]).n_taken == 0


def test_the_retry_with_photos_of_rows_without_ids_makes_no_second_product() -> None:
    first = stored_after(merge(EMPTY, [row("a")]))
    retried = merge(first, [row("a", photo="p")])
    assert (len(retried.new), retried.updates[0].photo) == (0, "p")


def feedback(moment: str, code: int) -> Row:
    return replace(row("a", code=code), given_at=moment)


def test_feedback_given_before_the_stored_row_was_ingested_changes_nothing() -> None:
    before = Stored(["1:1"], ["a"], [None], [10], ["01M7Z00000XXXXXXXXXXXXXXXX"])
    assert merge(before, [feedback("01M7Y00000", 40)]) == Merged()
    assert merge(before, [feedback("01M7Z00001", 40)]).updates[0].code == 40


def test_the_latest_feedback_wins_over_the_stored_row() -> None:
    before = Stored(["1:1"], ["a"], [None], [10], ["01M7Z00000XXXXXXXXXXXXXXXX"])
    merged = merge(before, [feedback("01M7Y00000", 20), feedback("01M7Z00001", 40), feedback("01M7Z00002", 30)])
    assert merged.updates[0].code == 30
    assert merge(EMPTY, [feedback("01M7Z00001", 40), feedback("01M7Z00002", 30)]).new[0][1].code == 30
