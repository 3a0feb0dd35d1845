"""Plan values with a grammar of their own, as annotated types: what is accepted, and what an editor is told of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from detector.errors import InputError
from detector.inference.views import view
from orchestrator.plan import conditions, expressions
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Effect, Stat, Top

VIEWS = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270")
VIEW = re.compile(rf"{'|'.join(VIEWS)}|(scale|brightness) (0\.\d*[1-9]\d*|[1-9]\d*(\.\d+)?)")
SHAPES = ("quad", "polygon")
STATS: tuple[Stat, ...] = ("hmean", "precision", "recall")
_ID = r"[A-Za-z0-9][A-Za-z0-9_-]*"


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} expected, got {value!r}")
    return value


def _top(value: Any) -> Top:
    return expressions.top(_text(value, "top(SCOPE, COUNT)"))


def _cost(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float | str) and not isinstance(value, bool)):
        return None if value is None else expressions.cost_gpu_h(value)
    raise ValueError(f"GPU-hours such as 4h, 90min or 1.5 expected, got {value!r}")


def _effects(value: Any) -> tuple[Effect, ...]:
    if not isinstance(value, Mapping):
        raise ValueError(f"a mapping such as {{hmean: +0.003..+0.005}} expected, got {value!r}")
    for stat in value:
        if stat not in STATS:
            raise ValueError(f"one of {', '.join(STATS)} expected, got `{stat}`")
    return tuple(expressions.effect(stat, str(text)) for stat, text in value.items())


def _folds(value: Any) -> tuple[int, ...] | Literal["all"]:
    if value == "all":
        return "all"
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"`all` or a list of folds expected, got {value}; write [{value}]")
    return _whole_list(value, "`all` or a list of folds such as [0, 1]")


def _seeds(value: Any) -> tuple[int, ...]:
    return _whole_list(value, "a list of seeds such as [0, 1]")


def _whole_list(value: Any, what: str) -> tuple[int, ...]:
    whole = isinstance(value, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not whole or not value:
        raise ValueError(f"{what} expected, got {value!r}")
    if min(value) < 0:
        raise ValueError(f"they count from 0, got {min(value)}")
    if len(set(value)) < len(value):
        raise ValueError(f"each may be listed once, got {list(value)}; a repeated one would be an identical training")
    return tuple(value)


def _values(step: str, low: float, high: float) -> Any:
    """A validator of post-processing values: a number, a list, or a range with its default step."""

    def read(value: Any) -> tuple[float, ...]:
        if isinstance(value, str):
            found = expressions.span(value)
            if found is None:
                raise ValueError(f"a number, a list or a range such as 0.15..0.45 expected, got {value!r}")
            numbers: list[Any] = list(found.values(step))
        else:
            numbers = list(value) if isinstance(value, list | tuple) else [value]
        if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            raise ValueError(f"a number, a list or a range such as 0.15..0.45 expected, got {value!r}")
        outside = [n for n in numbers if not low <= n <= high]
        if outside:
            raise ValueError(f"`{low:g} <= value <= {high:g}` must hold, got {outside[0]:g}")
        return tuple(float(n) for n in dict.fromkeys(numbers))

    return read


def _shapes(value: Any) -> tuple[str, ...]:
    """One shape, or several."""
    shapes = tuple(value) if isinstance(value, list | tuple) else (value,)
    wrong = [shape for shape in shapes if shape not in SHAPES]
    if wrong or not shapes:
        raise ValueError(f"quad, polygon or [quad, polygon] expected, got {value!r}")
    return tuple(dict.fromkeys(shapes))


def _view(value: Any) -> str:
    if not isinstance(value, str) or not VIEW.fullmatch(value):
        hint = nearest(str(value), VIEWS)
        listed = ", ".join(VIEWS)
        hint = hint if "did you" in hint else ""
        raise ValueError(f"{listed}, `scale 0.8` or `brightness 0.8` expected, got {value!r}{hint}")
    try:
        return view(value).name
    except InputError as error:  # a number out of range
        raise ValueError(str(error)) from error


def _pool(value: Any) -> Top | tuple[str, ...]:
    if isinstance(value, list | tuple):
        if not value or not all(isinstance(item, str) for item in value):
            raise ValueError(f"top(SCOPE, COUNT) or a list of experiment ids expected, got {value!r}")
        return tuple(value)
    return _top(value)


def _of(value: Any) -> str | Top:
    text = _text(value, "an experiment's id or top(SCOPE, COUNT)")
    return expressions.top(text) if "(" in text else text


def _condition(value: Any) -> str:
    text = _text(value, "a comparison such as `ci_low(best - baseline) > 0`")
    conditions.gate(text)
    return text


def _deadline(value: Any) -> str | None:
    if value is None:
        return None
    text = _text(value, "a date with its offset such as 2026-12-05T18:00+09:00")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"a date such as 2026-12-05T18:00+09:00 expected, got {text!r}") from error
    if moment.tzinfo is None:
        raise ValueError(f"the offset from UTC is missing in {text!r}; write {text}+00:00 or your own offset")
    return text


def _pattern(value: Any) -> str | None:
    if value is None:
        return None
    text = _text(value, "null or a regular expression")
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error}), got {text!r}") from error
    if compiled.groups > 1:
        raise ValueError(f"at most one group in parentheses can name a page's group, got {compiled.groups} in {text!r}")
    return text


_STRING = {"type": "string"}
_NUMBERS = {"anyOf": [{"type": "number"}, _STRING, {"type": "array", "items": {"type": "number"}}]}
_WHOLE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

Identity = Annotated[str, Field(pattern=rf"^{_ID}$", max_length=60)]
TopText = Annotated[Top, PlainValidator(_top), WithJsonSchema({**_STRING, "pattern": r"^top\(.*\)$"})]
Cost = Annotated[float | None, BeforeValidator(_cost), WithJsonSchema({"anyOf": [_STRING, {"type": "number"}]})]
Effects = Annotated[
    tuple[Effect, ...],
    PlainValidator(_effects),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                stat: {
                    "anyOf": [_STRING, {"type": "number"}],
                    "description": f"expected {stat}: +0.003..+0.005 relative to the baseline, or a score",
                }
                for stat in STATS
            },
            "additionalProperties": False,
        }
    ),
]
Folds = Annotated[
    tuple[int, ...] | Literal["all"], PlainValidator(_folds), WithJsonSchema({"anyOf": [{"const": "all"}, _WHOLE]})
]
Seeds = Annotated[tuple[int, ...], PlainValidator(_seeds), WithJsonSchema(_WHOLE)]
Fractions = Annotated[tuple[float, ...], PlainValidator(_values("0.05", 0.0, 1.0)), WithJsonSchema(_NUMBERS)]
Shrinks = Annotated[tuple[float, ...], PlainValidator(_values("0.05", 0.05, 0.95)), WithJsonSchema(_NUMBERS)]
Ratios = Annotated[tuple[float, ...], PlainValidator(_values("0.1", 0.0, 10.0)), WithJsonSchema(_NUMBERS)]
_SHAPE = {"enum": list(SHAPES)}
Shapes = Annotated[
    tuple[str, ...],
    PlainValidator(_shapes),
    WithJsonSchema({"anyOf": [_SHAPE, {"type": "array", "items": _SHAPE, "minItems": 1}]}),
]
View = Annotated[str, PlainValidator(_view), WithJsonSchema({**_STRING, "pattern": f"^({VIEW.pattern})$"})]
Pool = Annotated[
    Top | tuple[str, ...],
    PlainValidator(_pool),
    WithJsonSchema({"anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1}]}),
]
Of = Annotated[str | Top, PlainValidator(_of), WithJsonSchema(_STRING)]
Condition = Annotated[str, PlainValidator(_condition), WithJsonSchema(_STRING)]
Deadline = Annotated[str | None, PlainValidator(_deadline), WithJsonSchema(_STRING)]
Pattern = Annotated[str | None, PlainValidator(_pattern), WithJsonSchema({"anyOf": [_STRING, {"type": "null"}]})]
Score = Annotated[float, Field(ge=0.0, le=1.0)]
