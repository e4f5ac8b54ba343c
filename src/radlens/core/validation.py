"""What pydantic found wrong, said in one sentence in the words of a study file."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence for the first problem that pydantic found."""
    first = next((e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0])
    # pydantic names the branch of a union in the location too (`layers.0.int`); a reader of the file knows none
    key = ".".join(str(part) for part in first["loc"] if part not in ("int", "str", "float", "bool"))
    if first["type"] == "extra_forbidden":
        known = known_keys(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"unknown key {key!r}.{hint} Known: {', '.join(known)}."
    if first["type"] == "missing":
        return f"key {key!r} is missing."
    found, context = first["input"], first.get("ctx", {})
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        return f"{key}: {message}." if key else f"{message}."
    words = _EXPECTED.get(first["type"])
    expected = words.format(**context) if words else first["msg"].removeprefix("Input should be ")
    return f"{key}: expected {expected}, found {_shown(found)}."


# pydantic's type of an error -> what was expected, in the words of a study file
_EXPECTED = {
    "model_type": "a mapping (`key: value`)",
    "dict_type": "a mapping (`key: value`)",
    "tuple_type": "a list (`[a, b]`)",
    "list_type": "a list (`[a, b]`)",
    "too_short": "at least {min_length} entry",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "letters, digits, `.`, `_` and `-`",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "invalid_key": "a key that is text",
}


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return repr(value)


def known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that a model has at a location inside it."""
    for step in location:
        if isinstance(step, int):
            continue
        if step not in model.model_fields:  # the branch of a union
            continue
        annotation = model.model_fields[step].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [f.alias or name for name, f in model.model_fields.items() if not f.exclude]
