"""`.ci/run` and `make suites`, really run over the suites of a small repository."""

from __future__ import annotations

import re
import sys

import pytest

from tests.unit.ci.repository import Repository

STOPS_THE_RUN = 'import psutil; next(p for p in psutil.Process().parents() if p.name() == "make").parent().terminate()'


def summary(output: str) -> list[str]:
    """Return the lines below the last heading, without their seconds."""
    return [re.sub(r"\d+ s\b", "N s", line) for line in output.rpartition("====")[2].strip().splitlines()[1:]]


def plan(repository: Repository, *arguments: str) -> list[str]:
    """Return the words and names of what would run."""
    done = repository.run(*arguments, "--plan")
    assert done.returncode == 0, done.stderr
    return [line.partition(":")[0] for line in done.stdout.splitlines()[1:]]


def test_what_never_passed_runs_until_the_budget_is_spent(repository: Repository) -> None:
    done = repository.run()
    assert done.returncode == 0, done.stderr
    assert summary(done.stdout) == [
        "passed  test: N s",
        "passed  test-models: N s; 61 passed, 2 skipped in 7.50s",
        "NOT RUN test-pages: it takes N s, and N s of N s are used up",
    ]
    assert repository.record() == {}


def test_all_runs_everything_whatever_the_budget(repository: Repository) -> None:
    repository.pass_all()
    assert plan(repository, "--all") == ["run     test", "run     test-models", "run     test-pages"]


def test_what_has_not_changed_is_skipped_and_says_when_it_passed(repository: Repository) -> None:
    repository.pass_all()
    passed = repository.record()["test-models"]
    done = repository.run()
    assert summary(done.stdout) == [
        "passed  test: N s",
        f"skipped test-models: unchanged since {passed.commit} passed ({passed.date})",
        f"skipped test-pages: unchanged since {passed.commit} passed ({passed.date})",
    ]


def test_committing_the_record_changes_no_inputs(repository: Repository) -> None:
    repository.pass_all()
    assert plan(repository) == ["run     test", "skipped test-models", "skipped test-pages"]


@pytest.mark.parametrize("name", ["uv.lock", ".ci/pipeline.py"])
def test_a_change_of_the_lock_or_of_ci_makes_every_suite_run_again(repository: Repository, name: str) -> None:
    repository.pass_all()
    repository.write(name, (repository.root / name).read_text() + "# changed\n")
    repository.commit()
    assert plan(repository, "suites") == ["run     test-models", "run     test-pages"]


def test_suites_runs_what_changed_and_records_it(repository: Repository) -> None:
    repository.pass_all()
    before = repository.record()
    repository.write("product/pages/page.html", "<p>")
    repository.commit()
    done = repository.run("suites")
    assert summary(done.stdout)[1] == "passed  test-pages: N s"
    after = repository.record()
    assert after["test-models"] == before["test-models"]
    assert after["test-pages"].inputs == repository.inputs()["test-pages"] != before["test-pages"].inputs


def test_suites_that_are_named_run_though_they_have_not_changed(repository: Repository) -> None:
    repository.pass_all()
    assert plan(repository, "suites", "test-pages") == ["run     test-pages"]
    assert plan(repository, "suites", "--changed", "test-pages") == ["skipped test-pages"]
    assert plan(repository, "suites") == ["skipped test-models", "skipped test-pages"]


def test_a_suite_that_does_not_exist_is_refused(repository: Repository) -> None:
    done = repository.run("suites", "test-model", "test")
    assert done.returncode == 2
    assert done.stderr == "There is no suite test, test-model; there are test-models, test-pages.\n"


def test_nothing_is_recorded_of_a_checkout_with_changes(repository: Repository) -> None:
    repository.write("product/model.py", "# changed\n")
    done = repository.run("suites")
    assert done.returncode == 2
    assert "product/model.py" in done.stderr
    assert repository.record() == {}


def test_nothing_is_recorded_when_the_checkout_changes_during_the_run(repository: Repository) -> None:
    repository.replace("Makefile", "@echo the pages", "@echo changed >product/model.py")
    done = repository.run("suites", "test-pages")
    assert "NOT RECORDED: the checkout changed meanwhile" in summary(done.stdout)[0]
    assert repository.record() == {}


def test_a_failure_is_in_the_summary_and_in_the_exit_status_and_the_rest_still_runs(repository: Repository) -> None:
    repository.replace("Makefile", "@echo the models", "@false #")
    done = repository.run("suites")
    assert done.returncode == 1
    assert summary(done.stdout)[:2] == ["FAILED  test-models: status 2 after N s", "passed  test-pages: N s"]
    assert set(repository.record()) == {"test-pages"}


def test_what_exceeds_its_limit_is_stopped_and_has_failed(repository: Repository) -> None:
    repository.replace("Makefile", "@echo the pages", "@sleep 600")
    repository.replace(".ci/suites.toml", 'limit_s = 60\npaths = ["product/pages"]', 'limit_s = 1\npaths = ["product"]')
    done = repository.run("suites", "test-pages")
    assert done.returncode == 1
    assert summary(done.stdout) == ["FAILED  test-pages: stopped after N s"]


def test_a_run_that_is_stopped_says_what_it_had_done(repository: Repository) -> None:
    repository.replace("Makefile", "@echo the pages", f"@{sys.executable} -c '{STOPS_THE_RUN}'; sleep 600")
    done = repository.run("suites")
    assert done.returncode == 143
    assert summary(done.stdout) == [
        "passed  test-models: N s; 61 passed, 2 skipped in 7.50s",
        "NOT RUN test-pages: interrupted",
    ]
    assert set(repository.record()) == {"test-models"}


def test_the_arguments_of_an_outer_make_do_not_reach_the_suites(repository: Repository) -> None:
    done = repository.run("suites", "test-models", ARGS="--all", MAKEFLAGS="-- ARGS=--all", MAKELEVEL="1")
    assert "\nthe models\n" in done.stdout


def test_a_suite_that_needs_an_engine_is_named_where_there_is_none(repository: Repository) -> None:
    repository.replace(".ci/suites.toml", 'paths = ["product/pages"]', 'engine = true\npaths = ["product/pages"]')
    done = repository.run("suites", "test-pages", DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert done.returncode == 0
    (line,) = summary(done.stdout)
    assert line.startswith("NOT RUN test-pages: no Docker engine with Compose is running, and RAYONNAGE_ENGINE_UP")
