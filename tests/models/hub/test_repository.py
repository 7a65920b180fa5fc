"""Listings and downloads, with the real library against a local server that speaks the Hub's API."""

from pathlib import Path

import pytest

from models.errors import ExtraMissing, HubAccessDenied, HubNotFound, SourceUnavailable, StorageFailed
from models.hub import Hub, library, parse_reference
from tests.hub_server import TOKEN, FakeHub, sha256

REFERENCE = parse_reference("hf:o/r")
WEIGHTS = bytes(range(256)) * 4096
FILES = {"model.safetensors": WEIGHTS, "config.json": b"{}", "wrapper.py": b"raise SystemExit"}

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits between its attempts."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_a_revision_is_a_commit_from_the_first_request_on(hub: FakeHub) -> None:
    old = hub.publish("o/r", FILES)
    hub.publish("o/r", FILES, "v1")
    listing = Hub().list_files(REFERENCE)
    new = hub.publish("o/r", {"model.safetensors": b"newer"})
    assert new != old == listing.commit
    assert Hub().fetch(listing, "model.safetensors").read_bytes() == WEIGHTS
    assert Hub().list_files(REFERENCE).commit == new
    for revision in ("v1", old):
        assert Hub().list_files(parse_reference(f"hf:o/r@{revision}")).commit == old


