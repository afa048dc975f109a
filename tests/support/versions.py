"""What only some versions of others can show."""

from importlib.metadata import version

import pytest
from packaging.version import Version


def needs(distribution, least):
    """Skip a test with older versions: of what it compares with or reads with, not of what is under test."""
    reason = f"{distribution} before {least} cannot do what this test needs of it"
    return pytest.mark.skipif(Version(version(distribution)) < Version(least), reason=reason)


#: Reads metrics of any name, writes floats as we do, and can close its files.
needs_new_client = needs("prometheus-client", "0.26")
#: Takes attributes that cannot be hashed, fails at lists without an end, gives each resource an instance id.
#: Its API reads baggage with blanks around the equals sign.
needs_new_sdk = needs("opentelemetry-sdk", "1.45")
#: Refuses a request without the header Host.
needs_strict_aiohttp = needs("aiohttp", "3.14")
#: Says nothing itself of a certificate that it does not accept.
needs_quiet_grpc = needs("grpcio", "1.76")
