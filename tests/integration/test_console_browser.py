"""The console in a Chromium, against the running whole."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from app.calls.model import Leg, State
from app.settings import Settings
from app.store.switches import SwitchStore
from ringback_cli.up import environment, free_port, serves
from tests.conftest import eventually
from tests.integration.conftest import REAL, Ringback

playwright = pytest.importorskip(
    "playwright.sync_api",
    reason="needs the extra `browser`: pip install -e ./client -e '.[browser]'",
)
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH, or CHROMIUM"),
    pytest.mark.skipif(bool(REAL), reason="it is the same page whatever the switch is"),
]
ARGUMENTS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync
""".split()
# Milliseconds to wait for anything at most.
LIMIT = 60_000
PAGES = [
    *("/console", "/console/place", "/console/switches", "/console/queues", "/console/charts"),
    *("/console/access", "/console/audit"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # With a profile of its own, which goes with it.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, ringback: Ringback) -> Iterator[Any]:
    """A page of nobody's, whose script may raise no error and which may break no policy."""
    context = browser.new_context(
        base_url=ringback.stack.url, viewport={"width": 1280, "height": 800}
    )
    page = context.new_page()
    page.set_default_timeout(LIMIT)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    # What the server refuses, and its absence, are no faults of the page.
    assert [text for text in wrong if not text.startswith("Failed to load resource")] == []


def log_in(page: Any, token: str = "demo-administrator-token", path: str = "/console") -> None:
    page.goto(path, wait_until="commit")
    page.get_by_label("Token of the app").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_selector("#live.up")


def line(page: Any, call_id: str) -> Any:
    return page.locator(f'tr[data-id="{call_id}"]')


def talking(ringback: Ringback) -> str:
    call_id = ringback.place(["210"], ["15517"])
    ringback.wait_state(call_id, State.BRIDGED)
    return call_id


def test_log_in_and_out(page: Any) -> None:
    page.goto("/console/charts?span=24h", wait_until="commit")
    page.get_by_label("Token of the app").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").get_by_text("no app with these").wait_for()
    page.get_by_label("Client id and secret").check()
    page.get_by_label("Client id", exact=True).fill("demo-organization")
    page.get_by_label("Client secret").fill("demo-organization-secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#live.up")
    # To where it was asked for; and what the level does not see is not there.
    page.wait_for_url("**/console/charts?span=24h")
    assert page.get_by_role("link", name="Switches").count() == 0
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Token of the app").wait_for()
    assert page.context.cookies() == []


def test_a_call_appears_changes_and_is_hung_up(page: Any, ringback: Ringback) -> None:
    log_in(page, "demo-user-token")
    call_id = ringback.place(["210"], ["15508"])
    row = line(page, call_id)
    row.locator(".state.answered").wait_for()
    row.get_by_role("link").click()
    page.wait_for_url(f"**/console/calls/{call_id}")
    page.get_by_role("button", name="Hang up the call").click()
    page.get_by_role("dialog").get_by_role("button", name="Hang up").click()
    page.locator(".result.good").wait_for()
    page.locator(".head .state", has_text="by api").wait_for()
    assert ringback.ended(call_id).ended_by == "api"
    page.go_back()
    row.wait_for(state="detached")
    # How one ended stays in view for a while.
    busy = ringback.place(["210"], ["15509"])
    line(page, busy).locator(".state.failed").get_by_text("busy").wait_for()


def test_the_timeline_and_what_is_done_to_a_call(page: Any, ringback: Ringback) -> None:
    call_id = talking(ringback)
    log_in(page, path=f"/console/calls/{call_id}")
    page.locator(".lanes .piece.bridged").first.wait_for(state="attached")
    # The call's own lane, and one for each leg.
    assert page.locator(".lanes .track").count() == 3
    party = page.get_by_role("region", name="Party 0003*210")

    def source() -> Leg:
        call = ringback.store.get(call_id)
        assert call is not None
        return call.sources[0]

    party.get_by_role("button", name="Hold").click()
    party.get_by_role("button", name="Resume").wait_for()
    page.locator(".lanes .piece.hold").wait_for(state="attached")
    assert source().on_hold
    party.get_by_role("button", name="Resume").click()
    party.get_by_role("button", name="Hold").wait_for()
    assert not source().on_hold
    page.locator(".story").get_by_text("CHANNEL_UNHOLD").wait_for()
    party.get_by_role("button", name="Transfer …").click()
    page.get_by_label("To an extension or a public number").fill("nothing")
    page.get_by_role("dialog").get_by_role("button", name="Transfer").click()
    page.locator(".result.bad", has_text="pc_sendcallto_invalid").wait_for()
    ringback.request("DELETE", f"@me/@self/{call_id}")
    page.locator(".head .state", has_text="ended by api").wait_for()


def test_place_a_call(page: Any, ringback: Ringback) -> None:
    log_in(page, "demo-user-token", "/console/place")
    page.get_by_label("From").fill("210")
    page.locator("#destination").fill("what?")
    page.get_by_role("button", name="Place the call").click()
    page.locator("#destination-error", has_text="destination takes").wait_for()
    assert page.locator("#destination:focus").count() == 1
    page.locator("#destination").fill("15509")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/calls/*")
    call_id = page.url.rpartition("/")[2]
    assert ringback.ended(call_id).disposition == 1
    page.locator(".head .state", has_text="busy").wait_for()


def test_it_connects_again(page: Any, ringback: Ringback) -> None:
    """Where the API that it has asked is killed and started again."""
    settings = replace(ringback.stack.settings, http=f"127.0.0.1:{free_port()}")
    with api(settings) as process:
        log_in(page, path=f"http://{settings.http}/console")
        process.kill()
        process.wait()
        page.wait_for_selector("#live.down")
    with api(settings):
        page.wait_for_selector("#live.up")
        call_id = talking(ringback)
        line(page, call_id).locator(".state.bridged").wait_for()
        ringback.request("DELETE", f"@me/@self/{call_id}")
        line(page, call_id).locator(".state.ended").wait_for()


@contextmanager
def api(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Another one, of the same calls."""
    command = [sys.executable, "-m", "ringback_cli", "api"]
    process = subprocess.Popen(command, env=environment(settings), start_new_session=True)
    try:
        eventually(lambda: serves(settings.http_address))
        yield process
    finally:
        process.kill()
        process.wait()


def test_phone_width(browser: Any, page: Any, ringback: Ringback) -> None:
    call_id = talking(ringback)
    page.set_viewport_size({"width": 360, "height": 740})
    log_in(page)
    line(page, call_id).wait_for()
    for path in [*PAGES, f"/console/calls/{call_id}"]:
        page.goto(path, wait_until="commit")
        page.wait_for_selector("#live.up")
        page.locator("main h1, main section").first.wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    ringback.request("DELETE", f"@me/@self/{call_id}")


def test_pause_a_switch(page: Any, ringback: Ringback) -> None:
    switches = SwitchStore(ringback.store.redis, ringback.store.keys)
    log_in(page, path="/console/switches")
    card = page.get_by_role("region", name="Switch simulator")
    card.get_by_role("button", name="Pause").click()
    page.get_by_label("Why").fill("a new disk")
    page.keyboard.press("Enter")
    card.get_by_text("a new disk").wait_for()
    (switch,) = switches.get_many(["simulator"])
    assert switch.state == "paused"
    card.get_by_role("button", name="Resume").click()
    card.get_by_role("button", name="Drain").wait_for()
    assert switches.get_many(["simulator"])[0].state == "up"


def test_suspend_an_organization(page: Any, ringback: Ringback) -> None:
    call_id = talking(ringback)
    log_in(page, path="/console/access")
    row = page.locator('tr[data-name="0003"]')
    row.locator(".state.bridged", has_text="active").wait_for()
    row.get_by_role("button", name="Suspend").click()
    page.get_by_label("Why").fill("unpaid")
    page.get_by_label("Hang up its live calls").check()
    page.get_by_role("dialog").get_by_role("button", name="Suspend").click()
    row.get_by_text("by demo-administrator (console)").wait_for()
    assert ringback.ended(call_id).ended_by == "api"
    body = {"extension": "210", "phoneCallView": [{"source": "15509", "destination": "15500"}]}
    assert ringback.request("POST", "@me/simple", body)[0] == 403
    row.get_by_role("button", name="Resume").click()
    row.locator(".state.bridged").wait_for()
    eventually(lambda: ringback.request("POST", "@me/simple", body)[0] == 202)
    # The audit tells all of it.
    page.keyboard.press("u")
    page.wait_for_url("**/console/audit")
    page.locator(".trail tr", has_text="resume_organization").first.wait_for()
    page.get_by_label("What").fill("suspend_organization")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/audit?what=suspend_organization")
    told = page.locator(".trail tbody tr").first
    told.get_by_text("unpaid").wait_for()
    told.get_by_text("session demo-administrator").wait_for()
    page.get_by_label("What").fill("hang_up")
    page.keyboard.press("Enter")
    page.locator(".trail tbody tr").first.get_by_role("link", name=call_id).click()
    page.locator(".story .by", has_text="by app demo-administrator").first.wait_for()


def test_by_keyboard_alone(page: Any, ringback: Ringback) -> None:
    call_id = talking(ringback)
    log_in(page)
    line(page, call_id).wait_for()
    press = page.keyboard.press
    press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    press("Escape")
    press("g")
    page.wait_for_url("**/console/charts")
    page.locator(".u-over").first.wait_for(state="attached")
    press("/")
    page.locator("input[type=search]:focus").wait_for()
    page.keyboard.type(call_id)
    page.wait_for_url(f"**/console?q={call_id}")
    line(page, call_id).wait_for()
    press("Escape")
    press("j")
    press("Enter")
    page.wait_for_url(f"**/console/calls/{call_id}")
    page.locator("#hang-up").wait_for()
    press("x")
    page.get_by_role("dialog").get_by_role("button", name="Hang up").focus()
    press("Enter")
    page.locator(".result.good").wait_for()
    assert ringback.ended(call_id).ended_by == "api"
    press("Escape")
    page.wait_for_url("**/console")
