import traceback
from collections.abc import Iterator

import pytest
from pymongo import errors as driver

from notification_engine.domain.errors import ConfigurationError, EngineError, Unavailable
from notification_engine.storage.connection import Database, translated

SECRET_TEXT = "mongodb://ada:hunter2@mongo-1:27017 {'title': 'Run 7'}"


def descendants(root: type[Exception]) -> Iterator[type[Exception]]:
    for child in root.__subclasses__():
        yield child
        yield from descendants(child)


def raised(kind: type[Exception]) -> Exception:
    """As the driver raises it: some want details, some a cause."""
    if issubclass(kind, driver.BulkWriteError):
        return kind({"writeErrors": [{"code": 11000, "errmsg": SECRET_TEXT, "op": {"title": SECRET_TEXT}}]})
    if issubclass(kind, driver.EncryptedCollectionError):
        return kind(ValueError(SECRET_TEXT), {"path": SECRET_TEXT})
    if issubclass(kind, driver.EncryptionError):
        return kind(ValueError(SECRET_TEXT))
    if issubclass(kind, driver.ClientBulkWriteException):
        return kind({"error": SECRET_TEXT}, verbose=False)
    return kind(SECRET_TEXT)


KINDS = sorted({driver.PyMongoError, *descendants(driver.PyMongoError), TimeoutError}, key=lambda k: k.__name__)


def test_the_drivers_errors_are_all_here() -> None:
    names = {kind.__name__ for kind in KINDS}
    assert names >= {"AutoReconnect", "BulkWriteError", "DuplicateKeyError", "ServerSelectionTimeoutError"}
    assert len(names) > 20


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_error_of_the_driver_becomes_unavailable_without_its_text(kind: type[Exception]) -> None:
    with pytest.raises(Unavailable) as error, translated():
        raise raised(kind)
    assert kind.__name__ in str(error.value)
    assert error.value.detail == str(error.value)
    assert error.value.retry_after >= 1
    shown = "".join(traceback.format_exception(error.value))
    assert not any(word in shown for word in ("hunter2", "mongo-1", "Run 7"))


@pytest.mark.parametrize(
    "passing", [Unavailable("of our own"), ConfigurationError("wrong"), KeyError("a defect"), ValueError("a defect")]
)
def test_what_is_not_the_drivers_passes_as_it_is(passing: Exception) -> None:
    with pytest.raises(type(passing)) as error, translated():
        raise passing
    assert error.value is passing
    assert isinstance(passing, EngineError) is isinstance(passing, Unavailable)


def test_what_succeeds_is_left_alone() -> None:
    with translated():
        answer = 7
    assert answer == 7


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://ada:hunter2@mongo",
        "mongodb://",
        "mongodb://ada:hunter2@mongo:port",
        "mongodb://ada:hunter2@mongo:99999",
        "mongodb://ada:hun@ter2@mongo",
        "mongodb://[::1",
        "mongodb://mongo/?tls=true&tlsCertificateKeyFile=/nowhere/hunter2.pem",
    ],
)
async def test_an_address_the_driver_cannot_read_is_refused_by_its_variable_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^MONGODB_URL: ") as error:
        Database(url, "engine", pool_size=1)
    assert "hunter2" not in "".join(traceback.format_exception(error.value)).replace(url, "")


async def test_a_database_knows_its_pool_before_it_is_connected() -> None:
    database = Database("mongodb://mongo.example.org", "engine", pool_size=7)
    assert database.pool() == {"in_use": 0, "idle": 0, "waiting": 0, "max": 7}
    assert not database.has_primary
    await database.close()


@pytest.mark.parametrize("path", ["", "/", "/another", "/another?replicaSet=rs0"])
async def test_the_name_that_is_given_wins_over_the_addresss_path(path: str) -> None:
    database = Database(f"mongodb://127.0.0.1:1{path}", "ours", pool_size=1)  # nothing is asked, nobody need be there
    assert database.collection("x").full_name == database.majority("x").full_name == "ours.x"
    await database.close()
