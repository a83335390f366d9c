"""The database behaves alike on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, insert, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, select

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.database.engine import MIGRATIONS, migrate, open_database, reading, writing
from rayonnage_shared.database.tables import PromotionRow, UserRow, now
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S


def _user(username: str) -> UserRow:
    return UserRow(username=username, password_hash="x", role="user", active=True, created_at=now())


def test_migrations_make_exactly_the_tables_that_the_code_declares(engine: Engine) -> None:
    found = inspect(engine)
    assert set(found.get_table_names()) == {*SQLModel.metadata.tables, "alembic_version"}
    for name, table in SQLModel.metadata.tables.items():
        assert {column["name"] for column in found.get_columns(name)} == set(table.columns.keys())
        assert {index["name"] for index in found.get_indexes(name)} == {index.name for index in table.indexes}


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(_user("alice"))
    migrate(engine)
    with reading(engine) as session:
        assert session.exec(select(UserRow.username)).all() == ["alice"]


def test_a_database_that_is_up_to_date_is_seen_to_be_so_without_alembic(engine: Engine, database_url: str) -> None:
    code = (
        "import sys; from rayonnage_shared.database.engine import migrate, open_database;"
        "migrate(open_database(sys.argv[1])); print('alembic' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_database_of_an_earlier_version_gets_what_it_lacks(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE feedback"))
        connection.execute(text("DROP TABLE predictions"))
        connection.execute(text("ALTER TABLE jobs RENAME COLUMN concurrency_group TO lane"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    migrate(engine)
    assert inspect(engine).has_table("predictions") and inspect(engine).has_table("feedback")
    assert "concurrency_group" in {column["name"] for column in inspect(engine).get_columns("jobs")}


def test_migrations_are_one_line_and_their_files_begin_with_their_revisions() -> None:
    revisions = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    names = {one.revision: Path(one.path).name for one in revisions}
    assert all(name.startswith(f"{revision}_") for revision, name in names.items())
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [max(names)]


def test_several_processes_may_migrate_an_empty_database_at_once(database_url: str) -> None:
    code = (
        "import sys; from rayonnage_shared.database.engine import migrate, open_database;"
        "migrate(open_database(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, database_url]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(killed_at_end(subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
            for _ in range(3)
        ]
        errors = [process.communicate(timeout=PATIENCE_S)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 3, errors


def test_several_threads_may_migrate_databases_at_once(tmp_path: Path) -> None:
    engines = [open_database(f"sqlite:///{tmp_path}/{number}.db") for number in range(8)]
    with ThreadPoolExecutor(len(engines)) as threads:
        list(threads.map(migrate, engines))
    for one in engines:
        assert inspect(one).has_table("predictions")
        one.dispose()


def test_a_read_before_a_write_is_never_overtaken(engine: Engine) -> None:
    """A counter raised by read and write loses nothing under eight threads."""
    with writing(engine) as session:
        session.add(PromotionRow(move_id="m", version="0", moved_by="a", moved_at=now(), reason=""))

    def raise_counter(_: int) -> None:
        with writing(engine) as session:
            row = session.exec(select(PromotionRow).with_for_update()).one()
            row.version = str(int(row.version) + 1)
            session.add(row)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(raise_counter, range(80)))
    with reading(engine) as session:
        assert session.exec(select(PromotionRow.version)).one() == "80"


def test_an_error_inside_writing_undoes_everything(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="stop"), writing(engine) as session:
        session.add(_user("alice"))
        session.flush()
        raise RuntimeError("stop")
    with pytest.raises(IntegrityError), writing(engine) as session:
        session.add(_user("bob"))
        session.exec(insert(UserRow).values(username="carol"))
    with writing(engine) as session:  # the lock is free again
        assert session.exec(select(UserRow)).all() == []


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    inside, done = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with writing(engine) as session:
            session.add(_user("alice"))
            session.flush()
            inside.set()
            done.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(write_slowly)
        assert inside.wait(PATIENCE_S)
        with reading(engine) as session:
            assert session.exec(select(UserRow)).all() == []
        done.set()
        writer.result(PATIENCE_S)
    with reading(engine) as session:
        assert session.exec(select(UserRow.username)).all() == ["alice"]


def test_times_come_back_in_utc_to_the_microsecond(engine: Engine) -> None:
    moment = now().replace(microsecond=123_457)
    with writing(engine) as session:
        session.add(UserRow(username="alice", password_hash="x", role="user", active=True, created_at=moment))
    with reading(engine) as session:
        assert session.exec(select(UserRow.created_at)).one() == moment


@pytest.mark.system
def test_a_plain_postgresql_address_uses_the_driver_that_is_installed(postgresql: str) -> None:
    opened = open_database(postgresql.replace("postgresql+psycopg", "postgresql"))
    with opened.connect() as connection:
        assert connection.dialect.driver == "psycopg"
    opened.dispose()


def test_a_port_that_is_no_number_is_refused_without_the_password() -> None:
    with pytest.raises(InvalidSetting, match="`DATABASE_URL` must be sqlite:///path or postgresql") as refused:
        open_database("postgresql://jane:hidden@db:port/x")
    assert "hidden" not in str(refused.value)
