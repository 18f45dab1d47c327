import re
from pathlib import Path

import pytest

from notification_engine.cli.reference import configuration_reference
from notification_engine.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
SECRETS = r"SECRET(?!S_)|PASSWORD|API_KEY|ACCESS_KEY|ENCRYPTION_KEY|PSEUDONYM_KEY|_TOKEN$|_HEADERS$"
ROWS = {
    row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
}


def test_the_page_is_what_the_settings_generate() -> None:
    assert PAGE.read_text() == configuration_reference(), "run `make docs`"


def test_the_page_has_a_row_for_each_setting_in_their_order() -> None:
    assert list(ROWS) == list(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_says_what_it_means(name: str) -> None:
    assert Settings.model_fields[name].description


@pytest.mark.parametrize(
    ("name", "default", "values"),
    [
        ("ENVIRONMENT", "`production`", "`production`, `development`"),
        ("DEBUG", "`false`", "`true`, `false`"),
        ("MONGODB_URL", "not set", "text"),
        ("MONGODB_DATA_DIR", "`var/mongodb`", "text"),
        ("JWT_SECRET_KEY", "not set", "text, *secret*"),
        ("NOTIFICATION_QUEUE_SIZE", "`1000`", "whole number, 1 or more"),
        ("SMTP_PORT", "`587`", "whole number, 1 or more, 65535 at most"),
        ("LEASE_SECONDS", "`30`", "number, over 0, 86400 at most"),
        ("DRAIN_DELAY_SECONDS", "`5`", "number, 0 or more, 600 at most"),
        ("CORS_ORIGINS", "`[]`", "JSON list of texts"),
        ("LOG_LEVEL", "not set", "`DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`"),
    ],
)
def test_a_row_tells_default_and_values(name: str, default: str, values: str) -> None:
    assert ROWS[name][:2] == (default, values)


def test_every_secret_is_marked_as_one() -> None:
    marked = {name for name, row in ROWS.items() if "*secret*" in row[1]}
    assert marked == {n for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation)}
    assert {n for n in ROWS if re.search(SECRETS, n)} == marked
