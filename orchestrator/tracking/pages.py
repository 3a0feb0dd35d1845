"""How MLflow's pages open: views with the columns that matter, kept as tags of the experiment.

MLflow's own "share" button keeps a view as JSON in an experiment tag `mlflow.sharedViewState.<key>` and links to it by
`viewStateShareKey=<key>` (3.17; server/js, useSharedExperimentViewState). An unknown tag does no harm elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

COLUMNS: Final = (
    *("metrics.`best_hmean`", "metrics.`best_precision`", "metrics.`best_recall`"),
    *("tags.`state`", "tags.`kind`", "tags.`what`"),
)


def _view(where: str, order_by: str, ascending: bool) -> str:
    return json.dumps(
        {
            "selectedColumns": COLUMNS,
            "searchFilter": where,
            "orderByKey": order_by,
            "orderByAsc": ascending,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
        }
    )


RESULTS: Final = "results"  # every trial and ensemble, flat, the best one first
TREE: Final = "tree"  # phases, to be unfolded

EXPERIMENT_TAGS: Final[Mapping[str, str]] = {
    # Without it MLflow asks whether this is about language models.
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{RESULTS}": _view(
        "tags.kind != 'phase' AND tags.kind != 'experiment'", "metrics.`best_hmean`", ascending=False
    ),
    f"mlflow.sharedViewState.{TREE}": _view("", "attributes.start_time", ascending=True),
}


def runs_url(base: str, experiment_id: str | None, view: str = RESULTS) -> str:
    """Address of a roadmap's table of runs, in a view; of the list of roadmaps without an id."""
    if experiment_id is None:
        return f"{base}/#/experiments?workflowType=machine_learning"
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}"
