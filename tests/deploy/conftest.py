"""The engines, servers and fleets of the integration tests."""

from tests.integration.conftest import mailbox, receiver, running, start
from tests.integration.replicas.conftest import fleet

__all__ = ["fleet", "mailbox", "receiver", "running", "start"]
