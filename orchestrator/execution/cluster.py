"""The Ray cluster: connecting to it, and what it can hold.

Without RAY_ADDRESS a cluster of this machine's cores and GPUs is started and ends with the process. With it (`ray job
submit` sets it) the cluster that is there is used. CPU and GPU counts are Ray's logical ones.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import ClusterError, LedgerError
from orchestrator.plan.study import Trial
from orchestrator.storage.places import Place

# Ray reads these when it is imported or when it starts a process; a value that the user has set wins.
SETTINGS: Final[Mapping[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a plan's relative paths mean the same in every process
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # each of these is an actor or a log of its own in every DDP trial
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the controller's polling; 2 s by default, paid at each epoch's report
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # today's default, said aloud: a worker without a GPU sees none
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files: the ledger is the record
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # training.py checks, with a message that names what is there
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # search.py has its own
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the ledger is what a run resumes from
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # search.py admits what fits
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
}
# Where a store is, told to all nodes; what opens it (keys, roles) is each machine's own and travels nowhere.
STORE_SETTINGS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
PROBE_S: Final = 180.0  # for the start of a process on each node
CPUINFO: Final = Path("/proc/cpuinfo")
BF16: Final = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})  # the last is Arm's name
UNITS: Final = 10_000  # of a CPU or GPU, in which Ray counts


@dataclass(frozen=True, slots=True)
class Need:
    """What one trial takes: `workers` times so many CPUs and GPUs."""

    workers: int
    cpus: float
    gpus: float

    @property
    def total(self) -> tuple[float, float]:
        """CPUs and GPUs of all workers."""
        return self.workers * self.cpus, self.workers * self.gpus

    def bundle(self) -> dict[str, float]:
        """One worker's share, in Ray's words."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the cluster's living nodes have in all, used or not: (CPUs, GPUs) of each.

    `grows`: an autoscaler may add nodes, so that what does not fit today may fit later.
    """

    nodes: tuple[tuple[float, float], ...]
    grows: bool = False

    @property
    def cpus(self) -> float:
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(gpus for _, gpus in self.nodes)

    def need(self, trial: Trial) -> Need:
        """A trial's resources, with `gpus: auto` decided: one a worker, a share of one where there are fewer, or none.

        A batch is the same however many GPUs its ranks have, so a plan of several workers runs on a lone GPU as well.
        """
        workers, cpus, gpus = trial.workers, float(trial.resources.cpus), trial.resources.gpus
        if gpus is not None:
            return Need(workers, cpus, float(gpus))
        if not self.gpus:
            return Need(workers, cpus, 0.0)
        shares = (Need(workers, cpus, (UNITS // ranks) / UNITS) for ranks in range(1, workers + 1))
        whole = Need(workers, cpus, 1.0)
        return whole if self.grows else next(filter(self.holds, shares), whole)

    def holds(self, need: Need) -> bool:
        """Whether all workers fit at once on the empty cluster."""
        return self.copies(need) >= need.workers

    def copies(self, need: Need) -> int:
        """How many such workers the empty cluster holds at once."""
        return sum(_copies(node, need) for node in self.nodes)

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs on {len(self.nodes)} node{'s' * (len(self.nodes) != 1)}"


def _copies(node: tuple[float, float], need: Need) -> int:
    slack = 1e-6
    shares = [(have + slack) // want for have, want in zip(node, (need.cpus, need.gpus), strict=True) if want > 0]
    return int(min(shares, default=need.workers))


def connect(cpus: int | None = None) -> None:
    """Connect this process to Ray, once; quietly.

    Args:
        cpus: of a cluster on this machine; None counts its cores.

    Raises:
        ClusterError: RAY_ADDRESS names a cluster that does not answer.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=_runtime_env())
        else:
            # "local" by name: Ray would else join any cluster that someone started on this machine.
            ray.init(
                "local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_quoted_python(),
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = f"RAY_ADDRESS={address}" if address else "a cluster on this machine"
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"{where}: Ray must answer, but {reason}; start it with `ray start --head`, mend the address, or unset "
            "RAY_ADDRESS to run on this machine alone"
        ) from error
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failures are told by the ledger, once


