"""The master keys that the settings name, and what a command opens with them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from notification_engine.security.envelope import KeyWrapper, LocalKeys
from notification_engine.security.pseudonyms import Pseudonyms
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import DERIVED, DataKeys


def key_wrappers(s: Settings) -> list[KeyWrapper]:
    """Every master key that the settings name, the one that wraps first; the others open what they wrapped."""
    wrappers: dict[str, KeyWrapper] = {"local": LocalKeys(s.field_key, s.former_field_keys)}
    if s.AWS_KMS_KEY_ID:
        from notification_engine.net.aws import AwsAccess, KmsKeys  # heavy: only where KMS is configured

        ids = revealed(s.AWS_ACCESS_KEY_ID), revealed(s.AWS_SECRET_ACCESS_KEY)
        access = AwsAccess(s.AWS_REGION, *ids, s.AWS_KMS_ENDPOINT_URL)
        wrappers["aws_kms"] = KmsKeys(s.AWS_KMS_KEY_ID, access, previous=s.AWS_KMS_KEY_ID_PREVIOUS)
    if s.VAULT_ADDR and s.VAULT_TRANSIT_KEY:
        from notification_engine.net.vault import Vault, VaultKeys  # as little used

        vault = Vault(s.VAULT_ADDR, revealed(s.VAULT_TOKEN) or "", namespace=s.VAULT_NAMESPACE)
        wrappers["vault"] = VaultKeys(vault, s.VAULT_TRANSIT_MOUNT, s.VAULT_TRANSIT_KEY)
    first = wrappers.pop(s.MASTER_KEY_PROVIDER)
    return [first, *wrappers.values()]


@asynccontextmanager
async def opened_keys(s: Settings, database: Database) -> AsyncIterator[DataKeys]:
    """Of a command, without an engine. Raises ConfigurationError and Unavailable as a start would."""
    keys = DataKeys(database, key_wrappers(s))
    try:
        await keys.open()
        yield keys
    finally:
        await keys.close()


def pseudonyms_by(s: Settings, keys: DataKeys) -> Pseudonyms:
    """By PSEUDONYM_KEY, or by a secret that outlives each master key; then good once the data keys are open."""
    return Pseudonyms(s.pseudonym_key or (lambda: keys.key(DERIVED).secret("pseudonyms")))


def revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
