"""Access is a column of the route table: no route may be without a rule."""

import inspect

import pytest

from dockyard.auth.actions import Action
from dockyard.http.routes import EXTENSION, ROUTES, TOKEN_ROUTES, Route


READS = {Action.BASE, Action.PULL, Action.CATALOG, Action.ADMIN}
NEEDS = {
    "GET": READS,
    "HEAD": READS,
    "POST": {Action.PUSH, Action.ADMIN},
    "PUT": {Action.PUSH},
    "PATCH": {Action.PUSH},
    "DELETE": {Action.DELETE, Action.ADMIN},
}
"""Source: distribution v3.1.1, registry/handlers/app.go, appendAccessRecords."""


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.endpoint} {route.method}")
def test_a_route_needs_what_its_method_does(route: Route) -> None:
    assert route.needs in NEEDS[route.method]


@pytest.mark.parametrize("route", TOKEN_ROUTES, ids=lambda route: f"{route.path} {route.method}")
def test_only_the_token_service_is_open_and_lies_outside_of_the_api(route: Route) -> None:
    assert route.needs is Action.OPEN
    assert route.path.startswith("auth/")


def test_the_action_of_a_route_has_no_default() -> None:
    assert inspect.signature(Route).parameters["needs"].default is inspect.Parameter.empty


def test_no_two_routes_answer_the_same_request() -> None:
    requests = [(route.method, route.path) for route in ROUTES]
    assert len(set(requests)) == len(requests)


def test_every_endpoint_of_the_spec_is_there() -> None:
    spec = {*range(1, 11), 12, 13, 14}  # end-11 is a POST of end-4, with `mount` in its query
    there = {route.endpoint for route in ROUTES if not route.path.startswith(EXTENSION)}
    there -= {"catalog"}
    assert there == {f"end-{number}" for number in spec}
