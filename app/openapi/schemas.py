"""The schemas of answers, for the description only: answers themselves are plain values."""

from typing import Any

from marshmallow import RAISE, Schema, fields
from marshmallow.validate import OneOf, Range


def _text(description: str, **metadata: Any) -> fields.String:
    return fields.String(metadata={"description": description, **metadata})


def _date(description: str) -> fields.String:
    return _text(f"{description} In UTC, to the second.", format="date-time")


def _number(description: str, *choices: int) -> fields.Integer:
    return fields.Integer(
        validate=OneOf(choices) if choices else Range(0),
        metadata={"description": description},
    )


def _disposition() -> fields.Integer:
    return _number(
        "How the call ended: 0 answered, 1 busy, 2 failed, 3 no answer, 4 unknown, 5 not allowed.",
        *range(6),
    )


def _metadata() -> fields.Dict:
    return fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "The metadata that the create request gave the call."},
    )


class Answer(Schema):
    """A schema of an answer, which has no other fields. An answer omits fields without a value and
    fields that ``fields`` does not name."""

    class Meta:
        unknown = RAISE


class Link(Answer):
    self_ = fields.String(
        data_key="self", required=True, metadata={"description": "URL of the resource."}
    )


class Quality(Answer):
    mos = fields.Float(metadata={"description": "1 to 4.5, as FreeSWITCH estimates it."})
    lossPercent = fields.Float(metadata={"description": "Packets that were missing."})
    jitterMs = fields.Float(metadata={"description": "Milliseconds."})
    packetsIn = _number("The RTP packets that the switch received from the far end.")
    packetsOut = _number("The RTP packets that it sent there.")
    marks = fields.List(
        fields.String(validate=OneOf(["one_way", "low_quality"])),
        metadata={"description": "What is wrong with the sound."},
    )


class Ending(Answer):
    cause = _text("FreeSWITCH's name of the cause. Missing if no event told how the leg ended.")
    sipStatus = _number("The final SIP status of the INVITE.")
    sipPhrase = _text("The phrase of a refusal.", examples=["Busy Here"])
    q850Cause = _number("The cause by Q.850.")
    reason = _text("The Reason header with which the far end ended the leg.")
    blocked = fields.Boolean(metadata={"description": "Blocked by analytics of the network."})
    sipCallId = _text("The Call-ID, which the carrier's logs have too.")
    postDialDelay = fields.Float(
        metadata={"description": "Seconds from the INVITE to the first 18x."}
    )
    ringSeconds = fields.Float(
        metadata={"description": "Seconds from the first 18x to the answer or the end."}
    )
    quality = fields.Nested(Quality)


class PhoneCallView(Answer):
    id = _text("`00` is the source's view, `01` the destination's.", examples=["00"])
    extension = _text("The number of the side that the view is of.", examples=["0003*210"])
    source = fields.List(fields.String(), metadata={"description": "The numbers of the source."})
    destination = fields.List(
        fields.String(), metadata={"description": "The numbers of the destination."}
    )
    flow = _number("2 local, 4 outgoing public, 8 incoming public.", 2, 4, 8)
    status = _number(
        "0 unknown, 1 off hook, 2 trying, 3 ringing, 4 the other side rings, 5 on call; left out "
        "once the call has ended.",
        *range(6),
    )
    ringing = _date("Since when the phone rings.")
    answered = _date("When the phone was answered.")
    callerId = _text("The caller id that this side sees.", examples=["John Doe <4242425>"])
    recording = _date("Since when this side is recorded.")
    parked = _date("Since when this side is parked.")
    parkedPos = fields.Integer(metadata={"description": "The place in the parking lot."})
    parkedBy = _text("The extension that parked this side.")
    onHold = _date("Since when this side is on hold.")
    holder = _number("1: this side put the call on hold.", 0, 1)
    disposition = _disposition()
    action = _text("The name of the action that brought in a third party.")
    ending = fields.Nested(Ending)


class PhoneCallSchema(Answer):
    id = _text("20 hex digits.", examples=["b817d2618fe6f1804333"])
    extension = _text("The extension that is charged.", examples=["0003*210"])
    ownerId = _text("The id of the organization that owns the call.")
    ownerName = _text("Its name.")
    published = _date("When the call was accepted.")
    answered = _date("When it was answered.")
    nonce = _text("As it was sent.")
    metadata = _metadata()
    phoneCallView = fields.List(
        fields.Nested(PhoneCallView), metadata={"description": "How each side sees the call."}
    )
    link = fields.Nested(Link)
    links = fields.Nested(Link)
    state = fields.String(
        validate=OneOf(["queued", "dialing", "ringing", "answered", "bridged", "ended"]),
        metadata={"description": "The state of the call."},
    )
    ended = _date("When it ended.")
    endedBy = _text("The party, client, limit or fault that ended the call.")
    hangupCause = _text("FreeSWITCH's name of the cause.")
    switchUnreachable = _date("Since when the call's switch is unreachable.")
    queuePosition = _number("How many calls come before this one in the queue.")
    expectedWait = fields.Float(
        validate=Range(0), metadata={"description": "The expected seconds in the queue."}
    )


