"""For each alert of `deploy/prometheus/rules.yml`: the series with which it fires, and those with which it must not.

The notation is promtool's (`a+bxn`), a value a minute. `Case.minutes` is when it is looked at.
"""

from dataclasses import dataclass

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    fires: Series
    quiet: Series
    minutes: int = 30

    @property
    def every(self) -> str:
        """How often the rules are evaluated: rarely where days go by."""
        return "10m" if self.minutes > 1000 else "1m"


def state(figure: str, values: str) -> Series:
    return {f'notification_state{{figure="{figure}",instance="a"}}': values}


UP = 'up{job="intellibrowse-notifications",instance="a"}'
NEVER = "0x400"
ENDED = 'notification_deliveries_total{channel="email",status="accepted",reason=""}'
FAILED = 'notification_deliveries_total{channel="webhook",status="failed",reason="timeout"}'
SUPPRESSED = 'notification_deliveries_total{channel="email",status="suppressed",reason="muted"}'


def seconds(metric: str, labels: str, total: str) -> Series:
    """Ten observations a minute; `total`: how their sum grows."""
    return {f"{metric}_sum{{{labels}}}": total, f"{metric}_count{{{labels}}}": "0+10x400"}


def buckets(metric: str, labels: str, fast: int) -> Series:
    """Of a hundred a minute so many within 10 ms, the others between 1 and 10 s."""
    counts = {"0.01": fast, "1": fast, "10": 100, "+Inf": 100}
    return {f'{metric}_bucket{{{labels}le="{le}"}}': f"0+{count}x400" for le, count in counts.items()}


def deliveries(bad: int) -> Series:
    """Of a hundred a minute so many fail, for four days."""
    return {ENDED: f"0+{100 - bad}x6000", FAILED: f"0+{bad}x6000"}


def times(channel: str, bound: str, within: int) -> Series:
    """Of a thousand successes a minute so many within the bound."""
    counts = {f'bucket{{channel="{channel}",le="{bound}"}}': within, f'count{{channel="{channel}"}}': 1000}
    return {f"notification_success_seconds_{name}": f"0+{count}x6000" for name, count in counts.items()}


def answers(bad: int) -> Series:
    """Of a thousand answers a minute so many are 5xx."""
    return {ANSWERS % "2xx": f"0+{1000 - bad}x6000", ANSWERS % "5xx": f"0+{bad}x6000"}


def refused(values: str, name: str = "auth") -> Series:
    return state(f"rate_limit_refused_{name}", values)


ANSWERS = 'notification_http_seconds_count{status="%s"}'
COMMANDS = 'notification_database_command_seconds_count{command="find"}'
COMMANDS_FAILED = 'notification_database_commands_failed_total{command="find"}'
CHECKS = 'notification_checks_total{outcome="%s"}'
POOL = state("pool_in_use", "100x400") | state("pool_max", "100x400")

