"""What is measured, and what each row aims at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.content import (
    IMAGES,
    MIXED,
    MIXED_SIZE,
    REFERRERS,
    REPOSITORY,
    STORM,
)
from benchmarks.contestants import NGINX, OURS, REGISTRIES, V3, ZOT
from benchmarks.measures import (
    Measure,
    Unit,
    after,
    at_rest,
    hold,
    load,
    once,
    starting,
    wrk,
)


FILLED: Final = (*REGISTRIES, ZOT)
"""Who serves what can be pushed to it; the trees of the lists are too large for that."""

EVERYONE: Final = (*FILLED, NGINX)
MB: Final = 1 << 20
SIZES: Final = (1_000, 10_000, 100_000)
"""Repositories, and tags of one of them, in the trees of the lists."""

CONNECTIONS: Final = 1_000
CLIENTS: Final = 500


@dataclass(frozen=True, slots=True)
class Stage:
    """One start of each contestant.

    Attributes:
        name: as ``--rows`` and the results know it.
        tree: which tree it serves: ``main``, ``empty``, ``referrers`` or a number of repositories.
        gate: ``token`` or ``htpasswd``, or nothing.
        tls: whether it speaks TLS.
    """

    name: str
    tree: str = "main"
    gate: str = ""
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """What Dockyard's figure should be.

    Attributes:
        figure: which one of a measurement.
        bound: what it, or its ratio, may be at most.
        at_least: `bound` is what it should be at least.
        peer: the ratio is to this contestant's figure in the same row.
        row: the ratio is to Dockyard's figure in this row.
    """

    figure: str
    bound: float
    at_least: bool = False
    peer: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        key: as ``--rows`` and the results know it.
        title: as printed.
        stage: with which server.
        measure: what is done.
        unit: what the work is counted in.
        aims: what Dockyard should reach.
        who: who takes part.
    """

    key: str
    title: str
    stage: Stage
    measure: Measure
    unit: Unit = Unit.REQUEST
    aims: Sequence[Aim] = ()
    who: Sequence[str] = FILLED


def cpu(bound: float) -> Aim:
    """Aim at a share of distribution's CPU."""
    return Aim("cpu", bound, peer=V3)


def faster(bound: float) -> Aim:
    """Aim at a multiple of distribution's throughput."""
    return Aim("rate", bound, at_least=True, peer=V3)


READ: Final = Stage("read")
PUSH: Final = Stage("push", "empty")
STORMS: Final = Stage("storm")
REST: Final = Stage("rest")
IDLE: Final = Stage("idle")
SLOW: Final = Stage("slow")
ENDLESS: Final = Stage("endless", "empty")
TOKEN: Final = Stage("token", gate="token")
HTPASSWD: Final = Stage("htpasswd", gate="htpasswd")
TLS: Final = Stage("tls", tls=True)
REFERRED: Final = Stage("referrers", "referrers")
LISTS: Final = {size: Stage(f"lists-{size}", str(size)) for size in SIZES}

_IMAGE: Final = f"/v2/{REPOSITORY}"
_TAG: Final = f"{_IMAGE}/manifests/v1"
_DIGEST: Final = f"{_IMAGE}/manifests/{{manifest}}"
_SMALL: Final = f"{_IMAGE}/blobs/{{small}}"
_BLOB: Final = f"{_IMAGE}/blobs/{{large}}"
_ACCEPT: Final = "Accept: application/vnd.docker.distribution.manifest.v2+json"


