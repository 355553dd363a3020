"""The OpenAPI description, assembled from the operations and their schemas."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_cls
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from app.errors import OAUTH_CODES, ApiError, api_error
from app.openapi.operations import OPERATIONS, Content, Operation, scope_of
from app.phone_call_events.schemas import Digit
from app.phone_calls.schemas import Numbers
from app.web.fields import Number, WholeNumber

_ABOUT = """\
Every path works with and without a trailing slash, and under `/unifiedapi/` in place of `/uapi/`.
Names that are not described are ignored, in the query and in bodies. A field without a value is
left out of an answer. Numbers and booleans in bodies may come as strings."""

# The meaning of the parameters of a path.
_PATH = {
    "userId": (
        "`@me` or `@viewer` (the user of a user's app), `@owner` (the user that owns the "
        "extension), or the id of a user.",
        "@me",
    ),
    "extension": (
        "An extended number (`0003*210`), a short one (`210`, for apps of a user or an "
        "organization), or `@self` for all of the user's.",
        "@self",
    ),
    "phoneCallId": ("The id of a call.", "b817d2618fe6f1804333"),
    "eventType": (
        "0 Dial-In, 1 Dial-Out, 2 Hangup, 3 answer of an incoming call, 4 answer of an outgoing "
        "one.",
        "2",
    ),
    "eventId": ("The id of an event: 1 to 255 letters and digits.", "1"),
}

# The codes that are, in most operations, the only codes of their status.
_ALONE = (
    "access_denied",
    "app_disabled",
    "request_not_found",
    "request_too_large",
    "internal_server_error",
    "request_not_implemented",
    "service_unavailable",
)

_SECURITY: dict[str, dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "apiKey", "in": "query", "name": "accessRequestToken"},
    "oauth2": {
        "type": "oauth2",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth/token",
                "scopes": {
                    "calls:place": "Place calls.",
                    "calls:read": "Lists of calls, one call, presence.",
                    "calls:act": "Actions and hang-ups, on the own party of a call.",
                    "calls:supervise": "Actions and hang-ups that need the right to supervise.",
                    "events": "The stream, and call events.",
                    "cdr:read": "Records of calls.",
                    "admin": "What only administrators may do.",
                },
            }
        },
    },
}

# The values that a body may have for true and false.
_BOOLEANS = [True, False, 1, 0, "true", "false", "1", "0"]


class _Converter(OpenAPIConverter):
    """A converter that adds to apispec's schemas the other spellings that a schema takes."""

    def fields2jsonschema(self, fields: Any, *, partial: Any = None) -> Any:
        jsonschema = super().fields2jsonschema(fields, partial=partial)  # type: ignore[no-untyped-call]
        schema = next((field.parent for field in fields.values()), None)
        for name, field in fields.items():
            jsonschema["properties"][field.data_key or name].update(_as_text(field))
        for alias, name in getattr(schema, "aliases", {}).items():
            jsonschema["properties"][alias] = _alias(jsonschema["properties"][name], name)
        return jsonschema

    def schema2parameters(self, schema: Any, **kwargs: Any) -> Any:
        parameters = super().schema2parameters(schema, **kwargs)
        named = {parameter["name"]: parameter for parameter in parameters}
        for alias, name in getattr(schema, "aliases", {}).items():
            other = {**_alias(named[name], name), "name": alias}
            # With a default, the page to try the API would send both spellings.
            other["schema"] = {k: v for k, v in other["schema"].items() if k != "default"}
            parameters.append(other)
        return parameters


def _as_text(field: fields.Field[Any]) -> dict[str, Any]:
    """A schema for the text that a body may have in place of a number or a boolean."""
    if isinstance(field, Digit):
        (choice,) = field.validators
        values = list(getattr(choice, "choices", ()))
        return {"type": ["integer", "string"], "enum": [*values, *map(str, values)]}
    if isinstance(field, WholeNumber):
        return {"type": ["integer", "string"], "pattern": "^[0-9]+$"}
    if isinstance(field, fields.Boolean):
        return {"type": ["boolean", "integer", "string"], "enum": _BOOLEANS}
    return {}


def _alias(described: dict[str, Any], name: str) -> dict[str, Any]:
    return {**described, "description": f"The same as `{name}`.", "deprecated": True}


