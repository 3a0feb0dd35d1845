"""The JSON Schema of plan files, for editors and for catching slips before a run: every key with its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.plan.schema import Plan
from orchestrator.plan.settings import TrialSettings, leaves


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a plan file, for editors and for catching slips before a run."""
    schema = Plan.model_json_schema(by_alias=True)
    knobs = TrialSettings.model_json_schema()
    definitions = schema["$defs"] | {k: v for k, v in knobs["$defs"].items() if k != "Metric"}
    flat = {key: _knob(knobs, key) for key in leaves() if "." in key}
    nested = {
        key: {"description": _first_line(definitions, value)} | value if "$ref" in value else value
        for key, value in knobs["properties"].items()
        if key != "metric"
    }
    definitions["Set"] = {
        "type": "object",
        "description": "knobs of a training, nested or dotted",
        "properties": dict(sorted((nested | flat).items())),
        "additionalProperties": False,
    }
    drawn = _drawn()
    definitions["Space"] = {
        "type": "object",
        "description": "setting -> values to try",
        "properties": {key: {"description": _meaning(knobs, key)} | drawn for key in sorted(leaves())}
        | {key: {"type": "object", "description": f"settings below `{key}`"} for key in _groups()},
        "additionalProperties": False,
        "minProperties": 1,
    }
    definitions["ExperimentSpec"]["properties"]["set"] |= {"$ref": "#/$defs/Set"}
    definitions["SweepSpec"]["properties"]["space"] |= {"$ref": "#/$defs/Space"}
    schema["properties"]["defaults"] |= {"$ref": "#/$defs/Set"}
    for spec in (definitions["ExperimentSpec"]["properties"]["set"], schema["properties"]["defaults"]):
        spec.pop("additionalProperties", None)
    definitions["SweepSpec"]["properties"]["space"].pop("additionalProperties", None)
    definitions["StopSpec"] = {"anyOf": [{"enum": ["none", "asha"]}, definitions["StopSpec"]]}
    definitions["SearchSpec"]["properties"].pop("kind")  # told by the word or by the key
    definitions["SearchSpec"]["required"] = ["tpe"]
    definitions["SearchSpec"] = {"anyOf": [{"enum": ["random", "grid", "tpe"]}, definitions["SearchSpec"]]}
    properties = {"extends": {"type": "string", "description": "plan file to build on, relative to this one"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plan",
        "description": "A plan file of the text-detection orchestrator.",
        "type": "object",
        "additionalProperties": False,
        # A file with `extends`, or one that others extend, need not be whole; the loader checks what is missing.
        "properties": properties | schema["properties"],
        "$defs": dict(sorted(definitions.items())),
    }


def _drawn() -> dict[str, Any]:
    """What a `space` may say of one setting."""
    plain = [{"type": "string"}, {"type": "array", "minItems": 1}]
    setting = {"type": "string", "description": "another setting of this space"}
    cases = {"type": "object", "additionalProperties": {"anyOf": plain}, "minProperties": 1}
    by = {"by": setting, "values": cases | {"description": "value of that setting -> values of this one"}}
    times = {"values": {"anyOf": plain, "description": "what is drawn"}, "times": setting}
    forms = [
        {"type": "object", "properties": form, "required": list(form), "additionalProperties": False}
        for form in (by, times)
    ]
    return {"anyOf": [*plain, *forms]}


def _meaning(knobs: Mapping[str, Any], key: str) -> str:
    definition = _knob(knobs, key) if "." in key else knobs["properties"][key]
    return str(definition.get("description", ""))


def _first_line(definitions: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    """What a group of settings says of itself."""
    return str(definitions[value["$ref"].rpartition("/")[2]].get("description", "")).partition("\n")[0]


def _groups() -> list[str]:
    return sorted({key.partition(".")[0] for key in leaves() if "." in key})


def _knob(knobs: Mapping[str, Any], key: str) -> Any:
    group, name = key.split(".")
    definition = knobs["properties"][group]
    reference = definition.get("$ref") or definition["allOf"][0]["$ref"]
    return knobs["$defs"][reference.rpartition("/")[2]]["properties"][name]