def test_the_digests_of_large_and_small_files_are_those_of_the_hub(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    files = Hub().list_files(REFERENCE).files
    assert files["model.safetensors"].sha256 == sha256(WEIGHTS)
    assert files["config.json"].sha256 is None
    assert files["config.json"].blob is not None


def test_only_the_wanted_file_is_downloaded_and_only_once(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    steps: list[tuple[str, int, int | None]] = []
    client = Hub(lambda *step: steps.append(step))
    listing = client.list_files(REFERENCE)
    path = client.fetch(listing, "model.safetensors")
    assert hub.downloads() == ["model.safetensors"]
    assert steps[0] == ("asking the Hub for o/r", 0, None)
    assert steps[-1] == ("model.safetensors", len(WEIGHTS), len(WEIGHTS))
    asked = len(hub.requests)
    assert client.fetch(listing, "model.safetensors") == path
    assert len(hub.requests) == asked


def test_a_cut_download_is_resumed(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.publish("o/r", FILES)
    hub.cuts, hub.cut_after = 2, 300_500
    assert Hub().fetch(Hub().list_files(REFERENCE), "model.safetensors").read_bytes() == WEIGHTS
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.startswith("/cdn")]
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_a_download_that_is_cut_again_and_again_is_said_and_leaves_no_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.publish("o/r", FILES)
    hub.cuts, hub.cut_after = 100, 0
    listing = Hub().list_files(REFERENCE)
    with pytest.raises(SourceUnavailable, match=r"the download of model\.safetensors of o/r was cut; run the command"):
        Hub().fetch(listing, "model.safetensors")
    assert not [path for path in (tmp_path / "hub-cache").rglob("*") if "safetensors" in path.name]
    hub.cuts = 0
    assert Hub().fetch(listing, "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_bytes_than_the_hub_states_are_not_used(hub: FakeHub, name: str) -> None:
    hub.publish("o/r", FILES)
    hub.replaced = {name: FILES[name][:-1] + b"!"}
    listing = Hub().list_files(REFERENCE)
    with pytest.raises(SourceUnavailable, match="has other bytes than the Hub states"):
        Hub().fetch(listing, name)
    hub.replaced = {}
    assert Hub().fetch(listing, name).read_bytes() == FILES[name]


def test_a_damaged_cache_is_repaired(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    listing = Hub().list_files(REFERENCE)
    Hub().fetch(listing, "model.safetensors").write_bytes(b"damaged")
    assert Hub().fetch(listing, "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [("GatedRepo", "is gated: accept its terms at"), ("RepoNotFound", "is private and HF_TOKEN does not open it")],
)
def test_the_token_of_the_user_opens_a_repository_and_is_not_repeated(
    hub: FakeHub, needs: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.publish("o/r", FILES)
    hub.repositories["o/r"].needs = needs
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_token_of_nobody")
    with pytest.raises((HubAccessDenied, HubNotFound), match=sentence) as caught:
        Hub().list_files(REFERENCE)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert Hub().fetch(Hub().list_files(REFERENCE), "model.safetensors").read_bytes() == WEIGHTS
    stored = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert stored == []


def test_what_is_not_there_is_said(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    for text, sentence in (
        ("hf:o/none", "has no repository o/none, or it is private"),
        ("hf:o/r@v9", "o/r has no revision v9"),
        (f"hf:o/r@{'0' * 40}", f"o/r has no revision {'0' * 40}"),
    ):
        with pytest.raises(HubNotFound, match=sentence):
            Hub().list_files(parse_reference(text))
    commit = Hub().list_files(REFERENCE).commit
    with pytest.raises(HubNotFound, match=r"o/r has no file none\.bin"):
        Hub().fetch_at("o/r", commit, "none.bin")


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (401, HubAccessDenied, r"refuses access to o/r \(status 401\); check HF_TOKEN"),
        (403, HubAccessDenied, r"refuses access to o/r \(status 403\); check HF_TOKEN"),
        (500, SourceUnavailable, r"answered with status 500 for model\.safetensors of o/r"),
    ],
)
def test_a_refused_download_is_said(hub: FakeHub, status: int, error: type[Exception], sentence: str) -> None:
    hub.publish("o/r", FILES)
    listing = Hub().list_files(REFERENCE)
    hub.status = status
    with pytest.raises(error, match=sentence):
        Hub().fetch(listing, "model.safetensors")


def test_a_hub_that_cannot_be_reached_is_said(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    listing = Hub().list_files(REFERENCE)
    closed = Hub(endpoint="http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match=r"the Hub at http://127\.0\.0\.1:9 cannot be reached"):
        closed.list_files(REFERENCE)
    with pytest.raises(SourceUnavailable, match=r"the Hub at http://127\.0\.0\.1:9 cannot be reached"):
        closed.fetch(listing, "model.safetensors")


def test_offline_mode_is_said_but_what_the_cache_has_at_a_commit_is_used(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.publish("o/r", FILES)
    cached = Hub().fetch(Hub().list_files(REFERENCE), "config.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceUnavailable, match="because HF_HUB_OFFLINE is set"):
        Hub().list_files(REFERENCE)
    with pytest.raises(SourceUnavailable, match="because HF_HUB_OFFLINE is set"):
        Hub().fetch_at("o/r", commit, "model.safetensors")
    assert Hub().fetch_at("o/r", commit, "config.json") == cached


def test_a_server_that_is_no_hub_is_said(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    hub.described = b"<html>"
    with pytest.raises(SourceUnavailable, match="did not answer as a Hub does when asked for the list of files of o/r"):
        Hub().list_files(REFERENCE)
    hub.described = b'{"id": "o/r", "sha": "main", "siblings": []}'
    with pytest.raises(SourceUnavailable, match="did not answer as a Hub does"):
        Hub().list_files(REFERENCE)


def test_paths_that_lead_out_of_a_repository_are_not_listed(hub: FakeHub) -> None:
    hub.publish("o/r", {"../../etc/passwd": b"x", "a//b": b"x", "a.pt": b"x"})
    assert list(Hub().list_files(REFERENCE).files) == ["a.pt"]


def test_a_cache_that_cannot_be_written_is_said(hub: FakeHub, tmp_path: Path) -> None:
    hub.publish("o/r", FILES)
    (tmp_path / "file").touch()
    blocked = Hub(cache=tmp_path / "file")
    listing = blocked.list_files(REFERENCE)
    with pytest.raises(StorageFailed, match="cannot be written to the cache of huggingface_hub: Not a directory"):
        blocked.fetch(listing, "config.json")


def test_nothing_is_told_to_the_hub_about_the_machine(hub: FakeHub) -> None:
    hub.publish("o/r", FILES)
    Hub().fetch(Hub().list_files(REFERENCE), "config.json")
    assert all(path.startswith(("/api/models/o/r", "/o/r/resolve/")) for _, path, _ in hub.requests)
    told = {sent["user-agent"] for sent in hub.headers}
    assert all(part.split("/")[0] in ("unknown", "hf_hub", "python") for agent in told for part in agent.split("; "))


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ExtraMissing("missing packages: huggingface_hub")

    monkeypatch.setattr(library, "require_extra", missing)
    with pytest.raises(ExtraMissing):
        Hub()
