"""What the model answers, how sure it is, and whether the products are still those that it was judged on."""

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
        "What the champion answers, how sure it is, and whether it still knows the products. docs/monitoring.md",
        uid="rayonnage-predictions",
        choices=[variable("Model", "label_values(rayonnage_predictions_total, model_version)", name="version")],
        sections={
            "The champion": [
                name(
                    "Champion",
                    "The bundle that serves. Two at once for longer than a minute: replicas of predict disagree.",
                    Query("max by (version, family) (rayonnage_champion_info)", "{{version}} ({{family}})"),
                    width=8,
                ),
                number(
                    "Age of the model",
                    "Since the serving bundle was trained. Old is not bad, but it knows no new products.",
                    Query("time() - max(rayonnage_champion_created_timestamp_seconds)", "age"),
                    unit="s",
                    steps=((None, GOOD), (23 * _DAY_S, WARNING), (30 * _DAY_S, BAD)),
                    curve=False,
                ),
                number(
                    "Replicas with a model",
                    "Replicas of predict with a champion loaded. Fewer than run: ask the others why.",
                    Query("count(count by (instance) (rayonnage_champion_info))", "replicas"),
                    unit="short",
                    steps=((None, BAD), (1, GOOD)),
                ),
                number(
                    "Predictions a second",
                    "Products that were answered, by all processes.",
                    Query("sum(rate(rayonnage_predictions_total[$__rate_interval]))", "predictions"),
                    unit="reqps",
                ),
                number(
                    "Accepted by itself",
                    "Share of answers that need no person: the model keeps its promised precision there. "
                    "A fall means more work for the operators, and often drift.",
                    Query(
                        'sum(rate(rayonnage_predictions_total{decision="accept"}[$__rate_interval]))'
                        " / sum(rate(rayonnage_predictions_total[$__rate_interval]))",
                        "accepted",
                    ),
                    unit="percentunit",
                ),
            ],
            "Answers": [
                lines(
                    "Answers by decision",
                    "How many products are accepted, and how many a person must look at. Review growing while the "
                    "total stays: the products have changed, or a worse model was promoted.",
                    Query(f"sum by (decision) (rate({_ANSWERS}[$__rate_interval]))", "{{decision}}"),
                    unit="reqps",
                    stacked=StackingMode.NORMAL,
                ),
                cloud(
                    "Confidence",
                    "How sure the model is of its answers. A healthy model is dark at the top; colour that "
                    "sinks towards the middle is the earliest sign of drift.",
                    Query("sum by (le) (increase(rayonnage_prediction_confidence_bucket[$__rate_interval]))", "{{le}}"),
                    unit="percentunit",
                ),
                lines(
                    "Confidence: middle and lowest tenth",
                    "Half of the answers are surer than the first curve, nine tenths surer than the second.",
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
                    "Categories, most frequent",
                    "The ten categories answered most over the time shown. One that takes over is a changed catalogue, "
                    "a client that sends the same product again and again, or a broken input.",
                    Query(f"topk(10, sum by (category) (increase({_ANSWERS}[$__range]) > 0))", "{{category}}"),
                    unit="short",
                    width=12,
                ),
                lines(
                    "Categories, shares over time",
                    "The mix of the eight most frequent categories. A step on the day of a promotion is the model, "
                    "one on another day is the catalogue.",
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
            "Speed": [
                lines(
                    "Time by stage, p50",
                    "Half of the predictions are faster: prepare (cleaning, decoding the photo), the models of text "
                    "and image, fusion. There is no batching: a product is judged when it comes.",
                    Query(
                        "histogram_quantile(0.5, sum by (stage, le) "
                        "(rate(rayonnage_prediction_stage_seconds_bucket[$__rate_interval])))",
                        "{{stage}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Time by stage, p99",
                    "One prediction in a hundred is slower. Prepare growing alone: larger photos; a model growing "
                    "alone: another family was promoted; all of them: no processor left.",
                    Query(
                        "histogram_quantile(0.99, sum by (stage, le) "
                        "(rate(rayonnage_prediction_stage_seconds_bucket[$__rate_interval])))",
                        "{{stage}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Predictions in work",
                    "Requests that run or wait for a thread. At PREDICT_THREADS + PREDICT_MAX_WAITING further ones "
                    "are refused with 503.",
                    Query("sum by (instance) (rayonnage_predict_in_flight)", "{{instance}}"),
                    unit="short",
                ),
            ],
            "Log of predictions": [
                lines(
                    "Written to the database",
                    "Rows of the table that drift and feedback stand on. Should follow the predictions.",
                    Query("sum(rate(rayonnage_prediction_log_written_total[$__rate_interval]))", "written"),
                    Query("sum(rate(rayonnage_predictions_total[$__rate_interval]))", "predicted"),
                    unit="reqps",
                    width=12,
                ),
                lines(
                    "Waiting for the database",
                    "Predictions noted but not yet written: a few hundred at most. A curve that climbs is a "
                    "database that is slow or away.",
                    Query("sum(rayonnage_prediction_log_waiting)", "waiting"),
                    unit="short",
                ),
                number(
                    "Lost in the time shown",
                    "Predictions of which no row was written, since the database was away for too long. "
                    "They were answered all the same.",
                    Query("sum(increase(rayonnage_prediction_log_dropped_total[$__range]))", "lost"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                ),
            ],
            "Drift": [
                bars(
                    "Distance, as a share of the threshold",
                    "How far each column of the newest report is from the reference; 100 % is its threshold. It is an "
                    "alarm only when chance alone would not give as much. docs/drift.md",
                    Query(
                        "sort_desc(column:rayonnage_drift_excess:max)",
                        "{{column}}",
                    ),
                    unit="percentunit",
                    steps=((None, GOOD), (0.7, WARNING), (1, BAD)),
                    width=12,
                ),
                lines(
                    "Distances over the reports",
                    "The same over time. Slow growth is a catalogue that changes: retrain. A step is a fault, "
                    "mostly of what is sent.",
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
                    "Of the newest report. What they are is at GET /drift; what to do is in docs/runbook.md.",
                    Query("sum(max by (column) (rayonnage_drift_alarm))", "columns"),
                    unit="short",
                    steps=((None, GOOD), (1, BAD)),
                    width=6,
                ),
                number(
                    "Rows compared",
                    "Products in the newest report. Below 100 answers there is never an alarm.",
                    Query("max by (side) (rayonnage_drift_rows)", "{{side}}"),
                    unit="short",
                    width=9,
                    curve=False,
                ),
                number(
                    "Age of the newest report",
                    "Reports come by DRIFT_EVERY_H. Older than two of these: the worker does not make them.",
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
                    "How often the champion was right where a person has said what is right, beside its accuracy on "
                    "its test split. Below that for long: retrain.",
                    Query("max(rayonnage_feedback_accuracy)", "by feedback"),
                    Query("max(rayonnage_feedback_expected_accuracy)", "on its test split"),
                    unit="percentunit",
                    most=1,
                    width=12,
                ),
                number(
                    "Verdict",
                    "Whether that is lower by more than chance. docs/runbook.md, FeedbackAccuracyLow",
                    Query("max(rayonnage_feedback_alarm)", "verdict"),
                    unit="short",
                    words=_ALARM,
                    curve=False,
                ),
                number(
                    "Labelled answers",
                    "Feedback that the accuracy stands on: answers of the champion in the time of the report.",
                    Query("max(rayonnage_feedback_labelled)", "labelled"),
                    unit="short",
                ),
                number(
                    "Feedback in all",
                    "Rows of feedback in the database. They become labelled products by the next ingest of feedback.",
                    Query("max(rayonnage_feedback_rows)", "feedback"),
                    unit="short",
                ),
            ],
        },
    )
