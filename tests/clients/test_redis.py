from __future__ import annotations

import asyncio
import ssl

import pytest
from pydantic import SecretStr
from redis import exceptions
from redis.asyncio.connection import SSLConnection

from penstock.clients.redis import Sentinel, _close, _made, classify_error, client
from penstock.clients.tls import Tls
from penstock.errors import ConfigError, ConnectionLost, PermanentError, TransientError
from penstock.testing.servers import make_certificate

URL = SecretStr("redis://user:s3cret%21@localhost:6379/3")


async def test_it_connects_when_it_is_used(redis_url):
    made = client(SecretStr(redis_url))
    assert await made.set("a", "1")
    assert await made.get("a") == b"1"
    await made.aclose()


async def test_a_url_gives_user_password_database_and_tls():
    made = client(SecretStr("rediss://user:p%40ss@redis.example:6380/3"))
    options = made.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("redis.example", 6380, 3)
    assert (options["username"], options["password"]) == ("user", "p@ss")
    assert made.connection_pool.connection_class.__name__ == "SSLConnection"
    assert options.get("ssl_cert_reqs", "required") == "required"
    assert options.get("ssl_check_hostname", True)
    await made.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://user:s3cret@localhost",
        "redis://",
        "redis://:s3cret@",
        "redis://user:s3cret@localhost:port",
        "redis://user:s3cret@localhost:99999",
        "redis://user:s3cret@localhost/first",
        "redis://user:s3cret@localhost?socket_timeout=soon",
        "redis://user:s3cret@[::1",
    ],
)
def test_what_is_no_url_of_a_redis_is_refused_without_its_password(url):
    with pytest.raises(ConfigError, match="expected redis://") as raised:
        client(SecretStr(url))
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ConnectionError("refused"), ConnectionLost),
        (exceptions.TimeoutError(), ConnectionLost),
        (TimeoutError(), ConnectionLost),
        (OSError("reset"), ConnectionLost),
        (exceptions.BusyLoadingError("loading"), TransientError),
        (exceptions.ReadOnlyError("READONLY"), TransientError),
        (exceptions.OutOfMemoryError("OOM"), TransientError),
        (exceptions.ResponseError("MISCONF cannot save"), TransientError),
        (exceptions.AuthenticationError("wrong"), PermanentError),
        (exceptions.NoPermissionError("no"), PermanentError),
        (ssl.SSLCertVerificationError("self-signed"), PermanentError),
        (exceptions.ResponseError("ERR unknown command"), PermanentError),
        (TransientError("as it was"), TransientError),
    ],
)
def test_errors_are_told_apart(error, kind):
    assert type(classify_error(error, URL)) is kind


def test_an_error_does_not_show_the_password():
    error = classify_error(exceptions.ConnectionError(f"cannot reach {URL.get_secret_value()} with s3cret!"), URL)
    assert "s3cret" not in str(error)
    assert "localhost" in str(error)


async def test_a_wrong_password_is_permanent(redis_url):
    url = SecretStr(redis_url.replace("redis://:", "redis://:not"))
    made = client(url)
    with pytest.raises(exceptions.AuthenticationError) as raised:
        await made.ping()
    assert isinstance(classify_error(raised.value, url), PermanentError)
    await made.aclose()


async def test_a_killed_server_is_a_lost_connection_and_comes_back(redis_server):
    url = SecretStr(redis_server.url)
    made = client(url, timeout=0.5)
    assert await made.ping()
    await asyncio.to_thread(redis_server.kill)
    for _ in range(2):
        with pytest.raises(exceptions.ConnectionError) as raised:
            await made.ping()
        assert isinstance(classify_error(raised.value, url), ConnectionLost)
    await asyncio.to_thread(redis_server.start)
    assert await made.ping()
    await made.aclose()


async def test_tls_reaches_the_sentinels_and_the_server_they_name(tmp_path):
    made = make_certificate(tmp_path)
    mode = Sentinel(urls=["rediss://redis.example:26379"])
    master = await _made(mode, mode.urls[0], Tls(ca=made.certificate), 1.0)
    watcher = master.connection_pool.sentinel_manager.sentinels[0]
    for pool in (master.connection_pool, watcher.connection_pool):
        assert issubclass(pool.connection_class, SSLConnection)
        assert pool.connection_kwargs["ssl_ca_certs"] == str(made.certificate)
    await _close(master)
