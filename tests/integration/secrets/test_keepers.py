"""Master keys that are kept elsewhere: AWS KMS and Vault's transit engine."""

import pytest
from tests.integration.conftest import Start
from tests.integration.secrets.conftest import kms_key, of_kms, of_vault
from tests.integration.secrets.test_at_rest import TITLE, declared, sensitive
from tests.integration.secrets.test_rotation import READER
from tests.servers.ses import KEY, REGION, SECRET
from tests.servers.vault import Vault

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.net.aws import AwsAccess, KmsKeys
from notification_engine.net.vault import Vault as VaultClient
from notification_engine.net.vault import VaultKeys
from notification_engine.storage.data_keys import PURPOSES

PLAIN = bytes(range(40))


async def test_an_engine_works_with_a_master_key_in_kms(start: Start, aws: str) -> None:
    settings = of_kms(aws, await kms_key(aws))
    running = await start(**settings)
    await declared(running)
    notification_id = await running.accept(sensitive(channels=["in_app"]))
    states = await running.engine.data_keys.status()
    assert {state.master for state in states} == {f"aws_kms:{settings['AWS_KMS_KEY_ID']}"}
    again = await start(**settings, FIELD_ENCRYPTION_KEY="another key, which has no part in it at all")
    assert (await again.engine.notifications.get(READER, notification_id)).title == TITLE


async def test_a_deployment_moves_from_a_key_of_its_own_over_kms_to_vault(start: Start, aws: str, vault: Vault) -> None:
    running = await start()
    await declared(running)
    notification_id = await running.accept(sensitive(channels=["in_app"]))
    kms = of_kms(aws, await kms_key(aws))
    moved = await start(**kms)
    assert await moved.engine.data_keys.rotate() == len(PURPOSES)
    with pytest.raises(ConfigurationError, match=r"^AWS_KMS_KEY_ID: .*keys rotate"):
        await start(**of_vault(vault))
    over = await start(**kms | of_vault(vault))
    assert await over.engine.data_keys.rotate() == len(PURPOSES)
    last = await start(**of_vault(vault))
    assert (await last.engine.notifications.get(READER, notification_id)).title == TITLE


async def test_kms_binds_a_data_key_to_its_purpose(aws: str) -> None:
    keys = KmsKeys(await kms_key(aws), AwsAccess(REGION, KEY, SECRET, aws))
    wrapped = await keys.wrap(PLAIN, "user keys")
    assert await keys.unwrap(wrapped, "user keys") == PLAIN
    assert await keys.unwrap(await keys.rewrap(wrapped, "user keys"), "user keys") == PLAIN
    for given, purpose in ((wrapped, "webhook secrets"), (wrapped[:-1] + b"\0", "user keys"), (b"x", "user keys")):
        with pytest.raises(ConfigurationError, match=r"^AWS_KMS_KEY_ID: AWS kms refuses it"):
            await keys.unwrap(given, purpose)
    await keys.close()


async def test_a_key_of_kms_that_is_disabled_or_unknown_is_refused_by_its_variable(aws: str) -> None:
    unknown = KmsKeys("00000000-0000-0000-0000-000000000000", AwsAccess(REGION, KEY, SECRET, aws))
    with pytest.raises(ConfigurationError, match=r"^AWS_KMS_KEY_ID: AWS kms refuses it .NotFoundException"):
        await unknown.wrap(PLAIN, "user keys")
    await unknown.close()


async def test_a_data_key_moves_from_one_key_of_kms_to_another(start: Start, aws: str) -> None:
    first, second = await kms_key(aws), await kms_key(aws)
    await start(**of_kms(aws, first))
    moved = await start(**of_kms(aws, second), AWS_KMS_KEY_ID_PREVIOUS=first)
    assert await moved.engine.data_keys.rotate() == len(PURPOSES)
    await start(**of_kms(aws, second))


