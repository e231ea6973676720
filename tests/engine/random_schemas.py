"""Random JSON schemas, and random values, some of which are of them."""

from random import Random
from typing import Any

SCALARS = ["string", "integer", "number", "boolean", "null"]


def scalar(rng: Random) -> dict[str, Any]:
    """Strings have no limits: where other types are allowed beside them, calls are not held to these."""
    choices: list[dict[str, Any]] = [
        {"type": rng.choice(SCALARS)},
        {"type": rng.sample(SCALARS, 2)},
        {"type": "integer", "minimum": rng.randrange(-5, 5), "maximum": rng.randrange(5, 50)},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": ["integer", "null"], "enum": [*rng.sample([1, 2, 3, 40], 2), None]},
        {"type": "string", "enum": rng.sample(["a", "b", "5", "true", "null", "[1]"], 2)},
        {"enum": rng.sample(["a", "b", "5", "true", 5, 6, 7.5, True, None, "null"], rng.randrange(1, 5))},
        {"const": rng.choice(["x", 3, 2.5, None, False, "7"])},
    ]
    return rng.choice(choices)


def schema(rng: Random, depth: int = 0) -> dict[str, Any]:
    """It may refer to "#/$defs/A" and "#/$defs/B" where `depth` is 0."""
    kind = rng.randrange(12)
    if depth > 2 or kind < 4:
        return scalar(rng)
    if kind < 6:
        counts = {"minItems": 1, "maxItems": 3} if rng.random() < 0.5 else {}
        return {"type": "array", "items": schema(rng, depth + 1), **counts}
    if kind < 8:
        properties = {name: schema(rng, depth + 1) for name in rng.sample("pqrs", rng.randrange(1, 3))}
        others = rng.choice([False, True, {"type": "integer"}])
        required = list(properties)[:1]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": others}
    if kind < 10:
        return {rng.choice(["anyOf", "oneOf"]): [schema(rng, depth + 1) for _ in range(2)]}
    if kind == 10 and depth == 0:
        return {"$ref": "#/$defs/" + rng.choice("AB")}
    types = [rng.choice(["array", "object"]), rng.choice(SCALARS)]
    return {"type": types, "items": scalar(rng), "properties": {"p": scalar(rng)}}


def parameters(rng: Random) -> dict[str, Any]:
    """Of a tool, x, y and z."""
    return {
        "type": "object",
        "$defs": {"A": schema(rng, 1), "B": scalar(rng)},
        "properties": {name: schema(rng) for name in "xyz"},
        "required": ["x", "y", "z"],
    }


def value(rng: Random, depth: int = 0) -> Any:
    """Texts are such as spell something else."""
    kind = rng.randrange(10)
    if kind < 3:
        return rng.choice(["a", "b", "5", "true", "null", "None", "x", "abc", "[1]", "{}", "1.0", "7", " 5", "1e2"])
    if kind < 5:
        return rng.choice([5, 6, 3, 40, 7.5, 0, 1, -3, 2.0, 1e2, 0.5])
    if kind < 7 or depth > 2:
        return rng.choice([True, False, None])
    if kind < 9:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {name: value(rng, depth + 1) for name in rng.sample("pqrs", rng.randrange(3))}
