"""Files that are read again when another program replaces them."""

import os

import pytest

from otpylib_telemetry.primitives.pem_files import FollowedFiles


class UnusableError(Exception):
    pass


class Place:
    """One file, and what reads it."""

    def __init__(self, path):
        self.path = path
        self.reports = []
        self.reads = 0
        path.write_text("one")

    def follow(self):
        return FollowedFiles((str(self.path), None), self.read, self.reports.append)

    def read(self):
        self.reads += 1
        text = self.path.read_text()
        if text.startswith("bad"):
            raise UnusableError(text)
        return text


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "file.pem")


def test_files_are_read_only_when_they_change(place):
    followed = place.follow()
    assert [followed.renewed() for _ in range(3)] == [False] * 3
    place.path.write_text("three")
    assert [followed.renewed() for _ in range(3)] == [True, False, False]
    assert (followed.content, place.reads) == ("three", 2)


def test_what_cannot_be_used_the_first_time_is_raised(place):
    place.path.write_text("bad")
    with pytest.raises(UnusableError):
        place.follow()
    assert place.reports == []


def test_trouble_is_reported_once_and_the_old_content_stays_until_it_is_over(place):
    followed = place.follow()
    for text in ("bad", "bad again"):
        place.path.write_text(text)
        assert not followed.renewed()
        assert followed.in_trouble
    assert followed.content == "one"
    assert [str(error) for error in place.reports] == ["bad"]
    place.path.write_text("three")
    assert followed.renewed()
    assert (followed.content, followed.in_trouble) == ("three", False)


@pytest.mark.parametrize("text", ["bad half", "half"])
def test_nothing_is_taken_or_blamed_while_files_are_being_replaced(place, text):
    followed = place.follow()
    read = place.read

    def read_while_somebody_writes():
        os.utime(place.path, ns=(1, 1))
        return read()

    followed._read = read_while_somebody_writes
    place.path.write_text(text)
    assert not followed.renewed()
    assert (followed.content, place.reports) == ("one", [])
    place.path.write_text("whole")
    followed._read = read
    assert followed.renewed()
    assert followed.content == "whole"