def disconnect() -> None:
    """End this process's connection, and with it a cluster that `connect` started."""
    import ray

    ray.shutdown()


def capacity() -> Capacity:
    """What the cluster has now."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Capacity(tuple((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes), _autoscales())


def preflight(trials: Iterable[Trial], have: Capacity) -> None:
    """Refuse what could never start.

    Raises:
        ClusterError: every trial that does not fit, and what there is.
    """
    if have.grows:
        return
    faults = []
    for trial in trials:
        need = have.need(trial)
        if not have.holds(need):
            faults.append(
                f"{trial.name}: {need.workers} worker{'s' * (need.workers != 1)} of {need.cpus:g} CPUs and "
                f"{need.gpus:g} GPUs must fit, the cluster has {have}"
            )
    if faults:
        raise ClusterError(
            "\n".join(faults) + "\nlower `resources` or `workers` of these experiments, or run on a larger cluster"
        )


def doubts(trials: Iterable[Trial], have: Capacity) -> list[str]:
    """What would run, but far slower than it need be, in words for people."""
    slow = [trial for trial in trials if trial.config.precision == "bf16" and not have.need(trial).gpus]
    if not slow or len(have.nodes) > 1 or computes_bf16(CPUINFO):
        return []
    return [
        f"{slow[0].name}{f' and {len(slow) - 1} more' if len(slow) > 1 else ''}: precision bf16 on a CPU without its "
        "instructions (avx512_bf16, amx_bf16), where a step takes over ten times as long as in fp32; stop, and add "
        "--set defaults.precision=fp32"
    ]


def computes_bf16(cpuinfo: Path) -> bool:
    """Whether this machine's CPU has instructions for bf16, by Linux's `cpuinfo`; taken for granted elsewhere."""
    words = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else BF16
    return bool(BF16 & words)


def preflight_store(place: Place) -> None:
    """Refuse a cluster of which a machine does not reach the workspace's store; nothing to do without a store.

    Raises:
        ClusterError: every such machine, and why.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not place.url or len(nodes) < 2:
        return
    task = ray.remote(num_cpus=0, max_retries=0)(_reach)
    asked = {
        node["NodeManagerHostname"]: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(place)
        for node in nodes
    }
    faults = []
    for host, reference in asked.items():
        try:
            fault = ray.get(reference, timeout=PROBE_S)
        except ray.exceptions.RayError as error:
            fault = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        if fault:
            faults.append(f"{host}: {fault}")
    if faults:
        raise ClusterError(
            "every machine of the cluster must reach the workspace's store:\n"
            + "\n".join(faults)
            + "\ngive these nodes credentials in the environment of their `ray start`, or a role"
        )


def _reach(place: Place) -> str:
    """Why this machine does not reach the store; empty where it does."""
    try:
        place.store.names("driver")
    except LedgerError as error:
        return str(error)
    return ""


def ask_for(needs: Sequence[Need]) -> None:
    """Tell an autoscaler what is waiting; an empty list takes the wish back."""
    if not _autoscales():
        return
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[need.bundle() for need in needs for _ in range(need.workers)])


def _autoscales() -> bool:
    # Ray's own sign of a cluster that `ray up` made (ray.tune.execution.cluster_info).
    return Path("~/ray_bootstrap_config.yaml").expanduser().exists()


def _quoted_python() -> dict[str, object] | None:
    """This very Python, quoted where its path needs it.

    Ray 2.60 hands the path of the interpreter to bash as it is, so from a folder with a blank in its name no worker
    would ever start; all other arguments it quotes itself (ray/_private/runtime_env/context.py).
    """
    quoted = shlex.quote(sys.executable)
    return None if quoted == sys.executable else {"py_executable": quoted}


def _runtime_env() -> dict[str, object] | None:
    """This software's code for the nodes, unless `ray job submit --working-dir` has sent it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return None
    import detector
    import orchestrator

    return {
        "py_modules": [str(Path(package.__file__ or "").parent) for package in (detector, orchestrator)],
        "excludes": ["__pycache__"],
        "env_vars": {name: os.environ[name] for name in STORE_SETTINGS if name in os.environ},
    }
