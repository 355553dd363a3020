"""Addresses of switches, and errors that keep the password to themselves."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch.address import SwitchAddress, parse_list
from freeswitch.tls import Tls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=esl://:ClueCon@127.0.0.1", SwitchAddress("a", "127.0.0.1", password="ClueCon")),
        (" a=esl://:ClueCon@h:1/ ", SwitchAddress("a", "h", 1, password="ClueCon")),
        (
            "A-_9=esl://u:p@fs.example.com",
            SwitchAddress("A-_9", "fs.example.com", 8021, password="p", user="u"),
        ),
        ("a=esl://:p@[::1]", SwitchAddress("a", "::1", password="p")),
        (
            "a=esl://:p@[fe80::1%eth0]:65535",
            SwitchAddress("a", "fe80::1%eth0", 65535, password="p"),
        ),
        (
            "a=esl://u%40d:%2C%25%3A%40%20=é@h",
            SwitchAddress("a", "h", password=",%:@ =é", user="u@d"),
        ),
        ("a=esl://:p:q@r@h", SwitchAddress("a", "h", password="p:q@r")),
        (
            "a=esl://:p@h:1?legs_per_second=29.5&max_legs=0",
            SwitchAddress("a", "h", 1, password="p", legs_per_second=29.5, max_legs=0),
        ),
        ("a=esls://:p@h:1", SwitchAddress("a", "h", 1, password="p", tls=Tls("h"))),
        ("a=esls://:p@[::1]", SwitchAddress("a", "::1", password="p", tls=Tls("::1"))),
        (
            "a=dns+esl://:p@fs.svc",
            SwitchAddress("a", "fs.svc", password="p", found_by="dns"),
        ),
        (
            "a=srv+esls://:p@_esl._tcp.fs",
            SwitchAddress(
                *("a", "_esl._tcp.fs"), password="p", tls=Tls("_esl._tcp.fs"), found_by="srv"
            ),
        ),
        (
            "a=esls://:p@10.0.0.1?ca=/etc/a%2Cb.pem&name=fs1.example.com&max_legs=9",
            SwitchAddress(
                *("a", "10.0.0.1"),
                password="p",
                max_legs=9,
                tls=Tls("fs1.example.com", "/etc/a,b.pem"),
            ),
        ),
    ],
)
def test_parse(text: str, expected: SwitchAddress) -> None:
    assert SwitchAddress.parse(text) == expected
    # The registry keeps a URL without limits, with its password or without.
    limits = {"legs_per_second": None, "max_legs": None}
    kept = dataclasses.replace(expected, **limits)  # type: ignore[arg-type]
    assert SwitchAddress.parse(f"{kept.name}={kept.secret_url}") == kept
    assert SwitchAddress.parse(f"{kept.name}={kept.url}", kept.password) == kept
    assert expected.password == "p" or expected.password not in kept.url


def test_a_password_from_elsewhere() -> None:
    assert SwitchAddress.parse("a=esl://h", "p").password == "p"
    assert SwitchAddress.parse("a=esl://u@h", "p").user == "u"
    for text in ("a=esl://:SECRET@h", "a=esl://u:SECRET@h"):
        with pytest.raises(ValueError, match="give it once") as caught:
            SwitchAddress.parse(text, "p")
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name=esl://"),
        ("esl://:SECRET@h", "name=esl://"),
        ("a b=esl://:SECRET@h", "name=esl://"),
        ("é=esl://:SECRET@h", "name=esl://"),
        ("a" * 33 + "=esl://:SECRET@h", "name=esl://"),
        ("a=http://:SECRET@h", "esl://"),
        ("a=SECRET", "esl://"),
        ("a=mx+esl://:SECRET@h", "dns\\+ or srv\\+"),
        ("a=+esl://:SECRET@h", "dns\\+ or srv\\+"),
        ("a=esl://SECRET", "password@"),
        ("a=esl://SECRET@h", "password@"),
        ("a=esl://@h", "password@"),
        ("a=esl://u:@h", "password@"),
        ("a=esl://:SECRET@", "host"),
        ("a=esl://:x@SECRET/y", "host"),
        ("a=esl://:SECRET@::1", "host"),
        ("a=esl://:SECRET@[::1", "host"),
        ("a=esl://:SECRET@h:", "port"),
        ("a=esl://:SECRET@h:0", "port"),
        ("a=esl://:SECRET@h:65536", "port"),
        ("a=esl://:SECRET@h:8o21", "host"),
        ("a=esl://:SECRET@h?sps=1", "max_legs"),
        ("a=esl://:SECRET@h?max_legs=x", "max_legs"),
        ("a=esl://:SECRET@h?legs_per_second=nan", "max_legs"),
        ("a=esl://:SECRET@h?legs_per_second=0.0000004", "0.001 to 1000000"),
        ("a=esl://:SECRET@h?legs_per_second=٥", "legs_per_second"),
        ("a=esl://:SECRET@h?max_legs=٥", "max_legs"),
        ("a=esl://:SECRET@h?max_legs=-1", "max_legs"),
        ("a=esl://:SECRET%0A@h", "control"),
        ("a=esl://:SECRET%FF@h", "UTF-8"),
        ("a=esl://u%3Av:SECRET@h", "user"),
        ("a=esl://:SECRET@h?ca=/ca.pem", "with esls:// ca and name"),
        ("a=esl://:SECRET@h?name=h", "with esls:// ca and name"),
        ("a=esls://:SECRET@h?ca=ca.pem", "absolute path"),
        ("a=esls://:SECRET@h?ca=/a%0Ab", "absolute path"),
        ("a=esls://:SECRET@h?name=a/b", "host name or IP"),
        ("a=esls://:SECRET@.h", "host name or IP"),
        ("a=esls://:SECRET@h?name=", "host name or IP"),
        ("a=esl://:SECRET@h?max_legs=", "max_legs"),
        ("a=esl://:SECRET@h?max_legs", "name=value"),
        ("a=esls://:SECRET@h?verify=no", "ca and name"),
        ("a=esls://:SECRET@h?max_legs=1&max_legs=2", "once"),
    ],
)
def test_what_is_no_address(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        SwitchAddress.parse(text)
    assert "SECRET" not in str(caught.value)


def test_repr_hides_the_password() -> None:
    assert "SECRET" not in repr(SwitchAddress("a", "h", password="SECRET"))


def test_parse_list() -> None:
    assert parse_list("a=esl://:p@h, b=esl://:p@h:1") == [
        SwitchAddress("a", "h", password="p"),
        SwitchAddress("b", "h", 1, password="p"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "switch 1: "),
        ("a=esl://:p@h,", "switch 2: "),
        ("a=esl://:p@h,b=esl://:SECRET", "switch 2: "),
        ("a=esl://:p@h,a=esl://:SECRET@i", "switch 2: its name is taken"),
        ("a=esl://:p@h,SECRET=x@h", "switch 2: "),
    ],
)
def test_what_is_no_list(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_list(text)
    assert "SECRET" not in str(caught.value)


@given(st.sampled_from(["esl", "esls"]), st.text(max_size=60))
def test_any_text_is_an_address_or_a_value_error(scheme: str, text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_list(f"a={scheme}://{text}")
