from typing import Any

import pytest

from notification_engine.channels.email.provider import EmailProvider
from notification_engine.domain.delivery import Channel
from notification_engine.settings import Settings
from notification_engine.wiring import email_providers, retry_policies

SMTP = {"SMTP_HOST": "mail.example.org", "SMTP_FROM_EMAIL": "engine@example.org"}


def no_session() -> Any:
    raise AssertionError("nothing is sent here")


def names(**given: Any) -> list[str]:
    providers: list[EmailProvider] = email_providers(Settings(**given), no_session)
    return [provider.name for provider in providers]


@pytest.mark.parametrize("provider", ["sendgrid", "ses", "smtp", "console"])
def test_every_provider_sends_in_the_name_that_is_set(provider: str) -> None:
    [made] = email_providers(Settings(EMAIL_PROVIDER=provider, SENDGRID_FROM_NAME="The team"), no_session)
    config = getattr(made, "_config", None)
    assert (config.sender_name if config else vars(made)["_sender_name"]) == "The team"


@pytest.mark.parametrize(
    ("environment", "provider", "smtp", "expected"),
    [
        ("production", "auto", True, ["smtp"]),
        ("production", "auto", False, []),
        ("production", "sendgrid", True, ["sendgrid"]),
        ("production", "ses", True, ["ses"]),
        ("production", "smtp", True, ["smtp"]),
        ("production", "console", True, ["console"]),
        ("development", "auto", True, ["smtp"]),
        ("development", "auto", False, ["console"]),
        ("development", "console", True, ["console"]),
    ],
)
def test_the_provider_follows_from_what_is_set(
    environment: str, provider: str, smtp: bool, expected: list[str]
) -> None:
    assert names(ENVIRONMENT=environment, EMAIL_PROVIDER=provider, **(SMTP if smtp else {})) == expected


def test_all_that_are_set_are_asked_in_their_order() -> None:
    sendgrid = {"SENDGRID_API_KEY": "SG.x", "SENDGRID_FROM_EMAIL": "engine@example.org"}
    ses = {"SES_FROM_EMAIL": "engine@example.org"}
    assert names(**SMTP, **ses, **sendgrid) == ["sendgrid", "ses", "smtp"]
    assert names(**SMTP, **ses) == ["ses", "smtp"]
    assert names(**SMTP, **ses, **sendgrid, EMAIL_PROVIDER="smtp") == ["smtp"]


def test_webhooks_count_retries_after_the_first_call_and_the_rest_count_rounds() -> None:
    policies = retry_policies(
        Settings(
            WEBHOOK_MAX_RETRIES=3,
            WEBHOOK_RETRY_DELAY_SECONDS=5,
            NOTIFICATION_RETRY_MAX_ATTEMPTS=2,
            NOTIFICATION_RETRY_DELAY_SECONDS=60,
        )
    )
    assert set(policies) == set(Channel)
    assert (policies[Channel.WEBHOOK].max_rounds, policies[Channel.WEBHOOK].base_seconds) == (4, 5)
    assert (policies[Channel.EMAIL].max_rounds, policies[Channel.EMAIL].base_seconds) == (2, 60)


def test_no_retry_at_all_is_one_call() -> None:
    assert retry_policies(Settings(WEBHOOK_MAX_RETRIES=0))[Channel.WEBHOOK].delay(1, None, 0.5) is None
