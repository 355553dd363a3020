"""What is to be put into a FreeSWITCH lets Ringback do what it does."""

import re
from pathlib import Path

from freeswitch import commands, event_socket
from workers.listener import heard, registrations

USER = (Path(commands.__file__).parent / "conf/directory/ringback.xml").read_text()


def allowed(name: str) -> set[str]:
    found = re.search(rf'name="{name}" value="([^"]+)"', USER)
    assert found is not None
    return set(found[1].split())


def test_the_restricted_user_may_run_every_command() -> None:
    source = Path(commands.__file__).read_text()
    verbs = set(re.findall(r'\.api(?:_apart)?\(f?"(\w+)', source))
    assert {"uuid_dump", "uuid_kill", "hupall", "show"} <= verbs
    verbs |= {"originate", event_socket.CORE_UUID.split()[0]}
    assert allowed("esl-allowed-api") == verbs


def test_the_restricted_user_gets_every_event() -> None:
    assert allowed("esl-allowed-events") == {*" ".join(heard.EVENTS).split(), registrations.BEGINS}


def test_the_answer_to_its_login_is_not_cut() -> None:
    """FreeSWITCH 1.10 writes both lists into a buffer of 512 bytes, with some 80 around them
    (mod_event_socket.c: userauth)."""
    lists = re.findall(r'name="esl-allowed-(?:events|api)" value="([^"]+)"', USER)
    assert sum(map(len, lists)) < 512 - 80
