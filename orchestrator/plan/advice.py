"""What a plan may do but should think twice about, and the cautious default of ASHA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.plan import space
from orchestrator.plan.schema import PhaseSpec, Plan, RuleSpec, SweepSpec
from orchestrator.plan.settings import TrialSettings, changes_speed, flat, flat_knobs
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Asha
from orchestrator.plan.tree import Loc, parse

# Simulated with Tune's own bracket code, 20 trials, noisy curves, better configs learning slower: the best survives
# 27 % of the time at grace 1, eta 4; 56 % at grace R/4, eta 2; 79 % with no stopping at all. Hence these limits.
MIN_TRIALS = 8  # no ASHA for so few trials or fewer
MIN_EPOCHS = 6  # nor for so few epochs or fewer
MIN_GRACE = 3
GRACE_PARTS = 4  # grace = max_epochs / 4
ETA = 2
LENGTH = ("max_epochs",)  # what the schedule stretches over


@dataclass(frozen=True, slots=True)
class Stopping:
    """A sweep's rule, and what is to be said about it."""

    asha: Asha | None
    warnings: tuple[str, ...] = ()


def grace_of(epochs: int) -> int:
    """The cautious grace period."""
    return max(MIN_GRACE, -(-epochs // GRACE_PARTS))


def stopping(sweep: SweepSpec, trials: int, epochs: int) -> Stopping:
    """ASHA for a sweep of `trials` trials of at most `epochs` epochs.

    An explicit `stop` is honoured, with a warning where it misleads; without one, ASHA only where it does not.
    """
    speed = sorted(key for key in flat_knobs(sweep.space) if changes_speed(key))
    doubts = []
    if trials <= MIN_TRIALS:
        doubts.append(f"with {trials} trials it saves little and may lose the best; above {MIN_TRIALS} it pays")
    if epochs <= MIN_EPOCHS:
        doubts.append(f"{epochs} epochs are too few to judge by; above {MIN_EPOCHS} it pays")
    if any(key in LENGTH for key in speed):
        doubts.append(
            "max_epochs gives schedules of different length, and at one epoch a short one is nearer to its end"
        )
    speed = [key for key in speed if key not in LENGTH]
    if speed:
        doubts.append(f"{', '.join(speed)} changes the speed of learning, so slow starters that end best are stopped")
    if sweep.stop is None:
        return Stopping(None if doubts else Asha(grace_of(epochs), ETA))
    if sweep.stop.asha is None:
        return Stopping(None)
    grace = sweep.stop.asha.grace or min(grace_of(epochs), epochs)
    if grace >= epochs:
        doubts.append(f"grace {grace} of {epochs} epochs stops nothing")
    elif sweep.stop.asha.grace is not None and grace < min(grace_of(epochs), epochs - 1):
        doubts.append(f"grace {grace} is short; {grace_of(epochs)} of {epochs} epochs keeps the best twice as often")
    return Stopping(Asha(grace, sweep.stop.asha.eta), tuple(f"ASHA misleads here: {doubt}" for doubt in doubts))


def left_out(plan: Plan, sweep: SweepSpec, loc: Loc, baseline: TrialSettings) -> Iterable[str]:
    """Ranges without the baseline's value: such a sweep cannot say that the baseline should stay as it is."""
    axes, known = space.axes_of(sweep.space), flat(baseline.model_dump(mode="json"))
    for key in axes:
        value = known[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and not space.covers(axes, key, value):
            low, high = space.extent(axes, key)
            yield place(
                plan,
                (*loc, *key.split(".")),
                f"`low <= {value:g} <= high` should hold for the baseline's value, got {low:g}..{high:g}; widen the "
                "range, or the sweep cannot say whether to leave the setting as it is",
            )


def rules_left_out(plan: Plan, rules: RuleSpec, loc: Loc, baseline: TrialSettings) -> Iterable[str]:
    """The same for post-processing values; a single value is a choice, no range."""
    unclip = "unclip_ratio" if baseline.postprocess.unclip == "ratio" else "shrink_ratio"
    for key in ("thresh", "box_thresh", unclip):
        values, value = getattr(rules, key), getattr(baseline.postprocess, key)
        if values is not None and len(values) > 1 and not min(values) <= value <= max(values):
            yield place(
                plan,
                (*loc, key),
                f"`low <= {value:g} <= high` should hold for the baseline's value, got {min(values):g}.."
                f"{max(values):g}; widen the range, or the search cannot say whether to leave it as it is",
            )


def faint(plan: Plan, images: int, smallest: float) -> Iterable[str]:
    """Expected differences that this many validation images cannot show.

    Args:
        images: in the validation set.
        smallest: the true difference that they show 80 % of the time.
    """
    for phase in plan.phases:
        home = _home(plan, phase)
        for item in phase.experiments:
            where = plan.origin.tree.by_id((*home, "experiments"), item.id)
            for effect in item.expect:
                largest = max(abs(effect.low), abs(effect.high))
                if effect.relative and largest < smallest:
                    yield place(
                        plan,
                        (*where, "expect", effect.stat),
                        f"`|effect| >= {smallest:.4f}` should hold on {images} validation images (found 80 % of the "
                        f"time), got {largest:.4f}; add validation pages or seeds, or expect `undecided`",
                    )


def place(plan: Plan, loc: Loc, message: str) -> str:
    """A warning with its place."""
    return str(plan.origin.tree.near(loc).mark.fault(loc, message))


def plan_warnings(plan: Plan) -> Iterable[str]:
    """Doubts about a plan as a whole."""
    for phase in plan.phases:
        if any(e.ensemble is not None for e in phase.experiments) and _without_test(plan):
            yield place(
                plan,
                _home(plan, phase),
                "no `data.test`: the submission file will hold the validation images",
            )
    yield from _unheard_of(plan)
    planned = sum(e.cost or 0.0 for phase in plan.phases for e in phase.experiments)
    limit = plan.budget.gpu_hours
    if limit is not None and planned > limit:
        yield place(plan, ("budget", "gpu_hours"), f"the experiments cost {planned:g} GPU-h, the budget is {limit:g}")


def _unheard_of(plan: Plan) -> Iterable[str]:
    """Phases that are needed, but stand in no plan file beside this one: a slip, or a file elsewhere."""
    outside = plan.origin.names.outside
    if not outside:
        return
    beside: set[str] = set()
    for path in sorted(plan.origin.path.parent.glob("*.y*ml")):
        try:
            found = parse(path.read_text(encoding="utf-8-sig"), str(path), []).get("phases")
        except (OSError, UnicodeDecodeError):
            continue
        ids = (child.get("id") for child in (found.elements() if found is not None else ()))
        beside |= {str(identity.value) for identity in ids if identity is not None}
    for phase in plan.phases:
        for i, name in enumerate(phase.needs):
            if name in outside - beside:
                hint = nearest(name, beside | set(plan.origin.names.phases) - {phase.id})
                yield place(
                    plan, (*_home(plan, phase), "needs", i), f"no plan beside this one has a phase `{name}`{hint}"
                )


def _home(plan: Plan, phase: PhaseSpec) -> Loc:
    return plan.origin.tree.by_id(("phases",), phase.id)


def _without_test(plan: Plan) -> bool:
    synthetic = plan.data.synthetic
    return plan.data.test is None and (synthetic is None or synthetic.test == 0)