class CreatedPhoneCall(Answer):
    id = _text("20 hex digits.", examples=["b817d2618fe6f1804333"])
    extension = _text("As the request named it.", examples=["0003*210"])
    nonce = _text("As it was sent.")
    link = fields.Nested(Link)
    links = fields.Nested(Link)


class Paging(Answer):
    next = _text("URL of the next page.")
    prev = _text("URL of the previous page.")


class Collection(Answer):
    totalResults = fields.Integer(
        required=True, metadata={"description": "The number of entries on all pages."}
    )
    startIndex = fields.Integer(
        required=True, metadata={"description": "The number of the first entry, from 0 on."}
    )
    itemsPerPage = fields.Integer(
        required=True, metadata={"description": "The most entries on a page."}
    )
    paging = fields.Nested(Paging)


_ENTRY = {"description": "The entries of this page."}


class PhoneCallCollection(Collection):
    entry = fields.List(fields.Nested(PhoneCallSchema), required=True, metadata=_ENTRY)


class PhoneCallEventSchema(Answer):
    id = _text("1 to 255 letters and digits.")
    type = _text("0 Dial-In, 1 Dial-Out, 2 Hangup, 3 and 4 answer of an incoming or outgoing call.")
    url = _text("The URL that Ringback requests for each event.")
    method = _text("0 GET, 1 POST.")
    status = _text("0 disabled, 1 enabled.")
    note = _text("As it was sent.")
    modified = _date("When the event was last changed.")
    links = fields.Nested(Link)


class PhoneCallEventCollection(Collection):
    entry = fields.List(fields.Nested(PhoneCallEventSchema), required=True, metadata=_ENTRY)


class EventTest(Answer):
    id = _text("The id of the message: its header `webhook-id`.")
    result = _text("`delivered`, `failed`, or `waiting` if it is not sent yet.")
    reason = _text("Why it has failed.")


class PhoneCallRecordView(Answer):
    id = _text("`00`.")
    extension = _text("The extension that was charged.")
    source = _text("The source that answered, or all sources separated by commas.")
    destination = _text("The destination that answered, or all destinations separated by commas.")
    flow = _number("2 local, 4 outgoing public, 8 incoming public.", 2, 4, 8)
    answered = _date("When it was answered.")
    duration = fields.Float(metadata={"description": "Seconds."})
    disposition = _disposition()


class AskedBy(Answer):
    user = _text("The id of the user that asked, if the request named one.", examples=["12"])
    app = _text("The id of the app that asked.")


class PhoneCallRecordLeg(Ending):
    id = _text("`a1` is a source, `b1` a destination, `c1` a third party.", examples=["c1"])
    number = _text("The number that was dialled, or would have been.", examples=["15550100"])
    role = _text("source, destination or third.")
    gateway = _text("The gateway that the leg goes through.")
    action = _text("The name of the action that brought in a third party.")
    askedBy = fields.Nested(AskedBy)
    created = _date("When the switch began to dial the leg; missing if it never did.")
    answered = _date("When the phone answered.")
    accepted = fields.Boolean(
        metadata={"description": "Whether a leg that had to accept the call by a key did so."}
    )
    ended = _date("When the leg ended.")
    seconds = _number(
        "Seconds from the leg's own answer to its own end, counted as FreeSWITCH's `billsec`."
    )
    cost = fields.Float(
        metadata={"description": "The cost of a leg to a public number that has a rate."}
    )
    currency = _text("The currency of the cost.", examples=["USD"])
    recording = _text("The file of the leg's last recording, on the switch's host.")


class PhoneCallRecordAction(Answer):
    action = _text("The name of the action, or HangUp.")
    at = _date("When a worker began it. For HangUp: when the app asked.")
    askedBy = fields.Nested(AskedBy)
    leg = _text("The id of the leg that the action concerned.")
    party = _text("The number of that leg.")
    number = _text("The number that the action brought in or hung up.")
    recording = _text("The file of the recording that the action began.")
    result = _text("done, refused or unknown. Missing for HangUp.")


class PhoneCallRecord(Answer):
    id = _text("The id of the call.")
    extension = _text("The extension that was charged.")
    ownerId = _text("The id of the organization that owns the call.")
    ownerName = _text("Its name.")
    published = _date("When the call was accepted.")
    answered = _date("When it was answered.")
    nonce = _text("As it was sent.")
    metadata = _metadata()
    phoneCallView = fields.List(
        fields.Nested(PhoneCallRecordView), metadata={"description": "One view of the call."}
    )
    userId = _text("The id of the user that was charged.")
    app = _text("The id of the app that placed the call.")
    kind = _text("simple, callback or conferenceInvite.")
    ended = _date("When it ended.")
    duration = fields.Float(metadata={"description": "Seconds."})
    billed = fields.Float(metadata={"description": "Seconds."})
    hangupCause = _text("FreeSWITCH's name of the cause.")
    endedBy = _text("The party, client, limit or fault that ended the call.")
    callerId = _text("The caller id that the source saw.")
    callerIdDestination = _text("The caller id that the destination saw.")
    legs = fields.List(
        fields.Nested(PhoneCallRecordLeg), metadata={"description": "Every leg, dialled or not."}
    )
    actions = fields.List(
        fields.Nested(PhoneCallRecordAction), metadata={"description": "What was asked for."}
    )


