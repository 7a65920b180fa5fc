"""Who may send which request: keys, scopes, galleries and the limits of keys, for every route of the document."""

import json
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from models.serving.models import Models
from service.api.access import PUBLIC_PATHS
from service.errors import KeyWrong
from service.gallery.administration import change_gallery
from service.gallery.galleries import Galleries
from service.security.keys.keyring import Keyring
from service.security.keys.store import KeyRequest
from service.security.keys.tokens import new_token
from service.security.scopes import SCOPES, Scope
from service.settings import HttpSettings, Settings
from tests.client import Guarded, guarded_client, wrong_token_of
from tests.pictures import faces_png

GALLERY = "staff"


def operations(client: TestClient) -> list[tuple[str, str, list[str]]]:
    """Return the path, the method and the scopes of every operation of the document that needs a key."""
    found = []
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            if path in PUBLIC_PATHS:
                assert "security" not in operation
                continue
            bearer, api_key = operation["security"]  # a route without a scope fails here
            assert bearer["bearer"] == api_key["apiKey"]
            filled = re.sub(r"\{(\w+)\}", lambda name: {"gallery": GALLERY, "template": "1"}.get(name[1], "x"), path)
            found.append((filled, method.upper(), bearer["bearer"]))
    return found


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_every_route_requires_a_key_a_scope_and_a_gallery(guarded: Guarded) -> None:
    client, keys = guarded.client, guarded.keys
    expired = {"X-Api-Key": keys.create(KeyRequest("expired", SCOPES, expires_in_s=0.01))[1].text}
    revoked = guarded.key("admin", name="revoked")
    keys.revoke("revoked")
    elsewhere = guarded.key(*(scope for scope in SCOPES if scope != "admin"), name="elsewhere", galleries=["other"])
    everything = guarded.key("admin", name="everything")
    time.sleep(0.02)
    found = operations(client)
    assert len(found) >= 25
    assert {scope for _, _, scopes in found for scope in scopes} == set(SCOPES)
    for path, method, scopes in found:
        assert code(client.request(method, path)) == (401, "key_missing")
        assert code(client.request(method, path, headers=expired)) == (401, "key_expired")
        assert code(client.request(method, path, headers=revoked)) == (401, "key_revoked")
        assert code(client.request(method, path, headers={"X-Api-Key": "abc"})) == (401, "key_malformed")
        assert code(client.request(method, path, headers={"X-Api-Key": new_token().text})) == (401, "key_wrong")
        name = f"without {method} {path.replace('/', ' ')}"
        others: list[Scope] = [scope for scope in SCOPES if scope not in (*scopes, "admin")]
        if scopes:
            lacking = client.request(method, path, headers=guarded.key(*others, name=name))
            assert code(lacking) == (403, "scope_missing")
            assert 'error="insufficient_scope"' in lacking.headers["www-authenticate"]
        if f"/{GALLERY}" in path and scopes != ["admin"]:
            assert code(client.request(method, path, headers=elsewhere)) == (404, "gallery_unknown")
        permitted = client.request(method, path, headers=everything)
        assert permitted.status_code not in (401, 403)


def test_probes_and_the_document_need_no_key(guarded: Guarded) -> None:
    for path in PUBLIC_PATHS:
        assert guarded.client.get(path).status_code != 401
        assert guarded.client.head(path).status_code != 401
    for path in ("/", "/docs/", "/docs/x", "/v1", "/openapi.json/", "//openapi.json", "/readyz%2f..%2fv1%2finfo"):
        assert guarded.client.get(path).status_code == 401, path


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "PUT"])
def test_other_methods_need_a_key_too(guarded: Guarded, method: str) -> None:
    assert guarded.client.request(method, "/v1/verify").status_code == 401
    assert guarded.client.request(method, "/v1/verify", headers=guarded.key("verify")).status_code == 405


@pytest.mark.parametrize("path", ["/v1/verify", "/v1/info", "/readyz", "/"])
def test_no_websocket_is_accepted(guarded: Guarded, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), guarded.client.websocket_connect(path):
        pass
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert guarded.client.get(path, headers=upgrade).status_code == (200 if path in PUBLIC_PATHS else 401)


