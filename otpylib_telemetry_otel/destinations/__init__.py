"""Where each signal is sent."""
