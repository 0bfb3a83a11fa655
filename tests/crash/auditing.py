"""Compares what a server has with what its clients were told."""

import hashlib
import http.client
import re
from collections import Counter
from typing import Final

from tests.crash.pushing import Ledger, PendingUpload
from tests.live import LiveRegistry
from tests.parts.images import digest_of
from tests.registry_client import OCTETS, RegistryClient, with_query


LINK: Final = re.compile(rb"sha256:[0-9a-f]{64}")


class Auditor:
    """Compares what a restarted server has with what its clients know."""

    def __init__(self, registry: LiveRegistry, counts: Counter[str]) -> None:
        self._registry = registry
        self._counts = counts
        self._hashed: set[str] = set()

    def audit(self, ledger: Ledger, repository: str) -> None:
        """Check all that `ledger` knows, and all that the tree has of `repository`."""
        with RegistryClient(self._registry.address) as client:
            self._audit_blobs(client, ledger)
            self._audit_manifests(client, ledger)
            self._audit_tags(client, ledger)
            self._audit_lists(client, ledger)
            for pending in ledger.pending:
                self._resume(client, pending)
        self._audit_tree(repository)

    def _audit_blobs(self, client: RegistryClient, ledger: Ledger) -> None:
        for (repository, digest), size in ledger.blobs.items():
            body = client.blob(repository, digest).expect(200).body
            assert (len(body), digest_of(body)) == (size, digest)
            self._counts["blobs verified"] += 1

    def _audit_manifests(self, client: RegistryClient, ledger: Ledger) -> None:
        for (repository, digest), body in ledger.manifests.items():
            assert client.manifest(repository, digest).expect(200).body == body
            self._counts["manifests verified"] += 1

    def _audit_tags(self, client: RegistryClient, ledger: Ledger) -> None:
        for (repository, tag), digests in ledger.tags.items():
            answer = client.manifest(repository, tag)
            if answer.status == http.HTTPStatus.NOT_FOUND:
                assert (repository, tag) not in ledger.acknowledged_tags, f"{tag} is lost"
                assert tag not in client.tags(repository)
                continue
            pointed = answer.expect(200).header("Docker-Content-Digest")
            assert pointed in digests, f"{tag} points to {pointed}, not to one of {digests}"
            assert digest_of(answer.body) == pointed
            self._counts["tags verified"] += 1

    def _audit_lists(self, client: RegistryClient, ledger: Ledger) -> None:
        """Check that lists are whole, and that all they name is served."""
        catalog = client.catalog()
        for repository in {repository for repository, _ in ledger.manifests}:
            assert repository in catalog
        for repository in {repository for repository, _ in ledger.tags}:
            listed = client.tags(repository)
            wanted = {tag for name, tag in ledger.acknowledged_tags if name == repository}
            assert wanted <= set(listed)
            for tag in listed:
                manifest = client.manifest(repository, tag).expect(200).json()
                for each in (manifest["config"], *manifest["layers"]):
                    head = client.blob(repository, each["digest"], method="HEAD").expect(200)
                    assert head.header("Content-Length") == str(each["size"])

    def _resume(self, client: RegistryClient, pending: PendingUpload) -> None:
        """Finish an upload where it stopped, if the closing request did not do so already."""
        digest = digest_of(pending.body)
        status = client.request("GET", pending.location)
        if status.status == http.HTTPStatus.NOT_FOUND:
            # The closing request was being worked on when the kill came.
            assert status.codes() == ["BLOB_UPLOAD_UNKNOWN"]
            client.push_blob(pending.repository, pending.body)
            self._counts["uploads restarted"] += 1
        else:
            last = status.expect(204).header("Range")
            received = 0 if last == "0-0" else int(last.removeprefix("0-")) + 1
            assert pending.acknowledged <= received <= len(pending.body)
            rest = pending.body[received:]
            location = status.header("Location")
            headers = {**OCTETS, "Content-Range": f"{received}-{len(pending.body) - 1}"}
            if rest:
                answer = client.request("PATCH", location, body=rest, headers=headers)
                location = answer.expect(202).header("Location")
            client.request("PUT", with_query(location, digest=digest), body=b"").expect(201)
            self._counts["uploads resumed"] += 1
        body = client.blob(pending.repository, digest).expect(200).body
        assert body == pending.body

    def _audit_tree(self, repository: str) -> None:
        """Check on the disk that every blob has its digest and every link is whole."""
        base = self._registry.root / "docker/registry/v2"
        for path in (base / "blobs").glob("sha256/*/*/data"):
            if path.parent.name not in self._hashed:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name
                self._hashed.add(path.parent.name)
                self._counts["files hashed"] += 1
        for path in (base / "repositories" / repository).rglob("link"):
            assert LINK.fullmatch(path.read_bytes()), f"half a link: {path}"
            self._counts["links read"] += 1

    def hash_everything_again(self) -> None:
        """Check the digest of every blob on the disk, also of those checked before."""
        self._hashed.clear()
        self._audit_tree("")
