"""The inputs of a suite: what changes them and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites import RECORD, Commit, Pass, make_rule, pytest_options, read_record, read_table, write_pass
from tests.unit.ci.repository import MAKEFILE, TABLE, Repository

PASS = Pass(inputs="3f2a", commit="0123456789ab", date="2026-11-28", seconds=741)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("product/model.py", {"test-models"}),
        ("product/new_folder/new.py", {"test-models"}),
        ("product/pages/page.html", {"test-pages"}),
        ("tests/models/test_one.py", {"test-models"}),
        ("README.md", set()),
        ("product_of_another_name/x.py", set()),
        ("uv.lock", {"test-models", "test-pages"}),
        (".ci/run", {"test-models", "test-pages"}),
        (".ci/suites.toml", {"test-models", "test-pages"}),
        (RECORD, set()),
    ],
)
def test_a_change_counts_for_the_suites_that_depend_on_it(repository: Repository, name: str, changed: set[str]) -> None:
    before = repository.inputs()
    path = repository.root / name
    repository.write(name, (path.read_text() if path.exists() else "") + "\n# changed\n")
    repository.commit()
    after = repository.inputs()
    assert {suite for suite in before if before[suite] != after[suite]} == changed


def test_a_file_that_is_moved_or_deleted_counts_as_changed(repository: Repository) -> None:
    first = repository.inputs()
    repository.git("mv", "product/model.py", "product/models.py")
    repository.commit()
    moved = repository.inputs()
    repository.git("rm", "product/models.py")
    repository.commit()
    assert len({one["test-models"] for one in (first, moved, repository.inputs())}) == 3


def test_the_rule_of_a_suite_in_the_makefile_is_an_input(repository: Repository) -> None:
    before = repository.inputs()
    repository.replace("Makefile", "the pages", "other pages")
    after = repository.inputs()
    assert before["test-models"] == after["test-models"]
    assert before["test-pages"] != after["test-pages"]


def test_pytests_options_are_inputs_and_the_rest_of_pyproject_is_not(repository: Repository) -> None:
    before = repository.inputs()
    repository.write("pyproject.toml", "[tool.ruff]\nline-length = 120\n[tool.pytest.ini_options]\ntimeout = 300\n")
    assert repository.inputs() == before
    repository.replace("pyproject.toml", "300", "200")
    assert not set(repository.inputs().values()) & set(before.values())


@pytest.mark.parametrize("name", ["product/model.py", "product/new.py"])
def test_a_change_that_is_not_committed_counts(repository: Repository, name: str) -> None:
    before = repository.inputs()
    repository.write(name, "# changed\n")
    assert Commit(repository.root).changed_files() == [name]
    assert repository.inputs()["test-models"] != before["test-models"]


def test_a_record_that_is_not_committed_is_no_change(repository: Repository) -> None:
    before = repository.inputs()
    write_pass("test-models", PASS, repository.root)
    assert Commit(repository.root).changed_files() == []
    assert repository.inputs() == before


def test_a_shallow_clone_has_the_same_inputs(repository: Repository, tmp_path: Path) -> None:
    repository.replace("product/model.py", "", "# second commit\n")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth", "1", repository.root.as_uri(), str(clone))
    assert (clone / ".git" / "shallow").exists()
    assert Repository(clone).inputs() == repository.inputs()


def test_the_record_holds_one_pass_for_each_suite(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    assert read_record(tmp_path) == {}
    for name in ("test-pages", "test-models", "test-pages"):
        write_pass(name, PASS, tmp_path)
    assert read_record(tmp_path) == {"test-models": PASS, "test-pages": PASS}
    assert (tmp_path / RECORD).read_text().index("test-models") < (tmp_path / RECORD).read_text().index("test-pages")


def test_a_misspelt_key_of_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "suites.toml").write_text(TABLE.replace("except =", "excluding ="))
    with pytest.raises(TypeError, match="test-models has unknown keys: excluding"):
        read_table(tmp_path / "suites.toml")


def test_a_rule_ends_where_its_recipe_ends() -> None:
    assert make_rule(MAKEFILE, "test") == "test:\n\t@echo the tests\n"
    assert make_rule(MAKEFILE, "test-models").endswith("in 7.50s ===='\n")
    assert make_rule(MAKEFILE, "no-such-target") == ""


def test_no_pytest_options_are_none() -> None:
    assert pytest_options("[tool.mypy]\nstrict = true\n") == {}
