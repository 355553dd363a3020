"""A page with a button that connects your phone with a number, and shows how the call stands.

    pip install flask ./client
    flask --app examples/flask_click_to_call/app run --port 5000

The browser never sees Ringback's token: it talks to this program, and this program to Ringback.

RINGBACK_URL, RINGBACK_TOKEN  where the API is and who asks; the demo's without them
DESK                          the number of your own phone (15500)
EXTENSION                     the extension that is charged (210)
WEBHOOK_SECRET                the app's webhook_secret: then hang-ups that Ringback tells of by call
                              events, to /calls here, are taken and their signatures checked
"""

import os
from collections import deque
from collections.abc import Iterator

from flask import Flask, Response, abort, jsonify, render_template_string, request

from ringback import Client, NotFound, RingbackError, WebhookError, verify_webhook

app = Flask(__name__)
client = Client(
    os.environ.get("RINGBACK_URL", "http://127.0.0.1:8080"),
    os.environ.get("RINGBACK_TOKEN", "demo-user-token"),
)
DESK = os.environ.get("DESK", "15500")
EXTENSION = os.environ.get("EXTENSION", "210")
SECRET = os.environ.get("WEBHOOK_SECRET")

# What call events told last, and the ids of their messages: one may come twice. A program with
# several processes keeps both in its database.
told: deque[dict[str, str]] = deque(maxlen=100)
seen: deque[str] = deque(maxlen=1000)


@app.before_request
def only_from_here() -> None:
    """Another site's page must not place calls. Call events come from no browser."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(403)


PAGE = """
<!doctype html>
<title>Click to call</title>
<form id="form">
  <input name="number" value="15600" pattern="\\+?[0-9*]+" required>
  <button>Call</button> <button type="button" id="end" hidden>Hang up</button>
</form>
<p id="state" role="status"></p>
<script>
const form = document.getElementById("form"), state = document.getElementById("state")
const end = document.getElementById("end")
form.onsubmit = async event => {
  event.preventDefault()
  const answer = await fetch("call", {method: "POST", body: new FormData(form)})
  const call = await answer.json()
  if (!answer.ok) { state.textContent = call.error; return }
  end.hidden = false
  end.onclick = () => fetch("call/" + call.id, {method: "DELETE"})
  const events = new EventSource("call/" + call.id + "/events")
  events.onmessage = ({data}) => {
    state.textContent = data
    if (data.startsWith("ended")) { events.close(); end.hidden = true }
  }
}
</script>
"""


@app.get("/")
def page() -> str:
    return render_template_string(PAGE)


@app.post("/call")
def call() -> tuple[Response, int]:
    try:
        placed = client.simple(EXTENSION, DESK, request.form["number"])
    except RingbackError as error:
        return jsonify(error=error.message), 502
    return jsonify(id=placed.id), 202


@app.delete("/call/<call_id>")
def hang_up(call_id: str) -> tuple[str, int]:
    client.hang_up(call_id)
    return "", 204


@app.get("/call/<call_id>/events")
def events(call_id: str) -> Response:
    """The call's states as they come, each once, as server-sent events for the page."""
    try:
        client.get(call_id)
    except NotFound:
        abort(404)

    def states() -> Iterator[str]:
        # The stream first: what happens before the call is read is in that, the rest in the stream.
        with client.events(call_id=call_id) as changes:
            state = client.get(call_id).state
            yield f"data: {state}\n\n"
            while state != "ended":
                event = next(changes)
                if event.call.state != state and event.call.state is not None:
                    state = event.call.state
                    cause = f" ({event.call.hangup_cause})" if state == "ended" else ""
                    yield f"data: {state}{cause}\n\n"

    return Response(states(), mimetype="text/event-stream")


@app.post("/calls")
def webhook() -> tuple[str, int]:
    """A call event of Ringback's."""
    if SECRET is None:
        abort(404)
    try:
        event = verify_webhook(dict(request.headers), request.get_data(), SECRET)
    except WebhookError:
        abort(401)
    if request.headers["webhook-id"] not in seen:
        seen.append(request.headers["webhook-id"])
        told.append(event)
    return "", 204


@app.get("/calls")
def calls() -> Response:
    return jsonify(list(told))
