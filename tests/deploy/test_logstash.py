"""Logstash: the guide's own pipeline, followed line by line over what a real engine logs."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.engine_log import Logged, delivered
from tests.deploy.logstash import If, Plugin, event, filtered, index, parse
from tests.servers.receiver import Receiver

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/logstash/logstash.conf").read_text()
PIPELINE = parse(TEXT)
[INPUT], [OUTPUT] = PIPELINE["input"], PIPELINE["output"]
OURS = '{"service": "notification-engine", "message": "m", "metadata": {}}'


def plugin(step: Plugin | If) -> Plugin:
    assert isinstance(step, Plugin)
    return step


def through(line: str) -> dict[str, Any]:
    return filtered(PIPELINE["filter"], event(plugin(INPUT), line))


def test_the_file_is_the_guides() -> None:
    section = (ROOT / "docs/deployment-guide.md").read_text().partition("# logstash.conf\n")[2]
    assert section.partition("```")[0] == TEXT


def test_it_reads_the_log_that_the_engine_of_compose_writes() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
    path = plugin(INPUT).options["path"]
    assert services["intellibrowse-api"]["environment"]["LOG_FILE"] == path
    written = [v for v in services["intellibrowse-api"]["volumes"] if v.split(":")[1] == str(Path(path).parent)]
    read = [v for v in services["logstash"]["volumes"] if v.split(":")[1] == str(Path(path).parent)]
    assert [v.split(":")[0] for v in written] == [v.split(":")[0] for v in read] != []
    assert plugin(OUTPUT).options["hosts"] == ["elasticsearch:9200"]
    assert "elasticsearch" in services


async def test_every_line_of_a_real_engine_is_read_and_tagged(logged: Logged, receiver: Receiver) -> None:
    await delivered(logged, receiver)
    lines = logged.file.read_text().splitlines()
    assert len(lines) > 10
    for line, read in zip(lines, logged.lines(), strict=True):
        made = through(line)
        assert made["tags"] == ["notification"]
        assert {name: made[name] for name in read} == read, "every field of the line is a field of the event"
        assert re.fullmatch(r"intellibrowse-notifications-\d{4}\.\d\d\.\d\d", index(plugin(OUTPUT), made))


def test_another_services_line_and_a_broken_one_are_kept_without_the_tag() -> None:
    assert through('{"service": "other", "message": "m"}')["tags"] == []
    assert through("no json")["tags"] == ["_jsonparsefailure"]
    assert through("[1]")["tags"] == ["_jsonparsefailure"]


def test_the_index_is_that_of_the_events_day() -> None:
    made = through(OURS) | {"@timestamp": datetime(2025, 1, 6, 20, tzinfo=UTC)}
    assert index(plugin(OUTPUT), made) == "intellibrowse-notifications-2025.01.06"


@pytest.mark.parametrize(
    "text",
    [
        'filter { grok { match => ["message", "x"] } }',
        'filter { mutate { remove_field => ["x"] } }',
        "filter { if [a] != 1 { } }",
        "filter { mutate { add_tag => @x } }",
        "filter { } filter { }",
        "codec { }",
        "filter { mutate {",
    ],
)
def test_what_the_interpreter_does_not_know_it_refuses(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(text)


def test_an_unknown_codec_or_date_is_refused() -> None:
    with pytest.raises(ValueError, match="codec"):
        event(Plugin("file", {"codec": "plain"}), OURS)
    with pytest.raises(ValueError, match="date"):
        index(Plugin("elasticsearch", {"index": "x-%{+xxxx}"}), through(OURS))
