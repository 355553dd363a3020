"""Pure functions that read one event of the switch and apply it to a call."""

from dataclasses import dataclass

from app.calls import endings, transitions
from app.calls.model import Call, Leg, State, call_id_of
from app.calls.transitions import LegReport
from app.store.writes import Note
from freeswitch import commands
from freeswitch.events import Event
from workers.leg_reports import accepted_report, leg_report
from workers.listener.registrations import FILTER as REGISTRATION_FILTER
from workers.runtime import CALL_VARIABLE

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HOLD",
    "CHANNEL_UNHOLD",
    "RECORD_START",
    "RECORD_STOP",
    "CHANNEL_HANGUP_COMPLETE",
    "BACKGROUND_JOB",
    "HEARTBEAT",
    # This comes last: the switch reads the words after CUSTOM as subclasses.
    "CUSTOM valet_parking::info",
)
CALL_HEADER = f"variable_{CALL_VARIABLE}"
# An event passes if it matches one filter: channels of our calls, and events without a channel.
FILTERS = (
    (CALL_HEADER, "/.+/"),
    ("Event-Name", "BACKGROUND_JOB"),
    ("Event-Name", "HEARTBEAT"),
    REGISTRATION_FILTER,
)
# The switch answers an originate with this cause while it is paused or full, or throttles.
REFUSED = "DESTINATION_OUT_OF_ORDER"
_COMES_UP = frozenset({"CHANNEL_CREATE", "CHANNEL_ANSWER"})


@dataclass(frozen=True, slots=True)
class Heard:
    """The facts in one event. The listener may apply them later, or twice."""

    call_id: str
    note: Note
    # The facts about the leg, in a channel's event.
    report: LegReport | None = None
    # The Job-UUID of an originate that has ended, and the hang-up cause with which it failed.
    job_uuid: str | None = None
    error: str | None = None
    # The leg that the originate ended with: if it had to accept the call, it has.
    accepted: LegReport | None = None

    @property
    def uuid(self) -> str:
        """The uuid of the channel, or the Job-UUID."""
        return self.report.uuid if self.report is not None else self.job_uuid or ""

    @property
    def comes_up(self) -> bool:
        """Whether the event says that a channel has come up or was answered."""
        return self.report is not None and self.note.name in _COMES_UP

    @property
    def goes_down(self) -> bool:
        """Whether the event says that a channel has ended."""
        return self.report is not None and self.report.ended is not None


def hear(event: Event) -> Heard | None:
    """The facts in an event; None for an event that belongs to no call."""
    headers = event.headers
    if event.name == "BACKGROUND_JOB":
        job_uuid, result = headers.get("Job-UUID", ""), event.body or ""
        if not isinstance(job_uuid, str):
            return None
        return Heard(
            call_id_of(job_uuid),
            Note("reply", "originate", data=result.strip()),
            job_uuid=job_uuid,
            error=commands.originate_error(result),
            accepted=accepted_report(event),
        )
    call_id = headers.get(CALL_HEADER)
    report = leg_report(event)
    if not isinstance(call_id, str) or not call_id or report is None:
        return None
    said = endings.in_words(report.cause, report.ending) if report.ending else report.cause
    return Heard(call_id, Note("event", event.name, data=said), report=report)


def is_recovered(event: Event) -> bool:
    """Whether the event tells of a channel that the switch has recovered from the run before."""
    return event.name == "CHANNEL_CREATE" and event.headers.get("variable_recovered") == "true"


def applied(call: Call, heard: Heard, at: float) -> Call:
    """The call after what was heard at ``at``, in epoch seconds."""
    if heard.report is not None:
        return transitions.report_leg(call, heard.report)
    if heard.accepted is not None and heard.job_uuid == call.job_uuid:
        leg = call.leg(heard.accepted.uuid)
        accepts = leg is not None and leg.accept is not None
        return transitions.report_leg(call, heard.accepted) if accepts else call
    if heard.error is None or heard.job_uuid is None:
        return call
    if heard.job_uuid == call.job_uuid:
        return transitions.finish_originate(call, error=heard.error, at=at)
    # The job that brings in a third party has the uuid of that party's first leg.
    return transitions.end_leg(call, heard.job_uuid, cause=heard.error, at=at)


def is_refusal(call: Call, heard: Heard) -> bool:
    """Whether a result says that the switch may have refused the call before it made any channel,
    and the call may be dialled again then."""
    if heard.error not in transitions.REFUSALS or heard.job_uuid != call.job_uuid:
        return False
    return not call.waits and transitions.may_dial_again(call)


def note_of(before: Call, after: Call, heard: Heard) -> Note | None:
    """The note for the timeline about an event that changed ``before`` to ``after``."""
    if heard.report is None:
        # A result that is no error changes nothing: the events of the legs say more.
        ours = heard.job_uuid == before.job_uuid or before.leg(heard.uuid) is not None
        return heard.note if ours and (heard.error is None or after is not before) else None
    leg = before.leg(heard.uuid)
    if after is before or leg is None:
        return None
    return Note("event", heard.note.name, leg=leg.id, data=heard.note.data)


def may_wait(call: Call, heard: Heard) -> bool:
    """Whether the write of an event may be delayed, if the event brings no new state.

    That is so while the call is being set up: its phones exist, ring or answer, and its originate
    worked.
    """
    if call.state in (State.BRIDGED, State.ENDED) or heard.error is not None:
        return False
    if heard.report is None:
        return True
    leg = call.leg(heard.uuid)
    settled = heard.report.ended is not None or heard.report.marks is not None
    return leg is not None and leg.action is None and not settled


def concerns_new_leg(call: Call, heard: Heard) -> bool:
    """Whether the event is about a leg that an action brought in after the call was read."""
    uuid = heard.uuid
    return call.leg(uuid) is None and uuid != call.job_uuid and call_id_of(uuid) == call.id


def legs_to_check(call: Call, heard: list[Heard]) -> list[Leg]:
    """The legs that may be unwanted after these events: legs that came up, and third parties.

    A listener would hear silence after the parties have left, and a phone that rings to take over a
    party that has left would find nobody.
    """
    came_up: dict[str, None] = {}
    for one in heard:
        if one.comes_up:
            came_up[one.uuid] = None
        elif one.goes_down:
            came_up.pop(one.uuid, None)
    legs = {uuid: leg for uuid in came_up if (leg := call.leg(uuid)) is not None}
    legs |= {leg.uuid: leg for leg in call.thirds if leg.live}
    return list(legs.values())
