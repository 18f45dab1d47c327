"""Renewal: the settings as they are now, and who takes a secret that changes while the engine runs."""

from collections.abc import Mapping
from functools import partial

from notification_engine.channels.email.sendgrid import SendGridProvider
from notification_engine.channels.email.smtp import SmtpProvider
from notification_engine.net.secret_refresh import Apply, SecretRefresh
from notification_engine.settings import Settings
from notification_engine.wiring.keys import revealed
from notification_engine.wiring.parts import Parts


class Renewal:
    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self._parts = parts

    def loop(self) -> SecretRefresh:
        """What takes a new secret while it runs; the rest is told as `restart needed`."""
        apply: dict[str, Apply] = dict.fromkeys(
            ("JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEY", "FIELD_ENCRYPTION_KEY_PREVIOUS"), self._new_keys
        )
        for relay in self._parts.channels.email.relays:
            if isinstance(relay.provider, SendGridProvider | SmtpProvider):
                name = "SENDGRID_API_KEY" if isinstance(relay.provider, SendGridProvider) else "SMTP_PASSWORD"
                apply[name] = partial(self._new_provider_secret, relay.provider)
        apply["VAULT_TOKEN"] = self._new_vault_token
        return SecretRefresh(self.settings.sources, self._renew, apply, self.settings.SECRETS_REFRESH_SECONDS)

    def _renew(self, values: Mapping[str, str]) -> set[str]:
        self.settings, changed = self.settings.renewed(values)
        return changed

    async def _new_keys(self, variable: str) -> None:
        """The data keys are wrapped anew at once, so that a start with the new key alone finds them."""
        s, keys = self.settings, self._parts.stores.data_keys
        if variable == "JWT_SECRET_KEY":
            self._parts.entrance.tokens.renew(s.jwt_secret, s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60)
        if keys.local is not None:
            keys.local.add(s.field_key, s.former_field_keys)
            await keys.rotate()
            await self._parts.stores.endpoints.reseal()

    async def _new_vault_token(self, variable: str) -> None:
        token = revealed(self.settings.VAULT_TOKEN) or ""
        self.settings.sources.renew_token(token)
        self._parts.stores.data_keys.renew_token(token)

    async def _new_provider_secret(self, provider: SendGridProvider | SmtpProvider, variable: str) -> None:
        provider.renew(revealed(getattr(self.settings, variable)) or "")