def _field2number(_: Any, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """A schema for numbers: a string or a JSON number, and for a list also a single number."""
    if isinstance(field, Number):
        return {"type": ["string", "integer"]}
    if isinstance(field, Numbers):
        return {"type": ["array", "string", "integer"], "pattern": ret["items"]["pattern"]}
    return {}


def _field2pattern(_: Any, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """A Python pattern in the form of JSON Schema. Numbers may have punctuation."""
    if "pattern" not in ret:
        return {}
    if isinstance(field, (Number, Numbers)):
        return {"pattern": r"^\s*([Tt][Ee][Ll]:)?[-+0-9*()./\[\]\s]+$|^Sandbox$"}
    return {"pattern": ret["pattern"].replace(r"\A", "^").replace(r"\Z", "$")}


def _field2code(_: Any, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """The error code for a bad value of the field."""
    code = field.metadata.get("code")
    return {} if code is None else {"x-error-code": code}


def _schema_name(schema: Any) -> str:
    """``PhoneCallsCreate`` for ``CreateSchema`` of app.phone_calls.schemas."""
    made = resolve_schema_cls(schema)
    assert isinstance(made, type)
    package = made.__module__.split(".")[1]
    words = "" if package == "openapi" else package.title().replace("_", "")
    return words + made.__name__.removesuffix("Schema")


def error_of(operation: Operation, code: str) -> ApiError:
    """The error with the sentence that the operation usually answers with."""
    return api_error(code, operation.sentences.get(code))


def describe() -> dict[str, Any]:
    """The description as a JSON document."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    plugin.Converter = _Converter
    spec = APISpec(
        title="Ringback",
        version=version("ringback-server"),
        openapi_version="3.1.0",
        info={"description": _ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        servers=[{"url": "/"}],
        security=[{name: []} for name in _SECURITY],
        plugins=[plugin],
    )
    assert plugin.converter is not None
    for convert in (_field2number, _field2pattern, _field2code):
        plugin.converter.add_attribute_function(convert)  # type: ignore[no-untyped-call]
    for name, scheme in _SECURITY.items():
        spec.components.security_scheme(name, scheme)
    for code in _ALONE:
        error = api_error(code)
        described = _error(error.status, {code: str(error)}, _api_error([code]))
        spec.components.response(code, described)
    for operation in OPERATIONS:
        spec.path(operation.path, operations={operation.method: _operation(operation)})
    document: dict[str, Any] = spec.to_dict()
    for operation in OPERATIONS:
        for parameter in document["paths"][operation.path][operation.method]["parameters"]:
            parameter["schema"].update(_names(parameter["name"], operation))
    return document


def _names(parameter: str, operation: Operation) -> dict[str, Any]:
    """The schema of a parameter that takes names of an operation's fields."""
    if parameter == "filterBy":
        return {"enum": sorted(operation.filters)}
    if parameter == "fields":
        name = "|".join(sorted(operation.fields))
        return {
            "description": "Names of the fields to answer with, separated by commas.",
            "pattern": f"^({name})(,({name}))*$",
        }
    return {}


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": [*_path_parameters(operation.path)],
        "responses": _responses(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.query is not None:
        described["parameters"].append({"in": "query", "schema": operation.query})
    if operation.body is not None:
        content: dict[str, Any] = {"schema": operation.body}
        if operation.example:
            content["example"] = dict(operation.example)
        described["requestBody"] = {
            "required": True,
            "content": {media: dict(content) for media in operation.media},
        }
    if operation.tag == "OAuth":
        described["security"] = []
    elif (scope := scope_of(operation)) is not None:
        described["security"] = [{name: [scope.value]} for name in _SECURITY]
    return described


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.removeprefix("/uapi"))
    return operation.method + "".join(word[0].upper() + word[1:] for word in words)


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        description, example = _PATH.get(name, ("", None))
        yield {
            "in": "path",
            "name": name,
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            **({"description": description, "example": example} if description else {}),
        }


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": _content(content)}
        for status, (text, content) in operation.answers.items()
    }
    if operation.tag == "OAuth":
        refusals = _by_status((code, *error) for code, error in OAUTH_CODES.items())
        for status, sentences in refusals.items():
            responses[str(status)] = _error(status, sentences, _oauth_error(sentences))
    codes = [*_codes_of(operation.query), *_codes_of(operation.body), *operation.codes]
    codes += ["internal_server_error", "service_unavailable"]
    if operation.tag != "OAuth":
        codes += ["access_denied", "app_disabled", "request_not_found"]
    if scope_of(operation) is not None:
        codes.append("scope_insufficient")
    errors = [error_of(operation, code) for code in dict.fromkeys(codes)]
    found = _by_status((error.code, error.status, str(error)) for error in errors)
    for status, sentences in sorted(found.items()):
        (code, *others) = sentences
        shared = not others and code in _ALONE
        responses[str(status)] = (
            code if shared else _error(status, sentences, _api_error(sentences))
        )
    return responses


def _codes_of(schema: type[Schema] | None) -> Iterator[str]:
    """The error codes of a schema's fields and of nested fields."""
    for field in schema().fields.values() if schema is not None else ():
        if "code" in field.metadata:
            yield field.metadata["code"]
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            yield from _codes_of(type(inner.schema))


def _by_status(codes: Iterable[tuple[str, int, str]]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for code, status, sentence in codes:
        found.setdefault(status, {})[code] = sentence
    return found


def _content(content: Content) -> dict[str, Any]:
    if isinstance(content, str):
        return {content: {"schema": {"type": "string"}}}
    if isinstance(content, list):
        return {"application/json": {"schema": {"type": "array", "items": content[0]}}}
    return {"application/json": {"schema": content}}


def _error(status: int, sentences: dict[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    lines = [f"- `{code}`: {sentence}" for code, sentence in sentences.items()]
    response: dict[str, Any] = {
        "description": "\n".join([HTTPStatus(status).phrase, "", *lines]),
        "content": {"application/json": {"schema": schema}},
    }
    if status in (429, 503):
        response["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
        }
    return response


def _api_error(codes: Iterable[str]) -> dict[str, Any]:
    error = _object(code={"enum": list(codes)}, message={"type": "string", "minLength": 1})
    error["properties"] |= _ERROR_DETAILS
    return _object(error=error)


# Members of an error object that not every error has.
_ERROR_DETAILS = {
    "field": {"type": "string", "description": "The field with the bad value."},
    "value": {"description": "The bad value, as it was sent."},
    "reason": {"type": "string", "description": "Why this value was refused."},
    "policy": {"type": "string", "description": "The policy that bars, or built-in."},
    "rule": {"type": "string", "description": "The entry of the policy that bars."},
    "cap": {"type": "string", "description": "The cap that has no room."},
    "limit": {"type": "number"},
    "used": {"type": "number"},
    "freeAt": {"type": "string", "format": "date-time"},
}


def _oauth_error(codes: Iterable[str]) -> dict[str, Any]:
    return _object(error={"enum": list(codes)}, error_description={"type": "string"})


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
