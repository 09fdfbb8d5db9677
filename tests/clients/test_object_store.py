"""Object store options, addresses and errors."""

from __future__ import annotations

from collections.abc import Iterator

import obstore
import pytest
from pydantic import TypeAdapter, ValidationError

from penstock.clients.object_store import S3, Az, Gs, Http, Store, locate, path_within, translated
from penstock.errors import ConfigError, ConnectionLost, PermanentError, TransientError
from penstock.testing.servers import free_port, s3

STORE = TypeAdapter(Store)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3() as address:
        yield address


def s3_store(endpoint: str, **options: object) -> S3:
    given = {"bucket_name": "penstock", "access_key_id": "key", "secret_access_key": "hidden", "region": "us-east-1"}
    return S3.model_validate({**given, "endpoint": endpoint, "allow_http": True, **options})


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (
            {
                "type": "s3",
                "bucket_name": "b",
                "access_key_id": "a",
                "secret_access_key": "s",
                "endpoint": "http://127.0.0.1:9000",
                "region": "eu-west-1",
                "allow_http": True,
            },
            S3,
        ),
        ({"type": "s3", "bucket_name": "b"}, S3),
        ({"type": "gs", "bucket_name": "b", "service_account_key": "{}", "url": "gs://b"}, Gs),
        ({"type": "az", "account": "a", "container_name": "c", "access_key": "a2V5"}, Az),
        ({"type": "az", "account": "a", "container_name": "c", "endpoint": "http://127.0.0.1:10000/a"}, Az),
        ({"type": "http", "url": "http://127.0.0.1:8080/files"}, Http),
    ],
)
def test_every_kind_of_store_is_told_apart_by_its_type(options: dict[str, object], kind: type) -> None:
    store = STORE.validate_python(options)
    assert type(store) is kind
    if "service_account_key" not in options:
        store.connect()


def test_hdfs_is_refused_with_the_names_that_are_supported() -> None:
    with pytest.raises(ValidationError, match="hdfs is not supported; expected one of s3, gs, az, http"):
        STORE.validate_python({"type": "hdfs", "url": "hdfs://node"})


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="did you mean 'bucket_name'"):
        STORE.validate_python({"type": "s3", "bucket": "b"})


def test_two_service_accounts_are_refused() -> None:
    with pytest.raises(ValidationError, match="not both"):
        STORE.validate_python(
            {"type": "gs", "bucket_name": "b", "service_account_path": "p", "service_account_key": "k"}
        )


def test_a_web_address_with_a_query_string_is_refused() -> None:
    with pytest.raises(ValidationError, match="query string"):
        Http(url="http://127.0.0.1/a?token=x")


def test_secrets_are_in_no_text_of_a_store() -> None:
    store = S3.model_validate({"bucket_name": "b", "secret_access_key": "hidden"})
    assert "hidden" not in f"{store!r} {store} {store.model_dump_json()}"


@pytest.mark.parametrize(
    ("address", "kind", "path"),
    [
        ("s3://bucket/a/*.json", S3, "a/*.json"),
        ("gs://bucket/a.csv", Gs, "a.csv"),
        ("az://container/a.csv", Az, "a.csv"),
        ("abfss://container@account.dfs.core.windows.net/a/b.csv", Az, "a/b.csv"),
        ("https://example.org/files/a.csv", Http, "a.csv"),
    ],
)
def test_an_address_names_a_store_and_a_path_in_it(address: str, kind: type, path: str) -> None:
    found = locate(address)
    assert found is not None
    assert (type(found[0]), found[1]) == (kind, path)


def test_a_local_path_names_no_store() -> None:
    assert locate("data/*.json") is None
    assert locate("/var/data.json") is None


@pytest.mark.parametrize("address", ["s3:///a", "ftp://host/a", "hdfs://host/a"])
def test_an_address_that_cannot_be_used_is_a_config_error(address: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        locate(address)


def test_credentials_of_an_address_come_from_the_environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    found = locate("s3://penstock/from-environment")
    assert found is not None
    store = found[0].connect()
    obstore.put(store, found[1], b"here")
    assert bytes(obstore.get(store, found[1]).bytes()) == b"here"


def test_what_is_not_there_is_a_permanent_error(endpoint: str) -> None:
    store = s3_store(endpoint).connect()
    with (
        pytest.raises(PermanentError, match=r"reading nothing: not found.*key does not exist"),
        translated("reading nothing"),
    ):
        obstore.get(store, "nothing")
    elsewhere = s3_store(endpoint, bucket_name="elsewhere").connect()
    with pytest.raises(PermanentError, match=r"listing.*bucket does not exist"), translated("listing"):
        obstore.list(elsewhere).collect()


def test_a_failed_precondition_is_a_permanent_error(endpoint: str) -> None:
    store = s3_store(endpoint).connect()
    obstore.put(store, "once", b"1")
    with pytest.raises(PermanentError, match="writing once"), translated("writing once"):
        obstore.put(store, "once", b"2", mode="create")


def test_an_unreachable_server_is_a_transient_error() -> None:
    store = s3_store(f"http://127.0.0.1:{free_port()}").connect()
    with pytest.raises(TransientError, match="reading x"), translated("reading x"):
        obstore.get(store, "x")


def test_http_that_was_not_allowed_is_a_permanent_error(endpoint: str) -> None:
    store = s3_store(endpoint, allow_http=False).connect()
    with pytest.raises(PermanentError, match="reading x"), translated("reading x"):
        obstore.get(store, "x")


def test_refused_credentials_are_a_lost_connection_and_no_row_is_at_fault() -> None:
    with pytest.raises(ConnectionLost, match="permission denied"), translated("reading x"):
        raise PermissionError("403 Forbidden")


def test_an_error_tells_no_signature_and_no_debug_text() -> None:
    raised = obstore.exceptions.GenericError(
        "Generic error: GET http://h/a?X-Signature=hidden in 3ms - status code: 503 Busy: <?xml?>\n\n"
        "Debug source:\nsecret"
    )
    with pytest.raises(TransientError) as caught, translated("reading a"):
        raise raised
    assert "hidden" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("store", "address"),
    [
        (S3(bucket_name="b"), "s3://b/folder/*.json"),
        (S3(bucket_name="b"), "folder/*.json"),
        (Gs(bucket_name="b"), "gs://b/folder/*.json"),
        (Az(container_name="b", account="a"), "az://b/folder/*.json"),
        (Http(url="https://host/files"), "https://host/files/folder/*.json"),
    ],
)
def test_an_address_beside_its_store_is_a_path_within(store: S3 | Gs | Az | Http, address: str) -> None:
    assert path_within(store, address) == "folder/*.json"


@pytest.mark.parametrize("address", ["s3://c/x", "gs://b/x", "https://host/x"])
def test_an_address_in_another_store_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        path_within(S3(bucket_name="b"), address)
    with pytest.raises(ValueError, match="is not below"):
        path_within(Http(url="https://other"), address)
