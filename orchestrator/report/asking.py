"""A gate's question to a person: put on a terminal, or answered by a command; either way recorded with its numbers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from detector.errors import InputError
from orchestrator.evaluation.answers import WORDS, Answer, Word, give, standing
from orchestrator.evaluation.decisions import Decision, GateOutcome
from orchestrator.evaluation.history import with_history
from orchestrator.evaluation.review import Review, is_chosen, review
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Study
from orchestrator.report import page
from orchestrator.tracking.journal import Journal, Recorder

LATER = "later"


def questions(state: Review, chosen: frozenset[str] | None = None) -> list[tuple[Decision, GateOutcome, list[str]]]:
    """Gates that ask and have no answer on today's numbers, with the phases that wait for it.

    Args:
        chosen: as `--only` named them; phases of which nothing may run wait for nothing.
    """
    found = []
    for decision in state.decisions:
        waiting = [
            phase.id
            for phase in state.study.phases
            if phase.id in state.waiting and decision.phase in phase.needs
            if any(is_chosen(item, chosen) for item in phase.experiments)
        ]
        if decision.gate is not None and decision.gate.asks and waiting:
            found.append((decision, decision.gate, waiting))
    return found


def answered(state: Review, ledger: Ledger, chosen: frozenset[str] | None, say: Callable[[str], None]) -> bool:
    """Whether a person lets something that waits go on: by `answer` while the plan ran, or now, on a terminal."""
    words = []
    if questions(state, chosen):
        Ledger.open(ledger.workspace)  # brings answers that were given on other machines
    for decision, gate, waiting in questions(state, chosen):
        answer = standing(ledger.workspace, decision.phase, gate.expression, gate.numbers)
        if answer is None and sys.stdin.isatty() and sys.stdout.isatty():
            say(f"phase {decision.phase}: {gate}\n{', '.join(waiting)}: not run yet")
            answer = _ask(ledger.workspace, decision.phase, gate)
            if answer is not None:
                note(state.study, ledger, decision, gate, answer)
        words += [answer.word] if answer is not None else []
    return "go-on" in words


def _ask(workspace: Path, phase: str, gate: GateOutcome) -> Answer | None:
    try:
        word = ""
        while word not in (*WORDS, LATER):
            word = input(f"Run it all the same? {', '.join(WORDS)} or {LATER}: ").strip().lower()
        if word == LATER:
            return None
        return give(workspace, phase, cast(Word, word), input("Because (one line, may be empty): "), seen(gate))
    except EOFError:
        return None


def answer_gate(plan: str | Path, phase: str, word: Word, because: str, overrides: Sequence[str] = ()) -> str:
    """Record the answer to a phase's gate; what follows from it, for the person.

    Raises:
        InputError: the plan cannot be used, has no such phase, or the phase asks nothing.
    """
    study = expand(load(plan, overrides))
    own = frozenset(part.id for part in study.phases)
    if phase not in own:
        raise InputError(f"{plan}: there is no phase `{phase}`{nearest(phase, own)}")
    ledger = Ledger.open(study.workspace)
    state = review(with_history(study, ledger), ledger, own)
    decision = next((found for found in state.decisions if found.phase == phase), None)
    if decision is None:
        raise InputError(f"{plan}: phase `{phase}` has not run: it waits for another gate; answer that one first")
    gate = decision.gate
    if gate is None or gate.passed or gate.otherwise != "ask":
        why = "it has no gate" if gate is None else f"{gate}; otherwise: {gate.otherwise}"
        raise InputError(f"{plan}: phase `{phase}` asks nothing ({why}); nothing was recorded")
    answer = give(ledger.workspace, phase, word, because, seen(gate))
    if ledger.driving():  # it tells the rest itself
        ledger.keep(ledger.workspace / "answers")
    else:
        note(study, ledger, decision, gate, answer)
        page.write(review(with_history(study, ledger), ledger, own), ledger)
        ledger.keep()
    told = f"phase {phase}: {replace(gate, answer=answer)}"
    if word == "stop":
        return told
    return " ".join([f"{told}\nGo on with: python -m orchestrator", shlex.quote(str(plan)), *_switches(overrides)])


def how_to_answer(plan: str | Path, phase: str, overrides: Sequence[str]) -> str:
    """The command, with both words."""
    command = shlex.join(["python", "-m", "orchestrator", "answer", str(plan), phase])
    return " ".join([f"{command} {'|'.join(WORDS)} --because TEXT", *_switches(overrides)])


def note(study: Study, ledger: Ledger, decision: Decision, gate: GateOutcome, answer: Answer) -> None:
    """Tell the journal, and so MLflow's run of the phase, while no driver does."""
    told = replace(decision, gate=replace(gate, answer=answer))
    with Journal(ledger.workspace) as journal:
        Recorder(journal, study).decision(told.phase, told.as_json(), told.markdown())


def seen(gate: GateOutcome) -> tuple[str, str, str]:
    """What a person saw when answering."""
    return gate.expression, gate.state, gate.numbers


def _switches(overrides: Sequence[str]) -> list[str]:
    return [f"--set {shlex.quote(value)}" for value in overrides]
