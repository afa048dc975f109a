"""What is polled without a line of code: the process, the garbage collector, the event loop, otpylib."""
