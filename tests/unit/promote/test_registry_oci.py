"""What only the OCI layout has; what every registry has is in test_registry.py."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from promotions import NOW, signed_bundle

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.keys import SigningKey
from pytest_edgeai.promote.registry import Refused, Registry
from pytest_edgeai.promote.registry_address import fetch
from pytest_edgeai.promote.registry_log import Damaged
from pytest_edgeai.promote.registry_oci import OciLayout
from pytest_edgeai.promote.verification import Rejected, verify_bundle

# https://github.com/opencontainers/image-spec/blob/v1.1.1/schema/defs-descriptor.json
MEDIA_TYPE = re.compile(
    "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
DIGEST = re.compile("sha256:[a-f0-9]{64}")


@pytest.fixture(name="registry")
def registry_fixture(tmp_path: Path, key: SigningKey) -> Registry:
    """A registry with three bundles of one model."""
    made = Registry(tmp_path / "registry", OciLayout, create=True)
    for content in (b"one", b"two", b"three"):
        made.promote(signed_bundle(tmp_path, key, content), key.public, now=NOW)
    return made


def index_of(registry: Registry) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((registry.directory / "index.json").read_text())
    return content


def tags_of(registry: Registry) -> dict[str, Any]:
    return {
        each["annotations"]["org.opencontainers.image.ref.name"]: each
        for each in index_of(registry)["manifests"]
    }


def content_of(registry: Registry, descriptor: dict[str, Any]) -> bytes:
    """Return what a descriptor names, which has to be of its size and digest."""
    assert MEDIA_TYPE.fullmatch(descriptor["mediaType"])
    assert DIGEST.fullmatch(descriptor["digest"])
    digest: str = descriptor["digest"]
    content = (registry.directory / "blobs" / digest.replace(":", "/")).read_bytes()
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    annotations = descriptor.get("annotations", {})
    assert all(isinstance(value, str) for value in annotations.values())
    return content


def test_the_layout_is_what_the_specification_says(registry: Registry) -> None:
    mark = json.loads((registry.directory / "oci-layout").read_text())
    assert mark == {"imageLayoutVersion": "1.0.0"}
    index = index_of(registry)
    assert index["schemaVersion"] == 2
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert len(index["manifests"]) == 5
    for descriptor in index["manifests"]:
        manifest = json.loads(content_of(registry, descriptor))
        assert manifest["schemaVersion"] == 2
        assert manifest["mediaType"] == descriptor["mediaType"]
        assert manifest["artifactType"] == descriptor["artifactType"]
        # An artifact without a configuration has the empty one, and has to say what it is.
        assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        assert content_of(registry, manifest["config"]) == b"{}"
        assert manifest["layers"]
        for layer in manifest["layers"]:
            content_of(registry, layer)
    for reserved in re.findall(r'"(org\.opencontainers[^"]*)"', json.dumps(index)):
        assert reserved == "org.opencontainers.image.ref.name"


def test_the_tags_name_what_is_current_and_previous(registry: Registry) -> None:
    one, two, three = (entry.bundle for entry in registry.read().log.entries)
    assert set(tags_of(registry)) == {
        "current--digits--intel",
        "previous--digits--intel",
        *(f"bundle-{each}" for each in (one, two, three)),
    }
    registry.rollback("digits", "intel", now=NOW)
    registry.rollback("digits", "intel", now=NOW)
    tags = tags_of(registry)
    assert tags["current--digits--intel"]["annotations"]["pytest-edgeai.bundle"] == one
    assert "previous--digits--intel" not in tags


def test_a_bundle_comes_out_as_it_went_in(
    tmp_path: Path, registry: Registry, key: SigningKey
) -> None:
    entry = registry.read().stack("digits", "intel")[-1]
    fetch(registry, entry, tmp_path / "out", key.public)
    assert verify_bundle(tmp_path / "out", key.public, now=NOW).digest == entry.bundle
    with pytest.raises(UserError, match="nothing is overwritten"):
        fetch(registry, entry, tmp_path / "out", key.public)
    (tmp_path / "empty").mkdir()
    fetch(registry, entry, tmp_path / "empty", key.public)
    assert not list(tmp_path.glob(".tmp-*"))


def test_what_others_put_into_the_index_is_kept(
    tmp_path: Path, registry: Registry, key: SigningKey
) -> None:
    index = index_of(registry)
    foreign = {"mediaType": "application/x", "digest": "sha256:" + "0" * 64, "size": 1}
    index["manifests"].append(foreign)
    index["annotations"]["org.example.note"] = "kept"
    (registry.directory / "index.json").write_text(json.dumps(index))
    registry.promote(signed_bundle(tmp_path, key, b"four"), key.public, now=NOW)
    assert foreign in index_of(registry)["manifests"]
    assert index_of(registry)["annotations"]["org.example.note"] == "kept"
    assert len(registry.read().stack("digits", "intel")) == 4


def manifest_path(registry: Registry) -> Path:
    return registry.layout.location(registry.read().stack("digits", "intel")[-2].bundle)


def test_a_manifest_that_was_changed_is_not_gone_back_to(registry: Registry) -> None:
    path = manifest_path(registry)
    path.write_bytes(path.read_bytes().replace(b"bom.cdx.json", b"bom.cdx.jsoN"))
    with pytest.raises(Refused, match="was changed"):
        registry.rollback("digits", "intel", now=NOW)


def test_a_manifest_whose_names_lead_elsewhere_is_not_unpacked(
    tmp_path: Path, registry: Registry, key: SigningKey
) -> None:
    """Whoever may write to the registry may put any manifest there."""
    entry = registry.read().stack("digits", "intel")[-1]
    path = registry.layout.location(entry.bundle)
    content = path.read_bytes().replace(b'"bom.cdx.json"', b'"../bom.json"')
    digest = hashlib.sha256(content).hexdigest()
    path.with_name(digest).write_bytes(content)
    index = (registry.directory / "index.json").read_text()
    (registry.directory / "index.json").write_text(index.replace(path.name, digest))
    with pytest.raises(Rejected, match="names other files"):
        fetch(registry, entry, tmp_path / "deep" / "out", key.public)
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is no registry: it has no oci-layout"),
        ({"thesis.txt": ""}, "is no registry: it has no oci-layout"),
        ({"oci-layout": '{"imageLayoutVersion": "1.0.0"}'}, "it has no index.json"),
        ({"oci-layout": "{", "index.json": "{}"}, "does not mark an OCI layout"),
        (
            {"oci-layout": '{"imageLayoutVersion": "2.0.0"}', "index.json": '{"manifests": []}'},
            r"is of version 2\.0\.0",
        ),
        (
            {"oci-layout": '{"imageLayoutVersion": "1.0.0"}', "index.json": '{"manifests": []}'},
            "it is an OCI layout of something else",
        ),
        (
            {
                "oci-layout": '{"imageLayoutVersion": "1.0.0"}',
                "index.json": '{"manifests": [], "annotations": '
                '{"pytest-edgeai.schema": "pytest-edgeai/registry/2"}}',
            },
            "is of schema pytest-edgeai/registry/2",
        ),
    ],
)
def test_what_is_no_registry_is_refused_and_left_alone(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for name, text in files.items():
        (place / name).write_text(text)
    creates = (False, True) if "thesis.txt" in files or len(files) > 1 else (False,)
    for create in creates:
        with pytest.raises(UserError, match=message):
            Registry(place, OciLayout, create=create)
    assert {path.name: path.read_text() for path in place.iterdir()} == files


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"manifests": 1}', '{"manifests": [1, {"annotations": {}}]}']
)
def test_an_index_that_is_damaged_is_one_line(
    tmp_path: Path, registry: Registry, key: SigningKey, text: str
) -> None:
    (registry.directory / "index.json").write_text(text)
    with pytest.raises(Damaged) as caught:
        registry.promote(signed_bundle(tmp_path, key, b"four"), key.public, now=NOW)
    assert "\n" not in str(caught.value)
    assert (registry.directory / "index.json").read_text() == text
