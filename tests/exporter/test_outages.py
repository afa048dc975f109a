"""One outage is told once and its end once, whichever lanes it hits and in whatever order."""

import random

import pytest

from otpylib_telemetry.exporter.outages import Began, Ended, Outages, named


class Rig:
    """Outages of lanes that have something to send unless said otherwise; ``said`` has what was told."""

    def __init__(self, *lanes):
        self.outages = Outages()
        self.idle = set()
        self.said = []
        for lane in lanes:
            self.works(lane)

    def fails(self, lane, reason="down", *, refused=False, attempt=None):
        told = self.outages.failed(lane, attempt or self.outages.sent(lane), reason, is_refusal=refused)
        self.said += [told] if told is not None else []

    def works(self, lane, attempt=None):
        told = self.outages.arrived(lane, attempt or self.outages.sent(lane), self.idle.__contains__)
        self.said += [told] if told is not None else []


def test_one_lane_is_nothing_to_speak_of():
    rig = Rig()
    rig.fails("spans")
    rig.fails("spans", "still down")
    assert rig.outages.trouble == "still down"
    rig.works("spans")
    assert rig.said == [Began("", "down"), Began("", "still down", is_more=True), Ended((), 2)]
    assert rig.outages.trouble is None


def test_another_reason_is_told_once_and_numbers_make_no_other():
    rig = Rig("spans")
    for reason in (
        "refused at port 4317",
        "refused at port 4318",
        "HTTP 401",
        "HTTP 503",
        "refused at port 1",
    ):
        rig.fails("spans", reason)
    rig.works("spans")
    rig.fails("spans", "HTTP 401")
    assert rig.said == [
        *(Began("", "refused at port 4317"), Began("", "HTTP 401", is_more=True)),
        Began("", "HTTP 503", is_more=True),
        *(Ended((), 5), Began("", "HTTP 401")),
    ]


def test_reasons_without_end_are_not_told_without_end():
    rig = Rig("spans")
    for letter in "ghijklmnopqrstuvwxyz":
        rig.fails("spans", letter * 3)
    assert len(rig.said) == 6


def test_a_backend_that_is_away_is_one_outage_of_all_lanes_whatever_each_is_told():
    rig = Rig("spans", "logs", "metrics")
    rig.fails("spans", "refused at /v1/traces")
    rig.fails("logs", "refused at /v1/logs")
    rig.fails("spans", "no answer")
    rig.fails("metrics", "refused at /v1/metrics")
    rig.works("logs")
    rig.works("spans")
    assert len(rig.said) == 2
    rig.works("metrics")
    assert rig.said == [
        *(Began("", "refused at /v1/traces"), Began("", "no answer", is_more=True)),
        Ended((), 4),
    ]


def test_a_lane_that_has_nothing_left_to_send_does_not_hold_up_the_end():
    rig = Rig("spans", "logs")
    rig.fails("spans")
    rig.fails("logs")
    rig.idle.add("logs")
    rig.works("spans")
    assert rig.said == [Began("", "down"), Ended((), 2)]
    assert rig.outages.trouble is None
    rig.works("logs")
    assert len(rig.said) == 2


def test_a_lane_that_is_refused_while_another_works_is_named_at_both_ends():
    rig = Rig("spans", "logs")
    rig.fails("logs", "404", refused=True)
    rig.works("spans")
    rig.fails("logs", "404", refused=True)
    rig.works("logs")
    assert rig.said == [Began("logs", "404"), Ended(("logs",), 2)]


def test_a_lane_that_fails_while_another_arrives_is_named():
    rig = Rig("spans", "logs")
    attempt = rig.outages.sent("logs")
    rig.works("spans")
    rig.fails("logs", attempt=attempt)
    rig.works("logs")
    assert rig.said == [Began("logs", "down"), Ended(("logs",), 1)]


def test_a_refusal_is_of_its_lane_alone_though_nothing_else_was_answered_yet():
    rig = Rig()
    rig.outages.sent("spans")
    rig.fails("logs", "403", refused=True)
    rig.works("logs")
    assert rig.said == [Began("logs", "403"), Ended(("logs",), 1)]


