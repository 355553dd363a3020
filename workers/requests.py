"""Requests that come as RQ jobs: what a POST, DELETE or PUT asks for (docs/guide/enqueue.md).

A request is carried out by the API's own application, in this process. So the same checks, rights,
caps, audit and answers hold as over HTTP.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import gevent
from flask import Flask
from gevent.lock import BoundedSemaphore
from marshmallow import Schema, fields
from marshmallow.validate import Length, OneOf, Regexp
from redis.commands.core import Script
from redis.exceptions import RedisError
from rq import get_current_job
from rq.timeouts import JobTimeoutException
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from app import create_app
from app.accounts import signing
from app.accounts.credentials import token_sha256
from app.accounts.model import App
from app.accounts.store import AccountStore
from app.errors import ApiError, api_error
from app.oauth.services import Tokens
from app.settings import Settings
from app.store.keys import Keys
from app.store.queue import ACT_REQUEST, HANG_UP_REQUEST, PLACE_REQUEST, REQUESTS
from app.telemetry import counting, logs
from app.web.auth import JOB, JobRequest
from app.web.fields import load
from app.web.services import EXTENSION
from workers.rq_worker import CallWorker
from workers.rq_worker.batch import Taken
from workers.rq_worker.ours import ForeignJob, OurJob

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# Seconds for which Redis keeps whose job a job is: RQ may run it again meanwhile.
PROOF_TTL = 90_000
# Seconds between two attempts to find out whose the jobs are.
_PAUSE = 1.0

# Take the secrets out of jobs, and keep whose they are.
# KEYS  for each job: its hash, the key of its proof
# ARGV  for each job: the data and the description without secrets, '' for a job that has none;
#       the proof, '' for none
#       the last: seconds for which a proof is kept
# Returns for each job that has no secret the proof that was kept before, for others ''.
_STRIKE = """
local found = {}
for i = 1, #KEYS / 2 do
  local job, kept = KEYS[2 * i - 1], KEYS[2 * i]
  local data, description, proof = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  found[i] = ''
  if data ~= '' and redis.call('EXISTS', job) == 1 then
    redis.call('HSET', job, 'data', data, 'description', description)
    if proof ~= '' then redis.call('SET', kept, proof, 'EX', ARGV[#ARGV]) end
  end
  if proof == '' then found[i] = redis.call('GET', kept) or '' end
end
return found
"""


class Unavailable(Exception):
    """A request that Ringback could not carry out now. RQ runs its job again."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """The credential that a job came with, and a digest of what the job asks for.

    ``kind`` is ``token`` or ``secret``; ``sha256`` is what the accounts or Redis have of it.
    """

    app: str
    kind: str
    sha256: str
    digest: str

    def dumps(self) -> str:
        return json.dumps([self.app, self.kind, self.sha256, self.digest])

    @classmethod
    def loads(cls, text: bytes) -> "_Proof":
        return cls(*json.loads(text))


# What stands in the path of a request.
_PART = Regexp(r"\A[^/]{1,255}\Z", error="Takes 1 to 255 characters without a slash.")


class _Words(Schema):
    """The keyword arguments that all jobs have, but for the token or the signature."""

    app = fields.String(required=True, validate=Length(1, 255))
    time = fields.Integer(strict=True)
    user = fields.String(load_default="@me", validate=_PART)
    query = fields.Dict(load_default=dict)


class _PlaceWords(_Words):
    kind = fields.String(required=True, validate=OneOf(["simple", "callback", "conferenceInvite"]))
    body = fields.Dict(required=True)


class _HangUpWords(_Words):
    extension = fields.String(load_default="@self", validate=_PART)
    id = fields.String(validate=_PART)


class _ActWords(_Words):
    extension = fields.String(load_default="@self", validate=_PART)
    id = fields.String(required=True, validate=_PART)
    body = fields.Dict(required=True)


class RequestJob(OurJob):
    """A job of the queue of requests. One whose worker died runs again once: no request is carried
    out twice."""

    # Whether the program that enqueued it asked for retries.
    asks_for_retries = False
    # Whose the job is, or why it is nobody's; None before it was taken. An id may be in the queue
    # twice, so it is kept here and not by the id.
    asker: App | ApiError | None = None

    def restore(self, raw_data: Any) -> Any:
        super().restore(raw_data)
        self.asks_for_retries = bool(self.retries_left)
        if b"retries_left" not in raw_data and self._refusal is None:
            self.retries_left = 1


class Requests:
    """The requests of one process: whose job is whose, and the application that carries them out.

    The application is made for the first job, since most workers never see one.
    """

    _schemas: ClassVar[Mapping[str, Schema]] = {
        PLACE_REQUEST: _PlaceWords(),
        HANG_UP_REQUEST: _HangUpWords(),
        ACT_REQUEST: _ActWords(),
    }
    _methods: ClassVar[Mapping[str, str]] = {
        PLACE_REQUEST: "POST",
        HANG_UP_REQUEST: "DELETE",
        ACT_REQUEST: "PUT",
    }

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.key_prefix)
        self._app: Flask | None = None
        self.functions: dict[str, Callable[..., Any]] = {
            name: partial(self._run, name) for name in self._schemas
        }

    # Who asks

    def strike(self, script: Script, jobs: Sequence[RequestJob]) -> None:
        """Find out whose jobs these are, and take tokens and signatures out of them, here and in
        Redis. A job that is refused loses all of its arguments."""
        keys: list[str] = []
        arguments: list[Any] = []
        for job in jobs:
            data, proof = b"", ""
            try:
                _ = job.func
                struck, proof = _lasting(partial(self._prove, job))
                description = f"{job.func_name}({job.id})"
            except ForeignJob as error:
                struck, description = True, str(error)
                job.refuse(description)
                job.asker = _denied(description)
            if struck or job.description != description:
                job.description = description
                data = zlib.compress(job.data)
            keys += [job.key, self._keys.request(job.id)]
            arguments += [data, description, proof]
        if not keys:
            return
        kept = _lasting(partial(script, keys, [*arguments, PROOF_TTL]))
        for job, known in zip(jobs, kept, strict=True):
            if job.asker is None:
                job.asker = _lasting(partial(self._again, job, job.kwargs, known))

    def _prove(self, job: RequestJob) -> tuple[bool, str]:
        """Find out whose a job is by its token or signature, and take that out of it. Returns
        whether something was taken out, and the proof to keep, '' for none.

        Raises an error of Redis before it changes the job.
        """
        words = dict(job.kwargs)
        secret = {"token", "signature"} & words.keys()
        found = self._proof(job, words) if secret else None
        asker = self._app_of(found) if isinstance(found, _Proof) else found
        if job.args:
            # They are refused, and their number says so.
            job.args = [None] * len(job.args)
        if secret:
            job.asker = asker
            job.kwargs = {name: words[name] for name in words if name not in secret}
        kept = isinstance(asker, App) and isinstance(found, _Proof) and found.dumps()
        return bool(secret or job.args), kept or ""

    def _proof(self, job: OurJob, words: Mapping[str, Any]) -> _Proof | ApiError:
        app, token, given = (words.get(name) for name in ("app", "token", "signature"))
        try:
            digest = _digest(job, words)
            if not isinstance(app, str):
                return _denied("The job does not say which app asks.")
            if token is not None and given is not None:
                return _denied("The job takes either a token or a signature.")
            if token is not None and not isinstance(token, str):
                return _denied("token takes a text.")
            if isinstance(token, str):
                return _Proof(app, "token", token_sha256(token), digest)
            text = signing.canonical(str(job.func_name), job.id, words)
            now = self._service(Tokens).now
            known = self._service(AccountStore).current().apps.get(app)
            signer = signing.signer(known, text, str(given), now) if known is not None else None
        except RedisError:
            raise
        except Exception as error:
            # One job must not hold up those that were taken with it.
            return _denied(f"The job cannot be read: {error}")
        if signer is None:
            return _denied("The signature was not made with a client secret of the app.")
        at, age = words.get("time"), signing.AGE
        # Compared, since a huge integer cannot be subtracted from a float.
        if not isinstance(at, int) or not now() - age <= at <= now() + age:
            return _denied(f"time is not within {signing.AGE} s of the time of Redis.")
        return _Proof(app, "secret", signer.sha256, digest)

    def _app_of(self, proof: _Proof) -> App | ApiError:
        """The app of a proof, if the credential counts now."""
        accounts, tokens = self._service(AccountStore).current(), self._service(Tokens)
        app: App | None
        if proof.kind == "token":
            app = accounts.app_of_sha256(proof.sha256, tokens.now)
            app = app or tokens.app_of_sha256(proof.sha256, accounts)
        else:
            app = accounts.apps.get(proof.app)
            counts = app is not None and any(
                each.sha256 == proof.sha256 and each.counts(tokens.now)
                for each in app.all_client_secrets
            )
            app = app if counts and app is not None and app.counts(tokens.now) else None
        if app is None or app.id != proof.app:
            return _denied(f"This is no {proof.kind} of the app, or it no longer counts.")
        return app

    def _again(self, job: OurJob, words: Mapping[str, Any], kept: bytes) -> App | ApiError:
        """Whose a job is that runs again: its secret was taken out before."""
        try:
            proof = _Proof.loads(kept) if kept else None
            if proof is not None and proof.digest == _digest(job, words):
                return self._app_of(proof)
        except (ValueError, TypeError, RecursionError):
            log.warning("job %s: what Redis keeps of it cannot be read", job.id)
        return _denied("The job has neither a token nor a signature.")

    # What is asked

    def _run(self, function: str, /, *positional: Any, **words: Any) -> dict[str, Any]:
        """Carry out the request of the current job. Returns its status and body. Raises Unavailable
        if RQ is to run the job again."""
        job = get_current_job()
        assert isinstance(job, RequestJob)
        known = job.asker or _denied("The job was not taken from its queue.")
        try:
            if positional:
                raise api_error("request_invalid", reason="A job takes keyword arguments alone.")
            asked = load(self._schemas[function], words)
            url = _url(function, asked)
        except (ApiError, UnicodeEncodeError) as error:
            if isinstance(error, UnicodeEncodeError):
                error = api_error(
                    "request_invalid", reason="The job holds text that is no Unicode."
                )
            known = known if isinstance(known, ApiError) else error
            asked = {"user": "@me", "kind": "simple", "extension": "@self", "id": "-", "query": {}}
            url = _url(function, asked)
        with counting.jobs(REQUESTS):
            while True:
                status, answer = self._answer(function, url, asked.get("body"), job.id, known)
                if status == 503 and job.asks_for_retries:
                    raise Unavailable(answer["error"]["message"])
                # Nobody waits for this answer as for that of a POST, and the job's id keeps the
                # calls from being placed twice. The job's time limit ends it.
                if status != 503 or function != PLACE_REQUEST:
                    return {"status": status, "body": answer}
                gevent.sleep(_PAUSE)

    def _answer(
        self, function: str, url: str, body: Any, job_id: str, app: App | ApiError
    ) -> tuple[int, Any]:
        """The status and the JSON that a request gets."""
        builder = EnvironBuilder(
            url,
            method=self._methods[function],
            data=json.dumps(body) if body is not None else None,
            content_type="application/json" if body is not None else None,
            headers=Headers({"X-Request-Id": job_id}),
            environ_base={"REMOTE_ADDR": "queue", JOB: JobRequest(job_id, app)},
        )
        pieces, status, _ = run_wsgi_app(
            self._application().wsgi_app, builder.get_environ(), buffered=True
        )
        # What follows in this greenlet is about other jobs.
        logs.unbind_request()
        return int(status.split(" ", 1)[0]), json.loads(b"".join(pieces))

    def _application(self) -> Flask:
        if self._app is None:
            self._app = create_app(self._settings, of_jobs=True)
            # The end of a job's time fails the job. It is no fault of the application.
            self._app.config["PROPAGATE_EXCEPTIONS"] = True
            self._app.register_error_handler(JobTimeoutException, _raise)
        return self._app

    def _service(self, kind: type[Any]) -> Any:
        return self._application().extensions[EXTENSION][kind]


class RequestWorker(CallWorker):
    """The worker of the queue of requests. It places calls one after another in the order of their
    jobs, and lets other greenlets run between them."""

    concurrency = 4
    # A worker that died is noticed soon: what was asked of it must not come minutes late.
    unheard_limit = 60

    def __init__(self, requests: Requests, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, maintenance_interval=30, **kwargs)
        self._requests = requests
        self._strike = self.connection.register_script(_STRIKE)
        self._turn = BoundedSemaphore()

    def prepare(self, batch: list[Taken]) -> None:
        """Find out whose the jobs are."""
        jobs = []
        for each in batch:
            assert isinstance(each.job, RequestJob)
            if each.error is not None:
                # The text of the error may show the whole hash.
                each.job.refuse(f"It cannot be read: {type(each.error).__name__}")
            jobs.append(each.job)
        self._requests.strike(self._strike, jobs)

    def calls_of(self, batch: list[Taken]) -> list[Callable[[], list[Taken]]]:
        placing = [taken for taken in batch if taken.name == PLACE_REQUEST]
        calls: list[Callable[[], list[Taken]]] = []
        if placing:
            calls.append(partial(self._place, placing))
        return calls + super().calls_of([taken for taken in batch if taken.name != PLACE_REQUEST])

    def _place(self, batch: Sequence[Taken]) -> list[Taken]:
        ended = []
        # Batches wait here in the order in which they were taken.
        with self._turn:
            for taken in batch:
                ended += self.perform(taken)
                gevent.sleep(0)
        return ended


def _raise(error: Exception) -> NoReturn:
    raise error


def _lasting(call: Callable[[], _T]) -> _T:
    """What a call returns, once Redis is available: there is nothing else to do before. Half of the
    jobs may have lost their secrets, so the other half cannot be left."""
    while True:
        try:
            return call()
        except RedisError as error:
            log.error("queue %s: Redis is unavailable, retrying: %s", REQUESTS, error)
            gevent.sleep(_PAUSE)


def _digest(job: OurJob, words: Mapping[str, Any]) -> str:
    """The digest of what a job asks for, without its secrets. Raises ValueError for text that is
    no Unicode."""
    asked = {name: value for name, value in words.items() if name not in ("token", "signature")}
    text = json.dumps([job.func_name, job.args, asked], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _url(function: str, asked: Mapping[str, Any]) -> str:
    """The URL of a request, without a host. Raises UnicodeEncodeError."""
    if function == PLACE_REQUEST:
        parts = [asked["user"], asked["kind"]]
    else:
        # Without an id the path ends with a slash, and takes a query that says `all`.
        parts = [asked["user"], asked["extension"], asked.get("id", "")]
    path = "/".join(quote(part, safe="@*") for part in parts)
    # As a query has booleans, and a value that is missing.
    query = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in asked["query"].items()
        if value is not None
    }
    return f"/uapi/phoneCalls/{path}?{urlencode(query, doseq=True)}"


def _denied(reason: str) -> ApiError:
    return api_error("access_denied", reason=reason)