def manifests() -> list[Row]:
    """Return the rows of manifests and small blobs."""
    quarter, small = (cpu(1 / 4), faster(4)), (cpu(1 / 15), faster(10))
    head = load("get", Unit.REQUEST, path=_TAG, method="HEAD", connections=16, header=_ACCEPT)

    def row(key: str, title: str, measure: Measure, aims: Sequence[Aim] = quarter) -> Row:
        return Row(key, title, READ, measure, aims=aims, who=EVERYONE)

    return [
        row("manifest-tag", "Manifest by tag, 16", wrk(_TAG, 16)),
        row("manifest-tag-256", "Manifest by tag, 256", wrk(_TAG, 256)),
        row("manifest-digest", "Manifest by digest, 16", wrk(_DIGEST, 16)),
        row("manifest-digest-256", "Manifest by digest, 256", wrk(_DIGEST, 256)),
        row("manifest-head", "HEAD of a manifest, 16", head),
        row("small", "Blob of 2 KB, 16", wrk(_SMALL, 16), small),
    ]


def large() -> list[Row]:
    """Return the rows of the large blob."""
    aims = (cpu(0.8),)
    ranged = wrk(_BLOB, 4, unit=Unit.GIGABYTE, header="Range: bytes=100000000-100999999")
    return [
        *(
            Row(f"large-{count}", f"Blob of 240 MB, {count}", READ,
                wrk(_BLOB, count, unit=Unit.GIGABYTE), Unit.GIGABYTE, aims, EVERYONE)
            for count in (1, 4, 16)
        ),
        Row("large-range", "Ranges of 1 MB of it, 4", READ, ranged, Unit.GIGABYTE, aims, EVERYONE),
    ]  # fmt: skip


def pushes() -> list[Row]:
    """Return the rows of pushes; all three sync a blob before they acknowledge it."""
    aims = (faster(1 / 0.7), cpu(0.8))
    again = load("existing", Unit.IMAGE, layers=16, size=4096, connections=4)

    def push(images: int, layers: int, size: int) -> Measure:
        return load("push", Unit.IMAGE, images=images, layers=layers, size=size)

    return [
        Row("push-large", "Push, 240 MB", PUSH, push(3, 1, 240_000_000), Unit.IMAGE, aims),
        Row("push-16", "Push, 16 layers of 1 MB", PUSH, push(10, 16, 1 << 20), Unit.IMAGE, aims),
        Row("push-200", "Push, 200 layers of 4 KB", PUSH, push(2, 200, 4096), Unit.IMAGE, aims),
        Row("push-existing", "Push, 16 layers that exist", PUSH, again, Unit.IMAGE, (faster(3),)),
    ]  # fmt: skip


def crowds() -> list[Row]:
    """Return the rows of many clients."""
    aims = (faster(1.5), Aim("p99", 0.5, peer=V3), Aim("errors", 0))
    many = load("mixed", Unit.REQUEST, times=30, repository=MIXED, images=IMAGES,
                layers=2, size=MIXED_SIZE, connections=64)  # fmt: skip

    def storm(images: int) -> Measure:
        return load("storm", Unit.IMAGE, repository=STORM, images=images, connections=CLIENTS)

    return [
        Row("storm-1", f"{CLIENTS} clients pull one image", STORMS, storm(1), Unit.IMAGE, aims),
        Row("storm-50", f"{CLIENTS} clients pull {IMAGES} images", STORMS, storm(IMAGES),
            Unit.IMAGE, aims),
        Row("mixed", "80 % pulls, 15 % checks, 5 % pushes, 64 clients", STORMS, many,
            aims=(faster(2), Aim("errors", 0))),
    ]  # fmt: skip


def lists() -> list[Row]:
    """Return the rows of the catalog and of tags; the pages are in the middle."""
    found: list[Row] = []
    kinds = {
        "catalog": ("Catalog, 100 of {} repositories", "/v2/_catalog?n=100&last={middle_team}"),
        "tags": ("Tags, 100 of {}", "/v2/bench/tags/tags/list?n=100&last={middle_tag}"),
    }
    found.append(
        Row("start", f"Start, {SIZES[-1]} repositories", LISTS[SIZES[-1]], starting,
            Unit.START, (Aim("seconds", 1),), REGISTRIES)
    )  # fmt: skip
    for kind, (title, path) in kinds.items():
        for size in SIZES:
            growth = Aim("cpu", math.sqrt(size / SIZES[0]), row=f"{kind}-{SIZES[0]}")
            aims = {SIZES[0]: (), SIZES[1]: (faster(10), growth), SIZES[2]: (growth,)}[size]
            measure = wrk(path, 4, times=2 if size == SIZES[-1] else 1)
            row = Row(f"{kind}-{size}", title.format(size), LISTS[size], measure, aims=aims)
            found.append(replace(row, who=REGISTRIES))
    return found


