"""A plan to a study: order, names, digests, derived trials, twins, ASHA's defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detector.config import Config, Postprocess
from orchestrator.errors import PlanError
from orchestrator.plan.expand import derive, expand, workspace_of
from orchestrator.plan.identity import digest
from orchestrator.plan.loading import load
from orchestrator.plan.study import Asha, Experiment, Resources, Study, Top, Trial

HEAD = (
    "roadmap: r\ndata: {synthetic: {train: 4, val: 2}, folds: {k: 3}}\ndefaults: {encoder: resnet18, max_epochs: 20}\n"
)


def study(tmp_path: Path, rows: str, head: str = HEAD) -> Study:
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"{head}phases:\n  - id: one\n    experiments:\n" + "".join(f"      - {r}\n" for r in rows.split("\n"))
    )
    return expand(load(path, [f"workspace={tmp_path / 'w'}"]), require_data=False)


def experiment(found: Study, identity: str) -> Experiment:
    return next(e for phase in found.phases for e in phase.experiments if e.id == identity)


def test_the_digest_is_pinned() -> None:
    # A change of this value re-trains every trial of every user: only with a new TRAINING, or a new key of Config.
    assert digest(Config(), "0123456789abcdef", 2, 4, "fedcba9876543210") == "e5a4a6e232d45de5"


def test_the_digest_covers_what_changes_a_result() -> None:
    base = digest(Config(), "d")
    others = [
        digest(Config(seed=1), "d"),
        digest(Config(postprocess=Postprocess(thresh=0.2)), "d"),  # validation H decides the best epoch
        digest(Config(), "e"),
        digest(Config(), "d", fold=0, folds="x"),
        digest(Config(), "d", fold=1, folds="x"),
        digest(Config(), "d", fold=1, folds="y"),
        digest(Config(), "d", workers=2),
    ]
    assert len({base, *others}) == 8
    assert digest(Config(), "d", folds="x") == base  # how folds are cut matters only to a trial with a fold


def test_prose_priority_cost_and_resources_leave_the_digest(tmp_path: Path) -> None:
    plain = study(tmp_path, "{id: a, set: {seed: 3}}")
    dressed = study(
        tmp_path,
        "{id: b, what: x, why: y, cost: 4h, priority: 7, "
        "set: {seed: 3, resources: {cpus: 2, gpus: 0.5, compile: true}}}",
    )
    first, second = experiment(plain, "a").trials[0], experiment(dressed, "b").trials[0]
    assert first.digest == second.digest
    assert second.resources == Resources(cpus=2.0, gpus=0.5, compile=True) and not first.resources.compile
    assert first.resources.gpus is None  # auto
    assert dict(second.settings) == {"seed": 3}


def test_folds_and_seeds_multiply(tmp_path: Path) -> None:
    found = experiment(study(tmp_path, "{id: a, folds: all, seeds: [5, 6]}"), "a")
    assert [(t.name, t.fold, t.config.seed) for t in found.trials] == [
        (f"one/a-fold{fold}-seed{seed}", fold, seed) for fold in (0, 1, 2) for seed in (5, 6)
    ]
    assert len({t.digest for t in found.trials}) == 6


def test_seed_metric_and_defaults_reach_the_config(tmp_path: Path) -> None:
    head = HEAD + "seed: 9\nmetric: {aggregate: micro, variant: official}\n"
    config = experiment(study(tmp_path, "{id: a}", head), "a").trials[0].config
    assert (config.seed, config.metric.aggregate, config.metric.variant) == (9, "micro", "official")
    assert (config.encoder, config.max_epochs) == ("resnet18", 20)


def test_rules_are_the_product_upon_the_defaults(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        "{id: a}\n{id: t, thresholds: {of: a, thresh: 0.2..0.3, unclip_ratio: [1.5, 2.0]}}",
        HEAD.replace("max_epochs: 20", "postprocess: {box_thresh: 0.55, max_candidates: 7}"),
    )
    search = experiment(found, "t").thresholds
    assert search is not None
    assert {(r.thresh, r.unclip_ratio) for r in search.rules} == {(t, u) for t in (0.2, 0.25, 0.3) for u in (1.5, 2.0)}
    assert {(r.box_thresh, r.max_candidates) for r in search.rules} == {(0.55, 7)}


def test_each_way_to_unclip_has_its_own_knob(tmp_path: Path) -> None:
    found = study(tmp_path, "{id: a}\n{id: t, thresholds: {of: a, unclip_ratio: [1.5, 2.0], shrink_ratio: 0.4..0.5}}")
    search = experiment(found, "t").thresholds
    assert search is not None
    tried = [(r.unclip, r.unclip_ratio if r.unclip == "ratio" else r.shrink_ratio) for r in search.rules]
    assert tried == [("ratio", 1.5), ("ratio", 2.0), ("inverse", 0.4), ("inverse", 0.45), ("inverse", 0.5)]


def test_shapes_and_ways_to_fuse_reach_the_study(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        "{id: a}\n{id: t, thresholds: {of: a, shape: [polygon, quad], box_thresh: [0.4, 0.5]}}\n"
        '{id: e, ensemble: {pool: "top(one, 2)", shape: polygon, fusion: logit, weights: auto}}',
    )
    search, ensemble = experiment(found, "t").thresholds, experiment(found, "e").ensemble
    assert search is not None and ensemble is not None
    tried = [(rule.shape, rule.box_thresh) for rule in search.rules]
    assert tried == [("polygon", 0.4), ("polygon", 0.5), ("quad", 0.4), ("quad", 0.5)]
    assert [rule.shape for rule in ensemble.rules] == ["polygon"]
    assert (ensemble.fusion, ensemble.weights) == ("logit", "auto")


def test_order_is_priority_but_never_before_a_source(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        '{id: best, priority: 1, ensemble: {pool: "top(one, 2)"}}\n'
        "{id: t, priority: 1, thresholds: {of: late, thresh: 0.3}}\n"
        "{id: late, priority: 5, set: {seed: 1}}\n"
        "{id: soon, priority: 2}\n"
        '{id: again, priority: 1, from: "top(soon, 1)", seeds: [3]}',
    )
    assert [e.id for e in found.phases[0].experiments] == ["soon", "again", "late", "t", "best"]
    assert experiment(found, "again").derive is not None
    assert experiment(found, "again").derive.source == Top("one.soon", 1)  # type: ignore[union-attr]


def test_phases_follow_their_needs(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        HEAD + "phases:\n  - {id: c, needs: [b, elsewhere], experiments: [{id: x}]}\n"
        "  - {id: b, needs: [a], experiments: [{id: y, set: {seed: 1}}]}\n"
        "  - {id: a, experiments: [{id: z, set: {seed: 2}}]}\n"
    )
    found = expand(load(path), require_data=False)
    assert [phase.id for phase in found.phases] == ["a", "b", "c"]
    assert found.phases[2].needs == ("b", "elsewhere")


def sweep(tmp_path: Path, rest: str, epochs: int = 20) -> tuple[Experiment, tuple[str, ...]]:
    found = study(tmp_path, f"{{id: s, sweep: {{{rest}}}}}", HEAD.replace("max_epochs: 20", f"max_epochs: {epochs}"))
    return experiment(found, "s"), found.warnings


def test_asha_by_default_only_where_it_does_not_mislead(tmp_path: Path) -> None:
    space = "space: {augment.rotate_deg: 0..20}"
    assert sweep(tmp_path, f"{space}, trials: 9")[0].asha == Asha(5, 2)  # grace = 20 / 4
    assert sweep(tmp_path, f"{space}, trials: 9", epochs=7)[0].asha == Asha(3, 2)
    assert sweep(tmp_path, f"{space}, trials: 8")[0].asha is None
    assert sweep(tmp_path, f"{space}, trials: 9", epochs=6)[0].asha is None
    assert sweep(tmp_path, f"{space}, trials: 9, stop: none")[0].asha is None
    assert sweep(tmp_path, 'space: {optimizer.lr: "loguniform(1e-4, 1e-2)"}, trials: 9')[0].asha is None
    assert sweep(tmp_path, f"{space}, trials: 9")[1] == ()


def test_an_explicit_asha_is_honoured_with_its_doubts(tmp_path: Path) -> None:
    space = 'space: {optimizer.lr: "loguniform(1e-4, 1e-2)"}, trials: 4, '
    found, warnings = sweep(tmp_path, space + "stop: {asha: {grace: 2, eta: 3}}")
    assert found.asha == Asha(2, 3)
    assert [warning.rpartition("misleads here: ")[2].split(";")[0].split(",")[0] for warning in warnings] == [
        "with 4 trials it saves little and may lose the best",
        "optimizer.lr changes the speed of learning",
        "grace 2 is short",
    ]
    assert all(":7:" in warning and "sweep.stop" in warning for warning in warnings)
    assert sweep(tmp_path, space + "stop: asha")[0].asha == Asha(5, 2)


def test_sweeps_name_their_trials_and_keep_their_draws(tmp_path: Path) -> None:
    found, _ = sweep(
        tmp_path, 'space: {optimizer.lr: "loguniform(1e-4, 1e-2)", batch_size: [2, 4]}, trials: 3, seed: 1'
    )
    assert [t.name for t in found.trials] == ["one/s-00", "one/s-01", "one/s-02"]
    more, _ = sweep(tmp_path, 'space: {optimizer.lr: "loguniform(1e-4, 1e-2)", batch_size: [2, 4]}, trials: 5, seed: 1')
    assert [t.digest for t in more.trials[:3]] == [t.digest for t in found.trials]


def test_a_sweep_that_meets_another_experiment_is_a_twin(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"one/s-01 is the same training as one/a \(the defaults\)"):
        study(tmp_path, "{id: a}\n{id: s, sweep: {space: {batch_size: [2, 4]}}}")


def test_draws_that_do_not_fit_together_are_faults(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"sweep.space: .*crop_size <= 4 x image_size.*drawn: crop_size=1600"):
        study(tmp_path, "{id: s, sweep: {space: {crop_size: [0, 1600], image_size: [320, 640]}}}")


def test_derived_trials_repeat_each_source_over_folds_and_seeds(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        "{id: a, set: {seed: 1, workers: 2}}\n"
        '{id: d, from: "top(one, 2)", folds: all, seeds: [7, 8], set: {patience: 3}}',
    )
    source = experiment(found, "a").trials[0]
    other = replace(source, name="elsewhere/x", config=source.config.model_copy(update={"image_size": 320}))
    trials = derive(found, experiment(found, "d"), [source, other])
    assert len(trials) == len({t.digest for t in trials}) == 2 * 3 * 2
    first = trials[0]
    assert (first.name, first.phase, first.experiment) == ("one/d-top1-fold0-seed7", "one", "d")
    assert (first.fold, first.config.seed, first.config.patience, first.workers) == (0, 7, 3, 2)
    assert dict(first.settings) == {"seed": 7, "patience": 3, "workers": 2}
    assert trials[-1].config.image_size == 320
    # Derived again, in another process, after a restart: the same digests.
    assert derive(found, experiment(found, "d"), [source, other]) == trials


def test_a_derived_trial_without_a_fold_keeps_that_of_its_source(tmp_path: Path) -> None:
    found = study(tmp_path, '{id: a, folds: [1]}\n{id: d, from: "top(one, 1)", set: {patience: 2}}')
    source: Trial = experiment(found, "a").trials[0]
    assert [t.fold for t in derive(found, experiment(found, "d"), [source])] == [1]


def test_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(HEAD + "phases: [{id: one, experiments: [{id: a}]}]\n")
    monkeypatch.delenv("ORCHESTRATOR_WORKSPACE", raising=False)
    assert workspace_of(load(path)) == Path("workspace/r")
    monkeypatch.setenv("ORCHESTRATOR_WORKSPACE", "/shared")
    assert workspace_of(load(path)) == Path("/shared/r")
    assert workspace_of(load(path, ["workspace=/mine"])) == Path("/mine")


def test_only_leaves_digests_and_places_alone(tmp_path: Path) -> None:
    whole = study(tmp_path, "{id: a}\n{id: s, sweep: {space: {seed: 1..9}, trials: 2, stop: asha}}")
    part = expand(load(tmp_path / "plan.yaml", only=["s"]), require_data=False)
    assert experiment(part, "s").trials == experiment(whole, "s").trials
    assert part.warnings == whole.warnings


def test_gpus_take_auto_and_numbers_only(tmp_path: Path) -> None:
    values: list[tuple[str, Any]] = [("auto", None), ("0", 0.0), ("0.5", 0.5)]
    for text, value in values:
        found = study(tmp_path, f"{{id: a, set: {{resources.gpus: {text}}}}}")
        assert experiment(found, "a").trials[0].resources.gpus == value
    with pytest.raises(PlanError, match="`auto` or a number of GPUs >= 0 expected, got 'many'"):
        study(tmp_path, "{id: a, set: {resources.gpus: many}}")


def test_a_needed_phase_that_no_file_beside_has_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    (tmp_path / "other.yaml").write_text("phases: [{id: phase1}]\n")
    path.write_text(HEAD + "phases: [{id: phase2, needs: [phase1, phase11], experiments: [{id: a}]}]\n")
    assert expand(load(path), require_data=False).warnings == (
        f"{path}:4:39: phases[0].needs[1]: no plan beside this one has a phase `phase11`; did you mean `phase1`?",
    )
