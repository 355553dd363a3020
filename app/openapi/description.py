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

from app.errors import CODES, OAUTH_CODES, ApiError, api_error
from app.openapi import webhooks
from app.openapi.headers import ANSWER_HEADERS, LIMITS, REQUEST_HEADERS, REQUEST_ID
from app.openapi.operations import OPERATIONS, Content, Operation, scope_of
from app.openapi.schemas import Answer, Error, OAuthError
from app.openapi.words import words
from app.phone_call_events.schemas import Digit
from app.phone_calls.schemas import Numbers, Rule
from app.web.fields import Number, WholeNumber

_ABOUT = """\
Every path works with and without a trailing slash, and under `/unifiedapi/` in place of `/uapi/`.
Names that are not described are refused, in the query and in bodies, unless the app has VoipNow
compatibility. A field without a value is left out of an answer. Numbers and booleans in bodies may
come as strings.

Send the header `X-Request-Id` to have your own id of the request in the answer, in an error
(`request_id`), in Ringback's log and in its audit. A new version may add members to objects: ignore
those that you do not know."""

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
    "recordingId": ("The id of a recording.", "b817d2618fe6f1804333-00-080819123456.wav"),
    "eventId": ("The id of an event: 1 to 255 letters and digits.", "1"),
}

# The codes that are, in most operations, the only codes of their status.
_ALONE = (
    "access_denied",
    "app_disabled",
    "rate_limit_exceeded",
    "request_not_found",
    "request_timeout",
    "request_too_large",
    "internal_server_error",
    "service_unavailable",
)

