"""The names of Redis keys, in one place. docs/redis.md says what each key holds."""


class Keys:
    """The names of Redis keys. The keys of one call share a hash tag."""

    def __init__(self, prefix: str = "ringback:") -> None:
        self.prefix = prefix
        self.format = f"{prefix}format"
        self.events = f"{prefix}events"
        # The deadlines of claimed calls as the version before wrote them, of all switches.
        self.old_deadlines = f"{prefix}calls:deadline"
        self.watch_lease = f"{prefix}watch:lease"
        self.calls = f"{prefix}calls:all"
        self.records = f"{prefix}cdr:all"
        # The records that the database of records does not have as they are now, and the time
        # before which it may have records that Redis has no longer.
        self.unexported = f"{prefix}cdr:unexported"
        self.exported_before = f"{prefix}cdr:exported_before"
        self.accounts = f"{prefix}accounts"
        self.account_rows = f"{prefix}accounts:rows"
        self.account_history = f"{prefix}accounts:history"
        # The accounts files that were imported.
        self.account_files = f"{prefix}accounts:files"
        # The lock of a change, and that of an API that imports a large file.
        self.account_lock = f"{prefix}accounts:change"
        self.account_import = f"{prefix}accounts:import"
        self.mint = f"{prefix}mint"
        self.suspended = f"{prefix}suspended"
        # The address that sent X-Forwarded-For last and is no proxy of RINGBACK_PROXIES.
        self.unknown_proxy = f"{prefix}unknown_proxy"
        self.waiting = f"{prefix}waiting"
        self.claims = f"{prefix}claims"
        self.room = f"{prefix}room"
        self.queued = f"{prefix}calls:queued"
        self.turns = f"{prefix}turns"
        self.alerts = f"{prefix}alerts"
        self.limits = f"{prefix}limits"
        # The switches and gateways that get no call for now, and what was seen of all.
        self.ejected = f"{prefix}ejected"
        self.outcomes = f"{prefix}outcomes"
        self.pace = f"{prefix}pace"
        # The registered switches by name, the number of their changes, and the switches of
        # RINGBACK_SWITCHES that an operator has removed. The first is also the name of the channel
        # that tells of each change.
        self.switches = f"{prefix}switches"
        self.switches_version = f"{prefix}switches:version"
        self.switches_removed = f"{prefix}switches:removed"
        # The process that looks up DNS names for all.
        self.switches_dns = f"{prefix}switches:dns"
        # What the leaders of the switches say of them.
        self.steer = f"{prefix}steer"
        # The extensions that have webhooks, and the call events for them.
        self.hooked = f"{prefix}hooked"
        self.outbox = f"{prefix}outbox"
        self.webhooks = f"{prefix}webhooks:"
        self.webhook_apps = f"{self.webhooks}apps"
        # These two are of versions that shared them between all apps.
        self.webhook_targets = f"{self.webhooks}targets"
        self.dead_letters = f"{self.webhooks}dead"
        # Who asked for what: all but the placing and hanging up of calls, and these.
        # The channel of hang-ups that Redis refused to write.
        self.hangups = f"{prefix}hangups"
        self.audit = f"{prefix}audit"
        self.audit_calls = f"{prefix}audit:calls"
        # While it is there, no call is accepted or claimed: app/store/maintenance.py.
        self.maintenance = f"{prefix}maintenance"
        # The live calls that are to be erased when they have ended.
        self.erasing = f"{prefix}erasing"

    def account_changes(self, state: str) -> str:
        """The rows of the change that led to this state of the accounts."""
        return f"{self.prefix}accounts:changes:{state}"

    def account_undo(self, state: str) -> str:
        """The rows as they were before the change that led to this state."""
        return f"{self.prefix}accounts:undo:{state}"

    def queue(self, name: str) -> str:
        """The name of one of the queues of app/store/queue.py in RQ, whose keys all programs share.
        It begins as the prefix does, so that each installation has queues of its own."""
        own = self.prefix[:-1] if self.prefix.endswith(":") else f"{self.prefix}:"
        return f"{own}-{name.removeprefix('ringback-')}"

    def webhook_targets_of(self, app: str) -> str:
        return f"{self.webhook_targets}:{app}"

    def dead_letters_of(self, app: str) -> str:
        return f"{self.dead_letters}:{app}"

    def call(self, call_id: str) -> str:
        return f"{self.prefix}call:{{{call_id}}}"

    def timeline(self, call_id: str) -> str:
        return f"{self.call(call_id)}:timeline"

    def nonce(self, app: str, nonce: str) -> str:
        return f"{self.prefix}nonce:{app}:{nonce}"

    def request(self, job_id: str) -> str:
        return f"{self.prefix}request:{job_id}"

    def record(self, call_id: str) -> str:
        return f"{self.prefix}cdr:{{{call_id}}}"

    def user_records(self, user: str) -> str:
        return f"{self.prefix}cdr:user:{user}"

    def organization_records(self, number: str) -> str:
        return f"{self.prefix}cdr:organization:{number}"

    def organization_calls(self, number: str) -> str:
        return f"{self.prefix}calls:organization:{number}"

    def user_calls(self, user: str) -> str:
        return f"{self.prefix}calls:user:{user}"

    def extension_calls(self, extension: str) -> str:
        return f"{self.prefix}calls:extension:{extension}"

    def calls_in(self, extension: str) -> str:
        """The calls in which the extension rings or talks."""
        return f"{self.prefix}calls:in:{extension}"

    def charged_calls(self, extension: str) -> str:
        return f"{self.prefix}calls:charged:{extension}"

    def metadata_calls(self, number: str, digest: str) -> str:
        return f"{self.prefix}calls:metadata:{number}:{digest}"

    def switch_calls(self, switch: str) -> str:
        # Joined by +, as in taken(): in a stored claim the switch is a mark (app.store.marks).
        return self.prefix + "calls:switch:" + switch

    def deadlines(self, switch: str) -> str:
        """When the calls that were claimed for the switch are looked at."""
        return self.prefix + "calls:deadline:" + switch

    def line(self, organization: str) -> str:
        return f"{self.prefix}waiting:{organization}"

    def taken(self, of: str) -> str:
        """The live calls or legs that a limit counts."""
        return self.prefix + "live:" + of

    def quota(self, day: int, holder: str) -> str:
        """What the holder of caps has used on a day (UTC, counted from 1970)."""
        return f"{self.prefix}quota:{day}:{holder}"

    def quota_window(self, holder: str, cap: str) -> str:
        """What was taken from a cap of the last seconds, by time."""
        return f"{self.prefix}quota:window:{holder} {cap}"

    def bucket(self, kind: str, of: str) -> str:
        """What an app may still send of a kind, ``requests`` or ``calls``, and an address
        (``address``) of requests without a good token."""
        return f"{self.prefix}bucket:{kind}:{of}"

    def running(self, holder: str) -> str:
        """The legs that talk now and count towards the holder's minutes and cost."""
        return f"{self.prefix}running:{holder}"

    def turn(self, token: str) -> str:
        """The answer to a worker's request for calls."""
        return f"{self.prefix}turn:{token}"

    def once(self, mark: str) -> str:
        """The mark of a request that must be carried out once."""
        return f"{self.prefix}once:{mark}"

    def setup(self, switch: str) -> str:
        """The calls that are being set up on a switch that has a window."""
        return self.prefix + "setup:" + switch

    def conference(self, room: str) -> str:
        """The live calls in a conference room, with the switch of each."""
        return f"{self.prefix}conference:{room}"

    def registered(self, phone: str) -> str:
        """Where a phone, ``210@example.com``, is registered, and until when."""
        return f"{self.prefix}registered:{phone}"

    def registrations(self, switch: str) -> str:
        """The registrations at a switch."""
        return f"{self.prefix}registrations:{switch}"

    def switch(self, name: str) -> str:
        return f"{self.prefix}switch:{name}"

    def unknown(self, switch: str) -> str:
        """The channels of the switch that are of ours and belong to no known call."""
        return f"{self.prefix}unknown:{switch}"

    def switch_listeners(self, name: str) -> str:
        return f"{self.prefix}switch:{name}:listeners"

    def switch_lease(self, name: str) -> str:
        return f"{self.prefix}switch:{name}:lease"
