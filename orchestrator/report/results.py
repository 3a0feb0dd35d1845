"""Thresholds and ensembles in a report: what was chosen, what each part of it is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from detector.config import Postprocess
from orchestrator.evaluation.anatomy import Anatomy, MemberGain, Rung, ViewGain
from orchestrator.evaluation.decisions import score_text
from orchestrator.evaluation.tuned import Tuned
from orchestrator.report.document import Block, Heading, Picture, Table, Text
from orchestrator.report.figures import knob_curves, threshold_curves

NOTE = (
    "Cross-fitted scores take each image under the choice that the other images made; scores on the images where a "
    "rule was chosen are flattered by the search. Among the rules within one standard error of the best, the one whose "
    "neighbours on the grid score best is taken: the flat top, not the peak. A gain is recommended only if its whole "
    "interval lies above 0."
)


def results_blocks(results: Sequence[Tuned]) -> list[Block]:
    """One table of all, then each result's parts."""
    header = ("result", "members", "views", "rule", "cross-fitted", "H where chosen", "held against", "gain", "verdict")
    curves = threshold_curves([(result.name, result.curve) for result in results])
    blocks: list[Block] = [Table(header, [_row(result) for result in results]), Text(NOTE)]
    blocks.append(Picture("thresholds", "The best H of each thresh", curves))
    for result in results:
        blocks += _parts(result)
    return blocks


def _row(result: Tuned) -> list[str]:
    reference = result.reference.crossfitted or result.reference.own
    return [
        result.name,
        ", ".join(member.name for member in result.members),
        ", ".join(result.views),
        _rule_text(result.rule),
        score_text(result.crossfitted.summary()),
        f"{result.shown.mean('hmean'):.4f}",
        f"{result.rival}: {score_text(reference.summary())}",
        str(result.gain),
        "recommended" if result.recommended else "not recommended",
    ]


def _parts(result: Tuned) -> list[Block]:
    blocks: list[Block] = [Heading(result.name, 3)]
    if result.anatomy is not None:
        blocks += _anatomy(result.anatomy, result)
    if result.outoffold is not None:
        told = f"on {len(result.outoffold.names)} training images by models that did not learn from them"
        scores = score_text(result.outoffold.summary())
        blocks.append(
            Text(
                f"The rule was chosen {told}; each fold under what the others chose: {scores}. The cross-fitted scores "
                "in the table are of the validation images, which took no part in the choice."
            )
        )
    if result.knobs:
        blocks.append(Text("Knobs of the post-processing: " + ". ".join(str(knob) for knob in result.knobs) + "."))
        blocks += _knob_picture(result)
    return blocks if len(blocks) > 1 else []


def _knob_picture(result: Tuned) -> list[Block]:
    """Curves of the knobs that have numbers."""
    panels = []
    for knob in result.knobs:
        points = [(point.value, point.best, point.chosen) for point in knob.points if not isinstance(point.value, str)]
        if points:
            best = [(value, hmean) for value, hmean, _ in points]
            panels.append((knob.name, best, [(value, alone) for value, _, alone in points if alone is not None]))
    if not panels:
        return []
    name = f"knobs-{result.phase}-{result.experiment}"
    return [Picture(name, f"H of {result.name} by each knob of the post-processing", knob_curves(panels))]


def _anatomy(parts: Anatomy, result: Tuned) -> list[Block]:
    header: tuple[str, ...] = (
        "step",
        "views",
        "H, P, R, cross-fitted",
        f"gain over {'that model' if result.alone else 'the best single'}",
        "gain over what was kept",
        "ms",
        "",
    )
    single = (result.reference.crossfitted or result.reference.own).summary()
    rival = result.rival if result.alone else f"best single: {result.rival}"
    first = [rival, "identity", score_text(single), "-", "-", "-", ""]
    blocks: list[Block] = [Table(header, [first, *(_rung(rung) for rung in parts.rungs)])]
    if not result.recommended:
        blocks.append(Text(f"Not recommended: {result.rival} stays, for {result.gain} is not above 0."))
    if parts.views:
        header = ("view beside the first", "gain, members and rule chosen anew", "ms more", "")
        blocks.append(Table(header, [_view(view) for view in parts.views]))
    told = f"{parts.evaluations} pairs of a blend and a rule were scored on all images. "
    if parts.members:
        header = ("member", "weight", "lost without it", "ms", "correlation of errors, members in order")
        blocks.append(Table(header, [_member(*row) for row in zip(parts.members, parts.correlation, strict=True)]))
        told = f"Fusion: {parts.fusion}. {told}"
    return [*blocks, Text(told + "ms: of the networks on one image, on the machine that made this result.")]


def _view(view: ViewGain) -> list[str]:
    verdict = "pays" if view.pays else "does not pay for its time, leave it out"
    return [view.view, str(view.gain), _ms(view.ms), verdict]


def _member(member: MemberGain, correlation: Sequence[float]) -> list[str]:
    errors = ", ".join(f"{value:.2f}" for value in correlation)
    return [member.name, f"{member.weight:.3f}", str(member.gain), _ms(member.ms), errors]


def _rung(rung: Rung) -> list[str]:
    scores = score_text({"hmean": rung.hmean, "precision": rung.precision, "recall": rung.recall})
    more = "-" if rung.more is None else str(rung.more)
    kept = "chosen" if rung.name == "chosen" else "kept" if rung.kept else "not kept"
    return [rung.name, ", ".join(rung.views), scores, str(rung.gain), more, _ms(rung.ms), kept]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _rule_text(rule: Postprocess) -> str:
    unclip = f"unclip_ratio {rule.unclip_ratio:g}" if rule.unclip == "ratio" else f"shrink_ratio {rule.shrink_ratio:g}"
    shape = "" if rule.shape == "quad" else f", {rule.shape}s"
    return f"thresh {rule.thresh:g}, box_thresh {rule.box_thresh:g}, {unclip}{shape}"
