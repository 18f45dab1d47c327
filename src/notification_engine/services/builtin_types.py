"""The types of the platform, as the code knows them. `/types` may override each; docs/types.md lists them."""

from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import OnUnknown, Priority
from notification_engine.domain.notification_type import NotificationType

_A, _E, _W = Channel.IN_APP, Channel.EMAIL, Channel.WEBHOOK
_P = Priority
_RESEND, _HOLD = OnUnknown.RESEND, OnUnknown.HOLD

# name, what it says, channels, priority, on_unknown, transactional
_ROWS: tuple[tuple[str, str, tuple[Channel, ...], Priority, OnUnknown, bool], ...] = (
    ("test_execution.completed", "A test run has ended.", (_A,), _P.MEDIUM, _HOLD, False),
    ("test_execution.failed", "A test run has failed.", (_A, _E), _P.HIGH, _RESEND, False),
    ("test_execution.timeout", "A test run was stopped at its time limit.", (_A, _E), _P.HIGH, _RESEND, False),
    ("test_execution.batch_completed", "All runs of a batch have ended.", (_A, _E), _P.MEDIUM, _HOLD, False),
    ("test_execution.queue_paused", "The queue takes no more runs.", (_A,), _P.MEDIUM, _HOLD, False),
    ("test_execution.queue_resumed", "The queue takes runs again.", (_A,), _P.LOW, _HOLD, False),
    ("quality.failure_rate_high", "Too many tests fail.", (_A, _E), _P.HIGH, _RESEND, False),
    ("quality.anomaly_detected", "A figure is far from what it used to be.", (_A, _E), _P.HIGH, _RESEND, False),
    ("quality.threshold_crossed", "A figure has crossed its threshold.", (_A, _E), _P.MEDIUM, _HOLD, False),
    ("quality.report_ready", "A report can be read.", (_A, _E), _P.LOW, _HOLD, False),
    ("system.database_down", "The database does not answer.", (_A, _E, _W), _P.CRITICAL, _RESEND, False),
    ("system.api_slow", "The API answers slowly.", (_A, _E), _P.HIGH, _RESEND, False),
    ("system.engine_crashed", "The execution engine has ended.", (_A, _E, _W), _P.CRITICAL, _RESEND, False),
    ("system.resources_low", "Disk, memory or processor run short.", (_A, _E), _P.HIGH, _RESEND, False),
    ("system.outage", "A part of the platform is not available.", (_A, _E, _W), _P.URGENT, _RESEND, False),
    ("system.resolved", "An earlier problem is over.", (_A, _E, _W), _P.MEDIUM, _HOLD, False),
    ("account.registration_approved", "The recipient's account is open.", (_A, _E), _P.MEDIUM, _RESEND, True),
    ("account.password_reset", "The recipient asked for a new password.", (_E,), _P.HIGH, _RESEND, True),
    ("account.locked_out", "The recipient's account is locked.", (_A, _E), _P.URGENT, _RESEND, True),
    ("account.role_changed", "The recipient's rights have changed.", (_A, _E), _P.MEDIUM, _RESEND, True),
    ("account.login_failures", "Logins of the recipient have failed.", (_A, _E), _P.HIGH, _RESEND, True),
    ("integration.ci_status", "A pipeline has a new state.", (_A,), _P.MEDIUM, _HOLD, False),
    ("integration.api_failing", "A connected service answers errors.", (_A, _E), _P.HIGH, _RESEND, False),
    ("integration.rate_limited", "A connected service limits our calls.", (_A,), _P.MEDIUM, _HOLD, False),
    ("integration.backup_done", "A backup has ended.", (_A,), _P.LOW, _HOLD, False),
    ("integration.webhook_disabled", "A webhook endpoint was switched off.", (_A, _E), _P.HIGH, _RESEND, False),
)

BUILTIN_TYPES: dict[str, NotificationType] = {
    name: NotificationType(name, description, channels, priority, on_unknown, transactional, name, builtin=True)
    for name, description, channels, priority, on_unknown, transactional in _ROWS
}
