"""Each defect of otpylib and otpylib-config that is worked around, shown beside the way around it.

A test named ``defect_...`` fails when the library is repaired; its message says what can go then.
"""
