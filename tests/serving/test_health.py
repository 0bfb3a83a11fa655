"""The health checks and the debug listener of a running service."""

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

from tests.serving.live_registry import DEADLINE, LiveRegistry, live_registry, until


def ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def debug_port(live: LiveRegistry) -> int:
    found = re.search(r"debug server listening 127\.0\.0\.1:(\d+)", live.log)
    assert found
    return int(found[1])


DEBUG = {"addr": "127.0.0.1:0", "prometheus": {"enabled": True}}


def quick(**keys: Any) -> dict[str, Any]:  # noqa: ANN401 -- values of YAML
    return {"interval": "30ms", **keys}


class TestChecks:
    def test_a_file_makes_every_worker_refuse_until_it_goes(self, tmp_path: Path) -> None:
        file = tmp_path / "down"
        with live_registry(
            tmp_path,
            http={"workers": 2, "debug": DEBUG},
            health={"file": [quick(file=str(file))]},
        ) as live:
            port = debug_port(live)
            assert ask(port, "/debug/health") == (200, "{}")
            file.touch()
            until(lambda: ask(port, "/debug/health")[0] == 503)
            assert json.loads(ask(port, "/debug/health")[1]) == {str(file): "file exists"}
            for _ in range(8):
                status, body = ask(live.port, "/v2/")
                assert status == 503
                assert json.loads(body)["errors"] == [
                    {
                        "code": "UNAVAILABLE",
                        "message": "service unavailable",
                        "detail": "health check failed: please see /debug/health",
                    }
                ]
            assert 'msg="health check failed"' in live.log
            file.unlink()
            until(lambda: ask(live.port, "/v2/")[0] == 200)

    def test_tcp_and_http_have_thresholds(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            closed = f"127.0.0.1:{taken.getsockname()[1]}"
        uri = f"http://{closed}/x"
        with live_registry(
            tmp_path,
            http={"debug": DEBUG},
            health={
                "tcp": [quick(addr=closed, threshold=3), quick(addr=closed, threshold=10_000)],
                "http": [quick(uri=uri, threshold=2)],
            },
        ) as live:
            port = debug_port(live)
            until(lambda: len(json.loads(ask(port, "/debug/health")[1])) == 2)
            failures = json.loads(ask(port, "/debug/health")[1])
            assert set(failures) == {closed, uri}
            assert "connection to" in failures[closed]

    def test_http_expects_a_status(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        with (
            live_registry(other) as checked,
            live_registry(
                tmp_path,
                http={"debug": DEBUG},
                health={
                    "http": [
                        quick(uri=f"{checked.url}/v2/"),
                        quick(uri=f"{checked.url}/nowhere"),
                        quick(uri=f"{checked.url}/elsewhere", statuscode=404),
                    ]
                },
            ) as live,
        ):
            port = debug_port(live)
            until(lambda: ask(port, "/debug/health")[0] == 503)
            assert json.loads(ask(port, "/debug/health")[1]) == {
                f"{checked.url}/nowhere": (
                    "downstream service returned unexpected status: 404, expected: 200"
                )
            }

    def test_a_storage_that_goes_away_is_noticed(self, tmp_path: Path) -> None:
        check = {"enabled": True, "interval": "30ms", "threshold": 2}
        with live_registry(
            tmp_path, http={"debug": DEBUG}, health={"storagedriver": check}
        ) as live:
            assert ask(live.port, "/v2/")[0] == 200
            (tmp_path / "data").rename(tmp_path / "gone")
            until(lambda: ask(live.port, "/v2/")[0] == 503)
            assert "storagedriver_filesystem" in ask(debug_port(live), "/debug/health")[1]
            (tmp_path / "gone").rename(tmp_path / "data")
            until(lambda: ask(live.port, "/v2/")[0] == 200)


class TestDebugListener:
    def test_requests_of_all_workers_are_counted(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"workers": 2, "debug": DEBUG}) as live:
            for _ in range(30):
                ask(live.port, "/v2/")
            for _ in range(3):
                ask(live.port, "/v2/a/b/manifests/x")
            port = debug_port(live)
            until(lambda: json.loads(ask(port, "/debug/vars")[1])["registry"]["requests"] == 33)
            text = ask(port, "/metrics")[1]
        lines = set(text.splitlines())
        assert 'registry_http_requests_total{code="200",handler="base",method="get"} 30' in lines
        counted = 'registry_http_requests_total{code="404",handler="manifest",method="get"} 3'
        assert counted in lines
        name = "registry_http_request_duration_seconds"
        assert f'{name}_count{{handler="base",method="get"}} 30' in lines
        assert f'{name}_bucket{{handler="base",method="get",le="+Inf"}} 30' in lines
        assert 'registry_http_response_size_bytes_sum{handler="base"} 60' in lines
        assert 'registry_http_in_flight_requests{handler="base"} 0' in lines

    def test_the_main_listener_tells_nothing(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"debug": DEBUG}) as live:
            assert ask(live.port, "/metrics")[0] == 404
            assert ask(live.port, "/debug/health")[0] == 404
            assert ask(debug_port(live), "/v2/")[0] == 404

    def test_metrics_are_served_only_if_enabled(self, tmp_path: Path) -> None:
        with live_registry(tmp_path, http={"debug": {"addr": "127.0.0.1:0"}}) as live:
            assert ask(debug_port(live), "/metrics")[0] == 404
            assert ask(debug_port(live), "/debug/health") == (200, "{}")
