"""Id generators and resource detectors of other packages, by their names."""

import threading

import pytest

from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.sdk.plugins import detect_resource, load_id_generator


class Entry:
    value = "somewhere:Something"

    def __init__(self, name, factory):
        self.name = name
        self.factory = factory

    def load(self):
        return self.factory


@pytest.fixture
def installed(monkeypatch):
    """Put things under entry points: ``installed(name=factory)``."""

    def install(**factories):
        entries = [Entry(name, factory) for name, factory in factories.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)

    return install


class Generator:
    def __init__(self, trace_id=1, span_id=2):
        self.trace_id, self.span_id = trace_id, span_id

    def generate_trace_id(self):
        return self.trace_id

    def generate_span_id(self):
        return self.span_id


class Resource:
    def __init__(self, **attributes):
        self.attributes = {name.replace("_", "."): value for name, value in attributes.items()}


class Detector:
    def __init__(self, act):
        self.act = act

    def detect(self):
        return self.act()


def finding(**attributes):
    return lambda: Detector(lambda: Resource(**attributes))


class TestIdGenerators:
    def test_the_one_that_is_always_installed_makes_ids(self):
        source = load_id_generator("random")
        assert 0 < source.trace_id() < 2**128
        assert 0 < source.span_id() < 2**64
        assert source.trace_id() != source.trace_id()

    def test_one_of_another_package_is_had_by_its_name(self, installed):
        installed(xray=lambda: Generator(0x5F000000 << 96 | 7, 9))
        source = load_id_generator("xray")
        assert (source.trace_id() >> 96, source.span_id()) == (0x5F000000, 9)

    def test_an_unknown_name_is_refused_with_those_that_are_known(self):
        with pytest.raises(BackendUnavailableError, match=r"'xray'.*random.*opentelemetry-sdk-extension-aws"):
            load_id_generator("xray")

    @pytest.mark.parametrize(("trace_id", "span_id"), [(0, 1), (1, 0), (2**128, 1), (1, 2**64), ("a", 1)])
    def test_one_that_makes_no_ids_is_refused(self, installed, trace_id, span_id):
        installed(odd=lambda: Generator(trace_id, span_id))
        with pytest.raises(BackendUnavailableError, match=r"'odd' makes ids that do not have (64|128) bits"):
            load_id_generator("odd")

    def test_one_that_raises_is_refused(self, installed):
        class Failing(Generator):
            def generate_span_id(self):
                raise OSError("no entropy")

        installed(odd=Failing)
        with pytest.raises(BackendUnavailableError, match="'odd' fails: OSError: no entropy"):
            load_id_generator("odd")


class TestResourceDetectors:
    def test_those_of_the_sdk_find_something(self):
        found = detect_resource(["process", "os", "host"], {})
        assert found["process.runtime.name"] == "cpython"
        assert found["os.type"]
        assert found["host.name"]

    def test_a_later_one_beats_an_earlier_one_and_the_settings_beat_them_all(self, installed):
        installed(a=finding(x_one=1, x_two=1, x_three=1), b=finding(x_two=2, x_three=2))
        assert detect_resource(["a", "b"], {"x.three": 3}) == {"x.one": 1, "x.two": 2, "x.three": 3}

    def test_a_name_the_sdk_makes_up_is_no_finding(self, installed):
        installed(a=finding(service_name="unknown_service:python"), b=finding(service_name="shop"))
        assert detect_resource(["a"], {}) == {}
        assert detect_resource(["b"], {}) == {"service.name": "shop"}

    def test_none_at_all_leaves_the_settings(self):
        assert detect_resource([], {"service.name": "shop"}) == {"service.name": "shop"}

    def test_one_that_fails_is_left_out_and_told(self, installed, caplog):
        def fail():
            raise OSError("no metadata service")

        installed(a=lambda: Detector(fail), b=finding(x_two=2))
        assert detect_resource(["a", "b"], {}) == {"x.two": 2}
        assert "'a' failed and is left out: OSError: no metadata service" in caplog.text

    def test_one_that_never_ends_is_left_out_and_told(self, installed, caplog):
        released = threading.Event()
        installed(a=lambda: Detector(released.wait), b=finding(x_two=2))
        assert detect_resource(["a", "b"], {}, seconds=0.05) == {"x.two": 2}
        released.set()
        assert "'a' took more than 0.05 s and is left out" in caplog.text

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(BackendUnavailableError, match=r"'aws_ec2'.*opentelemetry-sdk-extension-aws"):
            detect_resource(["aws_ec2"], {})
