"""The TOML file that survives being edited: on real files, and under a real otpylib-config."""

import asyncio
import gc
import logging
import os
import shutil
import types

import pytest
from otpylib_config import Config, EnvironmentSource

from otpylib_telemetry.config.resolution import redacted
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.config.toml_source import TomlSource, known_sources
from otpylib_telemetry_otel.settings.model import OtelSettings
from tests.support.runtime import in_process
from tests.support.waiting import eventually

GOOD = '[telemetry.otel]\nservice_name = "shop"\nbatch_size = 50\n\n[app]\nname = "x"\n'
PARSED = {"telemetry": {"otel": {"service_name": "shop", "batch_size": 50}}, "app": {"name": "x"}}


class Clock:
    """Both clocks of a source: stands still until it is told."""

    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.toml"


def write(path, text, *, age=10.0):
    """Write a file as if ``age`` seconds ago."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - int(age * 1e9)))


def complaints(caplog, level=logging.WARNING):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


async def test_a_file_is_read(file):
    write(file, GOOD)
    assert await TomlSource(file).load() == PARSED


async def test_a_file_is_read_once_while_it_does_not_change(file):
    write(file, GOOD)
    source = TomlSource(file, wall_clock=Clock(file.stat().st_ctime + 60))
    for _ in range(5):
        assert await source.load() == PARSED
    assert source.reads == 1


async def test_a_young_file_is_read_again_because_its_time_may_not_show_a_change(file):
    write(file, GOOD)
    mtime = file.stat().st_mtime
    clock = Clock(mtime + 0.5)
    source = TomlSource(file, wall_clock=clock)
    await source.load()
    same_size = GOOD.replace("shop", "cart")
    file.write_text(same_size)
    os.utime(file, (mtime, mtime))
    clock.at = mtime + 60
    assert (await source.load())["telemetry"]["otel"]["service_name"] == "cart"
    await source.load()
    assert source.reads == 2


async def test_a_change_is_seen(file):
    write(file, GOOD)
    source = TomlSource(file)
    await source.load()
    write(file, GOOD.replace("50", "51"), age=5)
    assert (await source.load())["telemetry"]["otel"]["batch_size"] == 51


REPLACEMENTS = {
    "copied over it": lambda file, new: shutil.copy2(new, file),
    "moved over it": lambda file, new: new.replace(file),
    "removed before": lambda file, new: (file.unlink(), shutil.copy2(new, file)),
    "written in place": lambda file, new: file.write_bytes(new.read_bytes()),
    "a link to another": lambda file, new: (file.unlink(), file.symlink_to(new)),
}


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("seconds", [1, 10**9])
async def test_a_change_that_keeps_size_and_time_is_seen(file, replacement, seconds):
    # Long since settled: only what the file system says can tell of the change.
    clock = Clock(file.parent.stat().st_ctime + 60)
    file.write_text(GOOD)
    os.utime(file, (seconds, seconds))
    source = TomlSource(file, wall_clock=clock)
    await source.load()
    new = file.with_suffix(".new")
    new.write_text(GOOD.replace("shop", "cart"))
    os.utime(new, (seconds, seconds))
    await asyncio.sleep(0.02)  # file systems keep times in ticks
    REPLACEMENTS[replacement](file, new)
    os.utime(file, (seconds, seconds))
    assert (await source.load())["telemetry"]["otel"]["service_name"] == "cart"


async def test_a_relative_path_is_one_of_the_directory_it_was_named_in(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "etc" / "config.toml", GOOD)
    monkeypatch.chdir(tmp_path / "etc")
    source = TomlSource("config.toml")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert await source.load() == PARSED
    write(tmp_path / "elsewhere" / "config.toml", GOOD.replace("shop", "cart"))
    assert await source.load() == PARSED


DEEP = {
    "dotted keys": ("app." + ".".join(["a"] * 500) + " = 1\n", "app.a.a"),
    "a dotted header": ("[app.x." + ".".join(["a"] * 900) + "]\nb = 1\n", "app.x.a.a"),
    "lists": ("app.list = " + "[" * 70 + "]" * 70 + "\n", "app.list"),
    "tables in lists": ("app.list = [" + "{a=[" * 40 + "]}" * 40 + "]\n", "app.list.a"),
    "in a setting": (
        "telemetry.otel.resource." + ".".join(["a"] * 500) + " = 1\n",
        "telemetry.otel.resource",
    ),
    "in no section": (".".join(["a"] * 2000) + " = 1\n", "a.a.a"),
}


@pytest.mark.parametrize("deep", DEEP)
async def test_what_is_nested_too_deeply_is_left_out_aloud_and_the_rest_is_read(file, caplog, deep):
    text, path = DEEP[deep]
    write(file, text + "[telemetry.mock]\nbatch_size = 7\n[shallow]\na.b.c.d = [[[[1]]]]\n")
    source = TomlSource(file)
    content = await source.load()
    assert content["telemetry"]["mock"] == {"batch_size": 7}
    assert content["shallow"] == {"a": {"b": {"c": {"d": [[[[1]]]]}}}}
    (complaint,) = complaints(caplog)
    assert complaint.startswith(f"{file}: {path}")
    assert complaint.endswith(" is left out: it is nested more than 60 levels deep.")
    assert source.telemetry_tables()["mock"] == {"batch_size": 7}


@pytest.mark.parametrize("levels", [1, 5, 20, 50])
async def test_what_is_nested_deeply_is_read(file, caplog, levels):
    write(file, "app.list = " + "[" * levels + "1" + "]" * levels + "\n")
    (value,) = (await TomlSource(file).load())["app"].values()
    for _ in range(levels):
        (value,) = value
    assert value == 1
    assert not complaints(caplog)


async def test_a_file_replaced_by_another_is_read(file):
    write(file, GOOD)
    source = TomlSource(file)
    await source.load()
    other = file.with_suffix(".new")
    write(other, GOOD.replace("shop", "cart"))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert (await source.load())["telemetry"]["otel"]["service_name"] == "cart"


def make_directory(file):
    file.unlink()
    file.mkdir()


def make_fifo(file):
    file.unlink()
    os.mkfifo(file)


OUTAGES = {
    "malformed": (
        lambda file: write(file, GOOD + "[telemetry"),
        "is not valid TOML: Expected ']' at the end of a table declaration (at end of document)",
    ),
    "cut in a string": (
        lambda file: write(file, GOOD[:37]),
        "is not valid TOML: Unterminated string (at end of document)",
    ),
    "a key twice": (
        lambda file: write(file, GOOD.replace("batch_size", "service_name")),
        "is not valid TOML: Cannot overwrite a value (at line 3, column 18)",
    ),
    "emptied": (lambda file: write(file, ""), "is empty"),
    "blank": (lambda file: write(file, " \n\n"), "is empty"),
    "only comments": (lambda file: write(file, "# nothing\n"), "holds nothing but comments"),
    "removed": (lambda file: file.unlink(), "does not exist"),
    "a directory": (make_directory, "is not a regular file"),
    "a named pipe": (make_fifo, "is not a regular file"),
    "not UTF-8": (lambda file: write(file, GOOD.encode() + b'a = "\xff"\n'), "is not UTF-8 text (line 7)"),
    "UTF-16": (lambda file: write(file, GOOD.encode("utf-16")), "is not UTF-8 text (line 1)"),
    "nested too deeply": (
        lambda file: write(file, "a = " + "[" * 5000),
        "has tables or lists nested too deeply to be read",
    ),
}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_the_last_good_content_stays_while_the_file_cannot_be_used(file, caplog, outage):
    caplog.set_level(logging.INFO)
    write(file, GOOD)
    source = TomlSource(file)
    await source.load()
    spoil, reason = OUTAGES[outage]
    spoil(file)
    for _ in range(3):
        assert await source.load() == PARSED
    (complaint,) = complaints(caplog)
    assert complaint.startswith(f"{file} {reason}")
    assert complaint.endswith(
        "What was read from it last stays in force; it is looked at again at every reload."
    )
    assert source.trouble in complaint
    assert source.section_keys("otel") == {"service_name", "batch_size"}
    if file.is_dir():
        file.rmdir()
    elif file.exists():
        file.unlink()
    write(file, GOOD.replace("50", "51"), age=5)
    assert (await source.load())["telemetry"]["otel"]["batch_size"] == 51
    assert source.trouble is None
    assert complaints(caplog, logging.INFO) == [f"{file} is in order again and in force."]


async def test_each_mistake_is_told_once_and_the_end_of_them_all_once(file, caplog):
    write(file, GOOD)
    source = TomlSource(file)
    await source.load()
    for spoil in ("emptied", "malformed", "removed"):
        OUTAGES[spoil][0](file)
        await source.load()
    assert len(complaints(caplog)) == len(set(complaints(caplog))) > 1
    assert source.trouble == "does not exist"


async def test_an_unreadable_file_keeps_its_content(file, monkeypatch, caplog):
    write(file, GOOD)
    source = TomlSource(file)
    await source.load()
    write(file, GOOD, age=5)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file), "read_bytes", refuse)
    assert await source.load() == PARSED
    assert complaints(caplog)[0].startswith(f"{file} cannot be read: Permission denied.")


async def test_a_file_that_is_not_there_at_first_is_read_when_it_appears(file, caplog):
    source = TomlSource(file)
    assert await source.load() == {}
    assert complaints(caplog) == [
        f"{file} does not exist. Nothing was read from it yet; it is looked at again at every reload."
    ]
    write(file, GOOD)
    assert await source.load() == PARSED


async def test_a_byte_order_mark_does_no_harm(file):
    write(file, b"\xef\xbb\xbf" + GOOD.encode())
    assert await TomlSource(file).load() == PARSED


# --- half-written files that are valid TOML


async def test_keys_that_vanish_while_the_file_is_being_written_are_not_deleted(file):
    write(file, GOOD)
    clock = Clock(file.stat().st_mtime + 60)
    source = TomlSource(file, wall_clock=clock, monotonic=clock)
    await source.load()
    write(file, GOOD[: GOOD.index("batch_size")], age=0)
    clock.at = file.stat().st_mtime + 0.1
    assert await source.load() == PARSED
    clock.at += 0.5
    assert await source.load() == PARSED
    clock.at += 0.6
    assert await source.load() == {"telemetry": {"otel": {"service_name": "shop"}}}


async def test_a_last_line_without_its_end_is_not_believed_at_once(file):
    write(file, GOOD)
    clock = Clock(file.stat().st_mtime + 60)
    source = TomlSource(file, wall_clock=clock, monotonic=clock)
    await source.load()
    half = GOOD.replace('name = "x"\n', 'name = "x"\nport = 80')
    write(file, half, age=0)
    clock.at = file.stat().st_mtime + 0.1
    assert await source.load() == PARSED
    write(file, half + "80\n", age=0)
    clock.at = file.stat().st_mtime + 0.1
    assert (await source.load())["app"]["port"] == 8080


async def test_a_deletion_is_believed_even_if_the_files_time_lies_in_the_future(file):
    write(file, GOOD)
    wall, monotonic = Clock(file.stat().st_mtime + 60), Clock(0.0)
    source = TomlSource(file, wall_clock=wall, monotonic=monotonic)
    await source.load()
    write(file, "[app]\nname = 'x'\n", age=-3600)
    assert await source.load() == PARSED
    monotonic.at = 1.5
    assert await source.load() == {"app": {"name": "x"}}


async def test_recovery_is_not_announced_before_it_is_believed(file, caplog):
    caplog.set_level(logging.INFO)
    write(file, GOOD)
    clock = Clock(file.stat().st_mtime + 60)
    source = TomlSource(file, wall_clock=clock, monotonic=clock)
    await source.load()
    write(file, "", age=0)
    clock.at = file.stat().st_mtime + 0.1
    await source.load()
    write(file, "[app]\n", age=0)
    await source.load()
    assert complaints(caplog, logging.INFO) == []
    write(file, GOOD, age=0)
    await source.load()
    assert complaints(caplog, logging.INFO) == [f"{file} is in order again and in force."]


@pytest.mark.parametrize("cut", range(0, len(GOOD), 3))
async def test_no_cut_anywhere_loses_a_setting(file, cut):
    write(file, GOOD)
    clock = Clock(file.stat().st_mtime + 60)
    source = TomlSource(file, wall_clock=clock, monotonic=clock)
    await source.load()
    write(file, GOOD[:cut], age=0)
    clock.at = file.stat().st_mtime + 0.01
    assert await source.load() == PARSED


# --- placeholders


async def test_placeholders_are_replaced_and_an_unset_one_leaves_its_key_out(file, caplog):
    write(file, '[telemetry.otel]\nservice_name = "${A}"\napi_key = "${B}"\n[app]\npassword = "${C:-p}"\n')
    source = TomlSource(file, environ={"A": "shop"})
    for _ in range(2):
        assert await source.load() == {
            "telemetry": {"otel": {"service_name": "shop"}},
            "app": {"password": "p"},
        }
    assert complaints(caplog) == [
        (
            f"{file}: telemetry.otel.api_key is left out: the environment variable B is not set; "
            f"${{B:-...}} would give "
            "it a default; the file gives it no value."
        )
    ]
    assert source.section_keys("telemetry.otel") == {"service_name", "api_key"}


async def test_an_unset_placeholder_keeps_the_last_good_value(file, caplog):
    write(file, '[telemetry.otel]\napi_key = "k"\n[telemetry.otel.resource]\na = "1"\n')
    source = TomlSource(file, environ={})
    before = await source.load()
    write(file, '[telemetry.otel]\napi_key = "${B}"\n[telemetry.otel.resource]\na = "${B}"\nb = "2"\n', age=5)
    assert await source.load() == before
    assert len(complaints(caplog)) == 2
    assert all("; the file counts as giving its value before." in each for each in complaints(caplog))


async def test_what_came_from_a_placeholder_is_still_known_as_secret(file):
    write(
        file, '[telemetry.otel]\nservice_name = "${A}"\nresource = {a = "${A}"}\nevent_patterns = ["$${A}"]\n'
    )
    content = await TomlSource(file, environ={"A": "hunter2"}).load()
    resolution = resolve(OtelSettings, "otel", environ={"A": "other"}, config=content["telemetry"]["otel"])
    assert resolution.settings.service_name == "hunter2"
    assert resolution.settings.event_patterns == ("${A}",)
    assert redacted(resolution)["service_name"] == "<redacted>"
    assert "hunter2" not in repr(resolution)


# --- tables, copies, bookkeeping


async def test_tables_that_are_values_stay_whole(file):
    write(
        file, '[telemetry.otel.headers]\nx-team = "t"\n[telemetry.otel]\nbatch_size = 1\n[app.a.b.c]\nd = 1\n'
    )
    content = await TomlSource(file).load()
    assert isinstance(content["telemetry"]["otel"]["headers"], types.MappingProxyType)
    assert content["telemetry"]["otel"]["headers"] == {"x-team": "t"}
    assert content["app"] == {"a": {"b": {"c": {"d": 1}}}}
    assert isinstance(content["app"]["a"], dict)


async def test_what_others_do_to_the_content_does_not_stay(file):
    write(file, '[telemetry.otel]\nevent_patterns = ["a"]\nresource = {a = [1]}\n')
    source = TomlSource(file)
    content = await source.load()
    content["telemetry"]["otel"]["event_patterns"].append("b")
    content["telemetry"]["otel"]["resource"]["a"].append(2)
    content["telemetry"]["mock"] = {}
    assert await source.load() == {"telemetry": {"otel": {"event_patterns": ["a"], "resource": {"a": [1]}}}}


async def test_keys_and_tables_as_they_are_written_can_be_asked_for(file):
    write(file, GOOD)
    source = TomlSource(file)
    assert source.section_keys("otel") == frozenset()
    await source.load()
    assert (
        source.section_keys("otel") == source.section_keys("telemetry.otel") == {"service_name", "batch_size"}
    )
    assert source.section_keys("telemetry.nowhere") == frozenset()
    assert source.section_keys("telemetry.otel.batch_size") == frozenset()
    assert source.telemetry_tables() == PARSED["telemetry"]


def test_sources_are_known_for_as_long_as_they_live(file):
    source = TomlSource(file, priority=3)
    assert source in known_sources()
    assert (source.priority, source.name) == (3, f"toml:{file}")
    del source
    gc.collect()
    assert [known for known in known_sources() if known.path == file] == []


# --- under a real otpylib-config


class CountingSource(TomlSource):
    loads = 0

    async def load(self):
        self.loads += 1
        return await super().load()


@pytest.fixture
def notices(runtime):
    """What subscribers of ``telemetry.*`` are told."""
    told = []

    async def listen(_subscriber, path, _old, new):
        told.append((path, new))

    async def subscribe():
        await Config.subscribe("telemetry.*", listen, "test")
        return told

    return subscribe


async def test_subscribers_hear_nothing_of_a_bad_file_and_of_every_real_change(file, config_manager, notices):
    write(file, GOOD)
    source = CountingSource(file)
    # A second source that is not empty is what makes otpylib-config drop the keys of one that fails.
    await config_manager(source, {"other": {"key": 1}}, reload_interval=0.02)
    told = await in_process(notices)
    for outage in ("malformed", "emptied", "removed", "not UTF-8"):
        OUTAGES[outage][0](file)
        loads = source.loads
        await eventually(lambda before=loads: source.loads >= before + 3)
        assert source.trouble is not None
        assert await in_process(Config.get, "telemetry.otel.service_name") == "shop"
    assert told == []
    write(file, GOOD.replace("50", "51"))
    await eventually(lambda: told)
    assert told == [("telemetry.otel.batch_size", 51)]
    assert await in_process(Config.get, "telemetry.otel.batch_size") == 51
    assert await in_process(Config.get, "other.key") == 1


async def test_tables_reach_a_reader_of_otpylib_config_whole(file, config_manager, notices):
    write(file, '[telemetry.otel.resource]\na = "1"\n')
    await config_manager(TomlSource(file), reload_interval=0.02)
    told = await in_process(notices)
    assert await in_process(Config.get, "telemetry.otel.resource") == {"a": "1"}
    await asyncio.sleep(0.1)
    assert told == []
    write(file, '[telemetry.otel.resource]\na = "1"\nb = "2"\n', age=5)
    await eventually(lambda: told)
    assert told == [("telemetry.otel.resource", {"a": "1", "b": "2"})]


async def test_several_changes_in_one_save_arrive_in_one_reload(file, config_manager, notices):
    write(file, GOOD)
    await config_manager(
        TomlSource(file), EnvironmentSource(prefix="NOBODY_SETS_THIS_"), reload_interval=0.02
    )
    told = await in_process(notices)
    write(file, GOOD.replace("50", "51").replace("shop", "cart"), age=5)
    await eventually(lambda: len(told) == 2)
    assert dict(told) == {"telemetry.otel.batch_size": 51, "telemetry.otel.service_name": "cart"}


SECTIONS = """
title = "x"
[telemetry]
sampling = 1
[telemetry.otel]
service_name = "shop"
headers = {a = "b"}
[telemetry.otel.resource]
zone = "1"
[database.pool]
size = 3
hosts = [{name = "one"}]
[empty]
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("telemetry.otel", {"service_name": "shop", "headers": {"a": "b"}, "resource": {"zone": "1"}}),
        ("database.pool", {"size": 3, "hosts": [{"name": "one"}]}),
        ("database", {"pool": {"size": 3, "hosts": [{"name": "one"}]}}),
        ("empty", {}),
        ("telemetry.prometheus", "default"),
        ("title", "x"),
        ("telemetry.otel.headers", {"a": "b"}),
    ],
)
async def test_otpylib_config_gives_out_each_table_whole(file, config_manager, path, expected):
    write(file, SECTIONS)
    await config_manager(TomlSource(file))
    assert await in_process(Config.get, path, "default") == expected