async def test_a_keeper_that_is_away_stops_the_start_and_says_which(start: Start, vault: Vault) -> None:
    vault.sealed = True
    with pytest.raises(ConfigurationError, match="VAULT_ADDR: Vault answered HTTP 503"):
        await start(**of_vault(vault))
    away = of_kms("http://127.0.0.1:1", "key")
    with pytest.raises(ConfigurationError, match="AWS_KMS_KEY_ID: AWS kms does not answer"):
        await start(**away)


async def test_a_keeper_that_goes_away_later_stops_nothing(start: Start, vault: Vault) -> None:
    running = await start(**of_vault(vault))
    await declared(running)
    vault.sealed = True
    asked = len(vault.requests)
    notification_id = await running.accept(sensitive(channels=["in_app"]))
    assert (await running.engine.notifications.get(READER, notification_id)).title == TITLE
    assert len(vault.requests) == asked


async def test_vault_wraps_by_the_newest_version_after_a_rotation_of_its_key(start: Start, vault: Vault) -> None:
    running = await start(**of_vault(vault))
    vault.rotate()
    assert await running.engine.data_keys.rotate() == 0, "by name it is the same master key"
    assert await running.engine.data_keys.rotate(everything=True) == len(PURPOSES)
    assert {r for r in vault.requests if "rewrap" in r} == {"POST transit/rewrap/engine"}
    vault.min_decryption_version = 2
    await start(**of_vault(vault))


async def test_vault_binds_a_data_key_to_its_purpose(vault: Vault) -> None:
    keys = VaultKeys(VaultClient(vault.address, vault.token), "transit", "engine")
    wrapped = await keys.wrap(PLAIN, "user keys")
    assert await keys.unwrap(wrapped, "user keys") == PLAIN
    with pytest.raises(ConfigurationError, match=r"^VAULT_TRANSIT_KEY: what Vault unwrapped is not"):
        await keys.unwrap(wrapped, "webhook secrets")
    for altered in (wrapped[:-2], b"vault:v9:AAAA", b"x"):
        with pytest.raises(ConfigurationError, match=r"^VAULT_TRANSIT_KEY: "):
            await keys.unwrap(altered, "user keys")
    await keys.close()


async def test_each_refusal_of_vault_names_its_variable_and_shows_nothing(vault: Vault) -> None:
    canary = "hvs.canary-of-the-tests"
    cases = [
        (VaultKeys(VaultClient(vault.address, canary), "transit", "engine"), ConfigurationError, "VAULT_TOKEN: "),
        (
            VaultKeys(VaultClient(vault.address, vault.token), "other", "engine"),
            ConfigurationError,
            "VAULT_TRANSIT_KEY",
        ),
        (VaultKeys(VaultClient(vault.address, vault.token), "transit", "no"), ConfigurationError, "VAULT_TRANSIT_KEY"),
        (VaultKeys(VaultClient("http://127.0.0.1:1", canary), "transit", "engine"), Unavailable, "VAULT_ADDR: "),
    ]
    for keys, kind, told in cases:
        with pytest.raises(kind, match=f"^{told}") as error:
            await keys.wrap(PLAIN, "user keys")
        assert canary not in str(error.value)
        await keys.close()


async def test_the_token_follows_no_redirect_of_a_standby(vault: Vault) -> None:
    vault.standby = True
    keys = VaultKeys(VaultClient(vault.address, vault.token), "transit", "engine")
    with pytest.raises(Unavailable, match=r"^VAULT_ADDR: Vault answered HTTP 307"):
        await keys.wrap(PLAIN, "user keys")
    await keys.close()


async def test_a_namespace_travels_with_each_call(vault: Vault) -> None:
    vault.namespace = "platform"
    keys = VaultKeys(VaultClient(vault.address, vault.token, namespace="platform"), "transit", "engine")
    assert await keys.unwrap(await keys.wrap(PLAIN, "user keys"), "user keys") == PLAIN
    await keys.close()


async def test_without_its_keeper_nothing_opens(start: Start, aws: str) -> None:
    await start(**of_kms(aws, await kms_key(aws)))
    with pytest.raises(ConfigurationError, match=r"^AWS_KMS_KEY_ID: the data key .* is wrapped by aws_kms"):
        await start()
