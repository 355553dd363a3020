import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.caller_id import NAME_LENGTH, parse_caller_id

SCRIPTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters='"\\<>%$'),
    min_size=1,
    max_size=NAME_LENGTH,
).filter(lambda name: name == name.strip() and name)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("John Doe <4242425>", "John Doe <4242425>"),
        ("John Doe <+3334444>", "John Doe <+3334444>"),
        ("  John Doe<4242425> ", "John Doe <4242425>"),
        ("<0003*210>", "<0003*210>"),
        ("+4912345", "<+4912345>"),
        ("O'Brien, 50% & Söhne (日本) <1>", "O'Brien, 50% & Söhne (日本) <1>"),
    ],
)
def test_accepted(text: str, plain: str) -> None:
    assert parse_caller_id(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "John Doe",
        "John Doe <>",
        "John Doe <abc>",
        "John <1> Doe",
        'say "hi" <1>',
        "back\\slash <1>",
        "%0AUnique-ID%3A forged <1>",
        "${system(touch x)} <1>",
        "new\nline <1>",
        "zero\0 <1>",
        "se\u2028p <1>",
        "x" * (NAME_LENGTH + 1) + " <1>",
        "<" + "1" * 33 + ">",
        "John <1;2>",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_caller_id(text)


@given(SCRIPTS)
def test_any_script_is_kept_as_sent(name: str) -> None:
    assert parse_caller_id(f"{name} <42>") == f"{name} <42>"


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    try:
        plain = parse_caller_id(text)
    except ValueError:
        return
    assert parse_caller_id(plain) == plain