@pytest.mark.parametrize(
    "headers", ["X-Api-Key: {key}", "Authorization: Bearer {key}", "authorization: bearer  {key}", "x-api-key:  {key} "]
)
def test_a_key_comes_in_either_header(guarded: Guarded, headers: str) -> None:
    name, _, value = headers.partition(":")
    key = guarded.key("detect")["X-Api-Key"]
    response = guarded.client.get("/v1/info", headers={name: value[1:].replace("{key}", key)})
    assert response.status_code == 200


def test_several_keys_are_refused(guarded: Guarded) -> None:
    key = guarded.key("detect")["X-Api-Key"]
    bearer = ("Authorization", f"Bearer {key}")
    for headers in (
        [bearer, ("X-Api-Key", key)],
        [("X-Api-Key", key), ("X-Api-Key", key)],
        [bearer, bearer],
        [("X-Api-Key", ""), bearer],
    ):
        response = guarded.client.get("/v1/info", headers=headers)
        assert code(response) == (400, "several_keys")


@pytest.mark.parametrize(
    "value", ["Basic YTpi", "Bearer", "Bearer ", "Digest x", "", "Bearer a b", "\x80\xff", "Bearer vultus_"]
)
def test_other_credentials_are_malformed(guarded: Guarded, value: str) -> None:
    response = guarded.client.get("/v1/info", headers={b"Authorization": value.encode("latin-1")})
    assert code(response) == (401, "key_malformed")
    assert response.headers["www-authenticate"] == 'Bearer realm="vultus", error="invalid_token"'


@pytest.mark.parametrize("query", ["key={}", "api_key={}", "x={}", "{}=1", "TOKEN=", "access_token=a", "a=b&x=y{}z"])
def test_a_key_in_the_query_is_refused(guarded: Guarded, query: str) -> None:
    headers = guarded.key("detect")
    response = guarded.client.get("/v1/info?" + query.replace("{}", headers["X-Api-Key"]), headers=headers)
    assert code(response) == (400, "key_in_query")
    assert headers["X-Api-Key"] not in response.text


def test_a_missing_key_is_challenged(guarded: Guarded) -> None:
    assert guarded.client.get("/v1/info").headers["www-authenticate"] == 'Bearer realm="vultus"'


def test_for_a_bound_key_other_galleries_do_not_exist(guarded: Guarded) -> None:
    client, admin = guarded.client, guarded.key("admin", name="admin")
    for name in ("staff", "guests", "ten-a", "ten-b"):
        assert client.post("/v1/galleries", json={"gallery": name}, headers=admin).status_code == 201
    bound = guarded.key(
        *(scope for scope in SCOPES if scope != "admin"), name="bound", galleries=["staff", "ten-*", "missing"]
    )
    listed = client.get("/v1/galleries", headers=bound).json()["galleries"]
    assert [gallery["gallery"] for gallery in listed] == ["staff", "ten-a", "ten-b"]
    page = client.get("/v1/galleries?limit=2", headers=bound).json()
    assert [gallery["gallery"] for gallery in page["galleries"]] == ["staff", "ten-a"]
    last = client.get("/v1/galleries", params={"cursor": page["next"]}, headers=bound).json()
    assert [gallery["gallery"] for gallery in last["galleries"]] == ["ten-b"]
    assert last["next"] is None

    for hidden, missing in zip(_naming("guests"), _naming("missing"), strict=True):
        answers = [client.request(**parts, headers=bound) for parts in (hidden, missing)]
        assert answers[0].status_code == 404, hidden
        bodies = [{**answer.json(), "request_id": ""} for answer in answers]
        assert bodies[0] == bodies[1]
    renamed = client.patch("/v1/galleries/staff", json={"gallery": "stolen"}, headers=bound)
    assert code(renamed) == (404, "gallery_unknown")
    assert code(client.post("/v1/galleries", json={"gallery": "new"}, headers=bound)) == (404, "gallery_unknown")
    assert client.post("/v1/galleries", json={"gallery": "ten-c"}, headers=bound).status_code == 201