class PhoneCallRecordCollection(Collection):
    entry = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(PhoneCallRecord),
        required=True,
        metadata={"description": "The records by the ids of their calls."},
    )


class Registration(Answer):
    registration = _number("0: Ringback does not know which telephones are registered.")
    status = _number("The extension's status.")


class PresenceSchema(Answer):
    extension = _text("An extended number.")
    status = _number("1 online, 2 ringing, 3 on a call.")
    registration = fields.List(fields.Nested(Registration), metadata={"description": "One entry."})
    since = _date("Since when the extension rings or talks.")
    calls = _number("How many calls the extension is in.")
    link = fields.Nested(Link)
    links = fields.Nested(Link)


class RecordingSchema(Answer):
    id = _text("The name of the file.")
    leg = _text("The leg that was recorded, with the side that it talked to.")
    number = _text("The number of that leg.")
    begun = _date("When the recording began.")
    recording = fields.Boolean(metadata={"description": "Whether it goes on."})
    available = fields.Boolean(metadata={"description": "Whether the API can read the file."})
    size = _number("Bytes.")
    link = fields.Nested(Link)
    links = fields.Nested(Link)


class RecordingCollection(Collection):
    entry = fields.List(fields.Nested(RecordingSchema), required=True, metadata=_ENTRY)


class PresenceCollection(Collection):
    entry = fields.List(fields.Nested(PresenceSchema), required=True, metadata=_ENTRY)


class TokenRequest(Schema):
    grant_type = fields.String(
        required=True,
        validate=OneOf(["client_credentials", "refresh_token"]),
        metadata={"description": "What the token is given for."},
    )
    client_id = _text("Unless HTTP Basic names it.")
    client_secret = _text("Unless HTTP Basic names it.")
    refresh_token = _text("With `grant_type=refresh_token`.")
    scope = _text(
        "Scopes with blanks between them, for a token with fewer than the app has. "
        "`offline_access` asks for a refresh token too."
    )
    type = _text("Not checked.", examples=["unifiedapi"])
    redirect_uri = _text("Not checked.")
    state = _text("Not checked.")


class Token(Answer):
    access_token = fields.String(
        required=True, metadata={"description": "The token.", "pattern": "^[A-Za-z0-9_.-]{10,}$"}
    )
    token_type = fields.String(
        required=True, validate=OneOf(["Bearer"]), metadata={"description": "Always Bearer."}
    )
    expires_in = fields.Integer(required=True, metadata={"description": "Seconds."})
    refresh_token = _text("A refresh token, valid once.")
    scope = _text("The scopes of the token, if the request named any.")


class RevokeRequest(Schema):
    token = fields.String(
        required=True, metadata={"description": "The token, or the refresh token."}
    )
    token_type_hint = _text("Not needed.", examples=["refresh_token"])
    client_id = _text("Unless HTTP Basic names it.")
    client_secret = _text("Unless HTTP Basic names it.")


class Nothing(Answer):
    pass


class ErrorDetails(Answer):
    code = fields.String(
        required=True, metadata={"description": "Stable: programs compare it.", "minLength": 1}
    )
    message = fields.String(
        required=True, metadata={"description": "A sentence for a developer.", "minLength": 1}
    )
    request_id = fields.String(
        required=True, metadata={"description": "As the header `X-Request-Id` has it."}
    )
    field = _text(
        "The bad value: a JSON pointer into the body, or the name of a parameter or a header.",
        examples=["/phoneCallView/0/source/0"],
    )
    value = fields.Raw(metadata={"description": "The bad value, cut to 100 characters."})
    reason = _text("What is wrong with this request, or what would be right.")
    doc = fields.String(
        required=True, metadata={"description": "The URL of the code on the page of errors."}
    )
    scope = _text("The scope that the request needs.")
    policy = _text("The policy that bars, or built-in.")
    rule = _text("The entry of the policy that bars.")
    cap = _text("The cap that has no room.")
    limit = fields.Float(metadata={"description": "What the cap allows."})
    used = fields.Float(metadata={"description": "What is used of it."})
    freeAt = _date("When there is room again.")


class Error(Answer):
    error = fields.Nested(ErrorDetails, required=True)


class OAuthError(Answer):
    """RFC 6749, section 5.2."""

    error = fields.String(required=True, metadata={"description": "Stable: programs compare it."})
    error_description = fields.String(
        required=True, metadata={"description": "A sentence for a developer."}
    )
    error_uri = fields.String(
        required=True, metadata={"description": "The code on the page of errors."}
    )
