"""Documents with some of their values changed, and the values that they get."""

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# What could end a value, a block, a leg or an application of a dial string, or be run.
TRICKS = st.sampled_from(
    [
        *(",", "|", ":_:", "'", '"', "\\", "{a=b}", "[a=b]", "<a=b>", ")", "(", "^^:", "$", "="),
        *("${hostname}", "${system(touch x)}", "&park()", " &park()", "\n", "\r\n\r\n", "\0"),
        *("%0A", "%41", "%", "api hupall", "@", "/", "sofia/gateway/pstn/1", "user/1,user/2", "+"),
        *("origination_nested_vars=true", "\ud800", "\u2028", "٣", "😀", "ARRAY::a|:b", "X" * 300),
    ]
)
TEXTS = st.lists(TRICKS | st.text(max_size=6), min_size=1, max_size=4).map("".join)
# Any value that JSON has.
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def damage(
    draw: st.DrawFn, document: Any, values: st.SearchStrategy[Any], names: st.SearchStrategy[str]
) -> Any:
    """Change one to four places of a document: another value, none, a row twice, or a new name.
    Returns the document."""
    document = deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        if not document:
            return document
        place = document
        while True:
            key = draw(st.sampled_from(range(len(place)) if isinstance(place, list) else [*place]))
            below = place[key]
            if not (isinstance(below, dict | list) and below) or draw(st.integers(0, 9)) == 0:
                break
            place = below
        match draw(st.sampled_from(["value", "value", "value", "lost", "twice", "new"])):
            case "value":
                place[key] = draw(values)
            case "lost":
                del place[key]
            case "twice" if isinstance(place, list):
                place.append(deepcopy(below))
            case _ if isinstance(place, dict):
                place[draw(names)] = draw(values)
    return document