def _naming(gallery: str) -> list[dict[str, Any]]:
    """Return requests that name a gallery in their path or body, each of which would succeed if it existed."""
    photo = {"image": "iVBORw0KGgo="}
    side = {"gallery": gallery, "subject": "ann"}
    many = ["staff", gallery]
    return [
        {"method": "GET", "url": f"/v1/galleries/{gallery}"},
        {"method": "DELETE", "url": f"/v1/galleries/{gallery}"},
        {"method": "GET", "url": f"/v1/galleries/{gallery}/subjects/ann"},
        {"method": "GET", "url": f"/v1/galleries/{gallery}/export"},
        {"method": "POST", "url": "/v1/identify", "files": {"images": faces_png(1)}, "data": {"gallery": gallery}},
        {
            "method": "POST",
            "url": "/v1/identify",
            "files": {"images": faces_png(1)},
            "data": {"gallery": many},
        },
        {"method": "POST", "url": "/v1/verify", "json": {"probe": side, "reference": side}},
        {"method": "POST", "url": "/v1/verify", "json": {"probe": side, "reference": photo}},
    ]


def test_lines_name_only_galleries_of_the_key(guarded: Guarded) -> None:
    guarded.client.post("/v1/galleries", json={"gallery": "guests"}, headers=guarded.key("admin", name="admin"))
    bound = {**guarded.key("identify", galleries=["staff"]), "Content-Type": "application/x-ndjson"}
    response = guarded.client.post("/v1/identify?gallery=guests", content=b'{"image": ""}\n', headers=bound)
    assert code(response) == (404, "gallery_unknown")


def test_a_revoked_key_ends_a_stream_of_lines(guarded: Guarded) -> None:
    guarded.client.post("/v1/galleries", json={"gallery": "staff"}, headers=guarded.key("admin", name="admin"))
    headers = {**guarded.key("enrol", name="door"), "Content-Type": "application/x-ndjson"}

    def lines() -> Any:
        guarded.keys.revoke("door")  # after the request was admitted
        yield b"not json\n"

    url = "/v1/galleries/staff/templates"
    (answer,) = guarded.client.post(url, content=lines(), headers=headers).text.splitlines()
    assert "key_revoked" in answer


