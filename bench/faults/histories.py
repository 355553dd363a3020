"""What the history of a call may look like: pure functions of what Redis has of it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

# The times of a leg, in the order in which it comes to them. Early media may come before or after
# the ringing.
_ORDERS = (
    ("created", "ringing", "answered", "bridged", "ended"),
    ("created", "early_media", "answered", "ended"),
    ("held", "ended"),
    ("recording", "ended"),
)
# Fields of the record that are fields of the call.
_SAME = ("disposition", "hangup_cause", "ended_by", "nonce", "user", "extension")


def version_faults(entries: Iterable[Mapping[str, str]], states: list[str]) -> Iterator[str]:
    """Faults in the stream of changes: a version that is missing or repeated, a state that goes
    back. The stream may have lost its beginning: then a call counts from its first entry on."""
    told: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry in entries:
        told[entry["call"]].append((int(entry["version"]), entry["state"]))
    for call_id, changes in told.items():
        versions = [version for version, _ in changes]
        first = versions[0]
        if versions != list(range(first, first + len(versions))):
            yield f"call {call_id} was told of in the versions {versions}"
        ranks = [states.index(state) for _, state in changes]
        if ranks != sorted(ranks):
            yield f"call {call_id} was told of in the states {[state for _, state in changes]}"


def time_faults(legs: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Faults in the times of legs, by the name of the leg."""
    for name, kept in legs.items():
        for order in _ORDERS:
            times = [(what, float(kept[what])) for what in order if what in kept]
            if [at for _, at in times] != sorted(at for _, at in times):
                yield f"leg {name} was {', '.join(f'{what} {at}' for what, at in times)}"


def record_faults(fields: Mapping[str, str], record: bytes | None) -> Iterator[str]:
    """Faults in the record of a call that has ended."""
    if record is None:
        yield "has no record"
        return
    kept = json.loads(record)
    for name in _SAME:
        if str(kept.get(name, "")) != fields.get(name, ""):
            yield f"has {name} {fields.get(name)}, its record {kept.get(name)}"
    if abs(kept["ended"] - float(fields["ended"])) > 0.001:
        yield f"ended {fields['ended']}, and by its record {kept['ended']}"
    if [leg.get("number") for leg in kept["legs"]] != [
        fields[f"leg:{leg}:number"] for leg in fields["legs"].split(",")
    ]:
        yield f"has other legs than its record: {kept['legs']}"
