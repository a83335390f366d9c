"""Predictions, their confidence, and whether the products still resemble the champion's test split."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import Dashboard

from deployments.grafana.dashboards.panels import (
    BAD,
    GOOD,
    WARNING,
    Query,
    bars,
    cloud,
    lines,
    name,
    number,
    page,
    variable,
)

_ANSWERS = 'rayonnage_predictions_total{model_version=~"$version"}'
_DAY_S = 86_400
_ALARM = {"0": ("no alarm", GOOD), "1": ("ALARM", BAD)}


def predictions() -> Dashboard:
    """Return the dashboard."""
    return page(
        "Rayonnage: predictions and model",
        "Predictions of the champion, their confidence, and drift of the products. docs/monitoring.md",
        uid="rayonnage-predictions",
        choices=[variable("Model", "label_values(rayonnage_predictions_total, model_version)", name="version")],
        sections={
            "The champion": [
                name(
                    "Champion",
                    "The served bundle. Two for longer than a minute: replicas of predict use different models.",
                    Query("max by (version, family) (rayonnage_champion_info)", "{{version}} ({{family}})"),
                    width=8,
                ),
                number(
                    "Age of the model",
                    "Time since the champion was trained. An old model has not seen recent products.",
                    Query("time() - max(rayonnage_champion_created_timestamp_seconds)", "age"),
                    unit="s",
                    steps=((None, GOOD), (23 * _DAY_S, WARNING), (30 * _DAY_S, BAD)),
                    curve=False,
                ),
                number(
                    "Replicas with a model",
                    "Replicas of predict with a loaded champion. Fewer than running replicas: check the others' logs.",
                    Query("count(count by (instance) (rayonnage_champion_info))", "replicas"),
                    unit="short",
                    steps=((None, BAD), (1, GOOD)),
                ),
                number(
                    "Predictions per second",
                    "Predictions of all replicas.",
                    Query("sum(rate(rayonnage_predictions_total[$__rate_interval]))", "predictions"),
                    unit="reqps",
                ),
                number(
                    "Accepted without review",
                    "Fraction of predictions with decision `accept`. A drop means more work for the operators, "
                    "and often drift.",
                    Query(
                        'sum(rate(rayonnage_predictions_total{decision="accept"}[$__rate_interval]))'
                        " / sum(rate(rayonnage_predictions_total[$__rate_interval]))",
                        "accepted",
                    ),
                    unit="percentunit",
                ),
            ],
            "Predictions": [
                lines(
                    "Predictions by decision",
                    "Accepted products, and those for review. `review` growing at a constant total: the products "
                    "have changed, or a worse model was promoted.",
                    Query(f"sum by (decision) (rate({_ANSWERS}[$__rate_interval]))", "{{decision}}"),
                    unit="reqps",
                    stacked=StackingMode.NORMAL,
                ),
                cloud(
                    "Confidence",
                    "Confidence of the predictions. A healthy model is dark at the top; colour moving down to the "
                    "middle is the earliest sign of drift.",
                    Query("sum by (le) (increase(rayonnage_prediction_confidence_bucket[$__rate_interval]))", "{{le}}"),
                    unit="percentunit",
                ),
                lines(
                    "Confidence: median and 10th percentile",
                    "Half of the predictions are above the first curve, nine tenths above the second.",
                    *(
                        Query(
                            f"histogram_quantile({share}, sum by (le) "
                            "(rate(rayonnage_prediction_confidence_bucket[$__rate_interval])))",
                            legend,
                        )
                        for share, legend in ((0.5, "median"), (0.1, "lowest tenth"))
                    ),
                    unit="percentunit",
                    most=1,
                ),
                bars(
                    "Most frequent categories",
                    "The ten most predicted categories in the time range. A dominant one means a changed catalogue, "
                    "a client that repeats the same product, or broken input.",
                    Query(f"topk(10, sum by (category) (increase({_ANSWERS}[$__range]) > 0))", "{{category}}"),
                    unit="short",
                    width=12,
                ),
                lines(
                    "Share of categories over time",
                    "The eight most frequent categories. A step at a promotion comes from the model, one at "
                    "another time from the catalogue.",
                    Query(
                        f"topk(8, sum by (category) (rate({_ANSWERS}[$__rate_interval])))"
                        f" / scalar(sum(rate({_ANSWERS}[$__rate_interval])))",
                        "{{category}}",
                    ),
                    unit="percentunit",
                    width=12,
                    stacked=StackingMode.NORMAL,
                ),
            ],
            "Duration": [
                lines(
                    "Duration by stage, p50",
                    "Half of the predictions are faster: prepare (cleaning, decoding the photo), the models of text "
                    "and image, fusion. There is no batching.",
                    Query(
                        "histogram_quantile(0.5, sum by (stage, le) "
                        "(rate(rayonnage_prediction_stage_seconds_bucket[$__rate_interval])))",
                        "{{stage}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Duration by stage, p99",
                    "One prediction in a hundred is slower. `prepare` growing alone: larger photos; a model growing "
                    "alone: another family was promoted; all of them: no CPU left.",
                    Query(
                        "histogram_quantile(0.99, sum by (stage, le) "
                        "(rate(rayonnage_prediction_stage_seconds_bucket[$__rate_interval])))",
                        "{{stage}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Predictions in progress",
                    "Running and waiting requests. Those that would wait longer than PREDICT_MAX_WAIT_S "
                    "are refused with 503.",
                    Query("sum by (instance) (rayonnage_predict_in_flight)", "{{instance}}"),
                    unit="short",
                ),
            ],
            "Prediction log": [
                lines(
                    "Written to the database",
                    "Rows of the table used by drift reports and feedback. Should match the predictions.",
                    Query("sum(rate(rayonnage_prediction_log_written_total[$__rate_interval]))", "written"),
                    Query("sum(rate(rayonnage_predictions_total[$__rate_interval]))", "predicted"),
                    unit="reqps",
                    width=12,
                ),
                lines(
                    "Pending for the database",
                    "Predictions not yet written: a few hundred at most. A growing number means that the database "
                    "is slow or down.",
                    Query("sum(rayonnage_prediction_log_waiting)", "waiting"),
                    unit="short",
                ),
                number(
                    "Lost in the time range",
                    "Predictions that were answered but not logged, since the database was down for too long.",
                    Query("sum(increase(rayonnage_prediction_log_dropped_total[$__range]))", "lost"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
            ],
            "Drift": [
                bars(
                    "Distance relative to the threshold",
                    "Distance of each column from the reference in the latest report; 100 % is the threshold. It is "
                    "an alarm only if it is also statistically significant. docs/drift.md",
                    Query(
                        "sort_desc(column:rayonnage_drift_excess:max)",
                        "{{column}}",
                    ),
                    unit="percentunit",
                    steps=((None, GOOD), (0.7, WARNING), (1, BAD)),
                    width=12,
                ),
                lines(
                    "Distances over time",
                    "Slow growth is a changing catalogue: retrain. A step is an error, mostly in the data that is "
                    "sent.",
                    Query(
                        "column:rayonnage_drift_excess:max",
                        "{{column}}",
                    ),
                    unit="percentunit",
                    steps=((None, GOOD), (1, BAD)),
                    width=12,
                ),
                number(
                    "Columns in alarm",
                    "In the latest report (GET /drift). docs/runbook.md, DriftAlarm",
                    Query("sum(max by (column) (rayonnage_drift_alarm))", "columns"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                    width=6,
                ),
                number(
                    "Rows compared",
                    "Products in the latest report. Below 100 predictions there is never an alarm.",
                    Query("max by (side) (rayonnage_drift_rows)", "{{side}}"),
                    unit="short",
                    width=9,
                    curve=False,
                ),
                number(
                    "Age of the latest report",
                    "Reports are due every DRIFT_EVERY_H. Older than twice that: the worker creates none.",
                    Query("time() - max(rayonnage_drift_report_timestamp_seconds)", "age"),
                    unit="s",
                    steps=((None, GOOD), (2 * _DAY_S, WARNING)),
                    width=9,
                    curve=False,
                ),
            ],
            "Feedback": [
                lines(
                    "Accuracy by feedback",
                    "The champion's accuracy according to feedback, and on its test split. Lower for long: retrain.",
                    Query("max(rayonnage_feedback_accuracy)", "by feedback"),
                    Query("max(rayonnage_feedback_expected_accuracy)", "on its test split"),
                    unit="percentunit",
                    most=1,
                    width=12,
                ),
                number(
                    "Accuracy alarm",
                    "Whether the difference is significant. docs/runbook.md, FeedbackAccuracyLow",
                    Query("max(rayonnage_feedback_alarm)", "alarm"),
                    unit="short",
                    words=_ALARM,
                    curve=False,
                ),
                number(
                    "Labelled predictions",
                    "The feedback behind the accuracy: predictions of the champion in the period of the report.",
                    Query("max(rayonnage_feedback_labelled)", "labelled"),
                    unit="short",
                ),
                number(
                    "Feedback in total",
                    "Rows of feedback in the database. The next ingest of feedback turns them into labelled products.",
                    Query("max(rayonnage_feedback_rows)", "feedback"),
                    unit="short",
                ),
            ],
        },
    )
