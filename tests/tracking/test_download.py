"""`predict runs:/ID/checkpoint`: a checkpoint comes back from MLflow as it was sent."""

from __future__ import annotations

import pytest

from detector.errors import InputError
from orchestrator.plan.study import Study
from orchestrator.tracking.shipper import ship
from orchestrator.tracking.views import download


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_checkpoint_comes_back_from_the_workspaces_own_store(study: Study, play) -> None:
    from mlflow.tracking import MlflowClient

    play(study)
    status = ship(study.workspace)
    client = MlflowClient(tracking_uri=status.uri)
    experiment = client.get_experiment_by_name(study.roadmap)
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'trial' and tags.state = 'finished'")
    digest = runs[0].data.tags["digest"]

    folder = download(f"runs:/{runs[0].info.run_id}/checkpoint", study.workspace)

    sent = study.workspace / "trials" / digest / "best"
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in sent.iterdir())
    assert all((folder / path.name).read_bytes() == path.read_bytes() for path in sent.iterdir())
    with pytest.raises(InputError, match="cannot be had from MLflow"):
        download("runs:/0123456789abcdef0123456789abcdef/checkpoint", study.workspace)


def test_an_unsaid_store_is_asked_for() -> None:
    with pytest.raises(InputError, match="set MLFLOW_TRACKING_URI, or give --plan"):
        download("models:/detector/1")
