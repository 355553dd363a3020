"""An API that connects your phone with a number, and streams how the call stands.

    pip install fastapi uvicorn ./client
    uvicorn --app-dir examples/fastapi_click_to_call app:app --port 5000

    curl -H 'Content-Type: application/json' -d '{"number": "15600"}' http://127.0.0.1:5000/call
    curl -N http://127.0.0.1:5000/call/ID/events
    curl -X DELETE http://127.0.0.1:5000/call/ID

RINGBACK_URL, RINGBACK_TOKEN  where the API is and who asks; the demo's without them
DESK                          the number of your own phone (15500)
EXTENSION                     the extension that is charged (210)
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from ringback import AsyncClient, Invalid, NotFound, Permission, Quota, RingbackError

client = AsyncClient(
    os.environ.get("RINGBACK_URL", "http://127.0.0.1:8080"),
    os.environ.get("RINGBACK_TOKEN", "demo-user-token"),
)
DESK = os.environ.get("DESK", "15500")
EXTENSION = os.environ.get("EXTENSION", "210")

# What the browser is answered for an error. All others are not its fault: 502.
STATUSES = {Invalid: 400, Permission: 403, NotFound: 404, Quota: 429}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


app = FastAPI(lifespan=lifespan)


class Wish(BaseModel):
    number: str


@app.exception_handler(RingbackError)
async def refused(_: Request, error: RingbackError) -> JSONResponse:
    headers = {"Retry-After": f"{error.retry_after:.0f}"} if error.retry_after else None
    content = {"error": error.message, "reason": error.reason}
    return JSONResponse(content, STATUSES.get(type(error), 502), headers)


@app.post("/call", status_code=202)
async def call(wish: Wish) -> dict[str, str]:
    placed = await client.simple(EXTENSION, DESK, wish.number)
    return {"id": placed.id}


@app.delete("/call/{call_id}", status_code=204)
async def hang_up(call_id: str) -> None:
    await client.hang_up(call_id)


@app.get("/call/{call_id}/events")
async def events(call_id: str) -> StreamingResponse:
    """The call's states as they come, each once, as server-sent events."""
    await client.get(call_id)

    async def states() -> AsyncIterator[str]:
        # The stream first: what happens before the call is read is in that, the rest in the stream.
        async with client.events(call_id=call_id) as changes:
            call = await client.get(call_id)
            yield f"data: {call.state}\n\n"
            state = call.state
            while state != "ended":
                event = await anext(changes)
                if event.call.state not in (state, None):
                    state = event.call.state
                    cause = f" ({event.call.hangup_cause})" if state == "ended" else ""
                    yield f"data: {state}{cause}\n\n"

    return StreamingResponse(states(), media_type="text/event-stream")