CASES: dict[str, Case] = {
    "EngineDown": Case({UP: NEVER}, {UP: "1x400"}, 3),
    "EngineAbsent": Case({'up{job="other"}': "1x400"}, {UP: NEVER}, 10),
    "EngineNotReady": Case(
        state("not_ready", "1x400") | state("draining", NEVER), state("not_ready", "1x400") | state("draining", "1x400")
    ),
    "ProcessDown": Case(
        state("processes", "4x400") | state("processes_up", "3x400"),
        state("processes", "4x400") | state("processes_up", "4x400"),
    ),
    "LoopLate": Case(state("loops_late", "1x400"), state("loops_late", "1 0x400")),
    "UptimeLow": Case(
        {CHECKS % "healthy": "0+99x400", CHECKS % "unhealthy": "0+1x400"},
        {CHECKS % "healthy": "0+1x400", CHECKS % "unhealthy": NEVER},
    ),
    "DeliveryErrorRateHigh": Case(
        {ENDED: "0+97x400", FAILED: "0+3x400"}, {ENDED: "0+995x400", FAILED: "0+5x400", SUPPRESSED: "0+5000x400"}
    ),
    "DeliverySuccessRateLow": Case(
        {ENDED: "0+98x400", FAILED: "0+2x400"}, {ENDED: "0+995x400", FAILED: "0+5x400", SUPPRESSED: "0+5000x400"}
    ),
    "ErrorBudgetBurnsFast": Case(  # long ago is not now: the short window of the quiet one holds no fault
        deliveries(bad=15), {ENDED: "0+80x400", FAILED: "0+20x60 1200x340"}, 130
    ),
    "ErrorBudgetBurns": Case(deliveries(bad=7), {ENDED: "0+90x400", FAILED: "0+10x350 3500x50"}, 390),
    "ErrorBudgetBurnsSlowly": Case(deliveries(bad=2), {ENDED: "0+95x6000", FAILED: "0+5x3900 19500x2000"}, 4400),
    "ApiErrorRateHigh": Case(
        {ANSWERS % "2xx": "0+95x400", ANSWERS % "5xx": "0+5x400"},
        {ANSWERS % "2xx": "0+50x400", ANSWERS % "4xx": "0+50x400", ANSWERS % "5xx": NEVER},
    ),
    "DatabaseCommandsFailing": Case(
        {COMMANDS: "0+90x400", COMMANDS_FAILED: "0+5x400"}, {COMMANDS: "0+1000x400", COMMANDS_FAILED: "0+5x400"}
    ),
    "InAppDeliverySlow": Case(
        seconds("notification_success_seconds", 'channel="in_app"', "0+6x400"),
        seconds("notification_success_seconds", 'channel="in_app"', "0+4x400")
        | seconds("notification_success_seconds", 'channel="email"', "0+100x400"),
    ),
    "EmailDeliverySlow": Case(
        seconds("notification_success_seconds", 'channel="email"', "0+310x400"),
        seconds("notification_success_seconds", 'channel="email"', "0+290x400"),
    ),
    "QueueProcessingSlow": Case(
        {ENDED: "0+50x400"} | state("queue_due", "500x400"), {ENDED: "0+50x400"} | state("queue_due", "3x400")
    ),
    "BacklogOverdue": Case(state("queue_oldest_due_ms", "90000x400"), state("queue_oldest_due_ms", "59000x400")),
    "QueueNotMeasured": Case(state("queue_age_seconds", "0+60x400"), state("queue_age_seconds", "2x400")),
    "ApiSlow": Case(
        buckets("notification_http_seconds", 'status="2xx",', 95),
        buckets("notification_http_seconds", 'status="2xx",', 100),
    ),
    "DatabaseSlow": Case(
        buckets("notification_database_command_seconds", 'command="find",', 95),
        buckets("notification_database_command_seconds", 'command="find",', 100),
    ),
    "DatabasePoolExhausted": Case(
        POOL | state("pool_waiting", "7x400"),
        state("pool_in_use", "20x400") | state("pool_max", "100x400") | state("pool_waiting", "7x400"),
    ),
    "LiveConnectionsNearlyFull": Case(
        state("live_connections", "950x400") | state("live_max", "1000x400"),
        state("live_connections", "800x400") | state("live_max", "1000x400"),
    ),
    "SignalsAway": Case(state("bus_up", NEVER), state("bus_up", "1x400")),
    "AccessDeniedOften": Case(
        {'notification_access_denied_total{action="access.forbidden"}': "0+90x400"},
        {'notification_access_denied_total{action="access.forbidden"}': "0+50x400"},
    ),
    "CredentialGuessing": Case(refused("0+5x400"), refused("0+1x400")),
    "RateLimitRefusals": Case(refused("0+100x400", "send"), refused("0+50x400", "send")),
    "ProviderCredentialsRefused": Case(
        {'notification_attempts_total{channel="email",provider="ses",reason="credentials",status="failed"}': "0+1x400"},
        {'notification_attempts_total{channel="email",provider="ses",reason="timeout",status="failed"}': "0+1x400"},
    ),
    "ConservationBreached": Case(
        {'notification_conservation_breaches{kind="missing"}': "1x400"},
        {'notification_conservation_breaches{kind="missing"}': NEVER},
    ),
    "ReplicaWithoutPrimary": Case(
        state("seconds_without_primary", "0+60x400"), state("seconds_without_primary", "14 1x400"), 3
    ),
    "BreakerOpen": Case(state("breaker_sendgrid", "2x400"), state("breaker_sendgrid", "1x400")),
    "DeadLettersGrowing": Case(
        {"notification_dead_letters": "0+1x400"}, {"notification_dead_letters": "500-1x400"}, 90
    ),
    "UnknownHeld": Case({"notification_unknown_held": "1x400"}, {"notification_unknown_held": NEVER}),
    "LeasesLost": Case({"notification_stale_total": "0+1x400"}, {"notification_stale_total": "7x400"}, 60),
    "ClockSkewed": Case(state("clock_skew_seconds", "1.5x400"), state("clock_skew_seconds", "0.4x400")),
    "IndexesMissing": Case(
        {'notification_check_failing{check="indexes"}': "1x400"},
        {'notification_check_failing{check="indexes"}': NEVER, 'notification_check_failing{check="clock"}': "1x400"},
    ),
    "ChecksNotRun": Case({CHECKS % "healthy": "7x400"}, {CHECKS % "healthy": "0+1x400"}, 60),
}

# Alert and objective: the same alerts, above and below the burn rate of each objective.
BURNS: dict[tuple[str, str], Case] = {
    ("ErrorBudgetBurnsFast", "delivery"): Case(deliveries(bad=15), deliveries(bad=14), 130),
    ("ErrorBudgetBurns", "delivery"): Case(deliveries(bad=7), deliveries(bad=5), 390),
    ("ErrorBudgetBurnsSlowly", "delivery"): Case(deliveries(bad=2), {ENDED: "0+995x6000", FAILED: "0+5x6000"}, 4400),
    ("ErrorBudgetBurnsFast", "availability"): Case(answers(bad=15), answers(bad=14), 130),
    ("ErrorBudgetBurns", "availability"): Case(answers(bad=7), answers(bad=5), 390),
    ("ErrorBudgetBurnsSlowly", "availability"): Case(answers(bad=2), answers(bad=1), 4400),
    ("ErrorBudgetBurnsFast", "in-app time"): Case(times("in_app", "0.5", 850), times("in_app", "0.5", 860), 130),
    ("ErrorBudgetBurnsSlowly", "in-app time"): Case(times("in_app", "0.5", 980), times("in_app", "0.5", 995), 4400),
    ("ErrorBudgetBurnsFast", "e-mail time"): Case(times("email", "30.0", 850), times("email", "30.0", 860), 130),
    ("ErrorBudgetBurnsSlowly", "e-mail time"): Case(times("email", "30.0", 980), times("email", "30.0", 995), 4400),
}
