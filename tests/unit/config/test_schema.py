from dockyard.config.schema import VARIABLES, keys, schema


def test_every_other_name_of_a_variable_belongs_to_a_key() -> None:
    known = list(keys())
    for path in VARIABLES:
        assert any(key == path or key.startswith((f"{path}.", f"{path}[")) for key in known)


def test_the_schema_is_made_once() -> None:
    assert schema() is schema()


def test_keys_are_those_of_the_file() -> None:
    known = set(keys())
    assert {
        "http.headers.*[]",
        "log.hooks[].options.from",
        "storage.inmemory",
        "health.http[].uri",
        "log.fields.*",
        "loglevel",
        "redis.pool.maxidle",
    } <= known
