"""The RTP of a channel: what its telephone sends, and what the switch makes of it.

Measured on FreeSWITCH 1.10.12 with a phone that answers and sends nothing, and with one that sends
two seconds.
"""

from .clock import Clock

_PACKETS = 50
"""Packets in a second of sound."""
_HOLD_FACTOR = 10
"""By which the limit of a held leg is longer where no variable has it."""
_PATIENCE = 2.0
"""Seconds without packets before they count as flaws."""


class Media:
    """The audio of one leg. Times are seconds of the switch's clock."""

    def __init__(self, clock: Clock, sound: float | None) -> None:
        """`sound`: for how many seconds the telephone sends audio; None for all the time."""
        self._clock = clock
        self._sound = sound
        self._begun: float | None = None
        self._limit = self._hold_limit = 0.0
        self._since = 0.0
        self._heard = 0.0
        self._partner: Media | None = None
        self._joined = 0.0

    def begin(self) -> None:
        if self._begun is None:
            self._begun = self._since = self._clock.now()

    def read_limits(self, limit: str | None, hold_limit: str | None) -> None:
        """Take over media_timeout_audio and media_hold_timeout_audio, in milliseconds."""
        if not (limit or "").isdecimal() or not int(limit or 0):
            # The switch leaves a limit that it has as it is.
            return
        self._limit = int(limit or 0) / 1000
        held = int(hold_limit) / 1000 if hold_limit and hold_limit.isdecimal() else 0.0
        self._hold_limit = held or _HOLD_FACTOR * self._limit
        self.begin_again()

    def begin_again(self) -> None:
        """Count from now, as after a hold."""
        self._since = self._clock.now()

    def due_in(self, *, held: bool) -> float | None:
        """The seconds until the switch misses the audio; None for a telephone that sends."""
        limit = self._hold_limit if held else self._limit
        if self._begun is None or self._sound is None or not limit:
            return None
        last = max(self._since, self._begun + self._sound)
        return last + limit - self._clock.now()

    def sent_since(self, begun: float) -> float:
        """The seconds of sound that the telephone has sent since then."""
        if self._begun is None:
            return 0.0
        now = self._clock.now()
        end = now if self._sound is None else min(now, self._begun + self._sound)
        return max(0.0, end - max(begun, self._begun))

    def join(self, partner: "Media") -> None:
        """Begin to hear the telephone that the leg is bridged to."""
        self._partner, self._joined = partner, self._clock.now()

    def part(self) -> None:
        self._heard, self._partner = self._heard_so_far(), None

    def _heard_so_far(self) -> float:
        """The seconds of sound that the switch has sent to the telephone."""
        now = self._partner.sent_since(self._joined) if self._partner is not None else 0.0
        return self._heard + now

    def variables(self) -> dict[str, str]:
        """What the switch counted until now; empty without RTP."""
        if self._begun is None:
            return {}
        sent = str(round(_PACKETS * self._heard_so_far()))
        received = round(_PACKETS * self.sent_since(0.0))
        silent = self._clock.now() - self._begun - received / _PACKETS - _PATIENCE
        flaws = round(_PACKETS * max(0.0, silent)) if received and self._sound is not None else 0
        quality = max(0, 100 * (received - flaws) // received) if received else 100
        mos = 1 + 0.035 * quality + 0.000007 * quality * (quality - 60) * (100 - quality)
        counted = {
            "in_packet_count": str(received),
            "in_media_packet_count": str(received),
            "in_flaw_total": str(flaws),
            "in_jitter_min_variance": "0.00",
            "in_jitter_max_variance": "0.00",
            "in_quality_percentage": f"{quality:.2f}",
            "in_mos": f"{mos:.2f}",
            "out_packet_count": sent,
            "out_media_packet_count": sent,
            "rtcp_packet_count": "0",
        }
        return {f"variable_rtp_audio_{name}": value for name, value in counted.items()}
