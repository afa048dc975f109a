"""Secrets of every kind that are known by name or by look, each with a part that must never be seen."""

import itertools

#: What nothing harmless has in it.
MARK = "Zq7"

_numbers = itertools.count(10_000)


def _fresh():
    return f"{MARK}{next(_numbers)}xYw"


#: Keys that name a secret, in any spelling.
KEYS = (
    *("password", "db.password", "dbPassword", "DB_PASSWD", "userpassword", "pwd", "passphrase", "smtp_pass"),
    *("new_password", "password_new", "password2", "passwordHash", "secret", "client_secret", "clientSecret"),
    *("AWS_SECRET_ACCESS_KEY", "token", "access_token", "accessToken", "refreshtoken", "X-CSRF-Token"),
    *("authorization", "Authorization", "Proxy-Authorization", "http.request.header.authorization", "auth"),
    *("apiKey", "x-api-key", "API_KEY", "APIKEY", "private_key", "privateKeyPem", "signing-key", "ssh_key"),
    *("cookie", "Set-Cookie", "http.request.header.cookie", "PHPSESSID", "credential", "user_credentials"),
    *("cvv", "card_number", "creditCardNumber", "IBAN", "connection_string", "secrets", "tokens"),
)

#: Keys that sound like it and name something else.
HARMLESS_KEYS = (
    *("tokens_used", "token_count", "token_type", "gen_ai.token.type", "password_reset", "password_length"),
    *("author", "authority", "authentication.method", "keyboard", "monkey", "key", "session.id", "secretary"),
    *(
        "bypass",
        "compass",
        "passenger",
        "cookie_consent",
        "tokenizer",
        "order_id",
        "routing_key",
        "card_type",
    ),
    *("oauth_provider", "k8s.secret.name", "value", "hash", "text", "aws.s3.key", "db.query.text"),
)


def texts():
    """Yield texts with a secret in each, which has the mark in it."""
    yield f"Bearer abc.{_fresh()}"
    yield f"sent authorization: Basic {_fresh()}== twice"
    yield f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{_fresh()}"
    yield f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{_fresh()}+a/b=\n-----END RSA PRIVATE KEY-----"
    yield f"cannot connect to postgres://joe:{_fresh()}@db.internal:5432/shop"
    yield f"postgres://joe:p@{_fresh()}@db/shop"
    yield f"https://{_fresh()}abcdefgh@git.example.com/shop.git"
    yield f"redis://:{_fresh()}@cache:6379/0"
    yield f"ghp_{_fresh()}abcdefghijklmnopqrstuvw"
    yield f"key sk-{_fresh()}abcdefghijklmnop was refused"
    yield f"sk-proj-abcdefgh-{_fresh()}-ijkl"
    yield f"glpat-{_fresh()}abcdefghijklm"
    yield f"xoxb-123456789012-{_fresh()}abcdefgh"
    yield f"login with password={_fresh()} failed"
    yield f"bad password: {_fresh()}"
    yield f'{{"user": "joe", "password": "{_fresh()} and more", "n": 1}}'
    yield f"{{'api_key': '{_fresh()}'}}"
    yield f'{{\\"client_secret\\": \\"{_fresh()}\\"}}'
    yield f"https://shop.example.com/cb?code=1&access_token={_fresh()}&state=2"
    yield f"GET / HTTP/1.1\r\nCookie: session={_fresh()}; theme=dark\r\nHost: a"
    yield f"Set-Cookie: id={_fresh()}; Path=/"
    yield f"Settings(db_password='{_fresh()}', port=1)"


#: Secrets that are known by their look alone, and cannot have the mark in them.
BARE = (
    *(
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5500005555555559",
        "378282246310005",
        "6011111111111117",
    ),
    "AKIAIOSFODNN7EXAMPLE",
)

#: Texts that look a little like it, and stay as they are.
HARMLESS = (
    *("tokens_used=5", "password_reset=true", "1234567890123456", "order 4111111111111112 was packed"),
    *("550e8400-e29b-41d4-a716-446655440000", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),
    *("GET /orders/42?page=2&sort=asc", "http://example.com:8080/a@b", "unexpected token: }"),
    *("bearer of bad news", "basic authentication failed for user", "Basic plan purchased", "secret: none"),
    *(
        "2024-01-02T03:04:05.000Z",
        "1700000000000000000",
        "mailto:a@b.example",
        "https://example.com/users/@me",
    ),
    *("password reset requested", "Password must be 8 characters", "The token has expired", "author: Jane"),
    *("invalid password: required", "postgres://db:5432/x", "digest sha256:abcd", "4242-4242", "key=value"),
    *("risk-assessment-2024-report-final", "http://[::1]:80/", "basic understanding", "cookie: missing"),
    *("password=<redacted>", "Grüße", "", "x", "Europe/Berlin", "127.0.0.1:5432", "task-sk-12"),
)
