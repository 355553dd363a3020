"""What the fields and parameters of requests mean, and examples of them, by their names.

``Schema.name`` comes before ``name``. The schemas that check requests have the rest: types, limits,
defaults and codes. The schemas of answers have descriptions of their own.
"""

from collections.abc import Mapping
from typing import Any

DESCRIPTIONS: Mapping[str, str] = {
    # Placing calls.
    "extension": "The number of the extension that pays for the call, short or extended.",
    "phoneCallView": "One call for each view: who is called.",
    "nonce": "Your own id of this request. A retry with the same nonce places nothing twice.",
    "metadata": "Texts by name that come back wherever the call shows.",
    "statusCallback": "The URL that is told of the statuses of the call.",
    "PhoneCallsView.source": "The numbers that ring first, all at once. One may stand by itself.",
    "PhoneCallsView.destination": (
        "The numbers that the source is connected with. All ring at once. One may stand by itself."
    ),
    "PhoneCallsInviteView.destination": "The numbers that are called into the conference.",
    "callerId": "What the phones show, `Name <number>`; the source's phone, if the other is given.",
    "callerIdDestination": "What the destination's phone shows, `Name <number>`.",
    "ringback": (
        "What the source hears until the destination answers: auto, network, music, none, a "
        "country or a prompt."
    ),
    "headers": "SIP headers for the legs of the call.",
    "PhoneCallsHeaders.source": "Headers for the legs of the source, by name.",
    "PhoneCallsHeaders.destination": "Headers for the legs of the destination, by name.",
    "PhoneCallsDestinationHeaders.destination": "Headers for the invited legs, by name.",
    "prompt": "The name of a prompt in the accounts.",
    "key": "The keys to press.",
    "timeout": "Seconds to wait for the keys.",
    "attempts": "How often the prompt is played.",
    "of": "The sides that have to accept.",
    "to": "The sides that hear it.",
    "extensions": "Whether extensions have to accept too.",
    "PhoneCallsStatusCallback.url": "An http or https URL of a public address.",
    "PhoneCallsStatusCallback.events": "The statuses that the URL is told of.",
    "PhoneCallsStatusCallback.method": "Only POST: the body is JSON.",
    "waitForPickup": "Seconds that a phone rings.",
    "callDuration": "The most seconds that the call lasts.",
    "allowPublicTransfer": "Whether the call may be transferred from one public number to another.",
    "video": "Whether video is offered.",
    "number": "The number of the conference of the extension.",
    "pin": "The PIN of the conference.",
    # Actions.
    "action": "What to do.",
    "phoneCallViewId": "The id of the view of the party that the action concerns.",
    "sendCallTo": "The number that the action brings in.",
    "maxInParking": "Of `Park`: seconds after which the parked party comes back.",
    "private": "Of `Whisper`: whether the one who whispers hears nothing.",
    "format": "The format of the recording.",
    "transferFromNumber": "The number of the party that transfers.",
    "transferNumber": "The number of the party that is transferred.",
    "PhoneCallsAction.callerId": "What the phone of the new party shows, `Name <number>`.",
    # Lists.
    "count": "The most entries on a page.",
    "startIndex": "The number of the first entry on the page, from 0 on.",
    "filterBy": "The name of the field to filter by.",
    "filterOp": "How the field is compared with the value.",
    "filterValue": "The value to compare with. `inArray` takes several.",
    "sortOrder": "By time: newest first (`desc`) or oldest first.",
    "query.metadata": "KEY:VALUE: calls with this metadata. If it repeats, a call must have all.",
    "cursor": "Where the page begins, as `paging.next` of the page before has it, or `*`.",
    "CallsQuery.status": "Whether ended calls are listed too.",
    "state": "States with commas between: calls in one of these.",
    "CallsQuery.phoneNumber": "Calls with a party that has this number.",
    "CallsQuery.nonce": "The calls that this app placed with the nonce, live or ended.",
    "HangUpQuery.all": "True to hang up all calls, at a path that ends in a slash and has no id.",
    "phoneNumber": "Hangs up only the party with this number.",
    "StreamQuery.extension": "Only changes of calls that this extension is in.",
    "phoneCallId": "Only changes of this call.",
    "lastEventId": "As the header `Last-Event-ID`, for programs that cannot set it.",
    # Records.
    "CdrQuery.source": "Records of calls from this number.",
    "CdrQuery.destination": "Records of calls to this number.",
    "startDate": "Calls that were placed at this time or later.",
    "endDate": "Calls that were placed at this time or before.",
    "saveStartDate": "Records that were last written at this time or later.",
    "saveEndDate": "Records that were last written at this time or before.",
    "disposition": (
        "How the call ended: 0 answered, 1 busy, 2 failed, 3 no answer, 4 unknown, 5 not allowed."
    ),
    "flow": "2 local, 4 outgoing public, 8 incoming public.",
    # Call events.
    "type": (
        "0 Dial-In, 1 Dial-Out, 2 Hangup, 3 answer of an incoming call, 4 answer of an outgoing "
        "one."
    ),
    "url": "The http or https URL that Ringback requests for each event.",
    "method": "0 GET, 1 POST.",
    "status": "0 disabled, 1 enabled.",
    "note": "A text of yours.",
}

EXAMPLES: Mapping[str, Any] = {
    "extension": "210",
    "nonce": "order-4711",
    "metadata": {"order": "4711"},
    "PhoneCallsView.source": ["5302040"],
    "PhoneCallsView.destination": ["3235742879"],
    "PhoneCallsInviteView.destination": ["3235742879"],
    "callerId": "John Doe <4242425>",
    "callerIdDestination": "John Doe <4242425>",
    "ringback": "auto",
    "PhoneCallsHeaders.source": {"X-Order": "4711"},
    "PhoneCallsHeaders.destination": {"X-Order": "4711"},
    "PhoneCallsDestinationHeaders.destination": {"X-Order": "4711"},
    "prompt": "welcome",
    "key": "1",
    "PhoneCallsStatusCallback.url": "https://crm.example.com/status",
    "url": "https://crm.example.com/calls",
    "number": "3",
    "pin": "2233",
    "phoneCallViewId": "01",
    "sendCallTo": "211",
    "transferFromNumber": "210",
    "transferNumber": "3235742879",
    "phoneNumber": "3235742879",
    "phoneCallId": "b817d2618fe6f1804333",
    "CdrQuery.source": "0003*210",
    "CdrQuery.destination": "3235742879",
    "state": "ringing,answered",
    "startDate": "2026-11-23T00:00:00Z",
    "endDate": "2026-11-24T00:00:00Z",
    "saveStartDate": "2026-11-23T00:00:00Z",
    "saveEndDate": "2026-11-24T00:00:00Z",
    "query.metadata": ["order:4711"],
    "filterValue": ["order-4711"],
    "note": "until the CRM is back",
}


def words(schema: str, name: str, kind: str) -> dict[str, Any]:
    """The description and the examples of a field of a request. ``kind`` is ``query`` or
    ``body``."""
    found: dict[str, Any] = {}
    for member, texts in (("description", DESCRIPTIONS), ("examples", EXAMPLES)):
        for key in (f"{schema}.{name}", f"{kind}.{name}", name):
            if key in texts:
                found[member] = texts[key] if member == "description" else [texts[key]]
                break
    return found
