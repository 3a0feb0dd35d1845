"""What fits on which cluster, and the cluster file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from studies import make_trial

from orchestrator.errors import ClusterError
from orchestrator.execution.cluster import Capacity, Need, computes_bf16, doubts, preflight
from orchestrator.plan.study import Resources

ROOT = Path(__file__).resolve().parents[2]
TWO_NODES = Capacity(((4.0, 1.0), (4.0, 1.0)))


@pytest.mark.parametrize(
    ("need", "fits"),
    [
        (Need(1, 4, 1), True),
        (Need(1, 5, 0), False),  # 8 CPUs in all, but no node has 5
        (Need(2, 3, 1), True),  # one rank a node
        (Need(3, 1, 1), False),
        (Need(3, 3, 0), False),  # 9 of 8
        (Need(4, 1, 0.5), True),  # two ranks share a GPU
        (Need(8, 1, 0), True),
    ],
)
def test_ranks_are_packed_on_nodes(need: Need, fits: bool) -> None:
    assert TWO_NODES.holds(need) is fits


def test_fractions_that_add_up_fit() -> None:
    assert Capacity(((0.3, 0.0),)).holds(Need(3, 0.1, 0))


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    trial = replace(make_trial(1), resources=Resources(cpus=2, gpus=None))
    assert TWO_NODES.need(trial) == Need(1, 2.0, 1.0)
    assert Capacity(((2.0, 0.0),)).need(trial) == Need(1, 2.0, 0.0)


@pytest.mark.parametrize(
    ("workers", "gpus", "share"),
    [(2, 2.0, 1.0), (2, 1.0, 0.5), (3, 1.0, 0.3333), (6, 1.0, 0.1666), (3, 2.0, 0.5), (2, 0.0, 0.0)],
)
def test_auto_shares_a_gpu_where_workers_outnumber_them(workers: int, gpus: float, share: float) -> None:
    # In units of 1/10,000, rounded down: six sixths as 0.1667 would be more than one GPU.
    trial = replace(make_trial(1, workers=workers), resources=Resources(cpus=1, gpus=None))
    have = Capacity(((16.0, gpus),))
    assert have.need(trial) == Need(workers, 1.0, share)
    preflight([trial], have)


def test_auto_takes_whole_gpus_where_nodes_may_come() -> None:
    trial = replace(make_trial(1, workers=2), resources=Resources(cpus=1, gpus=None))
    assert Capacity(((16.0, 1.0),), grows=True).need(trial).gpus == 1.0


def test_ranks_on_one_gpu_talk_through_gloo() -> None:
    from orchestrator.execution.ranks import backend

    assert [backend(Need(2, 1, gpus)) for gpus in (0, 0.5, 1, 2)] == ["gloo", "gloo", "nccl", "nccl"]


def test_bf16_without_its_instructions_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, quick = tmp_path / "plain", tmp_path / "quick"
    plain.write_text("flags\t\t: fpu avx2 avx512f\n")
    quick.write_text("flags\t\t: fpu avx2 avx512_bf16\n")
    assert [computes_bf16(path) for path in (plain, quick, tmp_path / "none")] == [False, True, True]
    monkeypatch.setattr("orchestrator.execution.cluster.CPUINFO", plain)
    trial = make_trial(1)
    half = replace(trial, config=trial.config.model_copy(update={"precision": "bf16"}))
    here = Capacity(((2.0, 0.0),))
    assert doubts([trial], here) == doubts([half], TWO_NODES) == []
    (line,) = doubts([half, trial, replace(half, name="p/2")], here)
    assert line.startswith(f"{half.name} and 1 more: precision bf16 on a CPU without its instructions")
    on_gpu = replace(half, resources=Resources(cpus=1, gpus=None))
    assert doubts([on_gpu], Capacity(((2.0, 1.0),))) == []


def test_a_cluster_that_grows_refuses_nothing_and_others_name_all() -> None:
    wide = [replace(make_trial(seed, workers=16), name=f"p/{seed}") for seed in (1, 2)]
    preflight(wide, replace(TWO_NODES, grows=True))
    with pytest.raises(ClusterError) as caught:
        preflight(wide, TWO_NODES)
    assert str(caught.value).splitlines() == [
        "p/1: 16 workers of 1 CPUs and 0 GPUs must fit, the cluster has 8 CPUs and 2 GPUs on 2 nodes",
        "p/2: 16 workers of 1 CPUs and 0 GPUs must fit, the cluster has 8 CPUs and 2 GPUs on 2 nodes",
        "lower `resources` or `workers` of these experiments, or run on a larger cluster",
    ]


def test_the_cluster_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ruamel.yaml import YAML

    config = prepare_config(YAML(typ="safe").load(ROOT / "cluster.yaml"))
    validate_config(config)
    assert config["available_node_types"]["gpu"]["max_workers"] == config["max_workers"] == 8
    assert any("requirements.lock" in command for command in config["setup_commands"])
    assert (ROOT / "requirements.lock").is_file()
    assert all("0.0.0.0" not in command for command in config["head_start_ray_commands"])


def test_workers_start_from_a_folder_with_a_blank_in_its_name(tmp_path: Path) -> None:
    # A virtual environment's interpreter is a link; Ray must quote its path where it goes through bash.
    folder = tmp_path / "내 folder" / "bin"
    folder.mkdir(parents=True)
    (folder.parent / "pyvenv.cfg").write_text(Path(sys.prefix, "pyvenv.cfg").read_text(), encoding="utf-8")
    (folder.parent / "lib").symlink_to(Path(sys.prefix, "lib"))
    python = folder / "python"
    python.symlink_to(Path(sys.executable).resolve())
    script = (
        "import ray; from orchestrator.execution import cluster\n"
        "cluster.connect(cpus=1)\n"
        "ask = ray.remote(runtime_env={'env_vars': {'NEW': '1'}})(lambda: __import__('sys').executable)\n"
        "print(ray.get(ask.remote(), timeout=60)); cluster.disconnect()\n"
    )
    answer = subprocess.run([python, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.stdout.strip() == str(python), answer.stderr