def referrers() -> list[Row]:
    """Return the rows of referrers, which docker-distribution does not have."""
    path = "/v2/bench/referrers-{0}/referrers/{{referrers_{0}}}"
    most = REFERRERS[-1]
    found = [Row("referrers-first", f"Referrers, {most}, the first request after a start", REFERRED,
                 once(path.format(most)), who=[OURS, ZOT])]  # fmt: skip
    for count in REFERRERS:
        aims = (Aim("p99", 0.02),) if count == most else ()
        measure = after(wrk(path.format(count), 16), wrk(path.format(count), 1))
        title = f"Referrers, {count}, one connection"
        found.append(
            Row(f"referrers-{count}", title, REFERRED, measure, aims=aims, who=[OURS, ZOT])
        )
    return found


def memory() -> list[Row]:
    """Return the rows of memory; each has a server that has just been started."""
    endless = hold("push", 64, seconds=6, size=1 << 30)
    return [
        Row("idle", "Idle", REST, at_rest, aims=(Aim("memory", 200 * MB),), who=EVERYONE),
        Row("idle-1000", f"{CONNECTIONS} idle connections", IDLE, hold("idle", CONNECTIONS),
            aims=(Aim("each", 32 << 10), Aim("errors", 0))),
        Row("slow-1000", f"{CONNECTIONS} slow pulls of 240 MB", SLOW,
            hold("pull", CONNECTIONS, path=_BLOB), aims=(Aim("each", MB), Aim("errors", 0))),
        Row("push-64", "64 pushes of 1 GB, broken off after 6 s", ENDLESS, endless,
            aims=(Aim("each", 4 * MB), Aim("errors", 0))),
    ]  # fmt: skip


def guarded() -> list[Row]:
    """Return the rows behind a gate, and those by TLS."""
    aims = (Aim("cpu", 1.3, row="manifest-tag"), Aim("errors", 0))
    let_in = wrk(_TAG, 16, header="Authorization: {authorization}")
    bearing = after(let_in, let_in)
    tls = (cpu(1.0),)
    second = load("get", Unit.REQUEST, path=_TAG, connections=16, http2=True, header=_ACCEPT)
    both = load("get", Unit.GIGABYTE, path=_BLOB, connections=4, http2=True)
    return [
        Row("token", "Manifest by tag, bearer token, 16", TOKEN, bearing, aims=aims, who=[OURS]),
        Row("htpasswd", "Manifest by tag, htpasswd, 16", HTPASSWD, bearing, aims=aims, who=[OURS]),
        Row("tls-manifest", "Manifest by tag, TLS 1.3, 16", TLS, wrk(_TAG, 16),
            aims=tls, who=EVERYONE),
        Row("tls-large", "Blob of 240 MB, TLS 1.3, 4", TLS, wrk(_BLOB, 4, unit=Unit.GIGABYTE),
            Unit.GIGABYTE, tls, EVERYONE),
        Row("tls-manifest-2", "Manifest by tag, HTTP/2, 16 streams", TLS, second,
            aims=tls, who=EVERYONE),
        Row("tls-large-2", "Blob of 240 MB, HTTP/2, 4 streams", TLS, both,
            Unit.GIGABYTE, tls, EVERYONE),
    ]  # fmt: skip


def rows() -> list[Row]:
    """Return all rows, in the order of the table."""
    return [
        *manifests(), *large(), *pushes(), *crowds(), *lists(), *referrers(), *memory(), *guarded(),
    ]  # fmt: skip
