"""JSON schemas of structured answers: whether a schema is one, and whether an answer keeps to it."""

import json
from functools import lru_cache
from typing import Any

JsonSchema = dict[str, Any]


def schema_problem(schema: Any) -> str | None:
    """Why a value is no JSON schema that can be used, or None."""
    import jsonschema

    if not isinstance(schema, dict):
        return f"a JSON schema is an object, not {type(schema).__name__}"
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"it is no JSON schema: {error.message[:200]} (at {error.json_path})"
    except Exception as error:  # a schema may say anything, and the library raises what it likes
        return f"it is no JSON schema: {type(error).__name__}: {error}"
    return None


def answer_problem(text: str, schema: JsonSchema) -> str | None:
    """Why an answer's text is not JSON as `schema` wants it, or None."""
    import jsonschema
    import referencing.exceptions

    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {error}"
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
        worst = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except (referencing.exceptions.Unresolvable, RecursionError) as error:
        return f"its schema cannot be followed: {error}"
    except Exception as error:  # numbers too great for arithmetic, patterns that are none
        return f"it cannot be held against its schema: {type(error).__name__}: {error}"
    return None if worst is None else f"{worst.message[:200]} (at {worst.json_path})"


def is_closed(schema: Any) -> bool:
    """Whether every object of a schema names all its properties and requires them, as OpenAI's strict
    mode wants it (https://platform.openai.com/docs/guides/structured-outputs)."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    own = True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        closed = schema.get("additionalProperties") is False
        own = closed and names == set(schema.get("required", []))
    return own and all(map(is_closed, schema.values()))


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


@lru_cache(maxsize=64)
def _validator(text: str) -> Any:
    import jsonschema
    from referencing import Registry

    schema = json.loads(text)
    # A registry of its own: references to elsewhere are not fetched.
    return jsonschema.validators.validator_for(schema)(schema, registry=Registry())
