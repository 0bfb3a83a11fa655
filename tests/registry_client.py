"""A small client of the registry protocol, which hides nothing: every answer with its status,
headers and bytes.
"""

import http.client
import json
import select
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from tests.parts.images import ACCEPT_ALL, Image, digest_of


TIMEOUT_SECONDS: Final = 30.0
"""How long the server may be silent in the middle of an exchange."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered.

    Attributes:
        status: HTTP status.
        headers: as sent, repeated ones repeated.
        body: bytes of the body.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str:
        """Return the header's value, or an empty text if it was not sent."""
        return self.headers.get(name, "")

    def json(self) -> Any:  # noqa: ANN401 -- JSON: the test says what it expects
        """Return the body, read as JSON."""
        return json.loads(self.body)

    def codes(self) -> list[str]:
        """Return the codes of an error answer, such as ``MANIFEST_UNKNOWN``."""
        return [error["code"] for error in self.json()["errors"]]

    def expect(self, *statuses: int) -> Self:
        """Return this answer if its status is one of `statuses`.

        Raises:
            AssertionError: it is another; the message shows the body.
        """
        assert self.status in statuses, (
            f"status {self.status}, not {statuses}: {self.body[:2000]!r}"
        )
        return self


class RegistryClient:
    """Speaks to one registry, over one connection that is kept as long as the server keeps it.

    Not for use by several threads at once.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        `target` is a path with its query, or an absolute URL as a Location may be. A body given in
        pieces is sent with ``Transfer-Encoding: chunked``. A connection that the server closed
        while idle is opened again.
        """
        parts = urlsplit(target)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._drop_if_closed_by_server()
        try:
            self._connection.request(method, path, body=body, headers=dict(headers or {}))
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BaseException:
            self._connection.close()
            raise

    def _drop_if_closed_by_server(self) -> None:
        """Close an idle connection on which something, so the server's end of it, has arrived."""
        idle = self._connection.sock
        if idle is not None and select.select([idle], [], [], 0)[0]:
            self._connection.close()

    # Blobs

    def start_upload(self, name: str) -> str:
        """Begin an upload and return its Location."""
        answer = self.request("POST", f"/v2/{name}/blobs/uploads/", headers={"Content-Length": "0"})
        return answer.expect(202).header("Location")

    def push_blob(self, name: str, body: bytes, *, algorithm: str = "sha256") -> str:
        """Push `body` by POST and PUT and return its digest."""
        digest = digest_of(body, algorithm)
        location = with_query(self.start_upload(name), digest=digest)
        self.request("PUT", location, body=body, headers=OCTETS).expect(201)
        return digest

    def push_blob_in_chunks(self, name: str, body: bytes, size: int) -> str:
        """Push `body` by POST, PATCHes of `size` bytes and an empty PUT; return its digest."""
        location = self.start_upload(name)
        for start in range(0, len(body), size):
            chunk = body[start : start + size]
            headers = {**OCTETS, "Content-Range": f"{start}-{start + len(chunk) - 1}"}
            answer = self.request("PATCH", location, body=chunk, headers=headers).expect(202)
            location = answer.header("Location")
        digest = digest_of(body)
        self.request("PUT", with_query(location, digest=digest), body=b"").expect(201)
        return digest

    def blob(self, name: str, digest: str, *, method: str = "GET") -> Answer:
        """Ask for a blob."""
        return self.request(method, f"/v2/{name}/blobs/{digest}")

    # Manifests

    def push_manifest(self, name: str, reference: str, body: bytes, media_type: str) -> Answer:
        """Push a manifest and return the answer."""
        headers = {"Content-Type": media_type}
        return self.request("PUT", f"/v2/{name}/manifests/{reference}", body=body, headers=headers)

    def manifest(
        self, name: str, reference: str, *, accept: Iterable[str] = ACCEPT_ALL, method: str = "GET"
    ) -> Answer:
        """Ask for a manifest by tag or digest."""
        headers = {"Accept": ", ".join(accept)}
        return self.request(method, f"/v2/{name}/manifests/{reference}", headers=headers)

    def delete_manifest(self, name: str, reference: str) -> Answer:
        """Ask for the deletion of a tag or of a manifest."""
        return self.request("DELETE", f"/v2/{name}/manifests/{reference}")

    def push_image(self, name: str, top: Image, *tags: str) -> str:
        """Push `top` with all it refers to, under `tags` or, without any, by digest; return its
        digest.
        """
        for each in top.everything():
            for content in each.blobs:
                self.push_blob(name, content.body)
            references = tags if each is top and tags else (each.digest,)
            for reference in references:
                answer = self.push_manifest(
                    name, reference, each.manifest.body, each.manifest.media_type
                )
                answer.expect(201)
        return top.digest

    # Lists

    def tags(self, name: str) -> list[str]:
        """Return the tags of a repository, all pages of them; none if it is not known."""
        pages = list(self._pages(f"/v2/{name}/tags/list"))
        if pages[0].status == http.HTTPStatus.NOT_FOUND:
            return []
        return [tag for page in pages for tag in page.expect(200).json()["tags"] or []]

    def catalog(self) -> list[str]:
        """Return the names of all repositories, all pages of them."""
        pages = self._pages("/v2/_catalog?n=100")
        return [name for page in pages for name in page.expect(200).json()["repositories"]]

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Return the descriptors of what refers to `digest`, all pages of them."""
        pages = self._pages(f"/v2/{name}/referrers/{digest}")
        return [entry for page in pages for entry in page.expect(200).json()["manifests"]]

    def _pages(self, target: str) -> Iterator[Answer]:
        """Yield the page at `target` and those that its ``Link: <...>; rel="next"`` leads to."""
        while target:
            page = self.request("GET", target)
            yield page
            target = page.header("Link").partition("<")[2].partition(">")[0]


OCTETS: Final = {"Content-Type": "application/octet-stream"}
"""Headers of a request that carries bytes of a blob."""


def with_query(location: str, **parameters: str) -> str:
    """Return `location` with `parameters` added to its query."""
    return f"{location}{'&' if '?' in location else '?'}{urlencode(parameters)}"


def assert_served(client: RegistryClient, name: str, top: Image, *tags: str) -> None:
    """Assert that `top` and all it refers to are served byte for byte, by `tags` and by digest, GET
    and HEAD.
    """
    for each in top.everything():
        references = [each.digest, *(tags if each is top else ())]
        for reference in references:
            got = client.manifest(name, reference).expect(200)
            assert got.body == each.manifest.body
            assert got.header("Content-Type") == each.manifest.media_type
            assert got.header("Docker-Content-Digest") == each.digest
            head = client.manifest(name, reference, method="HEAD").expect(200)
            assert head.header("Content-Length") == str(len(each.manifest.body))
            assert head.header("Docker-Content-Digest") == each.digest
        for content in each.blobs:
            assert client.blob(name, content.digest).expect(200).body == content.body
            head = client.blob(name, content.digest, method="HEAD").expect(200)
            assert head.header("Content-Length") == str(len(content.body))
