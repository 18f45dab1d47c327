"""The engines that take callbacks, here too."""

from tests.integration.feedback.conftest import fed, signer, sns

__all__ = ["fed", "signer", "sns"]
