"""The readers of these tests refuse what they do not know, and read the rest as their originals do."""

from pathlib import Path

import pytest
import yaml
from tests.deploy.dockerfile import Ignore, parse
from tests.deploy.kustomize import Document, apply, render
from tests.deploy.nginx import rendered

DEPLOYMENT = {"kind": "Deployment", "metadata": {"name": "x", "labels": {"a": "1"}}, "spec": {"image": "i:latest"}}


def write(folder: Path, **given: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(given))
    return folder


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("*", "a", True),
        ("*", "a/b", True),
        ("a/*", "a/b/c", True),
        ("b", "a/b", False),
        ("**/b", "a/b", True),
        ("**/b", "b", True),
        ("**/*.py[cod]", "a/b/c.pyc", True),
        ("**/*.py[cod]", "a/b/c.py", False),
        ("**/.env*", "a/.env.local", True),
        ("a?", "ab", True),
    ],
)
def test_a_pattern_of_dockerignore_matches_a_path_or_a_folder_above_it(pattern: str, path: str, ignored: bool) -> None:
    assert Ignore([pattern]).ignores(path) is ignored
    assert not Ignore([pattern, f"!{pattern}"]).ignores(path), "the last one decides"


def test_an_instruction_is_one_whatever_lines_it_takes(tmp_path: Path) -> None:
    text = '# x\nRUN --mount=type=cache,target=/c \\\n  a && \\\n  b\nCMD ["a", "b c"]\n'
    (tmp_path / "Dockerfile").write_text(text)
    run, cmd = parse(tmp_path / "Dockerfile")
    assert (run.flags, run.command) == ({"mount": "type=cache,target=/c"}, ["/bin/sh", "-c", "a && b"])
    assert cmd.command == ["a", "b c"]
    (tmp_path / "Dockerfile").write_text("ONBUILD RUN x\n")
    with pytest.raises(ValueError, match="ONBUILD"):
        parse(tmp_path / "Dockerfile")


def test_a_feature_of_kustomize_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="commonLabels"):
        render(write(tmp_path / "a", resources=[], commonLabels={"a": "b"}))


def test_a_suffix_an_image_and_a_patch_are_followed_and_nothing_is_there_twice(tmp_path: Path) -> None:
    base = write(tmp_path / "base", resources=["x.yaml"], images=[{"name": "i", "newTag": "2"}])
    (base / "x.yaml").write_text(yaml.safe_dump(DEPLOYMENT))
    write(tmp_path / "other", resources=["../base"], nameSuffix="-b")
    replaced = yaml.safe_dump([{"op": "replace", "path": "/metadata/labels/a", "value": "2"}])
    patch = {"target": {"kind": "Deployment", "name": "x"}, "patch": replaced}
    both = render(write(tmp_path / "both", resources=["../base", "../other"], patches=[patch]))
    assert [d["metadata"]["name"] for d in both] == ["x", "x-b"]
    assert {d["spec"]["image"] for d in both} == {"i:2"}
    assert [d["metadata"]["labels"]["a"] for d in both] == ["2", "2"], "a name finds what had it before its suffix"
    with pytest.raises(AssertionError, match="twice"):
        render(write(tmp_path / "twice", resources=["../base", "../base"]))
    with pytest.raises(AssertionError, match="finds nothing"):
        render(write(tmp_path / "none", resources=["../base"], patches=[patch | {"target": {"kind": "Job"}}]))


def test_a_patch_changes_only_what_is_there() -> None:
    document: Document = {"a": [{"b": 1}]}
    apply(document, {"op": "add", "path": "/a/0/c~1d", "value": 2})
    assert document == {"a": [{"b": 1, "c/d": 2}]}
    for operation in ({"op": "replace", "path": "/a/0/x", "value": 1}, {"op": "remove", "path": "/a/0/x"}):
        with pytest.raises(KeyError):
            apply(document, operation)


def test_a_place_that_is_not_in_the_file_is_not_passed_over() -> None:
    assert rendered("listen 80;", {"80": "8080"}) == "listen 8080;"
    with pytest.raises(AssertionError, match="is not in the file"):
        rendered("listen 80;", {"443": "8443"})
