"""A shop under load, watched through otpylib-telemetry and reconfigured while it runs.

``python -m examples.shop`` starts it. Two modules are there to be copied from: :mod:`.application`, an
otpylib application with telemetry in its supervision tree, and :mod:`.web`, its HTTP front. The others are
what the demonstration needs to load it, to watch it from outside and to judge what it sees.
"""
