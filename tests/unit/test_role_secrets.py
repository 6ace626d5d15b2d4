"""Secrets: what RFC 7677, libpq and PostgreSQL make of the same password."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from psycopg import pq

from database.role_secrets import md5_secret, role_secret, scram_secret, secret_fits, userlist


def test_scram_secret_agrees_with_rfc_7677():
    """The keys of the exchange in section 3 give the client's proof and the server's signature."""
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    secret = scram_secret("pencil", 4096, salt)
    stored, server = (base64.b64decode(part) for part in secret.split("$")[2].split(":"))
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.digest(server, message, "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    mask = hmac.digest(stored, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, mask, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def libpq_secret(algorithm: bytes) -> str:
    conn = pq.PGconn.connect_start(b"host=/nonexistent")  # encrypts without a server
    return conn.encrypt_password(b"correct horse", b"role", algorithm).decode()


def test_scram_secret_agrees_with_libpq():
    """Libpq's own secret, with its random salt, is recognised as this password's."""
    secret = libpq_secret(b"scram-sha-256")
    assert secret_fits(secret, "scram-sha-256", "role", "correct horse", 4096)
    assert not secret_fits(secret, "scram-sha-256", "role", "wrong horse", 4096)


def test_md5_secret_agrees_with_libpq():
    assert libpq_secret(b"md5") == md5_secret("role", "correct horse")


def test_secret_fits_only_its_own_kind_and_iterations():
    """What does not fit is replaced: another kind, number of iterations, password or form."""
    secret = role_secret("scram-sha-256", "role", "word", 16)
    assert secret_fits(secret, "scram-sha-256", "role", "word", 16)
    assert not secret_fits(secret, "scram-sha-256", "role", "word", 4096)
    assert not secret_fits(secret, "md5", "role", "word", 16)
    assert not secret_fits(None, "scram-sha-256", "role", "word", 16)
    assert not secret_fits("SCRAM-SHA-256$16:broken", "scram-sha-256", "role", "word", 16)
    assert secret_fits(md5_secret("role", "word"), "md5", "role", "word", 16)
    assert not secret_fits(md5_secret("other", "word"), "md5", "role", "word", 16)


def test_scram_secret_draws_a_new_salt_each_time():
    assert scram_secret("word", 16) != scram_secret("word", 16)


@pytest.mark.parametrize("password", ["", "pässword", "tab\there"])
def test_scram_secret_refuses_what_saslprep_could_change(password):
    with pytest.raises(ValueError, match="printable ASCII"):
        scram_secret(password, 4096)


def test_scram_secret_refuses_no_iterations():
    with pytest.raises(ValueError, match="at least 1 iteration"):
        scram_secret("word", 0)


def test_userlist_quotes_roles_and_secrets():
    assert userlist([("plain", "md5abc"), ('we"ird', 'a"b')]) == (
        '"plain" "md5abc"\n"we""ird" "a""b"\n'
    )


@pytest.mark.parametrize("row", [("role", ""), ("role", "two\nlines"), ("ro\nle", "x")])
def test_userlist_refuses_what_pgbouncer_cannot_read(row):
    with pytest.raises(ValueError, match="user list"):
        userlist([row])
