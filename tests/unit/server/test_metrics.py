import pytest

from dockyard.server.metrics import Metrics, handler_of


@pytest.mark.parametrize(
    ("path", "handler"),
    [
        ("/v2/", "base"),
        ("/v2/_catalog", "catalog"),
        ("/v2/a/tags/list", "tags"),
        ("/v2/a/b/manifests/latest", "manifest"),
        ("/v2/a/blobs/sha256:00", "blob"),
        ("/v2/a/blobs/uploads/", "blob_upload"),
        ("/v2/a/blobs/uploads/1234", "blob_upload_chunk"),
        ("/v2/a/referrers/sha256:00", "referrers"),
        ("/", "other"),
        ("/v2/a", "other"),
        ("/other/v2/", "other"),
    ],
)
def test_paths_have_distribution_s_handler_names(path: str, handler: str) -> None:
    assert handler_of(path) == handler
    assert handler_of("/prefix" + path, "/prefix/") == handler


def scope(method: str = "GET", path: str = "/v2/") -> dict[str, object]:
    return {"method": method, "path": path}


def test_workers_are_added_up() -> None:
    metrics = Metrics(2)
    for worker in range(2):
        counter = metrics.counter(worker)
        counter.began(scope())
        counter.completed(scope(), 200, 2000, 30_000_000)
    lines = metrics.render().splitlines()
    assert 'registry_http_requests_total{code="200",handler="base",method="get"} 2' in lines
    duration = "registry_http_request_duration_seconds"
    assert f'{duration}_bucket{{handler="base",method="get",le="0.025"}} 0' in lines
    assert f'{duration}_bucket{{handler="base",method="get",le="0.05"}} 2' in lines
    assert f'{duration}_sum{{handler="base",method="get"}} 0.06' in lines
    assert 'registry_http_response_size_bytes_bucket{handler="base",le="4096"} 2' in lines
    assert metrics.requests == 2


def test_what_a_dead_worker_had_in_flight_is_forgotten_and_what_it_counted_is_not() -> None:
    metrics = Metrics(1)
    dead = metrics.counter(0)
    dead.began(scope())
    dead.completed(scope(), 200, 0, 0)
    dead.began(scope())
    assert 'registry_http_in_flight_requests{handler="base"} 1' in metrics.render()
    metrics.counter(0)
    assert 'registry_http_in_flight_requests{handler="base"} 0' in metrics.render()
    assert metrics.requests == 1


def test_unforeseen_methods_and_statuses_are_counted_as_others() -> None:
    metrics = Metrics(1)
    counter = metrics.counter(0)
    counter.began(scope("BREW", "/pot"))
    counter.completed(scope("BREW", "/pot"), 418, 0, 0)
    line = 'registry_http_requests_total{code="other",handler="other",method="other"} 1'
    assert line in metrics.render().splitlines()
