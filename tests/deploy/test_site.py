"""The site is built strictly, without the internet, and what comes out holds together."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from lxml import html

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a copy, so that the developer's own var/site is left alone; the way out is closed as far as a variable can."""
    directory = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", directory / "docs")
    shutil.copy(ROOT / "zensical.toml", directory)
    program = Path(sys.executable).with_name("zensical")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    words = [program, "build", "--clean", "--strict"]
    ended = subprocess.run(
        words,
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory), **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "Warning" not in ended.stdout + ended.stderr
    return directory / CONFIG["site_dir"]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Any]:
    found = {path.resolve(): html.parse(path).getroot() for path in site.rglob("*.html")}
    assert len(found) > 50
    return found


def listed(nav: list[Any]) -> list[str]:
    names: list[str] = []
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            names += [value] if isinstance(value, str) else listed(value)
    return names


def test_every_document_is_in_the_navigation_once() -> None:
    documents = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed(CONFIG["nav"])) == sorted(documents)


def test_make_docs_builds_it_as_strictly() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ndocs:")[2].partition("\n\n")[0]
    assert "zensical build --clean --strict" in recipe
    for page in ("configuration", "types", "cli"):
        assert f"> docs/{page}.md" in recipe


def test_every_internal_link_leads_to_a_page_and_its_anchor(site: Path, pages: dict[Path, Any]) -> None:
    checked = 0
    for path, page in pages.items():
        for link in page.xpath("//a/@href"):
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", link) or path.name == "404.html":
                continue
            there = (path.parent / unquote(target)).resolve() if target else path
            there = there / "index.html" if there.is_dir() else there
            assert there.exists(), f"{path.relative_to(site)}: {link}"
            if anchor and there in pages:
                assert pages[there].xpath("//*[@id=$it]", it=unquote(anchor)), f"{path.relative_to(site)}: {link}"
            checked += 1
    assert checked > 1000


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Any]) -> None:
    for path, page in pages.items():
        for source in page.xpath("//script/@src | //img/@src | //link[@rel='stylesheet']/@href"):
            assert not re.match(r"(https?:)?//", source), f"{path.name}: {source}"


def test_every_block_and_table_was_recognised(pages: dict[Path, Any]) -> None:
    """What is not recognised shows its fences and bars as text."""
    for path, page in pages.items():
        for element in page.xpath("//article//p | //article//li/text()"):
            words = element if isinstance(element, str) else element.text_content()
            assert "```" not in words, f"{path.name}: {words[:200]}"
            assert "|---" not in words, f"{path.name}: {words[:200]}"


def test_numbered_steps_stay_one_list(pages: dict[Path, Any]) -> None:
    """A block in a step that is not indented by four ends the list, and the next step is the first again."""
    for path, page in pages.items():
        for block in page.xpath("//article//ol/following-sibling::*[1][self::div]/following-sibling::*[1][self::ol]"):
            raise AssertionError(f"{path.name}: {block.text_content()[:100]}")


def test_what_is_not_run_shows_its_reason(site: Path) -> None:
    assert "Not run: needs a cluster" in (site / "runbooks/engine-down.html").read_text()