async def test_a_table_is_read_as_a_dict_is_and_cannot_be_changed(file, config_manager):
    write(file, SECTIONS)
    await config_manager(TomlSource(file))
    telemetry = await in_process(Config.get, "telemetry")
    assert telemetry == {"sampling": 1, "otel": telemetry["otel"]}
    section = await in_process(Config.get, "telemetry.otel")
    assert {**section} == dict(section) == section
    assert (section.get("service_name"), section.get("none", 5), "headers" in section) == ("shop", 5, True)
    assert "shop" not in repr(section)
    for table in (section, section["headers"], section["resource"], telemetry["otel"]):
        with pytest.raises(TypeError):
            table["x"] = 1


async def test_a_table_follows_the_file_and_only_the_keys_that_changed_are_told_of(file, config_manager):
    write(file, GOOD)
    await config_manager(TomlSource(file), {"other": {"key": 1}}, reload_interval=0.02)
    told = []

    async def note(_subscriber, path, _old, new):
        told.append((path, new))

    async def subscribe():
        for pattern in ("*", "telemetry.otel"):
            await Config.subscribe(pattern, note, "test")

    await in_process(subscribe)
    write(file, GOOD.replace("50", "51") + "[telemetry.mock]\nenabled = false\n[new]\n", age=5)
    await eventually(lambda: len(told) == 2)
    assert (await in_process(Config.get, "telemetry.otel"))["batch_size"] == 51
    assert await in_process(Config.get, "telemetry.mock") == {"enabled": False}
    assert await in_process(Config.get, "new", 1) == {}
    write(file, "[other2]\nb = 1\n", age=5)
    await eventually(lambda: ("other2.b", 1) in told)
    assert await in_process(Config.get, "telemetry.otel", "gone") == "gone"
    paths = [path for path, _ in told]
    assert not {"", "telemetry", "telemetry.otel", "telemetry.mock", "new", "other2"} & set(paths)


