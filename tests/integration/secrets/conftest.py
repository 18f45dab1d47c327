"""Keepers of master keys and secrets: moto's KMS and Secrets Manager, and a Vault by its documented rules."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import get_session
from pymongo import AsyncMongoClient
from tests.servers.ses import KEY, REGION, SECRET, Ses
from tests.servers.vault import Vault


@pytest.fixture(scope="session")
async def aws() -> AsyncIterator[str]:
    """The address of an AWS of the tests' own."""
    server = Ses()
    await server.start()
    yield server.address
    await server.stop()


@asynccontextmanager
async def client(aws: str, service: str) -> AsyncIterator[Any]:
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    async with get_session().create_client(service, region_name=REGION, endpoint_url=aws, **keys) as opened:
        yield opened


async def kms_key(aws: str) -> str:
    async with client(aws, "kms") as kms:
        return str((await kms.create_key())["KeyMetadata"]["KeyId"])


def of_kms(aws: str, key: str) -> dict[str, Any]:
    """The settings of an engine whose master key is there."""
    return {
        "MASTER_KEY_PROVIDER": "aws_kms",
        "AWS_KMS_KEY_ID": key,
        "AWS_KMS_ENDPOINT_URL": aws,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
    }


def of_vault(vault: Vault) -> dict[str, Any]:
    return {
        "MASTER_KEY_PROVIDER": "vault",
        "VAULT_ADDR": vault.address,
        "VAULT_TOKEN": vault.token,
        "VAULT_TRANSIT_KEY": "engine",
    }


@pytest.fixture
async def vault() -> AsyncIterator[Vault]:
    server = Vault()
    await server.start()
    yield server
    await server.stop()


async def dump(url: str, name: str) -> dict[str, bytes]:
    """The BSON of every collection, as it lies there."""
    client: AsyncMongoClient[Any]
    async with AsyncMongoClient(url) as client:
        names = await client[name].list_collection_names()
        return {c: b"".join([batch async for batch in client[name][c].find_raw_batches({})]) for c in names}


def found(dumped: dict[str, bytes], *canaries: str) -> Iterator[tuple[str, str]]:
    """Where which of them is readable, also in the other encodings that a value is likely to have."""
    import base64

    for collection, raw in dumped.items():
        for canary in canaries:
            plain = canary.encode()
            forms = (plain, plain.lower(), plain.hex().encode(), base64.b64encode(plain).rstrip(b"=")[:-1])
            if any(form in raw for form in forms):
                yield collection, canary
