"""Address and key from arguments and the environment, and where the key never appears."""

import warnings

import pytest

from service.client import AsyncClient, Client, VultusProblem
from service.client.address import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, find_address
from service.settings import load_settings
from tests.service.client.faults import answering, problem

KEY = "vultus_secret_1234"


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (URL_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert find_address() == find_address(DEFAULT_URL)
    monkeypatch.setenv(URL_VARIABLE, "https://faces.example.org/v/")
    monkeypatch.setenv(KEY_VARIABLE, f"{KEY}\n")
    assert (find_address().url, find_address().key) == ("https://faces.example.org/v", KEY)
    assert find_address("http://[::1]:8000", "other").key == "other"
    load_settings()  # the service accepts the variables of its clients


def test_an_invalid_address_or_key_is_refused_without_quoting_it() -> None:
    for url in ("faces.example.org", "ftp://faces", "https://", f"https://user:{KEY}@faces", "https://faces?a=1"):
        with pytest.raises(ValueError, match="address") as raised:
            find_address(url)
        assert KEY not in str(raised.value)
    with pytest.raises(ValueError, match="key") as refused:
        find_address(DEFAULT_URL, f"{KEY}\r\nX-Other: 1")
    assert KEY not in str(refused.value)


def test_the_key_is_sent_and_in_no_text_about_the_client() -> None:
    with answering(problem(401, "key_wrong")) as server, Client(server.url, KEY, trust_env=False) as client:
        with pytest.raises(VultusProblem) as raised:
            client.info()
        assert server.header(0, "Authorization") == f"Bearer {KEY}"
        assert all(KEY not in repr(shown) for shown in (client, raised.value, client._address, AsyncClient(key=KEY)))


def test_a_key_that_is_sent_unencrypted_to_another_machine_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"unencrypted to faces\.internal"):
        Client("http://faces.internal:8000", KEY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for url in ("https://faces.internal", "http://localhost:1", "http://127.0.0.9", "http://[::1]:8"):
            Client(url, KEY)
