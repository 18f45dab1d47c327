"""The engines, servers and fleets of the integration tests, and the command."""

from tests.deploy.engine_log import logged
from tests.integration.cli.conftest import command
from tests.integration.conftest import mailbox, receiver, running, start
from tests.integration.replicas.conftest import fleet

__all__ = ["command", "fleet", "logged", "mailbox", "receiver", "running", "start"]