@pytest.mark.parametrize("priorities", [(1, 1), (1, 2), (2, 1)])
async def test_the_tables_of_several_files_are_one(tmp_path, config_manager, priorities):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text('[telemetry.otel]\nservice_name = "a"\nbatch_size = 1\nheaders = {a = "b"}\n')
    second.write_text('[telemetry.otel]\nservice_name = "b"\nheaders = {c = "d"}\nqueue_limit = 7\n')
    sources = [TomlSource(path, priority) for path, priority in zip((first, second), priorities, strict=True)]
    await config_manager(*sources, reload_interval=0.02)
    loads = [source.reads for source in sources]
    await eventually(
        lambda: all(source.reads > before for source, before in zip(sources, loads, strict=True))
    )
    section = await in_process(Config.get, "telemetry.otel")
    for key in ("service_name", "batch_size", "queue_limit", "headers"):
        assert section[key] == await in_process(Config.get, f"telemetry.otel.{key}")
    assert len(section) == 4


async def test_what_a_program_puts_under_the_path_of_a_table_goes_before_it(file, config_manager):
    write(file, GOOD)
    await config_manager(TomlSource(file))
    assert await in_process(Config.put, "telemetry.otel", {"batch_size": 3})
    assert await in_process(Config.get, "telemetry.otel") == {"batch_size": 3}
