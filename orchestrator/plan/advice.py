"""What a plan may do but should think twice about, and the cautious default of ASHA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.plan import points, space
from orchestrator.plan.parsing import parse
from orchestrator.plan.pools import idle_ways
from orchestrator.plan.schema import PhaseSpec, Plan, RuleSpec, SweepSpec, TpeSpec
from orchestrator.plan.settings import TrialSettings, changes_speed, flat, flat_knobs
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Asha, Stat
from orchestrator.plan.tree import Loc

# Simulated with Tune's own bracket code, 20 trials, noisy curves, better configs learning slower: the best survives
# 27 % of the time at grace 1, eta 4; 56 % at grace R/4, eta 2; 79 % with no stopping at all. Hence these limits.
MIN_TRIALS = 8  # no ASHA for so few trials or fewer
MIN_EPOCHS = 6  # nor for so few epochs or fewer
MIN_GRACE = 3
GRACE_PARTS = 4  # grace = max_epochs / 4
ETA = 2
LENGTH = ("max_epochs",)  # what the schedule stretches over
MOST_STARTS = 10  # Optuna's own number


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


def starts_of(tpe: TpeSpec, axes: Mapping[str, space.Axis]) -> int:
    """Random trials before the first proposal.

    By default not a share of `trials`, so that more trials keep all that have been run.
    """
    return tpe.starts if tpe.starts is not None else min(MOST_STARTS, 2 * len(axes) + 2)


def searching(plan: Plan, sweep: SweepSpec) -> Iterable[tuple[str, str]]:
    """(key, doubt) on proposals that cannot be worth much."""
    if sweep.search is None or sweep.search.tpe is None or sweep.trials is None:
        return
    axes = space.axes_of(sweep.space)
    starts, size = starts_of(sweep.search.tpe, axes), points.size(axes)
    if size == sweep.trials:
        yield (
            "search",
            f"all {size} points of the space are run, in whatever order; leave `search` and `trials` out",
        )
    elif sweep.trials < 2 * starts:
        yield (
            "trials",
            f"`trials >= {2 * starts}` should hold, twice the random starts, got {sweep.trials}: {starts} of them are "
            "random; add trials, or give fewer `starts`",
        )
    if plan.concurrent is not None and plan.concurrent >= sweep.trials > 1:
        yield "search", f"`concurrent: {plan.concurrent}` starts all {sweep.trials} trials before one has told anything"


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


@dataclass(frozen=True, slots=True)
class Smallest:
    """The true difference that a validation set shows 80 % of the time; `why`: what that rests on."""

    value: float
    why: str


def faint(plan: Plan, images: int, smallest: Mapping[Stat, Smallest]) -> Iterable[str]:
    """Expected differences that this many validation images cannot show.

    Args:
        images: in the validation set.
        smallest: of each statistic.
    """
    for phase in plan.phases:
        home = _home(plan, phase)
        for item in phase.experiments:
            where = plan.origin.tree.by_id((*home, "experiments"), item.id)
            for effect in item.expect:
                largest = max(abs(effect.low), abs(effect.high))
                least = smallest[effect.stat]
                if effect.relative and largest < least.value:
                    yield place(
                        plan,
                        (*where, "expect", effect.stat),
                        f"`|effect| >= {least.value:.4f}` should hold on {images} validation images (found 80 % of the "
                        f"time; {least.why}), got {largest:.4f}; add validation pages or seeds, or expect `undecided`",
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
        for item in phase.experiments:
            where = plan.origin.tree.by_id((*_home(plan, phase), "experiments"), item.id)
            for loc, doubt in idle_ways(plan, item, plan.origin.names):
                yield place(plan, (*where, *loc), doubt)
    yield from _unheard_of(plan)


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
