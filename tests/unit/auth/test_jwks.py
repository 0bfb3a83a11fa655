"""Where the keys of issuers come from, and how often they are asked for."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, OctKey
from typing_extensions import override

from dockyard.auth.jwks import (
    DOCUMENT_LIMIT,
    IssuerKeys,
    check_url,
    fetch,
    of_file,
    of_issuer,
    of_url,
    parse,
)
from dockyard.auth.keys import Key, KeysInvalidError
from tests.inprocess import recorded_log


KEY = ECKey.generate_key("P-256")


def jwk(kid: str = "one", **more: object) -> dict[str, object]:
    return {**KEY.as_dict(private=False), "kid": kid, **more}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys or (jwk(),)}).encode()


@contextmanager
def web(pages: Mapping[str, bytes | int | str]) -> Iterator[str]:
    """Serve pages, statuses or redirections; yield the URL of it."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path, 404)
            self.send_response(
                page if isinstance(page, int) else 302 if isinstance(page, str) else 200
            )
            if isinstance(page, str):
                self.send_header("Location", page)
            self.end_headers()
            if isinstance(page, bytes):
                self.wfile.write(page)

        @override
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestSources:
    def test_an_issuer_tells_where_its_keys_are(self) -> None:
        pages: dict[str, bytes | int | str] = {"/keys": key_set()}
        with web(pages) as url:
            document = {"issuer": url, "jwks_uri": f"{url}/keys"}
            pages["/.well-known/openid-configuration"] = json.dumps(document).encode()
            assert set(of_issuer(url)) == {"one"}
            pages["/.well-known/openid-configuration"] = json.dumps(
                document | {"issuer": "other"}
            ).encode()
            with pytest.raises(KeysInvalidError, match="about another issuer"):
                of_issuer(url)
            pages["/.well-known/openid-configuration"] = json.dumps(
                document | {"jwks_uri": "file:///etc/passwd"}
            ).encode()
            with pytest.raises(KeysInvalidError, match="not a URL of https"):
                of_issuer(url)

    @pytest.mark.parametrize(
        ("page", "told"),
        [
            (404, "answered 404"),
            (204, "answered 204"),
            ("http://127.0.0.1:1/", "answered 302"),
            (b"x", "not JSON"),
            (b"[]", "not a JSON object"),
            (b"{}", "no key to verify signatures with"),
            (b"x" * (DOCUMENT_LIMIT + 1), "too long"),
        ],
        ids=["absent", "empty", "elsewhere", "text", "list", "object", "long"],
    )
    def test_what_is_no_set_of_keys_is_told(self, page: bytes | int | str, told: str) -> None:
        with web({"/": page}) as url, pytest.raises(KeysInvalidError, match=told):
            of_url(f"{url}/")

    def test_who_does_not_answer_is_told(self) -> None:
        with pytest.raises(KeysInvalidError, match="can't reach http://127"):
            fetch("http://127.0.0.1:1/")

    @pytest.mark.parametrize(
        "url", ["http://issuer.example/", "file:///etc/passwd", "ftp://x", "https://", "", "x"]
    )
    def test_only_what_nobody_on_the_way_can_change_is_fetched(self, url: str) -> None:
        with pytest.raises(KeysInvalidError, match="not a URL of https"):
            check_url(url)

    def test_keys_that_verify_no_signature_are_passed_over(self) -> None:
        secret = OctKey.generate_key(256)
        found = parse(
            key_set(
                jwk("one"),
                jwk("two", use="enc"),
                {**secret.as_dict(private=True), "kid": "three"},
                {"kty": "strange", "kid": "four"},
                {"kty": "EC", "kid": "five"},
                {**jwk(), "kid": 6},
                "seven",
            ),
            "x",
        )
        assert set(found) == {"one"}

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "jwks.json"
        with pytest.raises(KeysInvalidError, match=f"can't read {path}: no such file"):
            of_file(path)
        path.write_bytes(key_set())
        assert set(of_file(path)) == {"one"}


class Asked:
    """A source that counts how often it is asked.

    Attributes:
        names: the keys there are; `None` if there are none to be had.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] | None = ("one",)
        self.count = 0

    def __call__(self) -> Mapping[str, Key]:
        self.count += 1
        if self.names is None:
            raise KeysInvalidError("gone")
        return dict.fromkeys(self.names, KEY)


class TestIssuerKeys:
    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def source(self) -> Asked:
        return Asked()

    @pytest.fixture
    def keys(self, source: Asked, now: list[float]) -> IssuerKeys:
        return IssuerKeys("issuer", source, lambda: now[0])

    async def test_they_are_fetched_when_they_are_needed(
        self, keys: IssuerKeys, source: Asked
    ) -> None:
        assert source.count == 0
        both = await asyncio.gather(keys.of("one"), keys.of("one"))
        assert [set(each.by_name) for each in both] == [{"one"}, {"one"}]
        assert source.count == 1

    async def test_an_unknown_key_makes_them_be_fetched_once_a_minute(
        self, keys: IssuerKeys, source: Asked, now: list[float]
    ) -> None:
        for name in ("one", "made-up", "another"):
            await keys.of(name)
        assert source.count == 1
        source.names = ("two",)
        now[0] = 61.0
        assert set((await keys.of("two")).by_name) == {"two"}
        for number in range(5):
            await keys.of(f"made-up-{number}")
        assert source.count == 2

    async def test_old_ones_are_used_while_they_can_t_be_had_but_not_for_ever(
        self, keys: IssuerKeys, source: Asked, now: list[float]
    ) -> None:
        await keys.of("one")
        source.names = None
        with recorded_log() as entries:
            now[0] = 3601.0
            assert (await keys.of("one")).by_name  # and they are fetched meanwhile
            await keys.of("two")
            assert source.count == 2
            assert [(each["event"], each["reason"]) for each in entries] == [
                ("keys of an issuer can't be fetched", "gone")
            ]
            now[0] = 86401.0
            assert not (await keys.of("one")).by_name

    async def test_a_key_that_was_taken_back_is_forgotten_within_the_hour(
        self, keys: IssuerKeys, source: Asked, now: list[float]
    ) -> None:
        await keys.of("one")
        source.names = ("two",)
        now[0] = 3601.0
        await keys.of("one")
        await keys.of("two")
        assert set((await keys.of("two")).by_name) == {"two"}

    async def test_a_source_that_breaks_is_told(self, now: list[float]) -> None:
        def broken() -> Mapping[str, Key]:
            raise RuntimeError("oops")

        with recorded_log() as entries:
            assert not (await IssuerKeys("issuer", broken, lambda: now[0]).of("one")).by_name
        assert "oops" in entries[0]["reason"]
