"""Each image starts shut in, as an account that is not root, and answers a real query or scrape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from lab.images import offline
from lab.images.base import DEBIAN_12, DEBIAN_13
from lab.images.engine import Engine
from lab.stack.home import locate

from .containers import Bench, docker, inside, stop, until

# Building all images for the first time takes some minutes.
pytestmark = pytest.mark.timeout(1800)

DATABASE = Path(__file__).resolve().parents[2] / "database"
IMAGES = offline.variables()
ACCOUNTS = {
    "POSTGRES_IMAGE": 999,
    "PGBOUNCER_IMAGE": 10001,
    "PROMETHEUS_IMAGE": 65534,
    "POSTGRES_EXPORTER_IMAGE": 65534,
    "PGBOUNCER_EXPORTER_IMAGE": 65534,
    "POOLSCOPE_IMAGE": 10001,
}
SOCKETS = "--tmpfs=/var/run/postgresql:mode=1777"
SECRETS = {
    "SERVICE_DB_PASSWORD": "service-word",
    "EXPORTER_DB_PASSWORD": "exporter-word",
    "PGBOUNCER_STATS_PASSWORD": "stats-word",
}
ROWS = {"SEED_USERS": "50", "SEED_POSTS": "200", "SEED_COMMENTS": "300"}


@pytest.fixture(scope="module")
def images() -> None:
    """The offline images, built where they are not there."""
    offline.build_all(locate(), Console(quiet=True))


@pytest.fixture(scope="module")
def bench(images: None) -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@dataclass(frozen=True)
class Servers:
    """Containers of the seeded database and of PgBouncer in front of it."""

    bench: Bench
    postgres: str
    pgbouncer: str
    users: str


def start_postgres(bench: Bench, name: str, volume: str) -> str:
    container = bench.start(
        name,
        IMAGES["POSTGRES_IMAGE"],
        *("postgres", "-c", "config_file=/etc/poolscope/postgresql.conf"),
        *("-c", "hba_file=/var/lib/postgresql/data/pg_hba.conf", "-c", "listen_addresses=*"),
        more=[
            SOCKETS,
            f"--volume={volume}:/var/lib/postgresql/data",
            f"--volume={DATABASE}:/etc/poolscope:ro",
        ],
        POSTGRES_PASSWORD="super-word",
    )
    until(container, *sql("SELECT 1"))
    return container


def sql(query: str) -> list[str]:
    """Return the command that asks PostgreSQL over TCP: as an entrypoint works, it answers none."""
    script = 'PGPASSWORD=super-word psql -qAtX -h 127.0.0.1 -U postgres -d postgres -c "$0"'
    return ["sh", "-c", script, query]


@pytest.fixture(scope="module")
def servers(bench: Bench) -> Servers:
    """PostgreSQL, seeded, and PgBouncer with a pool size of its own."""
    users = bench.volume("users")
    postgres = start_postgres(bench, "postgres", bench.volume("data"))
    seeded = bench.run(
        IMAGES["POOLSCOPE_IMAGE"],
        *("python", "-m", "database.provision"),
        more=[f"--volume={users}:/var/lib/poolscope"],
        POSTGRES_HOST="postgres",
        POSTGRES_PASSWORD="super-word",
        PGBOUNCER_USERLIST="/var/lib/poolscope/userlist.txt",
        **SECRETS,
        **ROWS,
    )
    assert seeded.returncode == 0, seeded.stderr
    pgbouncer = start_pgbouncer(bench, "pgbouncer", users)
    return Servers(bench, postgres, pgbouncer, users)


def start_pgbouncer(bench: Bench, name: str, users: str) -> str:
    container = bench.start(
        name,
        IMAGES["PGBOUNCER_IMAGE"],
        more=[f"--volume={users}:/var/lib/poolscope:ro"],
        PGBOUNCER_DEFAULT_POOL_SIZE="7",
        **SECRETS,
    )
    until(container, "pgbouncer-healthy")
    return container


@pytest.mark.parametrize("variable", ACCOUNTS)
def test_image_runs_as_an_account_of_its_own(bench: Bench, variable: str) -> None:
    """None is root, and each has the account that the official image has."""
    shown = bench.run(IMAGES[variable], "-u", more=["--entrypoint=id"])
    assert int(shown.stdout) == ACCOUNTS[variable]


def test_images_are_found_the_second_time(images: None) -> None:
    """Nothing is made again where nothing changed."""
    engine = Engine.open()
    names = [DEBIAN_12.name, DEBIAN_13.name, *IMAGES.values()]
    before = {name: engine.image(name) for name in names}
    assert None not in before.values()
    assert offline.missing(engine) == []
    offline.build_all(locate(), Console(quiet=True))
    assert {name: engine.image(name) for name in names} == before


def test_postgres_keeps_its_data(bench: Bench) -> None:
    """Made in UTF-8 on first start; found by the next; ended by its own signal."""
    postgres = start_postgres(bench, "kept", bench.volume("kept"))
    assert until(postgres, *sql("SHOW server_encoding")).strip() == "UTF8"
    until(postgres, *sql("CREATE TABLE kept AS SELECT 42 AS n"))
    assert inside(postgres, "pgbench", "--version").stdout.startswith("pgbench (PostgreSQL) 17")
    assert inside(postgres, "touch", "/etc/written").returncode != 0
    assert stop(postgres) == 0
    docker("start", postgres)
    assert until(postgres, *sql("SELECT n FROM kept")).strip() == "42"


def test_postgres_makes_half_made_data_again(bench: Bench) -> None:
    """A start that was killed while it made the data leaves nothing to be taken for it."""
    volume = bench.volume("half")
    half = "mkdir /data/.new && echo 17 >/data/.new/PG_VERSION && mkdir /data/base"
    as_postgres = ["--user=999", f"--volume={volume}:/var/lib/postgresql/data"]
    half = half.replace("/data", "/var/lib/postgresql/data")
    left = bench.run(IMAGES["POSTGRES_IMAGE"], "-c", half, more=["--entrypoint=sh", *as_postgres])
    assert left.returncode == 0, left.stderr
    start_postgres(bench, "half", volume)


def test_postgres_without_a_password_says_so(bench: Bench) -> None:
    """It does not make a database that anyone may enter."""
    done = bench.run(IMAGES["POSTGRES_IMAGE"], more=[SOCKETS])
    assert done.returncode == 1
    assert "POSTGRES_PASSWORD" in done.stderr


def test_pgbouncer_answers_through_and_has_its_toggles(servers: Servers) -> None:
    """Its health check is real queries, and a toggle of the environment is in force."""
    assert inside(servers.pgbouncer, "pgbouncer-healthy").returncode == 0
    ask = "PGPASSWORD=stats-word psql -qAtX -h 127.0.0.1 -p 6432 -U poolscope_pgbouncer_stats "
    shown = inside(servers.pgbouncer, "sh", "-c", ask + "-d pgbouncer -c 'SHOW CONFIG'").stdout
    assert "default_pool_size|7|" in shown
    assert "max_prepared_statements|200|" in shown


def test_pgbouncer_ends_at_once_with_a_client_connected(servers: Servers) -> None:
    """It does not wait for clients."""
    pgbouncer = start_pgbouncer(servers.bench, "ending", servers.users)
    ask = "PGPASSWORD=service-word psql -qAtX -h 127.0.0.1 -p 6432 -U poolscope_service "
    docker("exec", "--detach", pgbouncer, "sh", "-c", ask + "-d poolscope -c 'SELECT pg_sleep(99)'")
    until(servers.postgres, *sql("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'sleep.99'"),
          right=lambda shown: int(shown) > 0)  # fmt: skip
    assert stop(pgbouncer) == 0


def test_pgbouncer_without_a_user_list_says_so(bench: Bench) -> None:
    """PgBouncer itself would start, and refuse every client."""
    done = bench.run(IMAGES["PGBOUNCER_IMAGE"])
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "run the seed first" in done.stderr


def test_prometheus_scrapes_and_shows_its_pages(bench: Bench) -> None:
    """Its own target is up, and every file that its page asks for is there."""
    address = "http://127.0.0.1:9090"
    config = "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: itself, static_configs: "
    config += "[{targets: ['127.0.0.1:9090']}]}]\n"
    script = 'printf %s "$0" >/tmp/p.yml && exec prometheus --config.file=/tmp/p.yml "$@"'
    prometheus = bench.start(
        "prometheus",
        IMAGES["PROMETHEUS_IMAGE"],
        *("-c", script, config, "--storage.tsdb.path=/prometheus"),
        more=["--entrypoint=sh", f"--volume={bench.volume('samples')}:/prometheus"],
    )
    query = ["promtool", "query", "instant", address, 'up{job="itself"}']
    until(prometheus, *query, right=lambda shown: "=> 1 @" in shown)
    files = f"for f in $(wget -qO- {address}/classic/graph | grep -oE '/classic/static/[^\"]+'); "
    files += f"do wget -qO /dev/null {address}$f || exit 1; echo $f; done"
    loaded = inside(prometheus, "sh", "-c", files)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.count(".js") > 3


@pytest.mark.parametrize(
    ("variable", "port", "env", "up"),
    [
        (
            "POSTGRES_EXPORTER_IMAGE",
            9187,
            {
                "DATA_SOURCE_URI": "postgres:5432/poolscope?sslmode=disable",
                "DATA_SOURCE_USER": "poolscope_exporter",
                "DATA_SOURCE_PASS": SECRETS["EXPORTER_DB_PASSWORD"],
            },
            "pg_up 1",
        ),
        (
            "PGBOUNCER_EXPORTER_IMAGE",
            9127,
            {
                "PGBOUNCER_EXPORTER_CONNECTION_STRING": "postgres://poolscope_pgbouncer_stats:"
                "stats-word@pgbouncer:6432/pgbouncer?sslmode=disable"
            },
            "pgbouncer_up 1",
        ),
    ],
)
def test_exporter_reaches_its_server(
    servers: Servers, variable: str, port: int, env: dict[str, str], up: str
) -> None:
    """The official image's variables, and a scrape by the health check's own command."""
    exporter = servers.bench.start(f"exporter-{port}", IMAGES[variable], **env)
    scrape = ["wget", "-q", "-O", "-", f"http://127.0.0.1:{port}/metrics"]
    until(exporter, *scrape, right=lambda shown: f"\n{up}\n" in shown)


@pytest.mark.parametrize("framework", ["fastapi", "django", "flask"])
def test_service_answers_through_pgbouncer(servers: Servers, framework: str) -> None:
    """The measured request answers, by each framework."""
    service = servers.bench.start(
        framework,
        IMAGES["POOLSCOPE_IMAGE"],
        FRAMEWORK=framework,
        ROUTE="pgbouncer",
        DB_HOST="pgbouncer",
        DB_PORT="6432",
        DB_PASSWORD=SECRETS["SERVICE_DB_PASSWORD"],
        WORKERS="2",
        **ROWS,
    )
    until(service, "healthy", "8000", "/healthz")
    until(service, "healthy", "8000", "/benchmark/db-test")
    absent = inside(service, "healthy", "8000", "/no-such-page")
    assert absent.returncode == 1
    assert "404" in absent.stderr
    assert stop(service) == 0


def test_one_image_holds_exporter_and_load(bench: Bench) -> None:
    """Poolscope's exporter and the load are commands of the services' image."""
    image = IMAGES["POOLSCOPE_IMAGE"]
    listed = bench.run(image, "locust", "--locustfile", "loadtest/locustfile.py", "--list",
                       SCENARIO="db-test", LOADTEST_DIR="/tmp")  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    done = bench.run(image, "python", "-m", "monitoring.exporter")
    assert done.returncode == 2
    assert "EXPORTER_STATE_FILE" in done.stderr
