"""The one list of job types."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train.job_types import DEFAULT_JOB_TYPES, JOB_TYPES, TRAININGS, JobType, JobTypeName, load_job_types

HEAVY = ("sklearn", "scipy", "pandas", "onnxruntime", "optuna")


@pytest.mark.parametrize("job_type", JOB_TYPES.values(), ids=lambda job_type: job_type.name)
def test_every_handler_takes_its_request_and_a_run_context(job_type: JobType) -> None:
    handler = job_type.load_handler()
    hints = get_type_hints(handler)
    request, run = inspect.signature(handler).parameters
    assert hints[request] is job_type.request
    assert hints[run].__origin__ is RunContext


def test_trainings_and_searches_share_a_concurrency_group_and_drift_reports_have_their_own() -> None:
    assert TRAININGS == ("train", "search")
    assert JOB_TYPES["train"].concurrency_group == JOB_TYPES["search"].concurrency_group
    assert JOB_TYPES["drift"].concurrency_group != JOB_TYPES["train"].concurrency_group


def test_the_default_path_names_the_list() -> None:
    assert load_job_types(DEFAULT_JOB_TYPES) is JOB_TYPES


def test_a_name_is_one_of_the_list() -> None:
    names = TypeAdapter(JobTypeName)
    assert names.json_schema() == {"type": "string", "enum": ["train", "search", "drift"]}
    assert names.validate_python("search") == "search"
    with pytest.raises(ValidationError, match="known are train, search, drift"):
        names.validate_python("scoring")


def test_the_list_is_read_without_importing_a_training_library() -> None:
    program = "import sys, rayonnage_train.job_types; print(*(name for name in sys.argv[1:] if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", program, *HEAVY], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
