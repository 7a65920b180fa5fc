"""Requests of web pages: names that are not ours, pages of other sites, and what is allowed by settings."""

import pytest
from fastapi.testclient import TestClient

from models.serving.models import Models
from service.app import create_app
from service.gallery.galleries import Galleries
from service.settings import HttpSettings, Settings, SettingsInvalid, load_settings
from tests.client import api_client

GALLERY = {"gallery": "staff"}


def client_with(models: Models, galleries: Galleries, http: HttpSettings) -> TestClient:
    return api_client(create_app(models, galleries, Settings(http=http)))


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "app.localhost", "localhost.", "127.0.0.1:8000", "[::1]:8000", "192.168.7.9", ""],
)
def test_loopback_names_and_addresses_are_trusted(client: TestClient, host: str) -> None:
    assert client.get("/v1/info", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:8000",
        "localhost.attacker.example",
        "notlocalhost",
        "127.0.0.1.attacker.example",
        "user@localhost",
        "localhost/..",
        "local host",
        "localhost:port",
        "[::1",
        "[::1].attacker.example",
        "localhost, attacker.example",
        "2130706433",
        "0x7f.1",
        ":8000",
    ],
)
def test_other_names_are_refused_on_every_route(client: TestClient, host: str) -> None:
    for method, path in (("GET", "/v1/info"), ("GET", "/openapi.json"), ("POST", "/v1/galleries"), ("GET", "/none")):
        response = client.request(method, path, headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (421, "host_untrusted")
        assert "VULTUS_HTTP__TRUSTED_HOSTS" in response.json()["detail"]


def test_names_are_trusted_by_setting(fake_models: Models, galleries: Galleries) -> None:
    client = client_with(fake_models, galleries, HttpSettings(trusted_hosts=("face.example.org", "*.lan")))
    for host, status in (
        ("face.example.org:443", 200),
        ("FACE.example.org.", 200),
        ("a.b.lan", 200),
        ("lan", 421),
        ("evil-lan", 421),
        ("other.example.org", 421),
    ):
        assert client.get("/v1/info", headers={"Host": host}).status_code == status
    anywhere = client_with(fake_models, galleries, HttpSettings(trusted_hosts=("*",)))
    assert anywhere.get("/v1/info", headers={"Host": "anything.example"}).status_code == 200


def test_the_name_at_which_the_service_listens_is_trusted() -> None:
    assert Settings().serving_at("face.example.org").http.trusted_hosts == ("face.example.org",)
    assert Settings().serving_at("::").http.trusted_hosts == ()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost.attacker.example"},
        {"Origin": "http://user@localhost"},
        {"Origin": "file://"},
        {"Origin": "ftp://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_origins_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    """A form of another site needs no permission of the browser to send multipart."""
    for method, path in (
        ("POST", "/v1/galleries"),
        ("POST", "/v1/verify"),
        ("DELETE", "/v1/galleries/staff"),
        ("PATCH", "/v1/galleries/staff"),
    ):
        response = client.request(method, path, headers=headers, json=GALLERY)
        assert (response.status_code, response.json()["code"]) == (403, "origin_refused")
    assert client.get("/v1/galleries").json()["galleries"] == []


def test_an_origin_has_the_port_of_its_scheme(client: TestClient) -> None:
    for host, origin, status in (
        ("127.0.0.1:80", "https://127.0.0.1", 403),
        ("127.0.0.1:443", "http://127.0.0.1", 403),
        ("127.0.0.1:443", "https://127.0.0.1", 422),
        ("127.0.0.1", "https://127.0.0.1", 422),  # behind a proxy that ends TLS
        ("127.0.0.1:8000", "http://127.0.0.1:8000", 422),
        ("127.0.0.1:8000", "http://127.0.0.1", 403),
    ):
        sent = client.post("/v1/galleries", headers={"Host": host, "Origin": origin}, json={})
        assert sent.status_code == status, (host, origin)


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost"}, {"Origin": "https://LOCALHOST:443"}])
def test_programs_and_own_pages_may_write(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/galleries", headers=headers, json=GALLERY).status_code == 201


def test_no_response_is_readable_by_another_origin_unless_it_is_set(
    client: TestClient, fake_models: Models, galleries: Galleries
) -> None:
    origin = {"Origin": "https://app.example.org"}
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert "access-control-allow-origin" not in client.get("/v1/info", headers=origin).headers
    assert client.options("/v1/galleries", headers=preflight).status_code == 405
    allowed = client_with(fake_models, galleries, HttpSettings(cors_origins=("https://app.example.org",)))
    assert allowed.options("/v1/galleries", headers=preflight).status_code == 200
    response = allowed.post("/v1/galleries", headers=origin, json=GALLERY)
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == "https://app.example.org"
    other = allowed.post("/v1/galleries", headers={"Origin": "https://app.example.com"}, json=GALLERY)
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


def test_lists_are_separated_by_commas_and_wrong_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VULTUS_HTTP__TRUSTED_HOSTS", "face.example.org, *.lan,")
    assert load_settings().http.trusted_hosts == ("face.example.org", "*.lan")
    for wrong in ("https://face.example.org", "face:8000", "a/b", "*.*"):
        monkeypatch.setenv("VULTUS_HTTP__TRUSTED_HOSTS", wrong)
        with pytest.raises(SettingsInvalid, match=r"VULTUS_HTTP__TRUSTED_HOSTS.*not the name of a host"):
            load_settings()
    monkeypatch.delenv("VULTUS_HTTP__TRUSTED_HOSTS")
    for wrong in ("face.example.org", "https://face.example.org/", "https://a b"):
        monkeypatch.setenv("VULTUS_HTTP__CORS_ORIGINS", wrong)
        with pytest.raises(SettingsInvalid, match=r"VULTUS_HTTP__CORS_ORIGINS.*not an origin"):
            load_settings()


def test_several_host_headers_are_refused(client: TestClient) -> None:
    twice = client.get("/healthz", headers=[("Host", "localhost"), ("Host", "localhost")])
    assert (twice.status_code, twice.json()["code"]) == (400, "http_malformed")
    assert "several headers `Host`" in twice.json()["detail"]