def test_a_stream_without_a_key_ends_with_the_first_key(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    with guarded_client(fake_models, galleries, tmp_path / "security", open_to="loopback") as guarded:
        guarded.client.post("/v1/galleries", json={"gallery": "staff"})

        def lines() -> Any:
            guarded.key("admin")  # after the request was admitted
            yield b"not json\n"

        answer = guarded.client.post(
            "/v1/galleries/staff/templates", content=lines(), headers={"Content-Type": "application/x-ndjson"}
        )
        assert "key_missing" in answer.text


@pytest.mark.parametrize("path", ["/v1/galleries/staff/subjects/ann/templates", "/v1/galleries", "/v1/keys"])
def test_a_key_that_ends_while_the_body_arrives_changes_nothing(guarded: Guarded, path: str) -> None:
    guarded.client.post("/v1/galleries", json={"gallery": "staff"}, headers=guarded.key("admin", name="admin"))
    headers = {**guarded.key("admin", name="door"), "Content-Type": "application/json"}

    def body() -> Any:
        guarded.keys.revoke("door")
        yield json.dumps({"gallery": "new", "name": "new", "scopes": ["read"]}).encode()

    assert code(guarded.client.post(path, content=body(), headers=headers)) == (401, "key_revoked")


def test_a_stream_does_not_follow_a_gallery_out_of_the_reach_of_its_key(guarded: Guarded) -> None:
    admin = guarded.key("admin", name="admin")
    guarded.client.post("/v1/galleries", json={"gallery": "old"}, headers=admin)
    headers = {**guarded.key("enrol", galleries=["old"]), "Content-Type": "application/x-ndjson"}
    galleries = guarded.client.app.state.backend.galleries  # type: ignore[attr-defined]
    embedding = [1.0] + [0.0] * (galleries.dimensions - 1)
    line = json.dumps({"subject": "x", "embedding": embedding}).encode() + b"\n"

    def renamed(first: bytes) -> Any:
        change_gallery(galleries, "old", "private")
        yield first

    for path, content in (("templates", line), ("import", line)):
        answer = guarded.client.post(f"/v1/galleries/old/{path}", content=renamed(content), headers=headers)
        assert "gallery_unknown" in answer.text
        change_gallery(galleries, "private", "old")
    assert guarded.client.get("/v1/galleries/old", headers=admin).json()["template_count"] == 0


def test_a_rate_is_enforced_and_stated(guarded: Guarded) -> None:
    headers = guarded.key("detect", rate="2/min")
    answers = [guarded.client.get("/v1/info", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-policy"] for answer in answers] == ['"key";q=2;w=60'] * 3
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert code(answers[2]) == (429, "rate_exceeded")
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60
    assert guarded.client.get("/v1/info", headers=guarded.key("detect", name="b")).status_code == 200


def test_a_clock_that_goes_back_does_not_lock_a_key_out(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = guarded.key("detect", rate="2/min")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert [guarded.client.get("/v1/info", headers=headers).status_code for _ in range(3)] == [200, 200, 429]
    monkeypatch.setattr(time, "time", lambda: now)
    assert guarded.client.get("/v1/info", headers=headers).status_code == 200


def test_a_service_on_loopback_is_open_until_the_first_key(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    with guarded_client(fake_models, galleries, tmp_path / "security", open_to="loopback") as guarded:
        assert guarded.client.get("/v1/info").status_code == 200
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via", "X-Forwarded-Proto", "CF-Connecting-IP"):
            assert guarded.client.get("/v1/info", headers={header: "127.0.0.1"}).status_code == 401
        assert guarded.client.get("/v1/info", headers={"X-Api-Key": new_token().text}).status_code == 401
        headers = guarded.key("verify")
        assert guarded.client.get("/v1/info").status_code == 401
        assert guarded.client.get("/v1/info", headers=headers).status_code == 200
        guarded.keys.revoke("a")
        assert guarded.client.get("/v1/info").status_code == 401  # and it stays closed


def test_a_key_learns_what_it_may_do(guarded: Guarded) -> None:
    options: Any = {"galleries": ["staff", "ten-*"], "rate": "5/s", "concurrency": 2, "expires_in_s": 3600}
    headers = guarded.key("read", "verify", name="door", **options)
    (key,) = guarded.keys.list_all()
    response = guarded.client.get("/v1/access", headers=headers)
    assert response.json() == {
        "key": {"id": key.id, "name": "door", "expires": key.described()["expires"]},
        "scopes": ["verify", "read"],
        "galleries": ["staff", "ten-*"],
        "limits": {"rate": "5/s", "concurrency": 2},
    }
    assert headers["X-Api-Key"] not in response.text
    admin = guarded.client.get("/v1/access", headers=guarded.key("admin", name="admin")).json()
    assert admin["scopes"] == list(SCOPES)
    assert (admin["galleries"], admin["key"]["expires"]) == (None, None)
    assert admin["limits"] == {"rate": None, "concurrency": None}


def test_a_service_that_is_open_says_so(client: TestClient) -> None:
    limits = {"rate": None, "concurrency": None}
    expected = {"key": None, "scopes": list(SCOPES), "galleries": None, "limits": limits}
    assert client.get("/v1/access").json() == expected


def test_only_programs_on_this_machine_need_no_key(fake_models: Models, galleries: Galleries, tmp_path: Path) -> None:
    with guarded_client(fake_models, galleries, tmp_path / "security", open_to="loopback") as guarded:
        for address in ("10.0.0.1", "::ffff:10.0.0.1", "", "unix"):
            client = TestClient(guarded.client.app, base_url="http://localhost", client=(address, 1))
            assert client.get("/v1/info").status_code == 401
        client = TestClient(guarded.client.app, base_url="http://localhost", client=("::1", 1))
        assert client.get("/v1/info").status_code == 200


def test_keys_can_be_managed_over_http(guarded: Guarded) -> None:
    client, admin = guarded.client, guarded.key("admin", name="admin")
    body = {"name": "door", "scopes": ["verify"], "galleries": ["staff"], "rate": "5/s", "expires_in": "90d"}
    made = client.post("/v1/keys", json=body, headers=admin)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    assert client.get("/v1/info", headers={"X-Api-Key": key["key"]}).status_code == 200
    described = client.get(f"/v1/keys/{key['id']}", headers=admin).json()
    assert described == {name: value for name, value in key.items() if name != "key"} | {"last_used": None}
    assert [listed["name"] for listed in client.get("/v1/keys", headers=admin).json()["keys"]] == ["admin", "door"]
    successor = client.post(f"/v1/keys/{key['id']}/rotate", json={"overlap": "1h"}, headers=admin).json()
    assert client.get("/v1/info", headers={"X-Api-Key": successor["key"]}).status_code == 200
    revoked = client.delete(f"/v1/keys/{key['id']}", headers=admin).json()["keys"]
    assert [entry["id"] for entry in revoked] == [key["id"]]
    assert client.get("/v1/info", headers={"X-Api-Key": key["key"]}).status_code == 401
    assert code(client.delete(f"/v1/keys/{key['id']}", headers=admin)) == (404, "key_unknown")
    assert code(client.get("/v1/keys/none", headers=admin)) == (404, "key_unknown")
    assert code(client.post("/v1/keys", json=body, headers=admin)) == (409, "key_exists")


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"scopes": []}, (422, "member_invalid")),
        ({"scopes": ["all"]}, (422, "member_invalid")),
        ({"rate": "fast"}, (422, "key_invalid")),
        ({"expires_in": "-1d"}, (422, "key_invalid")),
        ({"expires_in": "0s"}, (422, "key_invalid")),
        ({"galleries": []}, (422, "key_invalid")),
        ({"galleries": ["a/b"]}, (422, "name_invalid")),
        ({"name": ""}, (422, "name_invalid")),
        ({"concurrency": 0}, (422, "member_invalid")),
        ({"scopes": ["admin"], "galleries": ["staff"]}, (422, "key_invalid")),
        ({"secret": "x"}, (422, "member_unknown")),
    ],
)
def test_impossible_keys_are_refused(guarded: Guarded, change: dict[str, Any], answer: tuple[int, str]) -> None:
    response = guarded.client.post(
        "/v1/keys", json={"name": "door", "scopes": ["verify"], **change}, headers=guarded.key("admin", name="admin")
    )
    assert code(response) == answer


def test_a_refusal_of_another_origin_comes_before_the_key(guarded: Guarded) -> None:
    headers = {**guarded.key("verify"), "Origin": "https://evil.example"}
    assert code(guarded.client.post("/v1/verify", headers=headers)) == (403, "origin_refused")


def test_a_page_of_a_permitted_origin_asks_before_it_sends_its_key(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    settings = Settings(http=HttpSettings(cors_origins=("https://app.example",)))
    with guarded_client(fake_models, galleries, tmp_path / "security", settings) as guarded:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = guarded.client.options(
            "/v1/verify", headers={**asked, "Access-Control-Request-Headers": "authorization,x-api-key"}
        )
        assert preflight.status_code == 200
        refused = guarded.client.post("/v1/verify", headers={"Origin": "https://app.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"


def test_the_time_of_a_refusal_does_not_tell_which_ids_exist(guarded: Guarded) -> None:
    """Compare the medians of interleaved refusals of a known and an unknown id."""
    known = wrong_token_of(guarded.keys.create(KeyRequest("door", ["verify"]))[1])
    keyring = Keyring(guarded.keys)
    unknown = new_token().text
    times: dict[str, list[int]] = {known: [], unknown: []}
    for number in range(20_000):
        text = (known, unknown)[number % 2]
        begun = time.perf_counter_ns()
        with suppress(KeyWrong):
            keyring.authenticate(text)
        times[text].append(time.perf_counter_ns() - begun)
    keyring.close()
    medians = [sorted(times[text])[5_000] for text in (known, unknown)]
    assert abs(medians[0] - medians[1]) < 0.1 * min(medians)