_SECURITY: dict[str, dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the accounts file, or one of the token endpoint.",
    },
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "accessRequestToken",
        "description": "Only for apps with `token_in_query`: logs and browsers keep the query.",
    },
    "oauth2": {
        "type": "oauth2",
        "description": "A token for the client id and the secret of an app (RFC 6749).",
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


class _Converter(OpenAPIConverter):
    """A converter that adds to apispec's schemas the other spellings that a schema takes."""

    def fields2jsonschema(self, fields: Any, *, partial: Any = None) -> Any:
        jsonschema = super().fields2jsonschema(fields, partial=partial)  # type: ignore[no-untyped-call]
        schema = next((field.parent for field in fields.values()), None)
        name_of = _schema_name(schema) if schema is not None else ""
        for name, field in fields.items():
            described = jsonschema["properties"][field.data_key or name]
            if isinstance(schema, Answer):
                continue
            described.update(words(name_of, field.data_key or name, "body") | described)
            _add_forms(field, described)
        for alias, name in getattr(schema, "aliases", {}).items():
            jsonschema["properties"][alias] = _alias(jsonschema["properties"][name], name)
        return jsonschema

    def schema2parameters(self, schema: Any, **kwargs: Any) -> Any:
        parameters = super().schema2parameters(schema, **kwargs)
        for parameter in parameters:
            said = words(type(schema).__name__, parameter["name"], "query")
            parameter.setdefault("description", said.get("description", ""))
            if parameter["schema"].get("default") == []:
                # A list that is left out is empty, and one that is sent has an entry.
                del parameter["schema"]["default"]
            if "examples" in said:
                (parameter["example"],) = said["examples"]
        named = {parameter["name"]: parameter for parameter in parameters}
        for alias, name in getattr(schema, "aliases", {}).items():
            other = {**_alias(named[name], name), "name": alias}
            # With a default, the page to try the API would send both spellings.
            other["schema"] = {k: v for k, v in other["schema"].items() if k != "default"}
            parameters.append(other)
        return parameters


def _add_forms(field: fields.Field[Any], described: dict[str, Any]) -> None:
    """Add the other forms of a value that a body may have: text in place of a number or a boolean,
    one number in place of a list."""
    others: list[dict[str, Any]]
    if isinstance(field, Digit):
        (choice,) = field.validators
        others = [_text(enum=list(map(str, getattr(choice, "choices", ()))))]
    elif isinstance(field, WholeNumber):
        others = [_text(pattern="^[0-9]+$")]
    elif isinstance(field, fields.Boolean):
        others = [_text(enum=["true", "false", "1", "0"]), {"type": "integer", "enum": [1, 0]}]
    elif isinstance(field, Numbers):
        others = [_text(pattern=described["items"]["pattern"]), {"type": "integer"}]
    elif isinstance(field, Rule):
        others = [{"type": "boolean", "enum": [False]}]
    elif isinstance(field, fields.Dict):
        described["additionalProperties"] = {"type": "string"}
        return
    else:
        return
    form = {name: described.pop(name) for name in _OF_FORM if name in described}
    described["anyOf"] = [form, *others]


# The members of a schema that are about one form of the value.
_OF_FORM = ("$ref", "type", "enum", "minimum", "maximum", "items", "minItems", "maxItems")


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _alias(described: dict[str, Any], name: str) -> dict[str, Any]:
    return {**described, "description": f"The same as `{name}`.", "deprecated": True}


def _field2number(_: Any, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
    """A schema for a number, which comes as a string or as a JSON number."""
    return {"type": ["string", "integer"]} if isinstance(field, Number) else {}


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
    return api_error(code, cause=operation.causes.get(code, ""))


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
    spec.components.header("RequestId", REQUEST_ID)
    for name, schema in {"Error": Error, "OAuthError": OAuthError, **webhooks.SCHEMAS}.items():
        spec.components.schema(name, schema=schema)
    for code in _ALONE:
        error = api_error(code)
        spec.components.response(code, _error(error.status, {code: str(error)}, _ERROR))
    for operation in OPERATIONS:
        spec.path(operation.path, operations={operation.method: _operation(operation)})
    document: dict[str, Any] = spec.to_dict()
    for operation in OPERATIONS:
        for parameter in document["paths"][operation.path][operation.method]["parameters"]:
            parameter["schema"].update(_names(parameter["name"], operation))
    document["webhooks"] = webhooks.webhooks()
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
        "operationId": operation.name,
        "parameters": [*_path_parameters(operation.path)],
        "responses": _responses(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.query is not None:
        described["parameters"].append({"in": "query", "schema": operation.query})
    described["parameters"] += [
        {"in": "header", "name": name, **REQUEST_HEADERS[name]}
        for name in operation.request_headers
    ]
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
        str(status): {
            "description": text,
            "headers": _HEADERS
            | {name: ANSWER_HEADERS[name] for name in (*operation.headers, *LIMITS)},
            "content": _content(content, operation.answer),
        }
        for status, (text, content) in operation.answers.items()
    }
    if "ETag" in operation.headers:
        responses["304"] = {
            "description": "The answer is still the one of the tag in `If-None-Match`.",
            "headers": _HEADERS | {name: ANSWER_HEADERS[name] for name in ("ETag", *LIMITS)},
        }
    if operation.tag == "OAuth":
        refusals = _by_status((c, known.status, known.message) for c, known in OAUTH_CODES.items())
        for status, sentences in refusals.items():
            responses[str(status)] = _error(status, sentences, _OAUTH_ERROR)
    codes = [*_codes_of(operation.query), *_codes_of(operation.body), *operation.codes]
    codes += ["internal_server_error", "service_unavailable"]
    if operation.tag != "OAuth":
        codes += ["access_denied", "app_disabled", "rate_limit_exceeded", "request_not_found"]
        codes += ["connections_exceeded"]
    if operation.tag not in ("OAuth", "Not implemented"):
        codes.append("request_invalid")
    if scope_of(operation) is not None:
        codes.append("scope_insufficient")
    errors = [error_of(operation, code) for code in dict.fromkeys(codes)]
    by_code = [(error.code, error.status, str(error)) for error in errors]
    by_code += [(code, 404, CODES[code].others["unknown"]) for code in operation.not_found]
    found = _by_status(by_code)
    for status, sentences in sorted(found.items()):
        (code, *others) = sentences
        shared = not others and code in _ALONE
        responses[str(status)] = code if shared else _error(status, sentences, _ERROR)
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


def _content(content: Content, example: Any) -> dict[str, Any]:
    if isinstance(content, str):
        return {content: {"schema": {"type": "string"}}}
    schema = {"type": "array", "items": content[0]} if isinstance(content, list) else content
    shown = {} if example is None else {"example": example}
    return {"application/json": {"schema": schema, **shown}}


_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
_ERROR, _OAUTH_ERROR = (
    {"$ref": f"#/components/schemas/{name}"} for name in ("Error", "OAuthError")
)


def _error(status: int, sentences: dict[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    lines = [f"- `{code}`: {sentence}" for code, sentence in sentences.items()]
    headers = dict(_HEADERS)
    if status in (429, 503):
        headers["Retry-After"] = ANSWER_HEADERS["Retry-After"]
    if status == 429:
        headers |= {name: ANSWER_HEADERS[name] for name in LIMITS}
    if status == 401:
        headers["WWW-Authenticate"] = ANSWER_HEADERS["WWW-Authenticate"]
    return {
        "description": "\n".join([HTTPStatus(status).phrase, "", *lines]),
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
        # One schema describes all errors, so that a generated client has one class for them.
        "x-error-codes": list(sentences),
    }
