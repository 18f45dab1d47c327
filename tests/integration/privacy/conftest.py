"""The engines that take callbacks, and the command line, here too."""

from tests.integration.cli.conftest import invoke
from tests.integration.feedback.conftest import fed, signer, sns

__all__ = ["fed", "invoke", "signer", "sns"]
