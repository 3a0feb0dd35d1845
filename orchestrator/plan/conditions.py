"""The conditions of gates, as trees: `ci_low(best - baseline) > 0 and recall(best) >= 0.97`; nothing is run.

Errors are ValueErrors with the rule and the place in the text; the loader adds file, line and key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator.plan.expressions import NUMBER

QUANTITIES = ("best", "baseline", "target")
FUNCTIONS = ("ci_low", "ci_high", "mean", "hmean", "precision", "recall")
MAX_DEPTH = 20  # of brackets in a gate


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """`best` (of this phase), `baseline`, `target`, or an experiment `phase.experiment` (its best trial)."""

    id: str


@dataclass(frozen=True, slots=True)
class Call:
    """`ci_low`, `ci_high`, `mean` of a paired difference over images; `hmean`, `precision`, `recall` of a quantity."""

    function: str
    argument: Term


@dataclass(frozen=True, slots=True)
class Sum:
    sign: Literal["+", "-"]
    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class Compare:
    sign: Literal[">", ">=", "<", "<="]
    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class Joined:
    word: Literal["and", "or"]
    left: Condition
    right: Condition


Term: TypeAlias = Number | Name | Call | Sum
Condition: TypeAlias = Compare | Joined
_TOKEN = re.compile(
    rf"\s*(?:({NUMBER.removeprefix('[-+]?')})|([A-Za-z_][A-Za-z0-9_.]*(?:-[A-Za-z0-9_.]+)*)|(>=|<=|[-+()<>]))"
)


def gate(text: str) -> Condition:
    """A gate's condition as a tree; ValueError names the place where the grammar is left.

    condition := comparison (("and" | "or") comparison)*      `and` binds tighter than `or`
    comparison := sum (">" | ">=" | "<" | "<=") sum
    sum := term (("+" | "-") term)*                            blanks around the sign: `a-b` is one name
    term := number | ["-"] term | name | function "(" sum ")" | "(" sum ")"
    """
    parser = _Gate(text)
    found = parser.either()
    parser.end()
    return found


class _Gate:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, column from 1
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"{text!r}: unexpected {text[at:].strip()[0]!r}; {self.rule()}")
            kind = "number" if match[1] else "name" if match[2] else "sign"
            self.tokens.append((kind, match[match.lastindex or 0], match.start(match.lastindex or 0) + 1))
            at = match.end()
        self.at = self.depth = 0

    @staticmethod
    def rule() -> str:
        return "write a comparison such as `ci_low(best - baseline) > 0`"

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.peek()
        if expected and token not in expected:
            place = f"{token!r} at character {self.tokens[self.at][2]}" if token else "the end"
            raise ValueError(f"{self.text!r}: {' or '.join(expected)} expected, got {place}; {self.rule()}")
        self.at += 1
        return token

    def end(self) -> None:
        if self.peek():
            self.take("and", "or", "the end")

    def either(self) -> Condition:
        left = self.both()
        while self.peek() == "or":
            self.take()
            left = Joined("or", left, self.both())
        return left

    def both(self) -> Condition:
        left: Condition = self.comparison()
        while self.peek() == "and":
            self.take()
            left = Joined("and", left, self.comparison())
        return left

    def comparison(self) -> Compare:
        left = self.sum()
        sign = self.take(">", ">=", "<", "<=")
        return Compare(sign, left, self.sum())  # type: ignore[arg-type]

    def sum(self) -> Term:
        left = self.term()
        while self.peek() in ("+", "-"):
            sign = self.take()
            left = Sum(sign, left, self.term())  # type: ignore[arg-type]
        return left

    def term(self) -> Term:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"a gate nests at most {MAX_DEPTH} deep")
        try:
            return self._term()
        finally:
            self.depth -= 1

    def _term(self) -> Term:
        if self.peek() == "-":
            self.take()
            inner = self.term()
            return Number(-inner.value) if isinstance(inner, Number) else Sum("-", Number(0.0), inner)
        if self.peek() == "(":
            self.take()
            inner = self.sum()
            self.take(")")
            return inner
        if not self.peek():
            self.take("a number or a name")
        kind, token, _ = self.tokens[self.at]
        if kind == "sign":
            self.take("a number or a name")
        self.take()
        if kind == "number":
            return Number(float(token))
        if self.peek() != "(":
            return Name(token)
        if token not in FUNCTIONS:
            raise ValueError(f"{self.text!r}: unknown function `{token}`; there are {', '.join(FUNCTIONS)}")
        self.take("(")
        inner = self.sum()
        self.take(")")
        return Call(token, inner)


def names(condition: Condition | Term) -> tuple[str, ...]:
    """The quantities and experiments that a gate speaks of."""
    if isinstance(condition, Name):
        return (condition.id,)
    if isinstance(condition, Call):
        return names(condition.argument)
    if isinstance(condition, Sum | Compare | Joined):
        return names(condition.left) + names(condition.right)
    return ()