def test_the_same_refusal_of_two_lanes_is_one_and_its_end_names_both():
    rig = Rig("spans", "logs")
    rig.fails("logs", "401", refused=True)
    rig.fails("spans", "401", refused=True)
    rig.works("spans")
    rig.works("logs")
    assert rig.said == [Began("logs", "401"), Ended(("logs", "spans"), 2)]


def test_another_refusal_of_another_lane_is_told_and_the_end_names_both():
    rig = Rig("spans", "logs")
    rig.fails("spans", "401", refused=True)
    rig.fails("logs", "404", refused=True)
    rig.works("logs")
    rig.works("spans")
    assert rig.said == [
        *(Began("spans", "401"), Began("logs", "404")),
        Ended(("spans", "logs"), 2),
    ]


def test_a_lane_that_goes_on_failing_when_another_is_well_is_named_then():
    rig = Rig("spans", "logs", "metrics")
    for lane in ("spans", "logs", "metrics"):
        rig.fails(lane)
    rig.works("spans")
    rig.fails("logs", "404", refused=True)
    rig.works("metrics")
    rig.works("logs")
    assert rig.said == [
        *(Began("", "down"), Began("logs", "404")),
        Ended((), 4),
    ]


def test_an_attempt_from_before_the_recovery_says_nothing_new():
    rig = Rig("spans", "logs")
    rig.fails("spans")
    rig.fails("logs")
    old = rig.outages.sent("logs")
    rig.works("spans")
    rig.fails("logs", attempt=old)
    rig.works("logs")
    assert rig.said == [Began("", "down"), Ended((), 3)]


def test_a_lane_that_fails_again_before_the_others_are_well_is_in_the_same_outage():
    rig = Rig("spans", "logs")
    rig.fails("spans")
    rig.fails("logs")
    rig.works("spans")
    rig.fails("spans")
    rig.works("spans")
    rig.works("logs")
    assert rig.said == [Began("", "down"), Ended((), 3)]


def test_a_lane_that_is_refused_while_the_backend_is_away_for_others_is_told_by_itself():
    rig = Rig("spans", "logs")
    rig.fails("spans")
    rig.fails("logs", "404", refused=True)
    rig.fails("logs", "404", refused=True)
    rig.works("logs")
    rig.works("spans")
    assert rig.said == [Began("", "down"), Began("logs", "404"), Ended((), 3)]


def test_what_arrived_late_from_before_the_outage_makes_nobody_stand_out():
    rig = Rig("spans", "logs")
    old = rig.outages.sent("logs")
    rig.fails("logs")
    rig.works("spans", attempt=old)
    rig.fails("logs")
    assert rig.said == [Began("", "down")]


def test_a_new_outage_after_the_end_of_one_is_told_again():
    rig = Rig("spans", "logs")
    for _ in range(2):
        rig.fails("logs")
        rig.works("logs")
    assert rig.said == [Began("", "down"), Ended((), 1)] * 2


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_failure_is_counted_in_one_end_and_all_that_began_ends(seed):
    dice, rig, failures = random.Random(seed), Rig("spans", "logs", "metrics"), 0
    lanes, under_way = ["spans", "logs", "metrics"], []
    for _ in range(400):
        under_way.append((lane := dice.choice(lanes), rig.outages.sent(lane)))
        if dice.random() < 0.7:
            lane, attempt = under_way.pop(dice.randrange(len(under_way)))
            if dice.random() < 0.6:
                rig.fails(lane, dice.choice("abc"), refused=dice.random() < 0.3, attempt=attempt)
                failures += 1
            else:
                rig.works(lane, attempt)
    for lane in lanes:
        rig.works(lane)
    began = [each for each in rig.said if isinstance(each, Began)]
    ended = [each for each in rig.said if isinstance(each, Ended)]
    assert sum(each.failures for each in ended) == failures
    assert len(ended) <= len(began) <= failures
    assert all(each.failures > 0 for each in ended)
    assert rig.outages.trouble is None


def test_lanes_are_named_as_in_a_sentence():
    assert named(()) == named(("",)) == ""
    assert named(("logs",)) == " logs"
    assert named(("spans", "logs", "metrics")) == " spans, logs and metrics"
