"""What pages take from the API's own description when the site is built.

``<!-- request: GET /uapi/cdr -->`` becomes what the request takes in its query and body and the
codes that it may be answered with, ``<!-- not implemented -->`` the paths that answer 501.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from app.not_implemented import PATHS
from app.openapi.description import describe

# What any request may be answered with; the page says so once.
_OF_ALL = {
    "access_denied",
    "internal_server_error",
    "request_not_found",
    "request_too_large",
    "scope_insufficient",
    "service_unavailable",
}
_CODE = re.compile(r"^- `(\w+)`: (.*)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    markdown = re.sub(r"<!-- request: (\w+) (\S+) -->", lambda m: request(m[1], m[2]), markdown)
    return markdown.replace("<!-- not implemented -->", not_implemented())


@cache
def description() -> dict[str, Any]:
    return describe()


def request(method: str, path: str) -> str:
    """Raises KeyError for a request that is not described."""
    operation = description()["paths"][path][method.lower()]
    query = [p for p in operation.get("parameters", ()) if p["in"] == "query"]
    lines = {"Query": _fields({p["name"]: p["schema"] | p for p in query})}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        lines["Body"] = _fields(_properties(content["schema"]))
    lines["Errors"] = "; ".join(
        f"{status} {', '.join(own)}"
        for status, found in _errors(operation)
        if (own := [f"`{code}`" for code, _ in found if code not in _OF_ALL])
    )
    # Two spaces end a line.
    return "  \n".join(f"**{name}**: {text}" for name, text in lines.items() if text)


def _properties(schema: Any) -> Any:
    if "$ref" in schema:
        schema = description()["components"]["schemas"][schema["$ref"].split("/")[-1]]
    return schema["properties"]


def _fields(schemas: Any) -> str:
    # The other spellings that are taken too stand in the description.
    return ", ".join(_field(n, s) for n, s in schemas.items() if not s.get("deprecated"))


def _field(name: str, schema: Any) -> str:
    """A field with what it takes, where that is short to say."""
    if "anyOf" in schema:
        schema = schema | schema["anyOf"][0]
    takes = [f"`{value}`" for value in dict.fromkeys(map(str, schema.get("enum", ())))]
    if "$ref" in schema.get("items", {}):
        takes = [f"a list of {_fields(_properties(schema['items']))}"]
    elif isinstance(schema.get("default"), bool) or len(takes) > 6:
        takes = []
    elif "minimum" in schema and "maximum" in schema:
        takes = [f"{schema['minimum']} to {schema['maximum']}"]
    if schema.get("default") not in (None, ""):
        takes.append(f"default `{json.dumps(schema['default']).strip(chr(34))}`")
    return f"`{name}`" + (f" ({', '.join(takes)})" if takes else "")


def not_implemented() -> str:
    paths = (path.replace("<user>", "{userId}") for path in PATHS)
    return "\n".join(f"- `/uapi{path}`" for path in paths).replace("<", "{").replace(">", "}")


def _errors(operation: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """By status the codes and messages."""
    for status, response in operation["responses"].items():
        if "$ref" in response:
            response = description()["components"]["responses"][response["$ref"].split("/")[-1]]
        if found := _CODE.findall(response["description"]):
            yield status, found
