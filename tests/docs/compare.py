"""Whether what came is what a page says will come: see tests/docs/README.md."""

import json
import re
from typing import Any

ANY = "…"

# Of what a page shows the parts that may be any others, and what they have to look like then.
# The first are ids and tokens, which stand for the same thing in all of the page.
_ID = r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}(?![\w-])"
_WILD = {
    rf"(?P<id>{_ID})": "",
    r"(?P<date>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?)?)": (
        r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?)?"
    ),
    r"(?P<time>\d\d:\d\d:\d\d(?:\.\d+)?)": r"\d\d:\d\d:\d\d(?:\.\d+)?",
    r"(?P<epoch>\b1[5-9]\d{8,}(?:\.\d+)?)": r"\d{10,}(?:\.\d+)?",
    r"(?P<fraction>(?<![\w./])\d+\.\d+(?![\d.]))": r"\d+(?:\.\d+)?",
    r"(?P<port>127\.0\.0\.1:\d+)": r"127\.0\.0\.1:\d+",
    rf"(?P<any>{ANY})": ".*",
}
_TOKENS = re.compile("|".join(_WILD))
_LOOKS = dict(zip((re.search(r"\?P<(\w+)>", w)[1] for w in _WILD), _WILD.values(), strict=True))  # type: ignore[index]


class Ids:
    """What came in place of the ids that a page shows."""

    def __init__(self) -> None:
        self.real: dict[str, str] = {}

    def put_in(self, text: str) -> str:
        """The text with the ids that came in place of those that are shown."""
        return re.sub(_ID, lambda match: self.real.get(match[0], match[0]), text)

    def same_text(self, shown: str, came: str) -> bool:
        names: list[str] = []

        def look(match: re.Match[str]) -> str:
            kind = match.lastgroup or ""
            if kind != "id":
                return _LOOKS[kind]
            if match[0] in self.real:
                return re.escape(self.real[match[0]])
            names.append(match[0])
            return r"([\w-]{20,})"

        pattern, end = "", 0
        for match in _TOKENS.finditer(shown):
            pattern += re.escape(shown[end : match.start()]) + look(match)
            end = match.end()
        found = re.fullmatch(pattern + re.escape(shown[end:]), came)
        if found is None:
            return False
        self.real.update(zip(names, found.groups(), strict=True))
        return True

    def same_lines(self, shown: list[str], came: list[str]) -> bool:
        """Lines, of which one that is ``…`` stands for any number."""
        if not shown:
            return not came
        if shown[0].strip() == ANY:
            return any(self.same_lines(shown[1:], came[at:]) for at in range(len(came) + 1))
        return (
            bool(came)
            and self.same_text(_squeezed(shown[0]), _squeezed(came[0]))
            and self.same_lines(shown[1:], came[1:])
        )

    def same_json(self, shown: Any, came: Any) -> bool:
        match shown:
            case dict():
                named = {name: value for name, value in shown.items() if name != ANY}
                if isinstance(came, dict) and "request_id" not in shown:
                    # Every error has one, and few pages show it.
                    came = {name: value for name, value in came.items() if name != "request_id"}
                if not isinstance(came, dict) or (ANY not in shown and len(came) != len(named)):
                    return False
                return all(self._has(came, name, value) for name, value in named.items())
            case [*first, "…"]:
                return isinstance(came, list) and self.same_json(first, came[: len(first)])
            case list():
                return (
                    isinstance(came, list)
                    and len(came) == len(shown)
                    and all(map(self.same_json, shown, came))
                )
            case "…":
                return True
            case str():
                return isinstance(came, str) and self.same_text(shown, came)
            case bool() | None:
                return came is shown
            case float():
                return isinstance(came, int | float)
            case int():
                is_time = shown >= 1_500_000_000
                return isinstance(came, int | float) if is_time else came == shown
        raise TypeError(shown)

    def _has(self, came: dict[str, Any], name: str, value: Any) -> bool:
        key = next((key for key in came if self.same_text(name, key)), None)
        return key is not None and self.same_json(value, came[key])

    def same(self, language: str, shown: str, came: str) -> bool:
        if language == "json":
            try:
                return self.same_json(json.loads(shown), json.loads(came))
            except ValueError:
                return False
        return self.same_lines(_lines(shown), _lines(came))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _squeezed(line: str) -> str:
    """Without what changes with the width of what else stands there."""
    return re.sub(r"([─━-])\1+", r"\1", re.sub(r"\s+", " ", line.strip()))
