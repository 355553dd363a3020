"""A page with a form that connects your phone with a number, and a page that shows how it stands.

    pip install django ./client
    python examples/django_click_to_call/app.py runserver 5000

All of Django is in this file. In a project of yours the settings, the paths and the views go where
they belong, and one `client` serves all threads of a process.

RINGBACK_URL, RINGBACK_TOKEN  where the API is and who asks; the demo's without them
DESK                          the number of your own phone (15500)
EXTENSION                     the extension that is charged (210)
"""

import os
import secrets
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template import Context, Engine
from django.template.context_processors import csrf
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from ringback import Client, NotFound, RingbackError

client = Client(
    os.environ.get("RINGBACK_URL", "http://127.0.0.1:8080"),
    os.environ.get("RINGBACK_TOKEN", "demo-user-token"),
)
DESK = os.environ.get("DESK", "15500")
EXTENSION = os.environ.get("EXTENSION", "210")

PAGE = Engine().from_string("""<!doctype html>
{% if call and call.state != "ended" %}<meta http-equiv="refresh" content="1">{% endif %}
<title>Click to call</title>
{% if error %}<p role="alert">{{ error }}</p>{% endif %}
{% if call %}
  <p role="status">{{ call.state }} {{ call.hangup_cause|default:"" }}</p>
  <form method="post" action="/call/{{ call.id }}/end">
    {% csrf_token %}<button>Hang up</button>
  </form>
{% endif %}
<form method="post" action="/call">
  {% csrf_token %}
  <input type="hidden" name="nonce" value="{{ nonce }}">
  <input name="number" value="15600" required> <button>Call</button>
</form>
""")


def page(request: HttpRequest, status: int = 200, **more: object) -> HttpResponse:
    # A form that is sent twice has the same nonce, and places one call.
    context = Context({**csrf(request), "nonce": secrets.token_hex(16), **more})
    return HttpResponse(PAGE.render(context), status=status)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return page(request)


@require_POST
def place(request: HttpRequest) -> HttpResponse:
    try:
        call = client.simple(
            EXTENSION, DESK, request.POST["number"], nonce=request.POST["nonce"], wait_for_pickup=20
        )
    except (RingbackError, ValueError) as error:
        return page(request, 400, error=str(error))
    return HttpResponseRedirect(f"/call/{call.id}")


@require_GET
def show(request: HttpRequest, call_id: str) -> HttpResponse:
    try:
        return page(request, call=client.get(call_id))
    except NotFound as error:
        return page(request, 404, error=str(error))


@require_POST
def end(request: HttpRequest, call_id: str) -> HttpResponse:
    client.hang_up(call_id)
    return HttpResponseRedirect(f"/call/{call_id}")


urlpatterns = [
    path("", index),
    path("call", place),
    path("call/<call_id>", show),
    path("call/<call_id>/end", end),
]

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(32),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
)

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
