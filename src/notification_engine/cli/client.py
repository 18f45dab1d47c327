"""What the commands that talk to a running engine share."""

NOTIFICATIONS = "/api/v1/notifications"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
